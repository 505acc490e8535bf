// The end of a guest, and INIT and SIPI as they reach a vCPU from outside.

import { stopVm } from "../vcpu/event";
import { StopReason } from "../vcpu/vm";
import { Vcpu } from "../vcpu/vcpu";
import { report } from "./report";

/** Shutdown: what a PC answers with a reset. The VM ends, and the log says where. */
export function onTripleFault(vcpu: Vcpu): void {
  report(vcpu, "triple fault");
  stopVm(vcpu.vm, StopReason.TRIPLE_FAULT, 0);
}

/** A physical INIT while a guest runs: the host's own CPUs send none after bring-up. It is ignored. */
export function onInit(_vcpu: Vcpu): void {}

/** Only in the wait-for-SIPI activity state, which no VMCS of ours has. */
export function onSipi(_vcpu: Vcpu): void {}
