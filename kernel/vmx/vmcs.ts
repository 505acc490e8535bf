// The VMCS of a vCPU: created, made current, given up, destroyed, and filled with its constant parts.
// Host state changes only with the CPU; guest state starts as after INIT.
// Intel SDM Vol. 3, "VMCS Maintenance" and "Host-State Area".

import { imageBoundary, rdmsr, readCr0, readCr4, vmclear, vmptrld, vmwrite } from "../cpu/insn";
import { CODE_SELECTOR, DATA_SELECTOR, TSS_SELECTOR } from "../config";
import { panic } from "../lib/panic";
import { Status } from "../lib/status";
import { allocFrame, freeRun, Owner } from "../mm/frame";
import { writeEntry, zeroFrame } from "../mm/phys";
import { cpuBlock } from "../cpu/insn";
import { cpu as thisCpu } from "../cpu/percpu";
import { gdtAddress, tssAddress } from "../mm/descriptor";
import { virt } from "../vcpu/current";
import { EntryFlag, Vcpu } from "../vcpu/vcpu";
import { Without } from "../vcpu/vm";
import { adjust, capability, mayBeOne, vmcsRevision, vpidUsable } from "./capability";
import * as C from "./control";
import { Activity, ExitControl, Pin, Proc, Proc2 } from "./control";
import { Field } from "./field";
import { createBitmaps, passThrough } from "./intercept";
import { resetRegisters } from "./reset";
import { flushVpid } from "./vpid";
import { CR0_GUEST_OWNED, requiredCr0 } from "./register";
import { CR4_VMXE } from "../cpu/registerbits";

/** imageBoundary's number of vmx/switch.asm's exit entry. */
const BOUNDARY_IDT: u32 = 8;
const BOUNDARY_VMEXIT: u32 = 13;

const IA32_PAT: u32 = 0x277;
const IA32_EFER: u32 = 0xc000_0080;

/** CR4 bits that pass through where the guest may set them: they change nothing the core must know. */
const CR4_PASSABLE: u64 =
  0x2 /* PVI */ |
  0x4 /* TSD */ |
  0x8 /* DE */ |
  0x80 /* PGE */ |
  0x100 /* PCE */ |
  0x200 /* OSFXSR */ |
  0x400 /* OSXMMEXCPT */ |
  0x1_0000 /* FSGSBASE */;

/** Bits 0..31 of exceptions that always exit: #DB and #AC (endless delivery), #MC (the host's). */
const EXCEPTIONS: u32 = (1 << 1) | (1 << 17) | (1 << 18);

/**
 * Allocates the vCPU's VMCS and bitmaps and fills what never changes. The caller has set vm, index,
 * vpid, the allowed CR4 bits and the VM's EPTP. NO_MEMORY: nothing was kept.
 */
export function createVcpu(vcpu: Vcpu): Status {
  const region = allocFrame(Owner.TABLE);
  if (!region) return Status.NO_MEMORY;
  zeroFrame(region);
  writeEntry(region, vmcsRevision(capability()));
  vcpu.vmcsPa = region;
  const status = createBitmaps(vcpu);
  if (status) {
    freeRun(region, 12, Owner.TABLE);
    vcpu.vmcsPa = 0;
    return status;
  }
  if (vmclear(region)) panic("vmx: VMCLEAR refuses a fresh region");
  vcpu.entryFlags |= EntryFlag.LAUNCH;
  loadVmcs(vcpu);
  chooseControls(vcpu);
  writeControls(vcpu);
  passThrough(vcpu);
  resetVcpu(vcpu);
  return Status.OK;
}

/** Gives the VMCS and the bitmap back. */
export function destroyVcpu(vcpu: Vcpu): void {
  if (!vcpu.vmcsPa) return;
  release(vcpu);
  freeRun(vcpu.vmcsPa, 12, Owner.TABLE);
  freeRun(vcpu.msrBitmapPa, 12, Owner.TABLE);
  vcpu.vmcsPa = 0;
  vcpu.msrBitmapPa = 0;
}

/**
 * Makes the vCPU's VMCS current on this CPU. No other CPU may have it: whoever had it called release().
 * The VMCS keeps the host state of the CPU that ran it last, so a new CPU writes its own.
 */
export function loadVmcs(vcpu: Vcpu): void {
  const mine = virt();
  vcpu.entryFlags |= EntryFlag.STACK; // HOST_RSP is vmx/switch.asm's
  if (mine.current == changetype<usize>(vcpu)) return;
  if (vmptrld(vcpu.vmcsPa)) panic("vmx: VMPTRLD refuses a VMCS of ours");
  mine.current = changetype<usize>(vcpu);
  mine.currentPa = vcpu.vmcsPa;
  const cpu = load<u32>(cpuBlock(), 4) + 1;
  if (vcpu.hostInitialised != cpu) {
    writeHostState(vcpu);
    vcpu.hostInitialised = cpu;
  }
  if (vcpu.guestCpu == cpu) return;
  flushVpid(vcpu); // what this CPU may remember of an earlier stay, or of an earlier owner of the VPID
  vcpu.guestCpu = cpu;
}

