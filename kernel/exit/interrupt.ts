// The world knocks: physical interrupts (acknowledged by the exit), windows that were asked for, and the
// end of a stay.

import { Pending, setPending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { readInterruptionInfo, readRflags, requestInterruptWindow, requestNmiWindow } from "../vendor";
import { dispatch, takeAttention } from "../../drivers/irq";
import { rdtsc } from "../cpu/insn";
import { RFLAGS_IF } from "../cpu/registerbits";
import { fromNanoseconds } from "../cpu/tsc";
import { Vector } from "../cpu/vector";
import { HostWork, noteWork } from "../vcpu/current";

/** A stay that ends so long after its bound overstayed. */
const LATE_NANOSECONDS: u64 = 1_000_000;

/** The host's handler sets a bit or fills a ring; the run loop looks at those before it goes on. */
export function onExternalInterrupt(_vcpu: Vcpu): void {
  const vector = readInterruptionInfo() & 0xff;
  dispatch(vector);
  if (vector == <u32>Vector.TIMER) noteWork(HostWork.TIMERS);
  else if (takeAttention()) noteWork(HostWork.RESCHEDULE); // the operator typed: the idle loop answers
}

/** The guest can take an interrupt now. */
export function onInterruptWindow(vcpu: Vcpu): void {
  requestInterruptWindow(vcpu, false);
  setPending(vcpu, Pending.INTERRUPT);
}

export function onNmiWindow(vcpu: Vcpu): void {
  requestNmiWindow(vcpu, false);
  if (vcpu.nmisPending) setPending(vcpu, Pending.NMI);
}

/**
 * A deadline of the host is due: the run loop finds out whose. The timer counts time in the guest only; where it comes late because exits
 * took the time, the host's own interrupt should have come long ago, and the next stays are bounded more tightly. A
 * guest with IF set lets that interrupt through everywhere.
 */
export function onPreemptionTimer(vcpu: Vcpu): void {
  const late = rdtsc() - fromNanoseconds(LATE_NANOSECONDS);
  if (vcpu.boundFor != 0 && vcpu.boundFor < late) vcpu.overstayed = 1;
  else if (vcpu.overstayed != 0 && (readRflags() & RFLAGS_IF) != 0) vcpu.overstayed = 0;
  vcpu.boundFor = 0;
  noteWork(HostWork.TIMERS);
}
