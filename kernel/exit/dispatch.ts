// From an exit reason to its handler: one dense switch, a line a reason. A handler changes the vCPU and
// returns; what the run loop must do beside re-entering stands in Vcpu.pending.

import { Exit } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { onApicAccess, onApicWrite, onTprBelowThreshold, onVirtualizedEoi } from "./apic";
import { onCpuid } from "./cpuid";
import { onCrAccess } from "./cr";
import { onDrAccess } from "./dr";
import { onEptMisconfiguration, onEptViolation } from "./ept";
import { onExceptionOrNmi } from "./exception";
import { onHlt } from "./hlt";
import { onHypercall } from "./hypercall";
import { onExternalInterrupt, onInterruptWindow, onNmiWindow, onPreemptionTimer } from "./interrupt";
import { onPort } from "./io";
import { onRdmsr, onWrmsr } from "./msr";
import { onMonitor, onMwait, onPause } from "./wait";
import { onInvd, onInvlpg, onRdpmc, onRdrand, onRdtsc, onRdtscp, onWbinvd } from "./simple";
import { onInit, onSipi, onTripleFault } from "./shutdown";
import { onTaskSwitch } from "./task";
import { onUndefined } from "./undefined";
import { onUnexpected } from "./unexpected";
import { onXsetbv } from "./xsetbv";

export function dispatch(vcpu: Vcpu): void {
  switch (vcpu.exitReason) {
    case Exit.EXCEPTION_OR_NMI:
      return onExceptionOrNmi(vcpu);
    case Exit.EXTERNAL_INTERRUPT:
      return onExternalInterrupt(vcpu);
    case Exit.TRIPLE_FAULT:
      return onTripleFault(vcpu);
    case Exit.INIT_SIGNAL:
      return onInit(vcpu);
    case Exit.STARTUP_IPI:
      return onSipi(vcpu);
    case Exit.IO_SMI:
    case Exit.OTHER_SMI:
      return onUnexpected(vcpu);
    case Exit.INTERRUPT_WINDOW:
      return onInterruptWindow(vcpu);
    case Exit.NMI_WINDOW:
      return onNmiWindow(vcpu);
    case Exit.TASK_SWITCH:
      return onTaskSwitch(vcpu);
    case Exit.CPUID:
      return onCpuid(vcpu);
    case Exit.GETSEC:
      return onUndefined(vcpu);
    case Exit.HLT:
      return onHlt(vcpu);
    case Exit.INVD:
      return onInvd(vcpu);
    case Exit.INVLPG:
      return onInvlpg(vcpu);
    case Exit.RDPMC:
      return onRdpmc(vcpu);
    case Exit.RDTSC:
      return onRdtsc(vcpu);
    case Exit.RSM:
      return onUndefined(vcpu);
    case Exit.VMCALL:
      return onHypercall(vcpu);
    case Exit.VMCLEAR:
    case Exit.VMLAUNCH:
    case Exit.VMPTRLD:
    case Exit.VMPTRST:
    case Exit.VMREAD:
    case Exit.VMRESUME:
    case Exit.VMWRITE:
    case Exit.VMXOFF:
    case Exit.VMXON:
      return onUndefined(vcpu);
    case Exit.CR_ACCESS:
      return onCrAccess(vcpu);
    case Exit.DR_ACCESS:
      return onDrAccess(vcpu);
    case Exit.IO_INSTRUCTION:
      return onPort(vcpu);
    case Exit.RDMSR:
      return onRdmsr(vcpu);
    case Exit.WRMSR:
      return onWrmsr(vcpu);
    case Exit.MWAIT:
      return onMwait(vcpu);
    case Exit.MONITOR_TRAP:
      return; // never asked for
    case Exit.MONITOR:
      return onMonitor(vcpu);
    case Exit.PAUSE:
      return onPause(vcpu);
    case Exit.TPR_BELOW_THRESHOLD:
      return onTprBelowThreshold(vcpu);
    case Exit.APIC_ACCESS:
      return onApicAccess(vcpu);
    case Exit.VIRTUALIZED_EOI:
      return onVirtualizedEoi(vcpu);
    case Exit.GDTR_IDTR:
    case Exit.LDTR_TR:
      return onUnexpected(vcpu);
    case Exit.EPT_VIOLATION:
      return onEptViolation(vcpu);
    case Exit.EPT_MISCONFIGURATION:
      return onEptMisconfiguration(vcpu);
    case Exit.INVEPT:
      return onUndefined(vcpu);
    case Exit.RDTSCP:
      return onRdtscp(vcpu);
    case Exit.PREEMPTION_TIMER:
      return onPreemptionTimer(vcpu);
    case Exit.INVVPID:
      return onUndefined(vcpu);
    case Exit.WBINVD:
      return onWbinvd(vcpu);
    case Exit.XSETBV:
      return onXsetbv(vcpu);
    case Exit.APIC_WRITE:
      return onApicWrite(vcpu);
    case Exit.RDRAND:
      return onRdrand(vcpu);
    case Exit.INVPCID:
    case Exit.VMFUNC:
    case Exit.ENCLS:
      return onUndefined(vcpu);
    case Exit.RDSEED:
      return onRdrand(vcpu);
    case Exit.PML_FULL:
      return onUnexpected(vcpu);
    case Exit.XSAVES:
    case Exit.XRSTORS:
    case Exit.PCONFIG:
      return onUndefined(vcpu);
    case Exit.SPP_EVENT:
      return onUnexpected(vcpu);
    case Exit.UMWAIT:
    case Exit.TPAUSE:
    case Exit.LOADIWKEY:
    case Exit.ENCLV:
      return onUndefined(vcpu);
    default:
      return onUnexpected(vcpu);
  }
}
