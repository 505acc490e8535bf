// The checks of VM entry on the guest-state area but its segment registers, in the manual's order.
// Intel SDM Vol. 3, "Checks on the Guest State Area".

import { vmread } from "../cpu/insn";
import { Feature, has, physBits } from "../cpu/feature";
import { Segment } from "../vcpu/exit";
import { canonical, entersLongMode, goodPat, isUnrestricted, read32 } from "./auditfield";
import { auditSegments } from "./auditsegment";
import { capability } from "./capability";
import { Activity, Blocking } from "./control";
import { Field, segmentAccess } from "./field";
import { PENDING_BS } from "./register";
import {
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  CR4_PCIDE,
  EFER_LMA,
  EFER_LME,
  RFLAGS_IF,
  RFLAGS_TF,
  RFLAGS_VM,
} from "../cpu/registerbits";

const EFER_RESERVED: u64 = ~(<u64>0xd01);
const DEBUGCTL_RESERVED: u64 = ~(<u64>0xdfc3);
const DEBUGCTL_BTF: u64 = 1 << 1;
const RFLAGS_RESERVED: u64 = ~(<u64>0x3f_7fd7);
const PENDING_RESERVED: u64 = 0xffff_ffff_fffe_aff0; // all but 3:0, 12, 14, 16
const PENDING_ENABLED: u64 = 1 << 12;
const PENDING_RTM: u64 = 1 << 16;

/** The first guest field that the manual's checks refuse; "nothing found" if they pass. */
export function auditGuest(): string {
  let why = auditControlRegisters();
  if (!why.length) why = auditMsrs();
  if (!why.length) why = auditSegments();
  if (!why.length) why = auditTables();
  if (!why.length) why = auditFlags();
  if (!why.length) why = auditActivity();
  if (!why.length) why = auditInterruptibility();
  if (!why.length) why = auditPendingDebug();
  if (!why.length) why = auditPdptes();
  return why.length ? why : "nothing found";
}

function auditControlRegisters(): string {
  const c = capability();
  const cr0 = vmread(Field.GUEST_CR0);
  const cr4 = vmread(Field.GUEST_CR4);
  const free: u64 = isUnrestricted() ? CR0_PE | CR0_PG : 0;
  if ((cr0 & c.cr0Fixed0 & ~free) != (c.cr0Fixed0 & ~free) || (cr0 & ~c.cr0Fixed1) != 0)
    return "GUEST_CR0: a fixed bit";
  if ((cr0 & CR0_PG) != 0 && (cr0 & CR0_PE) == 0) return "GUEST_CR0: PG without PE";
  if ((cr4 & c.cr4Fixed0) != c.cr4Fixed0 || (cr4 & ~c.cr4Fixed1) != 0) return "GUEST_CR4: a fixed bit";
  const long = entersLongMode();
  if (long && ((cr0 & CR0_PG) == 0 || (cr4 & CR4_PAE) == 0)) return "IA-32e mode without CR0.PG and CR4.PAE";
  if (!long && (cr4 & CR4_PCIDE) != 0) return "GUEST_CR4: PCIDE outside IA-32e mode";
  return vmread(Field.GUEST_CR3) >> <u64>physBits() != 0 ? "GUEST_CR3" : "";
}

function auditMsrs(): string {
  if ((vmread(Field.GUEST_DEBUGCTL) & DEBUGCTL_RESERVED) != 0) return "GUEST_DEBUGCTL";
  if (vmread(Field.GUEST_DR7) >> 32 != 0) return "GUEST_DR7";
  if (!canonical(vmread(Field.GUEST_SYSENTER_ESP))) return "GUEST_SYSENTER_ESP";
  if (!canonical(vmread(Field.GUEST_SYSENTER_EIP))) return "GUEST_SYSENTER_EIP";
  if (!goodPat(vmread(Field.GUEST_PAT))) return "GUEST_PAT";
  const efer = vmread(Field.GUEST_EFER);
  const isLong = (efer & EFER_LMA) != 0;
  if ((efer & EFER_RESERVED) != 0) return "GUEST_EFER: a reserved bit";
  if (entersLongMode() != isLong) return "GUEST_EFER: LMA differs from IA-32e mode guest";
  if ((vmread(Field.GUEST_CR0) & CR0_PG) != 0 && isLong != ((efer & EFER_LME) != 0))
    return "GUEST_EFER: LMA differs from LME";
  return "";
}

function auditTables(): string {
  if (!canonical(vmread(Field.GUEST_GDTR_BASE))) return "GUEST_GDTR_BASE";
  if (!canonical(vmread(Field.GUEST_IDTR_BASE))) return "GUEST_IDTR_BASE";
  if (read32(Field.GUEST_GDTR_LIMIT) >> 16 != 0) return "GUEST_GDTR_LIMIT";
  return read32(Field.GUEST_IDTR_LIMIT) >> 16 != 0 ? "GUEST_IDTR_LIMIT" : "";
}

/** RIP and RFLAGS. */
function auditFlags(): string {
  const flags = vmread(Field.GUEST_RFLAGS);
  const long = entersLongMode();
  const wide = long && (read32(Field.GUEST_CS_ACCESS) & 0x2000) != 0;
  if (!wide && vmread(Field.GUEST_RIP) >> 32 != 0) return "GUEST_RIP above 4 GiB outside 64-bit mode";
  if (wide && !canonical(vmread(Field.GUEST_RIP))) return "GUEST_RIP";
  if ((flags & RFLAGS_RESERVED) != 0 || (flags & 2) == 0) return "GUEST_RFLAGS: a reserved bit";
  if ((flags & RFLAGS_VM) != 0 && (long || (vmread(Field.GUEST_CR0) & CR0_PE) == 0)) return "GUEST_RFLAGS: VM";
  if (injectedType() == Injected.INTERRUPT && (flags & RFLAGS_IF) == 0)
    return "an interrupt is injected with RFLAGS.IF = 0";
  return "";
}

