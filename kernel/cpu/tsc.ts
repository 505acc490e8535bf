// The time-stamp counter as a clock: ticks to nanoseconds and back without overflow, and the test
// that all CPUs count together. drivers/calibrate.ts finds the frequency.
// Intel SDM Vol. 3, "Time-Stamp Counter".

import { Status } from "../lib/status";
import { cpuid, pause, rdtsc, rdtscOrdered, udiv128, umulh } from "./insn";

const KHZ_AT_NANOSECONDS: u64 = 1_000_000; // a clock of 1 GHz ticks once a nanosecond

// value * multiplier >> shift, the multiplier with bit 63 set. All written at boot.
let khz: u64 = 0;
let toNsMultiplier: u64 = 0;
let toNsShift: u64 = 64;
let fromNsMultiplier: u64 = 0;
let fromNsShift: u64 = 64;

export function now(): u64 {
  return rdtsc();
}

/** 0 until the clock is calibrated. */
export function tscKhz(): u64 {
  return khz;
}

/** BAD_ARGUMENT outside 1 MHz .. 1 THz: no processor counts like that. Boot only. */
export function setKhz(value: u64): Status {
  if (value < 1_000 || value > 1_000_000_000) return Status.BAD_ARGUMENT;
  toNsShift = shiftFor(KHZ_AT_NANOSECONDS, value);
  toNsMultiplier = multiplierFor(KHZ_AT_NANOSECONDS, value, toNsShift);
  fromNsShift = shiftFor(value, KHZ_AT_NANOSECONDS);
  fromNsMultiplier = multiplierFor(value, KHZ_AT_NANOSECONDS, fromNsShift);
  khz = value;
  return Status.OK;
}

/** The shift with which numerator / denominator * 2^shift lies in 2^63 .. 2^64. */
function shiftFor(numerator: u64, denominator: u64): u64 {
  let shift: u64 = 63 + (clz(numerator) - clz(denominator));
  // Both are below 2^40, so comparing them normalised is exact.
  if (numerator << clz(numerator) < denominator << clz(denominator)) shift++;
  return shift;
}

/** numerator * 2^shift / denominator, rounded down. */
function multiplierFor(numerator: u64, denominator: u64, shift: u64): u64 {
  if (shift < 64) return udiv128(numerator >> (64 - shift), numerator << shift, denominator);
  return udiv128(numerator << (shift - 64), 0, denominator);
}

/** value * multiplier >> shift, for shifts of 1 .. 127; the low 64 bits of the result. */
function scale(value: u64, multiplier: u64, shift: u64): u64 {
  const high = umulh(value, multiplier);
  if (shift >= 64) return high >> (shift - 64);
  return (high << (64 - shift)) | ((value * multiplier) >> shift);
}

/** Nanoseconds that `ticks` last; wraps after 584 years. 0 before calibration. */
export function toNanoseconds(ticks: u64): u64 {
  return scale(ticks, toNsMultiplier, toNsShift);
}

/** part / whole as a fraction of 2^64; 0 unless 0 < part < whole. */
export function fractionOf(part: u64, whole: u64): u64 {
  return part < whole ? udiv128(part, 0, whole) : 0;
}

/** Ticks that `nanoseconds` last. 0 before calibration. */
export function fromNanoseconds(nanoseconds: u64): u64 {
  return scale(nanoseconds, fromNsMultiplier, fromNsShift);
}

/** Nanoseconds since the counter's zero. */
export function nanoseconds(): u64 {
  return toNanoseconds(rdtsc());
}

/** Whether the counter's rate does not depend on power states (CPUID.80000007H:EDX[8]). `scratch`: 16 bytes. */
export function isInvariant(scratch: usize): bool {
  cpuid(0x8000_0000, 0, scratch);
  const last = load<u32>(scratch);
  if (last < 0x8000_0007 || last >= 0x8001_0000) return false;
  cpuid(0x8000_0007, 0, scratch);
  return (load<u32>(scratch, 12) & (1 << 8)) != 0;
}

/**
 * The exact frequency in kHz that CPUID tells, 0 if it tells none. Leaf 15H: crystal * numerator /
 * denominator, if the crystal's frequency is there too. `scratch`: 16 bytes.
 * Intel SDM Vol. 3, "Determining the Processor Base Frequency".
 */
export function claimedKhz(scratch: usize): u64 {
  cpuid(0, 0, scratch);
  if (load<u32>(scratch) < 0x15) return 0;
  cpuid(0x15, 0, scratch);
  const denominator: u64 = load<u32>(scratch);
  const numerator: u64 = load<u32>(scratch, 4);
  const crystalHz: u64 = load<u32>(scratch, 8);
  if (denominator == 0) return 0;
  return scaleClaim(crystalHz, numerator, denominator * 1000);
}

/** The base frequency in kHz as the processor is sold, often rounded to 100 MHz; 0 if leaf 16H is not there. */
export function nominalKhz(scratch: usize): u64 {
  cpuid(0, 0, scratch);
  if (load<u32>(scratch) < 0x16) return 0;
  cpuid(0x16, 0, scratch);
  return <u64>(load<u32>(scratch) & 0xffff) * 1000;
}

/** a * b / c where a and b have 32 bits; 0 if the result cannot be a frequency. */
function scaleClaim(a: u64, b: u64, c: u64): u64 {
  const result = (a * b) / c;
  return result > 1_000_000_000 ? 0 : result;
}

// ---- Waiting

/** Ticks that all CPUs spent waiting for devices and delays: bring-up is measured without them. [atomic] */
const waitedCell: usize = memory.data(8, 8);

export function addWaited(ticks: u64): void {
  atomic.add<u64>(waitedCell, ticks);
}

export function waitedTicks(): u64 {
  return atomic.load<u64>(waitedCell);
}

/** Spins for `ticks`. */
export function spin(ticks: u64): void {
  const since = rdtsc();
  while (rdtsc() - since < ticks) pause();
  addWaited(rdtsc() - since);
}

/** Spins for a time; before calibration as if the clock ran at 4 GHz, which is too long and not too short. */
export function delay(microseconds: u64): void {
  spin(khz ? fromNanoseconds(microseconds * 1000) : microseconds * 4000);
}

// ---- Do the CPUs count together?

/** +0 u64 the latest count that any CPU saw, +8 u64 the largest step back. Shared; atomics only. */
const warpCells: usize = memory.data(16, 64);

/**
 * Compares this CPU's counter with the others' for `rounds` rounds, while they do the same. A count
 * below one that another CPU published before is a step back; warpTicks() tells the largest.
 */
export function measureWarp(rounds: u32): void {
  for (let i: u32 = 0; i < rounds; i++) {
    const seen = atomic.load<u64>(warpCells);
    const here = rdtscOrdered();
    if (here < seen) noteWarp(seen - here);
    else atomic.cmpxchg<u64>(warpCells, seen, here);
  }
}

function noteWarp(ticks: u64): void {
  let largest = atomic.load<u64>(warpCells, 8);
  while (ticks > largest) {
    const found = atomic.cmpxchg<u64>(warpCells, largest, ticks, 8);
    if (found == largest) return;
    largest = found;
  }
}

/** The largest step back seen between two CPUs, in ticks; 0 if they count together. */
export function warpTicks(): u64 {
  return atomic.load<u64>(warpCells, 8);
}
