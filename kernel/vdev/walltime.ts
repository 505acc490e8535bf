// The time of day that guests are given: what the machine's clock said at boot, carried on by the TSC.

import { rdtsc } from "../cpu/insn";
import { toNanoseconds } from "../cpu/tsc";

const NS_PER_SECOND: u64 = 1_000_000_000;

// Written at boot.
let epochNanoseconds: u64 = 946_684_800 * NS_PER_SECOND; // 2000-01-01, until the machine's clock was read
let epochTsc: u64 = 0;

/** The time of day was `unixSeconds` (since 1970, UTC; 0: not known) when the TSC read `tsc`. Boot only. */
export function setTimeOfDay(unixSeconds: u64, tsc: u64): void {
  if (!unixSeconds) return;
  epochNanoseconds = unixSeconds * NS_PER_SECOND;
  epochTsc = tsc;
}

/** Nanoseconds since 1970 at host TSC `tsc`. */
export function timeOfDayAt(tsc: u64): u64 {
  return epochNanoseconds + toNanoseconds(tsc - epochTsc);
}

/** Nanoseconds since 1970, now. */
export function timeOfDay(): u64 {
  return timeOfDayAt(rdtsc());
}
