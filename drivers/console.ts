// Where the log goes: UARTs, the screen, the emulators' port E9H. Lines stay in the ring until
// drain() takes them out, one CPU at a time; nothing on a hot path waits for a UART.

import { out8, pause } from "../kernel/cpu/insn";
import * as tsc from "../kernel/cpu/tsc";
import * as cmdline from "../kernel/lib/cmdline";
import * as log from "../kernel/lib/log";
import * as screen from "./screen";
import * as uart from "./uart";

const DEFAULT_BAUD: u32 = 115_200;
const LOCK_POLLS: u32 = 1_000_000;
const MOST_GAPS: u32 = 3;

let level: i32 = log.Level.INFO; // written at boot
let hasE9: bool = false; // written at boot
let hasScreen: bool = false; // written at boot
let inputUart: i32 = -1; // written at boot: the first UART

const record: usize = memory.data(256, 8); // [lock]
const prefix: usize = memory.data(64); // [lock]
/** A line on its way to the UARTs. */
const line: usize = memory.data(320, 8); // [lock]
/**
 * +0 lock: 0 free, else 1;  +4 the next line to print [lock];  +8 lines lost [lock];  +12 drains that found a line
 * unfinished [lock];  +16 bytes of `line`, +20 how many of them are out [lock]
 */
const state: usize = memory.data(24, 4);

/**
 * Opens what `console=` and `loglevel=` say that needs no mapping: ports. Without `console=` COM1 at
 * 115200. openMapped() follows.
 */
export function open(): void {
  openLevel();
  if (cmdline.isGiven(cmdline.Option.CONSOLE)) openWords(false);
  else openPort(0x3f8, DEFAULT_BAUD);
}

/** Opens the rest, once devices can be mapped: UARTs in memory, and the screen, also without `console=`. */
export function openMapped(): void {
  if (cmdline.isGiven(cmdline.Option.CONSOLE)) openWords(true);
  else openScreen();
}

function openWords(mapped: bool): void {
  for (
    let word = cmdline.next(cmdline.Option.CONSOLE, -1);
    word >= 0;
    word = cmdline.next(cmdline.Option.CONSOLE, word)
  ) {
    const text = cmdline.valueOf(word);
    const bytes = cmdline.valueBytesOf(word);
    if (isMapped(text, bytes) != mapped || openWord(text, bytes)) continue;
    log.begin(log.Level.WARN, "console");
    log.str("console=");
    log.bytes(text, min(bytes, 64));
    log.str(" is not there or not understood");
    log.end();
  }
}

/** Whether a sink lies in memory. */
function isMapped(text: usize, count: u32): bool {
  return (count >= 6 && cmdline.same(text, 6, "screen")) || (count >= 4 && cmdline.same(text, 4, "mmio"));
}

function openLevel(): void {
  if (cmdline.is(cmdline.Option.LOGLEVEL, "error")) level = log.Level.ERROR;
  else if (cmdline.is(cmdline.Option.LOGLEVEL, "warn")) level = log.Level.WARN;
  else if (cmdline.is(cmdline.Option.LOGLEVEL, "debug")) level = log.Level.DEBUG;
  else level = log.Level.INFO;
  if (level == log.Level.DEBUG) log.setRecordLevel(log.Level.DEBUG);
}

/** One value of `console=`: NAME or NAME,BAUD. */
function openWord(text: usize, count: u32): bool {
  let comma: u32 = 0;
  while (comma < count && load<u8>(text + comma) != 0x2c) comma++;
  let baud = DEFAULT_BAUD;
  if (comma < count) {
    const at = text + comma + 1;
    const length = count - comma - 1;
    if (length == 0 || cmdline.numberLength(at, length) != length) return false;
    baud = <u32>min(cmdline.parseNumber(at, length), CLOCK_MOST);
  }
  if (cmdline.same(text, comma, "off")) return true;
  if (cmdline.same(text, comma, "screen")) return openScreen();
  if (cmdline.same(text, comma, "e9")) {
    hasE9 = true;
    return true;
  }
  const port = standardPort(text, comma);
  if (port) return openPort(port, baud);
  if (cmdline.numberLength(text, comma) == comma) return openNumber(text, comma, baud);
  return openMemory(text, comma, baud);
}
const CLOCK_MOST: u64 = 115_200;

function standardPort(text: usize, count: u32): u32 {
  if (cmdline.same(text, count, "com1")) return 0x3f8;
  if (cmdline.same(text, count, "com2")) return 0x2f8;
  if (cmdline.same(text, count, "com3")) return 0x3e8;
  if (cmdline.same(text, count, "com4")) return 0x2e8;
  return 0;
}

