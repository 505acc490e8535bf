// The VMX-preemption timer: ends a time slice, or a guest's stay at its next virtual deadline, without
// a host interrupt. It counts at the TSC's rate divided by 2^n. Where it is missing the host's own
// timer interrupts instead. Intel SDM Vol. 3, "VMX-Preemption Timer".

import { vmwrite } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { capability, preemptionShift } from "./capability";
import { Pin } from "./control";
import { Field } from "./field";

/** True if the vCPU's stays are bounded by the preemption timer. */
export function hasPreemptionTimer(vcpu: Vcpu): bool {
  return (vcpu.pinControls & Pin.PREEMPTION_TIMER) != 0;
}

/** The next stay in the guest ends after `ticks` of the TSC, rounded up, or the longest that fits. */
export function setPreemptionTimer(ticks: u64): void {
  const shift = <u64>preemptionShift(capability());
  const counts = (ticks >> shift) + 1;
  vmwrite(Field.PREEMPTION_TIMER_VALUE, counts > 0xffff_ffff ? 0xffff_ffff : counts);
}
