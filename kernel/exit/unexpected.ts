// An exit that was never asked for or that nobody can answer, and an entry that the processor refused: that
// guest stops, with a precise report.

import { StopReason } from "../vcpu/vm";
import { stopVm } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { ENTRY_FAILED } from "../vcpu/exit";
import { GUEST_STATE_REFUSED, mendSegments, reportEntryFailure } from "../vendor";
import { report } from "./report";

export function onUnexpected(vcpu: Vcpu): void {
  if ((vcpu.exitReason & ENTRY_FAILED) != 0) {
    if (mendSegments()) return; // the entry is tried again, with the event that it was to inject
    vcpu.exitReason &= ~ENTRY_FAILED;
    reportEntryFailure(vcpu, GUEST_STATE_REFUSED);
    stopVm(vcpu.vm, StopReason.ENTRY_FAILED, GUEST_STATE_REFUSED);
  } else stopWithReport(vcpu, "an exit that nothing answers");
}

/** Stops the VM as unhandled and logs where and why. */
export function stopWithReport(vcpu: Vcpu, why: string): void {
  report(vcpu, why);
  stopVm(vcpu.vm, StopReason.UNHANDLED, vcpu.exitReason);
}
