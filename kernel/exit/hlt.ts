// HLT. The vCPU sleeps until an interrupt, NMI or INIT; the run loop does the waiting.

import { Pending, setPending } from "../vcpu/event";
import { Vcpu, VcpuState } from "../vcpu/vcpu";
import { advance } from "../vendor";

/** A single step due after HLT wakes it at once: VM entry delivers it from the active state. */
export function onHlt(vcpu: Vcpu): void {
  advance(vcpu);
  vcpu.state = VcpuState.HALTED;
  setPending(vcpu, Pending.SLEEP);
}
