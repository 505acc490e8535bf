// The host's command line. Words are separated by blanks; a word is `name` or `name=value`; a value
// in double quotes may hold blanks. Options are rows of one table: the parser warns of a name that is
// not there, and the monitor prints the table as help. Later words win over earlier ones, except
// where an option may be given several times (console=, inject=), where all count.

import * as log from "./log";

/** Rows of NAMES and HELP, in the same order. */
export const enum Option {
  CONSOLE = 0,
  LOGLEVEL = 1,
  PANIC = 2,
  EXIT = 3,
  INJECT = 4,
  APIC = 5,
  ACPI = 6,
  TIMER = 7,
  MITIGATIONS = 8,
  EPTPAGE = 9,
  APICV = 10,
  VPID = 11,
  UNRESTRICTED = 12,
  CPUS = 13,
  MONITOR = 14,
  BENCH = 15,
  ACCOUNT = 16,
  COUNT = 17,
}

const NAMES: StaticArray<string> = [
  "console",
  "loglevel",
  "panic",
  "exit",
  "inject",
  "apic",
  "acpi",
  "timer",
  "mitigations",
  "eptpage",
  "apicv",
  "vpid",
  "unrestricted",
  "cpus",
  "monitor",
  "bench",
  "account",
];

const HELP: StaticArray<string> = [
  "com1[,BAUD] | 0xPORT[,BAUD] | mmio:0xADDRESS[,BAUD] | screen | e9 | off; may be repeated",
  "error | warn | info | debug: what the consoles show",
  "halt | reboot | poweroff: what follows a fatal fault",
  "halt | reboot | poweroff | bochs | qemu: how the machine ends when there is nothing left to do",
  "null|stack|text|data|window|div|df|nmi|ud[,cpu=N]: commits a fault, to see it reported",
  "auto | xapic: keep to the memory-mapped local APIC",
  "auto | off: ignore the firmware's tables",
  "auto | deadline | oneshot: the hardware behind the timer queue",
  "auto | off: what is done about the processor's bugs",
  "auto | 4k | 2m: the largest page that maps a guest",
  "auto | off: virtual-APIC features of the processor",
  "auto | off: tagged translations",
  "auto | off: unrestricted guests",
  "how many CPUs to start at most",
  "on | off: the operator's shell on the first console",
  "name of a measurement to run instead of guests",
  "on | off: count exits and time in guests, for `exits` and a guest's end",
];

const MAX_WORDS: u32 = 64;
const WORD_BYTES: usize = 16;

/** One word; name and value lie in the command line itself. */
@unmanaged
class Word {
  option: u32; // Option, or Option.COUNT if the table does not know it
  nameBytes: u32;
  value: usize; // linear memory
  valueBytes: u32;
}

const words: usize = memory.data(64 * 16, 8);
let wordCount: u32 = 0; // written at boot

function wordAt(index: u32): Word {
  return changetype<Word>(words + <usize>index * WORD_BYTES);
}

/** The name and help line of an option, for the monitor. */
export function nameOf(option: u32): string {
  return unchecked(NAMES[option]);
}

export function helpOf(option: u32): string {
  return unchecked(HELP[option]);
}

/** Splits `count` bytes at `text`, which must stay where they are. Warns of words that it does not know. */
export function parse(text: usize, count: u32): void {
  wordCount = 0;
  let at: u32 = 0;
  while (at < count) {
    while (at < count && isBlank(load<u8>(text + at))) at++;
    if (at == count) break;
    if (wordCount == MAX_WORDS) {
      log.warn("cmdline", "more than 64 words: the rest is ignored");
      return;
    }
    at = parseWord(text, count, at);
  }
}

/** Reads one word from `at`; returns the position after it. */
function parseWord(text: usize, count: u32, at: u32): u32 {
  const start = at;
  while (at < count && !isBlank(load<u8>(text + at)) && load<u8>(text + at) != 0x3d) at++;
  const word = wordAt(wordCount);
  word.nameBytes = at - start;
  word.value = text + at;
  word.valueBytes = 0;
  word.option = optionOf(text + start, at - start);
  if (at < count && load<u8>(text + at) == 0x3d) {
    at++;
    const quote = u32(at < count && load<u8>(text + at) == 0x22);
    at += quote;
    word.value = text + at;
    while (at < count && (quote ? load<u8>(text + at) != 0x22 : !isBlank(load<u8>(text + at)))) at++;
    word.valueBytes = at - <u32>(word.value - text);
    at = min(at + quote, count);
  }
  // The first word may be the image's path, as GRUB's multiboot and QEMU's -kernel pass it.
  const isPath = start == 0 && isPathLike(text, word.nameBytes);
  if (word.option == Option.COUNT && !isPath) warnUnknown(text + start, word.nameBytes);
  wordCount++;
  return at;
}

