// From host TSC ticks to the ticks of a slower clock and back, exactly, by 128-bit arithmetic.

import { udiv128, umulh } from "../cpu/insn";
import { tscKhz } from "../cpu/tsc";

export const PIT_HZ: u64 = 1_193_182;
export const PM_TIMER_HZ: u64 = 3_579_545;
export const RTC_HZ: u64 = 32_768;

/** a * b / c, rounded down; ~0 if it does not fit. c is not 0. */
export function mulDiv(a: u64, b: u64, c: u64): u64 {
  const high = umulh(a, b);
  return high < c ? udiv128(high, a * b, c) : ~(<u64>0);
}

/** Whole ticks of a clock of `hz` that fit in `tsc` ticks of the host's counter. */
export function clockTicks(tsc: u64, hz: u64): u64 {
  return mulDiv(tsc, hz, tscHz());
}

/** Host TSC ticks until `ticks` of a clock of `hz` have passed: rounded up, so that clockTicks gives at least `ticks` back. */
export function tscTicks(ticks: u64, hz: u64): u64 {
  const whole = mulDiv(ticks, tscHz(), hz);
  return whole == ~(<u64>0) ? whole : whole + 1;
}

/** The host's frequency; 1 MHz before calibration, so that nothing divides by zero. */
export function tscHz(): u64 {
  const khz = tscKhz();
  return khz ? khz * 1000 : 1_000_000;
}
