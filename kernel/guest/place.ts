// Where things go in a guest's memory before it starts: a list of what is taken, and a search for the
// highest or lowest place that is free.
//
//   0 .. 1000H            left alone (real-mode vectors)
//   9FC00H .. 100000H     adapter hole; the ACPI tables are at E0000H
//   1 MiB .. low end      RAM
//   4 GiB .. high end     RAM that did not fit below

import { Vm } from "../vcpu/vm";

export const LOW_START: u64 = 0x1000;
export const CONVENTIONAL_END: u64 = 0x9_fc00;
export const EXTENDED_START: u64 = 0x10_0000;
/** RAM below 4 GiB ends here at most: above are device ranges. */
export const LOW_RAM_MAX: u64 = 0xc000_0000;
export const FOUR_GIB: u64 = 0x1_0000_0000;
export const ACPI_START: u64 = 0xe_0000;

const MAX_RANGES: u32 = 64;

@unmanaged
class Range {
  start: u64;
  end: u64;
}

@unmanaged
export class Placement {
  /** End of RAM below 4 GiB. */
  lowEnd: u64;
  /** End of RAM above 4 GiB; FOUR_GIB if there is none. */
  highEnd: u64;
  count: u32;
  pad: u32;
}
const RANGES: usize = offsetof<Placement>();
export const PLACEMENT_BYTES: usize = RANGES + <usize>MAX_RANGES * 16;

/** RAM below 4 GiB of a guest with `memoryBytes`. */
export function lowRamBytes(memoryBytes: u64): u64 {
  return min(memoryBytes, LOW_RAM_MAX);
}

export function beginPlacement(p: Placement, vm: Vm): void {
  p.lowEnd = lowRamBytes(vm.memoryBytes);
  p.highEnd = FOUR_GIB + (vm.memoryBytes - p.lowEnd);
  p.count = 0;
  reserve(p, 0, LOW_START);
  reserve(p, CONVENTIONAL_END, EXTENDED_START - CONVENTIONAL_END);
}

function rangeAt(p: Placement, index: u32): Range {
  return changetype<Range>(changetype<usize>(p) + RANGES + ((<usize>index) << 4));
}

/** True if [start, start + bytes) is RAM that a guest image may occupy: not the adapter hole. */
export function isRam(p: Placement, start: u64, bytes: u64): bool {
  const end = start + bytes;
  if (end < start) return false;
  if (start >= FOUR_GIB) return end <= p.highEnd;
  if (end > p.lowEnd) return false;
  return end <= 0xa_0000 || start >= EXTENDED_START;
}

/** Marks [start, start + bytes) as taken. False if the list is full. */
export function reserve(p: Placement, start: u64, bytes: u64): bool {
  if (!bytes) return true;
  if (p.count == MAX_RANGES) return false;
  const r = rangeAt(p, p.count);
  r.start = start;
  r.end = start + bytes;
  p.count += 1;
  return true;
}

/** A taken range that overlaps [start, start + bytes); 0 if it is free. */
function obstacle(p: Placement, start: u64, bytes: u64): usize {
  for (let i: u32 = 0; i < p.count; i++) {
    const r = rangeAt(p, i);
    if (start < r.end && r.start < start + bytes) return changetype<usize>(r);
  }
  return 0;
}

/** Takes the highest free `bytes` that end at or below `limit`, aligned to `align` (a power of two). 0: none. */
export function placeBelow(p: Placement, bytes: u64, align: u64, limit: u64): u64 {
  const top = min(limit, limit > FOUR_GIB ? p.highEnd : p.lowEnd);
  let end = top;
  for (let step: u32 = 0; step <= MAX_RANGES && end > bytes; step++) {
    const start = (end - bytes) & ~(align - 1);
    const found = obstacle(p, start, bytes);
    if (!found && isRam(p, start, bytes)) return reserve(p, start, bytes) ? start : 0;
    if (!found) return 0;
    end = changetype<Range>(found).start;
  }
  return 0;
}

/** Takes the lowest free `bytes` at or above `from`, below 4 GiB. 0: none. */
export function placeAbove(p: Placement, from: u64, bytes: u64, align: u64): u64 {
  let start = (from + align - 1) & ~(align - 1);
  for (let step: u32 = 0; step <= MAX_RANGES; step++) {
    const found = obstacle(p, start, bytes);
    if (!found) return isRam(p, start, bytes) && reserve(p, start, bytes) ? start : 0;
    start = (changetype<Range>(found).end + align - 1) & ~(align - 1);
  }
  return 0;
}