/** Writes the VMCS back to memory so that another CPU may load it; VMLAUNCH is due then. */
export function release(vcpu: Vcpu): void {
  if (vmclear(vcpu.vmcsPa)) panic("vmx: VMCLEAR refuses a VMCS of ours");
  vcpu.entryFlags |= EntryFlag.LAUNCH;
  const mine = virt();
  if (mine.current == changetype<usize>(vcpu)) mine.current = 0;
}

/**
 * After a trap in the core: the current VMCS is given up by its address alone. Its record is not trusted,
 * so VMLAUNCH state and counters stay as they are; the vCPU never runs again.
 */
export function abandonCurrent(): void {
  const mine = virt();
  if (mine.currentPa) vmclear(mine.currentPa);
  mine.current = 0;
  mine.currentPa = 0;
}

/** Controls as far as this processor allows and the VM does not do without. */
function chooseControls(vcpu: Vcpu): void {
  const c = capability();
  const without = vcpu.vm.without;
  const timer = mayBeOne(c.exit, ExitControl.SAVE_PREEMPTION_TIMER) && (without & Without.PREEMPTION_TIMER) == 0;
  vcpu.pinControls = adjust(c.pin, timer ? C.PIN_NEEDED | C.PIN_WANTED : C.PIN_NEEDED);
  let proc = C.PROC_NEEDED;
  const tprShadow = mayBeOne(c.proc, Proc.TPR_SHADOW) && (without & Without.TPR_SHADOW) == 0;
  proc |= tprShadow ? Proc.TPR_SHADOW : Proc.CR8_LOAD_EXITING | Proc.CR8_STORE_EXITING;
  vcpu.procControls2 = adjust(c.proc2, secondary(without, tprShadow));
  vcpu.procControls = adjust(c.proc, proc);
  vcpu.entryControls = adjust(c.entry, C.ENTRY_NEEDED | C.ENTRY_WANTED);
  vcpu.exceptionBitmap = EXCEPTIONS;
  vcpu.unrestricted = (vcpu.procControls2 & Proc2.UNRESTRICTED_GUEST) != 0 ? 1 : 0;
  vcpu.cr0Fixed = requiredCr0(vcpu.unrestricted != 0) & 0xffff_ffff;
  vcpu.cr4Fixed = c.cr4Fixed0 | CR4_VMXE;
}

/** Secondary controls; APIC virtualisation starts off and is switched on by virq/ through vmx/apic.ts. */
function secondary(without: u32, tprShadow: bool): u32 {
  let wanted = C.PROC2_NEEDED | C.PROC2_WANTED;
  wanted &= ~(
    Proc2.VIRTUALIZE_APIC_ACCESSES |
    Proc2.APIC_REGISTER_VIRTUALIZATION |
    Proc2.VIRTUAL_INTERRUPT_DELIVERY |
    Proc2.VIRTUALIZE_X2APIC
  );
  if ((without & Without.UNRESTRICTED_GUEST) != 0) wanted &= ~Proc2.UNRESTRICTED_GUEST;
  if ((without & Without.VPID) != 0 || !vpidUsable(capability())) wanted &= ~Proc2.ENABLE_VPID;
  return wanted;
}

/** The preemption timer's value is saved exactly where it runs: VM entry demands it. */
function exitControls(vcpu: Vcpu): u32 {
  const wanted = C.EXIT_NEEDED | C.EXIT_WANTED;
  const timer = (vcpu.pinControls & Pin.PREEMPTION_TIMER) != 0;
  return adjust(capability().exit, timer ? wanted : wanted & ~ExitControl.SAVE_PREEMPTION_TIMER);
}

