// INIT and start-up IPIs, as a vCPU obeys them. Intel SDM Vol. 3, "MP Initialization Protocol Algorithm".

import { report } from "../exit/report";
import { clearPending, dropEvent, Pending, setPending, stopVm } from "../vcpu/event";
import { Segment } from "../vcpu/exit";
import { Vcpu, VcpuState } from "../vcpu/vcpu";
import { StopReason } from "../vcpu/vm";
import { initRegisters, writeRip, writeSegment } from "../vendor";
import { followApicMode } from "../exit/apicmode";
import { updateCr4Leaves } from "../exit/cpuid";
import { onInit, vlapicOf } from "../virq/vlapic";

/** INIT: the processor waits for a start-up IPI; the bootstrap processor would start its firmware instead. */
export function initVcpu(vcpu: Vcpu): void {
  dropEvent(vcpu);
  vcpu.nmisPending = 0;
  clearPending(vcpu, Pending.NMI | Pending.INTERRUPT);
  initRegisters(vcpu, true);
  updateCr4Leaves(vcpu, 0);
  onInit(vlapicOf(vcpu));
  followApicMode(vcpu);
  vcpu.state = VcpuState.WAIT_SIPI;
}

/** Start-up: real mode at VV00:0000. Without unrestricted guest that cannot be, and is said. */
export function startVcpu(vcpu: Vcpu): void {
  if (!vcpu.unrestricted) {
    report(vcpu, "a start-up IPI needs real mode, and so the processor feature unrestricted guest");
    stopVm(vcpu.vm, StopReason.UNSUPPORTED, 0);
    return;
  }
  const page = vcpu.sipiVector & 0xff;
  writeSegment(Segment.CS, page << 8, (<u64>page) << 12, 0xffff, 0x9b);
  writeRip(0);
  setPending(vcpu, Pending.INTERRUPT);
  vcpu.state = VcpuState.RUNNABLE;
}
