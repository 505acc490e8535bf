// The exceptions that handlers raise, by their mnemonics.

import { queueException, queuePageFault, Vector } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";

/** #UD: the instruction does not exist for this guest. */
export function raiseUd(vcpu: Vcpu): void {
  queueException(vcpu, Vector.UD, 0);
}

/** #GP(0). */
export function raiseGp(vcpu: Vcpu): void {
  queueException(vcpu, Vector.GP, 0);
}

/** #GP(selector). */
export function raiseGpSelector(vcpu: Vcpu, selector: u32): void {
  queueException(vcpu, Vector.GP, selector & 0xfffc);
}

export function raisePf(vcpu: Vcpu, gva: u64, error: u32): void {
  queuePageFault(vcpu, gva, error);
}
