// The log: a ring of lines in linear memory, shared by all CPUs. A line is built in the CPU's own
// area and committed whole, so lines of several CPUs never mix; nothing here waits and nothing
// prints. Sinks (drivers/console.ts) read the ring later. After a crash a memory dump shows the ring:
// look for the signature, then SLOTS slots of SLOT_BYTES follow at +64.
//
//   ring:  +0 "BASALTLG"   +8 u32 slot count   +12 u32 bytes a slot   +16 u32 lines ever committed
//   slot:  +0 u32 sequence: 2 * line + 1 while it is written, 2 * line + 2 when it is whole
//          +4 u8 level   +6 u16 CPU   +8 u64 TSC   +16 u32 bytes of text   +24 text
//
// #NMI and #MC do not log: they could interrupt a line of their own CPU.

import { PERCPU_LOG_LINE } from "../config";
import { cpuBlock, rdtsc } from "../cpu/insn";

export const enum Level {
  ERROR = 0,
  WARN = 1,
  INFO = 2,
  DEBUG = 3,
}

const SLOTS: u32 = 1024; // a power of two
const SLOT_BYTES: usize = 256;
const SLOT_HEADER: usize = 24;
const RING_HEADER: usize = 64;
/** Bytes of text a line can hold; more is cut, and the cut shows as "...". */
export const TEXT_BYTES: u32 = 232;

const SIGNATURE: u64 = 0x474c_544c_4153_4142; // "BASALTLG" in memory order
const ring: usize = memory.data(64 + 1024 * 256, 64);
let recordLevel: i32 = Level.INFO; // written at boot

/** The line a CPU is building, at PERCPU_LOG_LINE in its block. */
@unmanaged
class Line {
  open: u32; // 1 from begin to end
  muted: u32; // 1 if the level is not recorded
  level: u32;
  bytes: u32; // text so far; may pass TEXT_BYTES, then the line is cut
  areaBytes: u32;
  pad: u32;
  // text follows
}
const LINE_TEXT: usize = 24;

function here(): Line {
  return changetype<Line>(cpuBlock() + PERCPU_LOG_LINE);
}

/** Lines above `level` are not recorded at all. Boot only. */
export function setRecordLevel(level: Level): void {
  recordLevel = level;
}

/** Starts a line. A line that is still open (a fault struck while it was built) is committed as it is. */
export function begin(level: Level, area: string): void {
  const line = here();
  if (line.open) end();
  line.open = 1;
  line.level = level;
  line.muted = u32(<i32>level > recordLevel);
  line.bytes = 0;
  str(area);
  str(": ");
}

/** One character. Anything that is not printable ASCII becomes '.': guests and firmware choose some of the text. */
export function char(code: u32): void {
  const line = here();
  if (line.muted) return;
  const at = line.bytes;
  if (at < TEXT_BYTES) {
    store<u8>(changetype<usize>(line) + LINE_TEXT + at, code - 0x20 < 0x5f ? code : 0x2e);
  }
  line.bytes = at + 1;
}

export function str(text: string): void {
  const line = here();
  if (line.muted) return;
  const length = text.length;
  for (let i = 0; i < length; i++) char(load<u16>(changetype<usize>(text) + ((<usize>i) << 1)));
}

/** `count` bytes at `ptr`, as characters. */
export function bytes(ptr: usize, count: u32): void {
  if (here().muted) return;
  const shown = min(count, TEXT_BYTES + 1);
  for (let i: u32 = 0; i < shown; i++) char(load<u8>(ptr + i));
}

/** Decimal. */
export function dec(value: u64): void {
  decPadded(value, 1, 0x20);
}

/** Decimal, at least `width` places (at most 20), filled from the left with `fill`. */
export function decPadded(value: u64, width: u32, fill: u32): void {
  if (here().muted) return;
  let digits: u32 = 1;
  let power: u64 = 1;
  while (digits < 20 && value / power >= 10) {
    power *= 10;
    digits++;
  }
  for (let i = digits; i < width; i++) char(fill);
  for (let i: u32 = 0; i < digits; i++) {
    char(0x30 + <u32>((value / power) % 10));
    power /= 10;
  }
}

/** Hexadecimal with the manuals' "H" left to the reader: 0x1f. */
export function hex(value: u64): void {
  if (here().muted) return;
  str("0x");
  hexDigits(value, max(1, (67 - <u32>clz(value)) >> 2));
}

