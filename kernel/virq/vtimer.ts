// The local APIC timer: one-shot, periodic and TSC-deadline. vdev/timers.ts asks it together with the
// timers of the VM's devices.
//
// All deadlines are host TSC values; 0 means none. The APIC timer counts at the TSC's rate (CPUID leaf
// 15H and 40000010H tell the guest so), divided by TDCR. The count runs whether or not the LVT entry
// is masked; only the interrupt is masked. Intel SDM Vol. 3, "APIC Timer".

import { LapicReg, LVT_MASKED, LVT_TIMER_MODE, TIMER_PERIODIC, TIMER_TSC_DEADLINE } from "./lapicreg";
import { acceptHere, get, isEnabled, put, Vlapic } from "./vlapic";

/** A periodic timer never asks for the CPU more often than this, so that a guest cannot livelock itself. */
const MIN_PERIOD_TICKS: u64 = 4096;

export function resetTimer(v: Vlapic): void {
  v.timerStart = 0;
  v.tscDeadline = 0;
  setDeadline(v, 0);
}

/**
 * The run loop sets the host's timer anew when a deadline has moved, unless the vCPU waits for something earlier before and
 * after. Only the vCPU's own CPU comes here.
 */
function setDeadline(v: Vlapic, deadline: u64): void {
  const before = v.timerDeadline;
  const armed = v.vcpu.armedFor;
  v.timerDeadline = deadline;
  // 0, for none, is later than everything.
  if (armed == 0 || before - 1 < armed || deadline - 1 < armed) v.vcpu.timerMoved = 1;
}

function mode(v: Vlapic): u32 {
  return get(v, LapicReg.LVT_TIMER) & LVT_TIMER_MODE;
}

/** log2 of the divisor: TDCR bits 3, 1 and 0 are 000 for 2, ... 110 for 128, 111 for 1. */
export function divideShift(tdcr: u32): u32 {
  return (((tdcr & 3) | ((tdcr >> 1) & 4)) + 1) & 7;
}

/** Ticks of the whole count in TMICT. */
function totalTicks(v: Vlapic): u64 {
  return (<u64>get(v, LapicReg.TMICT)) << divideShift(get(v, LapicReg.TDCR));
}

// ---- One-shot and periodic

/** TMICT: zero stops the timer; ignored in TSC-deadline mode. */
export function onInitialCountWrite(v: Vlapic, count: u32, now: u64): void {
  if (mode(v) == TIMER_TSC_DEADLINE) return;
  put(v, LapicReg.TMICT, count);
  v.timerStart = now;
  setDeadline(v, count ? now + totalTicks(v) : 0);
}

/** What TMCCT reads: the count that is left. */
export function readCurrentCount(v: Vlapic, now: u64): u32 {
  const total = totalTicks(v);
  if (!v.timerDeadline || mode(v) == TIMER_TSC_DEADLINE || total == 0) return 0;
  return <u32>(remainingTicks(v, total, now) >> divideShift(get(v, LapicReg.TDCR)));
}

function remainingTicks(v: Vlapic, total: u64, now: u64): u64 {
  const elapsed = now - v.timerStart;
  if (mode(v) == TIMER_PERIODIC) return total - (elapsed % total);
  return elapsed < total ? total - elapsed : 0;
}

/** TDCR: what is left of the count goes on at the new rate. */
export function onDivideWrite(v: Vlapic, tdcr: u32, now: u64): void {
  const left = <u64>readCurrentCount(v, now);
  put(v, LapicReg.TDCR, tdcr);
  if (!v.timerDeadline || mode(v) == TIMER_TSC_DEADLINE) return;
  const shift = divideShift(tdcr);
  setDeadline(v, now + (left << shift));
  v.timerStart = v.timerDeadline - totalTicks(v);
}

/**
 * The mode in LVT_TIMER changed from `before` (the new one is written already). Entering or leaving
 * TSC-deadline mode disarms; between one-shot and periodic the running count goes on.
 */
export function onTimerModeWrite(v: Vlapic, before: u32, now: u64): void {
  const after = mode(v);
  if (before == TIMER_TSC_DEADLINE || after == TIMER_TSC_DEADLINE) {
    resetTimer(v);
    if (after == TIMER_TSC_DEADLINE) put(v, LapicReg.TMICT, 0);
    return;
  }
  const total = totalTicks(v);
  if (before != TIMER_PERIODIC || !v.timerDeadline || !total) return;
  // Keep the place within the current period.
  v.timerStart = now - ((now - v.timerStart) % total);
  setDeadline(v, v.timerStart + total);
}

// ---- TSC deadline

/** WRMSR IA32_TSC_DEADLINE, a guest TSC value. Ignored outside TSC-deadline mode; zero disarms. */
export function writeTscDeadline(v: Vlapic, deadline: u64, now: u64): void {
  if (mode(v) != TIMER_TSC_DEADLINE || !isEnabled(v)) return;
  v.tscDeadline = deadline;
  if (!deadline) {
    setDeadline(v, 0);
    return;
  }
  const guestNow = now + v.vcpu.vm.tscOffset + v.vcpu.tscAdjust;
  if (deadline <= guestNow) {
    setDeadline(v, now);
    return;
  }
  const host = now + (deadline - guestNow);
  setDeadline(v, host < now ? ~(<u64>0) : host);
}

/** RDMSR IA32_TSC_DEADLINE: zero once it has fired, and outside TSC-deadline mode. */
export function readTscDeadline(v: Vlapic): u64 {
  return mode(v) == TIMER_TSC_DEADLINE ? v.tscDeadline : 0;
}

/** The guest TSC moved against the host's (IA32_TIME_STAMP_COUNTER or IA32_TSC_ADJUST written): the deadline moves with it. */
export function onTscOffsetWrite(v: Vlapic, now: u64): void {
  if (v.tscDeadline) writeTscDeadline(v, v.tscDeadline, now);
}

/** The APIC timer reached its deadline. Missed periods merge into one, as IRR would merge them. */
export function expireTimer(v: Vlapic, now: u64): void {
  if (!v.timerDeadline || v.timerDeadline > now) return;
  if (mode(v) == TIMER_PERIODIC) {
    const total = totalTicks(v);
    const late = now - v.timerDeadline;
    const next = v.timerDeadline + (late < total ? total : (late / total + 1) * total);
    v.timerDeadline = next < now + MIN_PERIOD_TICKS ? now + MIN_PERIOD_TICKS : next;
  } else {
    v.timerDeadline = 0;
    v.tscDeadline = 0;
  }
  const lvt = get(v, LapicReg.LVT_TIMER);
  if (!(lvt & LVT_MASKED)) acceptHere(v, lvt & 0xff);
}