function openNumber(text: usize, count: u32, baud: u32): bool {
  const port = cmdline.parseNumber(text, count);
  return port != 0 && port <= 0xfff8 && openPort(<u32>port, baud);
}

/** mmio:ADDRESS (registers a byte apart) and mmio32:ADDRESS (four bytes apart). */
function openMemory(text: usize, count: u32, baud: u32): bool {
  const wide = count > 7 && cmdline.same(text, 7, "mmio32:");
  const skip: u32 = wide ? 7 : 5;
  if (!wide && !(count > 5 && cmdline.same(text, 5, "mmio:"))) return false;
  if (cmdline.numberLength(text + skip, count - skip) != count - skip) return false;
  return noteUart(uart.open(cmdline.parseNumber(text + skip, count - skip), true, wide ? 2 : 0, baud));
}

function openPort(port: u32, baud: u32): bool {
  return noteUart(uart.open(port, false, 0, baud));
}

function noteUart(index: i32): bool {
  if (index < 0) return false;
  if (inputUart < 0) inputUart = index;
  return true;
}

function openScreen(): bool {
  if (!hasScreen) hasScreen = screen.open() == 0;
  return hasScreen;
}

/** The UART that takes the operator's input, or null (0). */
export function input(): uart.Uart {
  return inputUart < 0 ? changetype<uart.Uart>(0) : uart.uartAt(inputUart);
}

// ---- Printing

/** Prints what the ring holds. Does nothing if another CPU is printing. */
export function drain(): void {
  if (atomic.cmpxchg<u32>(state, 0, 1) != 0) return;
  drainLocked();
  atomic.store<u32>(state, 0);
}

/**
 * Prints as much of it as the UARTs take without waiting; true: there is more. For loops that have
 * guests to run.
 */
export function drainSome(): bool {
  if (atomic.cmpxchg<u32>(state, 0, 1) != 0) return false;
  let more = !sendReady();
  while (!more && nextLine()) more = !sendReady();
  atomic.store<u32>(state, 0);
  return more;
}

/** Prints what the ring holds, whoever holds the lock: the machine is about to stop. */
export function drainLast(): void {
  lockSoon();
  // A line that its CPU will never finish must not hide those after it.
  for (let i: u32 = 0; i <= MOST_GAPS; i++) drainLocked();
  flush();
}

/** Waits until everything printed has left the UARTs. */
export function flush(): void {
  for (let i: u32 = 0; i < uart.count(); i++) uart.flush(uart.uartAt(i));
}

function drainLocked(): void {
  do sendAll();
  while (nextLine());
}

/** Puts the next line of the ring into `line`, and at once to the sinks that never wait. False: there is none. */
function nextLine(): bool {
  const oldest = log.oldestLine();
  let next = load<u32>(state, 4);
  if (<i32>(oldest - next) > 0) {
    store<u32>(state, load<u32>(state, 8) + (oldest - next), 8);
    makeGap(oldest - next);
    store<u32>(state, oldest, 4);
    return true;
  }
  const end = log.lineCount();
  let found: bool = false;
  while (!found && next != end) {
    const result = log.read(next, changetype<log.Record>(record));
    if (result == log.ReadResult.NOT_YET && !isAbandoned()) break;
    if (result == log.ReadResult.OK) found = makeLine();
    else store<u32>(state, load<u32>(state, 8) + 1, 8);
    store<u32>(state, 0, 12);
    next++;
  }
  store<u32>(state, next, 4);
  return found;
}

/** The UARTs' share of the line: true if all of it is out. They go in step, so the slowest sets the pace. */
function sendReady(): bool {
  const bytes = load<u32>(state, 16);
  let sent = load<u32>(state, 20);
  for (; sent < bytes && allReady(); sent++) sendByte(load<u8>(line + sent));
  store<u32>(state, sent, 20);
  return sent == bytes;
}

function allReady(): bool {
  for (let i: u32 = 0; i < uart.count(); i++) if (!uart.isReady(uart.uartAt(i))) return false;
  return true;
}

function sendByte(byte: u32): void {
  for (let i: u32 = 0; i < uart.count(); i++) uart.put(uart.uartAt(i), byte);
}

/** As sendReady(), waiting. */
function sendAll(): void {
  const bytes = load<u32>(state, 16);
  for (let sent = load<u32>(state, 20); sent < bytes; sent++) sendByte(load<u8>(line + sent));
  store<u32>(state, bytes, 20);
}

/** Whether the line at the front stayed unfinished over several drains: its CPU trapped in the middle. */
function isAbandoned(): bool {
  const gaps = load<u32>(state, 12) + 1;
  store<u32>(state, gaps, 12);
  return gaps > MOST_GAPS;
}

