// KVM's paravirtual clock: two structures in guest memory from which a guest computes the time with RDTSC
// and no exit. The guest's TSC runs at a constant rate with one offset for all its vCPUs, so each is
// written once. Linux kernel documentation, "KVM-specific MSRs" and "CPUID bits".
//
//   pvclock_vcpu_time_info: +0 version (odd while written)  +8 tsc_timestamp  +16 system_time
//                           +24 tsc_to_system_mul  +28 tsc_shift (signed byte)  +29 flags
//   pvclock_wall_clock:     +0 version  +4 seconds  +8 nanoseconds, of the moment system_time was 0

import { gueststore32, gueststore64, rdtsc } from "../cpu/insn";
import { toNanoseconds } from "../cpu/tsc";
import { ramOf } from "../vcpu/vm";
import { writableBytesAt } from "../mm/guestmem";
import { Vcpu } from "../vcpu/vcpu";
import { mulDiv, tscHz } from "../virq/rate";
import { timeOfDayAt } from "./walltime";

export const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
export const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;
export const MSR_WALL_CLOCK_OLD: u32 = 0x11;
export const MSR_SYSTEM_TIME_OLD: u32 = 0x12;

/** CPUID.40000101H:EAX (leaf base 40000100H + 1): both clock MSR pairs, and the clock is stable across vCPUs. */
export const KVM_FEATURES: u32 = 1 | (1 << 3) | (1 << 24);

const ENABLE: u64 = 1;
const TIME_INFO_BYTES: u64 = 32;
const WALL_CLOCK_BYTES: u64 = 12;
const FLAG_TSC_STABLE: u32 = 1;
const NS_PER_SECOND: u64 = 1_000_000_000;

/** Whether `msr` is one of the clock's. */
export function isClockMsr(msr: u32): bool {
  return msr == MSR_WALL_CLOCK || msr == MSR_SYSTEM_TIME || msr == MSR_WALL_CLOCK_OLD || msr == MSR_SYSTEM_TIME_OLD;
}

/** WRMSR of a clock MSR. False: #GP (unaligned, or not in RAM). */
export function writeClockMsr(vcpu: Vcpu, msr: u32, value: u64): bool {
  if (msr == MSR_WALL_CLOCK || msr == MSR_WALL_CLOCK_OLD) return writeWallClock(vcpu, value);
  if (value & ENABLE && !publish(vcpu, value & ~ENABLE)) return false;
  vcpu.kvmClock = value;
  return true;
}

/** RDMSR of a clock MSR. */
export function readClockMsr(vcpu: Vcpu, msr: u32): u64 {
  return msr == MSR_SYSTEM_TIME || msr == MSR_SYSTEM_TIME_OLD ? vcpu.kvmClock : vcpu.vm.kvmWallClock;
}

/** The guest TSC was moved: the structure of this vCPU is written anew. */
export function refreshClock(vcpu: Vcpu): void {
  if (vcpu.kvmClock & ENABLE) publish(vcpu, vcpu.kvmClock & ~ENABLE);
}

function fits(vcpu: Vcpu, gpa: u64, bytes: u64): bool {
  return !(gpa & 3) && writableBytesAt(ramOf(vcpu.vm), gpa) >= bytes;
}

/** system_time counts from the creation of the VM, for all its vCPUs. */
function publish(vcpu: Vcpu, gpa: u64): bool {
  if (!fits(vcpu, gpa, TIME_INFO_BYTES)) return false;
  const vm = vcpu.vm;
  const hostNow = rdtsc();
  // scaled = ticks << shift; ns = scaled * mul >> 32, with mul in the upper half of its range.
  const khzShift = shiftFor(tscHz());
  gueststore32(gpa, 1);
  gueststore32(gpa + 4, 0);
  gueststore64(gpa + 8, hostNow + vm.tscOffset + vcpu.tscAdjust);
  gueststore64(gpa + 16, toNanoseconds(hostNow - vm.createdTsc));
  gueststore32(gpa + 24, multiplierFor(tscHz(), khzShift));
  gueststore32(gpa + 28, (<u32>khzShift & 0xff) | (FLAG_TSC_STABLE << 8));
  gueststore32(gpa, 2);
  return true;
}

/** The shift that brings `hz` between 1 GHz and 2 GHz: ticks are scaled by it before the multiplication. */
export function shiftFor(hz: u64): i32 {
  let shift: i32 = 0;
  let scaled = hz;
  while (scaled > 2 * NS_PER_SECOND) {
    scaled >>= 1;
    shift--;
  }
  while (scaled <= NS_PER_SECOND) {
    scaled <<= 1;
    shift++;
  }
  return shift;
}

/** 2^32 * 10^9 / (hz << shift): below 2^32 because the shifted rate is above 1 GHz. */
export function multiplierFor(hz: u64, shift: i32): u32 {
  if (shift >= 0) return <u32>mulDiv(NS_PER_SECOND, (<u64>1) << 32, hz << shift);
  return <u32>mulDiv(NS_PER_SECOND << -shift, (<u64>1) << 32, hz);
}

function writeWallClock(vcpu: Vcpu, gpa: u64): bool {
  if (!fits(vcpu, gpa, WALL_CLOCK_BYTES)) return false;
  const vm = vcpu.vm;
  const created = timeOfDayAt(vm.createdTsc);
  gueststore32(gpa, 1);
  gueststore32(gpa + 4, <u32>(created / NS_PER_SECOND));
  gueststore32(gpa + 8, <u32>(created % NS_PER_SECOND));
  gueststore32(gpa, 2);
  vm.kvmWallClock = gpa;
  return true;
}