/** Control fields that stay, and the links to the VM's tables. */
function writeControls(vcpu: Vcpu): void {
  const vm = vcpu.vm;
  vmwrite(Field.PIN_CONTROLS, vcpu.pinControls);
  vmwrite(Field.PROCESSOR_CONTROLS, vcpu.procControls);
  vmwrite(Field.PROCESSOR_CONTROLS_2, vcpu.procControls2);
  vmwrite(Field.EXIT_CONTROLS, exitControls(vcpu));
  vmwrite(Field.ENTRY_CONTROLS, vcpu.entryControls);
  vmwrite(Field.EXCEPTION_BITMAP, vcpu.exceptionBitmap);
  vmwrite(Field.PAGE_FAULT_ERROR_MASK, 0);
  vmwrite(Field.PAGE_FAULT_ERROR_MATCH, 0);
  vmwrite(Field.CR3_TARGET_COUNT, 0);
  vmwrite(Field.EXIT_MSR_STORE_COUNT, 0);
  vmwrite(Field.EXIT_MSR_LOAD_COUNT, 0);
  vmwrite(Field.ENTRY_MSR_LOAD_COUNT, 0);
  vmwrite(Field.IO_BITMAP_A, vm.ioBitmapA);
  vmwrite(Field.IO_BITMAP_B, vm.ioBitmapB);
  vmwrite(Field.MSR_BITMAP, vcpu.msrBitmapPa);
  vmwrite(Field.TSC_OFFSET, vm.tscOffset);
  vmwrite(Field.EPT_POINTER, vm.eptp);
  vmwrite(Field.CR0_MASK, ~CR0_GUEST_OWNED);
  vmwrite(Field.CR4_MASK, ~(CR4_PASSABLE & vcpu.cr4Allowed));
  if ((vcpu.procControls2 & Proc2.ENABLE_VPID) != 0) vmwrite(Field.VPID, vcpu.vpid);
  if ((vcpu.procControls2 & Proc2.PAUSE_LOOP_EXITING) != 0) {
    vmwrite(Field.PLE_GAP, C.PLE_GAP_CYCLES);
    vmwrite(Field.PLE_WINDOW, C.PLE_WINDOW_CYCLES);
  }
  if ((vcpu.procControls2 & Proc2.ENCLS_EXITING) != 0) vmwrite(Field.ENCLS_EXITING_BITMAP, u64.MAX_VALUE);
  if ((vcpu.procControls2 & Proc2.ENCLV_EXITING) != 0) vmwrite(Field.ENCLV_EXITING_BITMAP, u64.MAX_VALUE);
  if ((vcpu.procControls & Proc.TPR_SHADOW) != 0) {
    vmwrite(Field.VIRTUAL_APIC_ADDRESS, vcpu.virtualApicPa);
    vmwrite(Field.TPR_THRESHOLD, 0);
  }
  vmwrite(Field.VMCS_LINK_POINTER, u64.MAX_VALUE);
}

/** What the processor loads at every exit on this CPU. */
function writeHostState(vcpu: Vcpu): void {
  const tables = thisCpu().descriptors;
  vmwrite(Field.HOST_CR0, readCr0());
  vmwrite(Field.HOST_CR3, vcpu.vm.hostCr3);
  vmwrite(Field.HOST_CR4, readCr4());
  vmwrite(Field.HOST_CS_SELECTOR, CODE_SELECTOR);
  vmwrite(Field.HOST_SS_SELECTOR, DATA_SELECTOR);
  vmwrite(Field.HOST_DS_SELECTOR, DATA_SELECTOR);
  vmwrite(Field.HOST_ES_SELECTOR, DATA_SELECTOR);
  vmwrite(Field.HOST_FS_SELECTOR, 0);
  vmwrite(Field.HOST_GS_SELECTOR, 0);
  vmwrite(Field.HOST_TR_SELECTOR, TSS_SELECTOR);
  vmwrite(Field.HOST_FS_BASE, 0);
  vmwrite(Field.HOST_GS_BASE, cpuBlock());
  vmwrite(Field.HOST_TR_BASE, tssAddress(tables));
  vmwrite(Field.HOST_GDTR_BASE, gdtAddress(tables));
  vmwrite(Field.HOST_IDTR_BASE, imageBoundary(BOUNDARY_IDT));
  vmwrite(Field.HOST_SYSENTER_CS, 0);
  vmwrite(Field.HOST_SYSENTER_ESP, 0);
  vmwrite(Field.HOST_SYSENTER_EIP, 0);
  vmwrite(Field.HOST_PAT, rdmsr(IA32_PAT));
  vmwrite(Field.HOST_EFER, rdmsr(IA32_EFER));
  vmwrite(Field.HOST_RIP, imageBoundary(BOUNDARY_VMEXIT));
}

/** State after power-up, real mode at F000:FFF0; loaders then set what their protocol says. */
export function resetVcpu(vcpu: Vcpu): void {
  loadVmcs(vcpu);
  vmwrite(Field.GUEST_ACTIVITY, Activity.ACTIVE);
  vmwrite(Field.GUEST_INTERRUPTIBILITY, 0);
  vmwrite(Field.GUEST_PENDING_DEBUG, 0);
  vmwrite(Field.GUEST_DEBUGCTL, 0);
  vmwrite(Field.ENTRY_INTERRUPTION_INFO, 0);
  vmwrite(Field.GUEST_SMBASE, 0);
  vmwrite(Field.GUEST_SYSENTER_CS, 0);
  vmwrite(Field.GUEST_SYSENTER_ESP, 0);
  vmwrite(Field.GUEST_SYSENTER_EIP, 0);
  resetRegisters(vcpu);
}