/** The low `digits` hexadecimal digits, without a prefix. */
export function hexDigits(value: u64, digits: u32): void {
  if (here().muted) return;
  for (let i = <i32>min(digits, 16) - 1; i >= 0; i--) {
    const digit = <u32>(value >> ((<u64>i) << 2)) & 15;
    char(digit + (digit < 10 ? 0x30 : 0x57));
  }
}

/** A number of bytes in the largest unit that divides it: "640 KiB". */
export function size(byteCount: u64): void {
  let unit: u32 = 0;
  let value = byteCount;
  while (unit < 4 && value != 0 && (value & 1023) == 0) {
    value >>= 10;
    unit++;
  }
  dec(value);
  if (unit == 0) str(" bytes");
  else if (unit == 1) str(" KiB");
  else if (unit == 2) str(" MiB");
  else if (unit == 3) str(" GiB");
  else str(" TiB");
}

/** Commits the line to the ring. */
export function end(): void {
  const line = here();
  line.open = 0;
  if (line.muted) return;
  const text = changetype<usize>(line) + LINE_TEXT;
  if (line.bytes > TEXT_BYTES) {
    line.bytes = TEXT_BYTES;
    for (let i: usize = TEXT_BYTES - 3; i < <usize>TEXT_BYTES; i++) store<u8>(text + i, 0x2e);
  }
  const ticket = atomic.add<u32>(ring + 16, 1);
  if (ticket == 0) writeHeader();
  const slot = slotOf(ticket);
  atomic.store<u32>(slot, 2 * ticket + 1);
  store<u8>(slot + 4, line.level);
  store<u16>(slot + 6, load<u32>(cpuBlock(), 4)); // CpuBlock.index
  store<u64>(slot + 8, rdtsc());
  store<u32>(slot + 16, line.bytes);
  memory.copy(slot + SLOT_HEADER, text, line.bytes);
  atomic.store<u32>(slot, 2 * ticket + 2);
}

function writeHeader(): void {
  store<u64>(ring, SIGNATURE);
  store<u32>(ring + 8, SLOTS);
  store<u32>(ring + 12, <u32>SLOT_BYTES);
}

function slotOf(ticket: u32): usize {
  return ring + RING_HEADER + <usize>(ticket & (SLOTS - 1)) * SLOT_BYTES;
}

/** One whole line of one text. */
export function line(level: Level, area: string, text: string): void {
  begin(level, area);
  str(text);
  end();
}

export function error(area: string, text: string): void {
  line(Level.ERROR, area, text);
}

export function warn(area: string, text: string): void {
  line(Level.WARN, area, text);
}

export function info(area: string, text: string): void {
  line(Level.INFO, area, text);
}

export function debug(area: string, text: string): void {
  line(Level.DEBUG, area, text);
}

// ---- Reading

/** A copy of one line, made by read(). */
@unmanaged
export class Record {
  tsc: u64;
  level: u32;
  cpu: u32;
  bytes: u32;
  pad: u32;
  // text follows at RECORD_TEXT, at most TEXT_BYTES
}
export const RECORD_TEXT: usize = 24;
export const RECORD_BYTES: usize = 256;

export const enum ReadResult {
  OK = 0,
  NOT_YET = 1, // its writer has not finished (or never will: it trapped)
  LOST = 2, // overwritten by a later line
}

/** How many lines were ever begun to be committed; line numbers go from 0 and wrap at 2^31. */
export function lineCount(): u32 {
  return atomic.load<u32>(ring + 16);
}

/** The oldest line that can still be in the ring. */
export function oldestLine(): u32 {
  const count = lineCount();
  return count > SLOTS ? count - SLOTS : 0;
}

/** Copies line `ticket` to `out` (RECORD_BYTES). */
export function read(ticket: u32, out: Record): ReadResult {
  const slot = slotOf(ticket);
  const whole = 2 * ticket + 2;
  const before = atomic.load<u32>(slot);
  if (before != whole) return <i32>(before - whole) > 0 ? ReadResult.LOST : ReadResult.NOT_YET;
  out.tsc = load<u64>(slot + 8);
  out.level = load<u8>(slot + 4);
  out.cpu = load<u16>(slot + 6);
  const count = min(load<u32>(slot + 16), TEXT_BYTES);
  out.bytes = count;
  memory.copy(changetype<usize>(out) + RECORD_TEXT, slot + SLOT_HEADER, count);
  return atomic.load<u32>(slot) == whole ? ReadResult.OK : ReadResult.LOST;
}
