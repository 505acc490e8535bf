// HLT. The vCPU sleeps until an interrupt, NMI or INIT; the run loop does the waiting.

import { Pending, setPending } from "../vcpu/event";
import { Vcpu, VcpuState } from "../vcpu/vcpu";
import { advance, isDebugPending } from "../vendor";

/** A debug exception ends HLT too, and one that is due now ends it at once. */
export function onHlt(vcpu: Vcpu): void {
  advance(vcpu);
  if (isDebugPending()) return;
  vcpu.state = VcpuState.HALTED;
  setPending(vcpu, Pending.SLEEP);
}
