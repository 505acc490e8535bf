// The time of day that guests are given: what the machine's clock said at boot, carried on by the TSC.

import { rdtsc } from "../cpu/insn";
import { toNanoseconds } from "../cpu/tsc";

const NS_PER_SECOND: u64 = 1_000_000_000;

// Written at boot.
let epochNanoseconds: u64 = 946_684_800 * NS_PER_SECOND; // 2000-01-01, until the machine's clock was read
let epochTsc: u64 = 0;

/** The time of day was `unixSeconds` (since 1970, UTC) when the TSC read `tsc`. Boot only. */
export function setTimeOfDay(unixSeconds: u64, tsc: u64): void {
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

// ---- Civil dates (proleptic Gregorian), by days since 1970-01-01

/** Days from 1970-01-01 to the given date; month 1..12, day 1..31. Years from 1970 on. */
export function daysFromDate(year: u32, month: u32, day: u32): u32 {
  // Years begin in March, so that the leap day is the last of one.
  const y = month <= 2 ? year - 1 : year;
  const m = month <= 2 ? month + 9 : month - 3;
  const yearDay = (153 * m + 2) / 5 + day - 1;
  return 365 * y + y / 4 - y / 100 + y / 400 + yearDay - 719468;
}

/** The date `days` after 1970-01-01, packed: year << 16 | month << 8 | day. */
export function dateFromDays(days: u32): u32 {
  const shifted = days + 719468;
  const era = shifted / 146097;
  const eraDay = shifted % 146097;
  const eraYear = (eraDay - eraDay / 1460 + eraDay / 36524 - eraDay / 146096) / 365;
  const yearDay = eraDay - (365 * eraYear + eraYear / 4 - eraYear / 100);
  const m = (5 * yearDay + 2) / 153;
  const day = yearDay - (153 * m + 2) / 5 + 1;
  const month = m < 10 ? m + 3 : m - 9;
  const year = eraYear + era * 400 + (month <= 2 ? 1 : 0);
  return (year << 16) | (month << 8) | day;
}
