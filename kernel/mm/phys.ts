// Reads and writes of TABLE frames: page tables, EPT, VMCS regions, bitmaps. The only user of the table
// window's intrinsics. Addresses are host-physical; an access to any other frame faults.

import { tablecas64, tablefill64, tableload32, tableload64, tablestore32, tablestore64 } from "../cpu/insn";

export const FRAME_BYTES: u64 = 4096;

/** The u64 at `pa`, 8-byte aligned. */
export function readEntry(pa: u64): u64 {
  return tableload64(pa);
}

export function writeEntry(pa: u64, value: u64): void {
  tablestore64(pa, value);
}

/** Replaces `expected` by `value` atomically; returns what was there. */
export function swapEntry(pa: u64, expected: u64, value: u64): u64 {
  return tablecas64(pa, expected, value);
}

export function readWord(pa: u64): u32 {
  return tableload32(pa);
}

export function writeWord(pa: u64, value: u32): void {
  tablestore32(pa, value);
}

/** Zeroes one 4 KiB frame. */
export function zeroFrame(pa: u64): void {
  tablefill64(pa, 0, FRAME_BYTES / 8);
}

/** Fills `count` quadwords at `pa`. */
export function fillEntries(pa: u64, value: u64, count: u64): void {
  tablefill64(pa, value, count);
}

const PATTERN: u64 = 0xa55a_c33c_0ff0_9669;

/**
 * Whether reads at both ends of the `bytes` at `pa` return what was written: firmware has listed memory
 * that is not there. Destroys what it touches.
 */
export function isMemory(pa: u64, bytes: u64): bool {
  const last = pa + bytes - 8;
  writeEntry(pa, PATTERN);
  writeEntry(last, ~PATTERN);
  const kept = readEntry(pa) == PATTERN && readEntry(last) == ~PATTERN;
  writeEntry(pa, 0);
  writeEntry(last, 0);
  return kept;
}