function isBlank(code: u32): bool {
  return code == 0x20 || code - 9 < 5;
}

function isPathLike(text: usize, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) if (load<u8>(text + i) == 0x2f || load<u8>(text + i) == 0x2e) return true;
  return false;
}

function optionOf(name: usize, count: u32): u32 {
  for (let i: u32 = 0; i < <u32>Option.COUNT; i++) if (same(name, count, unchecked(NAMES[i]))) return i;
  return Option.COUNT;
}

function warnUnknown(name: usize, count: u32): void {
  log.begin(log.Level.WARN, "cmdline");
  log.str("unknown option '");
  log.bytes(name, min(count, 64));
  log.str("' is ignored");
  log.end();
}

/** Whether the `count` bytes at `text` are exactly `expected`. */
export function same(text: usize, count: u32, expected: string): bool {
  if (<u32>expected.length != count) return false;
  for (let i: u32 = 0; i < count; i++) {
    if (load<u8>(text + i) != load<u16>(changetype<usize>(expected) + ((<usize>i) << 1))) return false;
  }
  return true;
}

/** The next word that sets `option`, after word number `after` (start with -1); -1: none. */
export function next(option: Option, after: i32): i32 {
  for (let i = after + 1; i < <i32>wordCount; i++) if (wordAt(i).option == option) return i;
  return -1;
}

/** The word that decides `option`: the last one; -1 if it is not given. */
export function last(option: Option): i32 {
  for (let i = <i32>wordCount - 1; i >= 0; i--) if (wordAt(i).option == option) return i;
  return -1;
}

/** The value of a word: pointer and length. */
export function valueOf(word: i32): usize {
  return wordAt(word).value;
}

export function valueBytesOf(word: i32): u32 {
  return wordAt(word).valueBytes;
}

/** Whether the option is given with exactly this value. */
export function is(option: Option, value: string): bool {
  const word = last(option);
  return word >= 0 && same(wordAt(word).value, wordAt(word).valueBytes, value);
}

/** Whether the option is given at all. */
export function isGiven(option: Option): bool {
  return last(option) >= 0;
}

/** The option as a number, or `otherwise` if it is not given or not a number. */
export function numberOf(option: Option, otherwise: u64): u64 {
  const word = last(option);
  if (word < 0) return otherwise;
  const value = wordAt(word);
  return numberLength(value.value, value.valueBytes) == value.valueBytes && value.valueBytes != 0
    ? parseNumber(value.value, value.valueBytes)
    : otherwise;
}

/** How many bytes at `text` belong to a number (decimal, or hexadecimal after 0x). */
export function numberLength(text: usize, count: u32): u32 {
  const start = prefixBytes(text, count);
  const base: u32 = start ? 16 : 10;
  let at = start;
  while (at < count && digit(load<u8>(text + at)) < base) at++;
  return at == start ? 0 : at;
}

/** The number whose length numberLength() found; a value past 2^64 - 1 becomes 2^64 - 1. */
export function parseNumber(text: usize, count: u32): u64 {
  const start = prefixBytes(text, count);
  const base: u64 = start ? 16 : 10;
  let value: u64 = 0;
  for (let i = start; i < count; i++) {
    const next = <u64>digit(load<u8>(text + i));
    if (value > (u64.MAX_VALUE - next) / base) return u64.MAX_VALUE;
    value = value * base + next;
  }
  return value;
}

function prefixBytes(text: usize, count: u32): u32 {
  return count > 2 && load<u8>(text) == 0x30 && (load<u8>(text, 1) | 0x20) == 0x78 ? 2 : 0;
}

/** The value of a digit, 16 or more if it is none. */
function digit(code: u32): u32 {
  if (code - 0x30 < 10) return code - 0x30;
  const letter = (code | 0x20) - 0x61;
  return letter < 6 ? letter + 10 : 16;
}
