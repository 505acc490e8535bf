// What this processor's VMX can do, read once from every IA32_VMX_* MSR. A control that is not
// allowed to be 1 is never set, one that is not allowed to be 0 always is.
// Intel SDM Vol. 3, appendix "VMX Capability Reporting Facility".

import { rdmsr } from "../cpu/insn";
import { Status } from "../lib/status";
import {
  ENTRY_NEEDED,
  EXIT_NEEDED,
  PIN_NEEDED,
  PROC2_NEEDED,
  PROC_NEEDED,
  PROC_UNWANTED,
  Proc,
  Proc2,
} from "./control";

export const enum VmxMsr {
  FEATURE_CONTROL = 0x3a,
  BASIC = 0x480,
  PINBASED = 0x481,
  PROCBASED = 0x482,
  EXIT = 0x483,
  ENTRY = 0x484,
  MISC = 0x485,
  CR0_FIXED0 = 0x486,
  CR0_FIXED1 = 0x487,
  CR4_FIXED0 = 0x488,
  CR4_FIXED1 = 0x489,
  VMCS_ENUM = 0x48a,
  PROCBASED2 = 0x48b,
  EPT_VPID = 0x48c,
  TRUE_PINBASED = 0x48d,
  TRUE_PROCBASED = 0x48e,
  TRUE_EXIT = 0x48f,
  TRUE_ENTRY = 0x490,
  VMFUNC = 0x491,
  PROCBASED3 = 0x492,
  EXIT2 = 0x493,
}

/** IA32_VMX_EPT_VPID_CAP. */
export const EPT_EXECUTE_ONLY: u64 = 1 << 0;
export const EPT_4_LEVELS: u64 = 1 << 6;
export const EPT_5_LEVELS: u64 = 1 << 7;
export const EPT_UC: u64 = 1 << 8;
export const EPT_WB: u64 = 1 << 14;
export const EPT_2M: u64 = 1 << 16;
export const EPT_1G: u64 = 1 << 17;
export const EPT_INVEPT: u64 = 1 << 20;
export const EPT_ACCESSED_DIRTY: u64 = 1 << 21;
export const EPT_INVEPT_SINGLE: u64 = 1 << 25;
export const EPT_INVEPT_ALL: u64 = 1 << 26;
export const VPID_INVVPID: u64 = 1 << 32;
export const VPID_ADDRESS: u64 = 1 << 40;
export const VPID_SINGLE: u64 = 1 << 41;
export const VPID_ALL: u64 = 1 << 42;
export const VPID_RETAIN_GLOBALS: u64 = 1 << 43;

/** Pairs of a control word: bits that must be 1 (low half) and that may be 1 (high half). */
@unmanaged
export class Capability {
  basic: u64;
  pin: u64;
  proc: u64;
  proc2: u64;
  exit: u64;
  entry: u64;
  misc: u64;
  cr0Fixed0: u64;
  cr0Fixed1: u64;
  cr4Fixed0: u64;
  cr4Fixed1: u64;
  vmcsEnum: u64;
  eptVpid: u64;
  vmfunc: u64;
  exit2: u64;
  proc3: u64;
  probed: u32;
  spare: u32;
}

const PLACE: usize = memory.data(136, 8);

/** The capabilities of the boot CPU. Every further CPU must have the same: see enable.ts. */
export function capability(): Capability {
  return changetype<Capability>(PLACE);
}

/** Reads every capability MSR into `c`. The processor has VMX (CPUID.1:ECX[5]). */
export function readCapability(c: Capability): void {
  c.basic = rdmsr(VmxMsr.BASIC);
  // Bit 55: the true controls exist; they say which default-1 controls may be 0.
  const trueControls = ((c.basic >> 55) & 1) != 0;
  c.pin = rdmsr(trueControls ? VmxMsr.TRUE_PINBASED : VmxMsr.PINBASED);
  c.proc = rdmsr(trueControls ? VmxMsr.TRUE_PROCBASED : VmxMsr.PROCBASED);
  c.exit = rdmsr(trueControls ? VmxMsr.TRUE_EXIT : VmxMsr.EXIT);
  c.entry = rdmsr(trueControls ? VmxMsr.TRUE_ENTRY : VmxMsr.ENTRY);
  c.misc = rdmsr(VmxMsr.MISC);
  c.cr0Fixed0 = rdmsr(VmxMsr.CR0_FIXED0);
  c.cr0Fixed1 = rdmsr(VmxMsr.CR0_FIXED1);
  c.cr4Fixed0 = rdmsr(VmxMsr.CR4_FIXED0);
  c.cr4Fixed1 = rdmsr(VmxMsr.CR4_FIXED1);
  c.vmcsEnum = rdmsr(VmxMsr.VMCS_ENUM);
  readOptional(c);
  c.probed = 1;
}