const enum Injected {
  INTERRUPT = 0,
  NMI = 2,
  EXCEPTION = 3,
  OTHER = 7,
  NONE = 8,
}

/** Type of the event that this entry injects. */
function injectedType(): u32 {
  const info = read32(Field.ENTRY_INTERRUPTION_INFO);
  return (info & 0x8000_0000) != 0 ? (info >> 8) & 7 : <u32>Injected.NONE;
}

function auditActivity(): string {
  const activity = read32(Field.GUEST_ACTIVITY);
  if (activity == Activity.ACTIVE) return "";
  if (activity > <u32>Activity.WAIT_FOR_SIPI) return "GUEST_ACTIVITY";
  if (((capability().misc >> <u64>(5 + activity)) & 1) == 0) return "GUEST_ACTIVITY: not of this processor";
  if (activity == Activity.HLT && ((read32(segmentAccess(Segment.SS)) >> 5) & 3) != 0)
    return "GUEST_ACTIVITY: HLT above privilege level 0";
  if ((read32(Field.GUEST_INTERRUPTIBILITY) & (Blocking.STI | Blocking.MOV_SS)) != 0)
    return "GUEST_ACTIVITY: an interrupt shadow in an inactive state";
  return wakesFrom(activity) ? "" : "GUEST_ACTIVITY: not one in which the injected event may come";
}

const MACHINE_CHECK: u32 = 18;
const DEBUG: u32 = 1;

/** Whether the event of this entry, if any, may be injected in an inactive state. */
function wakesFrom(activity: u32): bool {
  const type = injectedType();
  if (type == Injected.NONE) return true;
  const vector = read32(Field.ENTRY_INTERRUPTION_INFO) & 0xff;
  const check = type == Injected.EXCEPTION && vector == MACHINE_CHECK;
  if (activity == Activity.SHUTDOWN) return type == Injected.NMI || check;
  if (activity != Activity.HLT) return false;
  const debug = type == Injected.EXCEPTION && vector == DEBUG;
  return type == Injected.INTERRUPT || type == Injected.NMI || type == Injected.OTHER || check || debug;
}

function auditInterruptibility(): string {
  const blocking = read32(Field.GUEST_INTERRUPTIBILITY);
  const shadow = blocking & (Blocking.STI | Blocking.MOV_SS);
  if (blocking >> 5 != 0) return "GUEST_INTERRUPTIBILITY: a reserved bit";
  if ((blocking & (Blocking.SMI | Blocking.ENCLAVE)) != 0) return "GUEST_INTERRUPTIBILITY: SMI or enclave";
  if (shadow == (Blocking.STI | Blocking.MOV_SS)) return "GUEST_INTERRUPTIBILITY: STI and MOV SS";
  if ((blocking & Blocking.STI) != 0 && (vmread(Field.GUEST_RFLAGS) & RFLAGS_IF) == 0)
    return "GUEST_INTERRUPTIBILITY: STI with RFLAGS.IF = 0";
  const type = injectedType();
  if (type == Injected.INTERRUPT && shadow != 0) return "an interrupt is injected into an interrupt shadow";
  // A processor may also refuse an NMI under STI: the core waits for its end.
  if (type == Injected.NMI && (shadow != 0 || (blocking & Blocking.NMI) != 0))
    return "an NMI is injected while NMIs are blocked";
  return "";
}

/** In a shadow and after HLT, a single step is recorded exactly if one is due. */
function auditPendingDebug(): string {
  const pending = vmread(Field.GUEST_PENDING_DEBUG);
  const blocking = read32(Field.GUEST_INTERRUPTIBILITY);
  if ((pending & PENDING_RESERVED) != 0) return "GUEST_PENDING_DEBUG: a reserved bit";
  if ((blocking & (Blocking.STI | Blocking.MOV_SS)) != 0 || read32(Field.GUEST_ACTIVITY) == Activity.HLT) {
    const steps = (vmread(Field.GUEST_RFLAGS) & RFLAGS_TF) != 0 && (vmread(Field.GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0;
    if (steps != ((pending & PENDING_BS) != 0)) return "GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF";
  }
  const transactional = pending == (PENDING_RTM | PENDING_ENABLED) && (blocking & Blocking.MOV_SS) == 0;
  if ((pending & PENDING_RTM) != 0 && !(transactional && has(Feature.RTM))) return "GUEST_PENDING_DEBUG: RTM";
  return vmread(Field.VMCS_LINK_POINTER) != u64.MAX_VALUE ? "VMCS_LINK_POINTER" : "";
}

/** PAE paging takes its PDPTEs from the VMCS. */
function auditPdptes(): string {
  const pae = (vmread(Field.GUEST_CR4) & CR4_PAE) != 0 && (vmread(Field.GUEST_CR0) & CR0_PG) != 0;
  if (!pae || entersLongMode()) return "";
  const reserved: u64 = 0x1e6 | ((<u64>-1) << (<u64>physBits()));
  for (let field: u32 = Field.GUEST_PDPTE0; field <= <u32>Field.GUEST_PDPTE3; field += 2) {
    const pdpte = vmread(field);
    if ((pdpte & 1) != 0 && (pdpte & reserved) != 0) return "a GUEST_PDPTE has a reserved bit";
  }
  return "";
}
