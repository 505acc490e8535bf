// An exit that was never asked for or that nobody can answer: that guest stops, with a precise report.

import { StopReason } from "../vcpu/vm";
import { stopVm } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { report } from "./report";

export function onUnexpected(vcpu: Vcpu): void {
  stopWithReport(vcpu, "an exit that nothing answers");
}

/** Stops the VM as unhandled and logs where and why. */
export function stopWithReport(vcpu: Vcpu, why: string): void {
  report(vcpu, why);
  stopVm(vcpu.vm, StopReason.UNHANDLED, vcpu.exitReason);
}