/** MSRs that exist only if another capability says so. */
function readOptional(c: Capability): void {
  c.proc2 = mayBeOne(c.proc, Proc.SECONDARY_CONTROLS) ? rdmsr(VmxMsr.PROCBASED2) : 0;
  const paging = <u32>(Proc2.ENABLE_EPT | Proc2.ENABLE_VPID);
  c.eptVpid = (<u32>(c.proc2 >> 32) & paging) != 0 ? rdmsr(VmxMsr.EPT_VPID) : 0;
  c.vmfunc = mayBeOne(c.proc2, Proc2.ENABLE_VM_FUNCTIONS) ? rdmsr(VmxMsr.VMFUNC) : 0;
  c.proc3 = mayBeOne(c.proc, Proc.TERTIARY_CONTROLS) ? rdmsr(VmxMsr.PROCBASED3) : 0;
  c.exit2 = 0; // secondary VM-exit controls are never used
}

/** True if the control bit(s) may be 1. */
export function mayBeOne(pair: u64, bits: u32): bool {
  return (<u32>(pair >> 32) & bits) == bits;
}

/** True if the control bit(s) may be 0. */
export function mayBeZero(pair: u64, bits: u32): bool {
  return (<u32>pair & bits) == 0;
}

/** `needed | wanted` as far as this processor allows, with the bits that it demands. */
export function adjust(pair: u64, controls: u32): u32 {
  return (controls & <u32>(pair >> 32)) | <u32>pair;
}

const EPT_NEEDED: u64 = EPT_4_LEVELS | EPT_WB | EPT_INVEPT;

/** Says what VMX lacks here that Basalt cannot do without, which capability MSR tells it, and what to do; empty: nothing. */
export function missing(c: Capability): string {
  if (!mayBeOne(c.proc, Proc.SECONDARY_CONTROLS))
    return "EPT is missing (IA32_VMX_PROCBASED_CTLS: no secondary controls): use a processor with EPT, or enable it in the outer hypervisor";
  if (!mayBeOne(c.proc2, PROC2_NEEDED))
    return "EPT is missing (IA32_VMX_PROCBASED_CTLS2 bit 33 is 0): use a processor with EPT, or enable it in the outer hypervisor";
  if ((c.eptVpid & EPT_NEEDED) != EPT_NEEDED || (c.eptVpid & (EPT_INVEPT_SINGLE | EPT_INVEPT_ALL)) == 0)
    return "EPT lacks 4 levels, write-back or INVEPT (IA32_VMX_EPT_VPID_CAP): use another processor, or a newer outer hypervisor";
  if (!mayBeOne(c.pin, PIN_NEEDED))
    return "virtual NMIs are missing (IA32_VMX_PINBASED_CTLS): use another processor, or a newer outer hypervisor";
  if (!mayBeOne(c.proc, PROC_NEEDED))
    return "an execution control is missing (IA32_VMX_PROCBASED_CTLS): use another processor, or a newer outer hypervisor";
  if (!mayBeZero(c.proc, PROC_UNWANTED))
    return "exits for CR3 or INVLPG cannot be off (IA32_VMX_TRUE_PROCBASED_CTLS): use another processor, or a newer outer hypervisor";
  if (!mayBeOne(c.exit, EXIT_NEEDED))
    return "VM exits cannot switch EFER and PAT (IA32_VMX_EXIT_CTLS): use another processor, or a newer outer hypervisor";
  if (!mayBeOne(c.entry, ENTRY_NEEDED))
    return "VM entries cannot load EFER and PAT (IA32_VMX_ENTRY_CTLS): use another processor, or a newer outer hypervisor";
  return "";
}

/** VMCS region size in bytes, at most 4096. */
export function vmcsBytes(c: Capability): u32 {
  return <u32>(c.basic >> 32) & 0x1fff;
}

export function vmcsRevision(c: Capability): u32 {
  return <u32>c.basic & 0x7fff_ffff;
}

/** The preemption timer counts down by 1 each 2^n TSC ticks. */
export function preemptionShift(c: Capability): u32 {
  return <u32>c.misc & 31;
}

/** Number of bytes of an injected software event may be 0. */
export function zeroLengthInjection(c: Capability): bool {
  return ((c.misc >> 30) & 1) != 0;
}

/** VPID is usable: the control and an INVVPID that forgets one context or all. */
export function vpidUsable(c: Capability): bool {
  const invvpid = (c.eptVpid & VPID_INVVPID) != 0 && (c.eptVpid & (VPID_SINGLE | VPID_ALL)) != 0;
  return invvpid && mayBeOne(c.proc2, Proc2.ENABLE_VPID);
}

/** OK if every capability that a VMCS of CPU 0 may rely on is here too. */
export function sameCapability(a: Capability, b: Capability): Status {
  const same =
    a.pin == b.pin &&
    a.proc == b.proc &&
    a.proc2 == b.proc2 &&
    a.exit == b.exit &&
    a.entry == b.entry &&
    a.eptVpid == b.eptVpid &&
    a.cr0Fixed0 == b.cr0Fixed0 &&
    a.cr0Fixed1 == b.cr0Fixed1 &&
    a.cr4Fixed0 == b.cr4Fixed0 &&
    a.cr4Fixed1 == b.cr4Fixed1 &&
    vmcsRevision(a) == vmcsRevision(b);
  return same ? Status.OK : Status.UNSUPPORTED;
}
