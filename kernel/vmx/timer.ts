// The VMX-preemption timer bounds a vCPU's stay by the host's next deadline. On silicon the host's own
// timer interrupt ends the stay at the same moment, whatever RFLAGS.IF the guest has; Bochs 2.7 holds
// that interrupt back from a guest that was entered with IF clear, so a guest could keep the CPU. The
// exit saves what is left, so entries in between cost nothing. It counts at the TSC's rate divided by
// 2^n, in the guest only. Intel SDM Vol. 3, "VMX-Preemption Timer".

import { vmwrite } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { capability, preemptionShift } from "./capability";
import { Pin } from "./control";
import { Field } from "./field";

/** True if the vCPU's stays are bounded by the preemption timer. */
export function hasPreemptionTimer(vcpu: Vcpu): bool {
  return (vcpu.pinControls & Pin.PREEMPTION_TIMER) != 0;
}

/** The guest exits after `ticks` of the TSC in it, rounded up, or the longest that fits. The vCPU's VMCS is current. */
export function setPreemptionTimer(ticks: u64): void {
  const shift = <u64>preemptionShift(capability());
  const counts = (ticks >> shift) + 1;
  vmwrite(Field.PREEMPTION_TIMER_VALUE, counts > 0xffff_ffff ? 0xffff_ffff : counts);
}
