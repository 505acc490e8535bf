// The world knocks: physical interrupts (acknowledged by the exit), windows that were asked for, and the
// end of a stay.

import { Pending, setPending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { readInterruptionInfo, requestInterruptWindow, requestNmiWindow } from "../vendor";
import { dispatch, takeAttention } from "../../drivers/irq";
import { Vector } from "../cpu/vector";
import { HostWork, noteWork } from "../vcpu/current";

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

/** A deadline of the host is due: the run loop finds out whose. */
export function onPreemptionTimer(vcpu: Vcpu): void {
  vcpu.boundFor = 0;
  noteWork(HostWork.TIMERS);
}