/** How many lines never reached the sinks. */
export function lostLines(): u32 {
  return load<u32>(state, 8);
}

/** Lines that wait to be printed; who prints more than the UARTs take should pause before the ring has gone round. */
export function backlog(): u32 {
  return log.lineCount() - atomic.load<u32>(state + 4);
}

/** False: the line is below the level that the consoles show. */
function makeLine(): bool {
  const r = changetype<log.Record>(record);
  if (<i32>r.level > level) return false;
  const bytes = makePrefix(r);
  memory.copy(line, prefix, bytes);
  memory.copy(line + bytes, record + log.RECORD_TEXT, r.bytes);
  store<u16>(line + bytes + r.bytes, 0x0a0d);
  const length = bytes + r.bytes + 2;
  store<u32>(state, length, 16);
  store<u32>(state, 0, 20);
  emitNow(line, length);
  return true;
}

/** Says in the place of lines that were overwritten before the sinks had them how many those were. */
function makeGap(count: u32): void {
  let at = word(line, "console: ");
  at = decimal(at, count, 1, 0x20);
  at = word(at, " lines are lost here");
  store<u16>(at, 0x0a0d);
  const length = <u32>(at + 2 - line);
  store<u32>(state, length, 16);
  store<u32>(state, 0, 20);
  emitNow(line, length);
}

/** "[    1.234567 0] " and the level's name if it is a warning or an error. Returns its length. */
function makePrefix(r: log.Record): u32 {
  const microseconds = tsc.toNanoseconds(r.tsc) / 1000;
  let at = prefix;
  store<u8>(at++, 0x5b);
  at = decimal(at, microseconds / 1_000_000, 5, 0x20);
  store<u8>(at++, 0x2e);
  at = decimal(at, microseconds % 1_000_000, 6, 0x30);
  store<u8>(at++, 0x20);
  at = decimal(at, r.cpu, 1, 0x20);
  store<u16>(at, 0x205d);
  at += 2;
  if (r.level == <u32>log.Level.ERROR) at = word(at, "ERROR ");
  else if (r.level == <u32>log.Level.WARN) at = word(at, "WARN ");
  return <u32>(at - prefix);
}

/** Writes `value` with at least `width` places at `at`; returns the end. */
function decimal(at: usize, value: u64, width: u32, fill: u32): usize {
  let digits: u32 = 1;
  for (let rest = value / 10; rest != 0; rest /= 10) digits++;
  const places = max(digits, width);
  for (let i: u32 = 0; i < places - digits; i++) store<u8>(at + i, fill);
  for (let i: u32 = 0; i < digits; i++) {
    store<u8>(at + places - 1 - i, 0x30 + <u32>(value % 10));
    value /= 10;
  }
  return at + places;
}

function word(at: usize, text: string): usize {
  for (let i = 0; i < text.length; i++) store<u8>(at + i, load<u16>(changetype<usize>(text) + ((<usize>i) << 1)));
  return at + text.length;
}

/** To the sinks that never wait. */
function emitNow(ptr: usize, length: u32): void {
  if (hasScreen) screen.putBytes(ptr, length);
  if (hasE9) for (let i: u32 = 0; i < length; i++) out8(0xe9, load<u8>(ptr + i));
}

/** Characters of a guest's terminal, which bypass the log. To the first UART only. */
export function write(ptr: usize, length: u32): void {
  if (inputUart >= 0) uart.putBytes(uart.uartAt(inputUart), ptr, length);
}

/** The operator's echo: as write(), but never into the middle of a line of the log, whose rest goes out first. */
export function writeEcho(ptr: usize, length: u32): void {
  if (inputUart >= 0 && isInLine()) finishLine();
  write(ptr, length);
}

/** Whether write() would take a byte without waiting. */
export function isWritable(): bool {
  return inputUart >= 0 && uart.isReady(uart.uartAt(inputUart));
}

/** Whether a part of a line is out, and a part not. */
function isInLine(): bool {
  const sent = atomic.load<u32>(state + 20);
  return sent != 0 && sent < atomic.load<u32>(state + 16);
}

function finishLine(): void {
  if (!lockSoon()) return;
  sendAll();
  atomic.store<u32>(state, 0);
}

/** Takes the lock; false if its holder does not give it back. */
function lockSoon(): bool {
  for (let i: u32 = 0; i < LOCK_POLLS; i++) {
    if (atomic.cmpxchg<u32>(state, 0, 1) == 0) return true;
    pause();
  }
  return false;
}
