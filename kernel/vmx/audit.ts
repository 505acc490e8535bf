// Why a VM entry failed. The processor says no more than "guest state" or a number; here the manual's
// checks are made again in software, in its order, and the first that fails is named with its field.
// Intel SDM Vol. 3, "Checks on VMX Controls and Host-State Area", "Checking and Loading Guest State".

import { vmread } from "../cpu/insn";
import { begin, bytes, dec, end, hex, Level, str } from "../lib/log";
import { physBits } from "../cpu/feature";
import { Segment } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { capability, zeroLengthInjection } from "./capability";
import { Activity, Blocking, EntryControl, Pin, Proc, Proc2 } from "./control";
import { Entry } from "./exit";
import { Field, segmentAccess, segmentBase, segmentLimit, segmentSelector } from "./field";
import { CR0_PE, CR0_PG, EFER_LMA, RFLAGS_IF, RFLAGS_TF, RFLAGS_VM } from "./register";

const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const EFER_LME: u64 = 1 << 8;
const PENDING_RESERVED: u64 = 0xffff_ffff_fffe_aff0; // all but 3:0, 12, 14, 16
const UNUSABLE: u32 = 0x1_0000;

/** Logs one line on a failed entry: `failure` is what enter() returned. */
export function reportEntryFailure(vcpu: Vcpu, failure: u32): void {
  begin(Level.ERROR, "vmx");
  bytes(vcpu.vm.name, vcpu.vm.nameBytes);
  str(" vcpu ");
  dec(vcpu.index);
  str(": VM entry failed: ");
  if (failure == Entry.INVALID) str("no current VMCS");
  else if (failure == Entry.REFUSED) {
    str("instruction error ");
    dec(vmread(Field.INSTRUCTION_ERROR));
    str(", ");
    str(auditControls(vcpu));
  } else {
    str("reason ");
    dec(vcpu.exitReason);
    str(", qualification ");
    hex(vmread(Field.EXIT_QUALIFICATION));
    str(", ");
    str(auditGuest(vcpu));
  }
  end();
}

function read32(field: u32): u32 {
  return <u32>vmread(field);
}

// ---- Controls and host state

/** The first control or host field that is not allowed; "nothing found" if all are. */
export function auditControls(vcpu: Vcpu): string {
  const c = capability();
  if (!within(c.pin, read32(Field.PIN_CONTROLS))) return "PIN_CONTROLS has a bit that is not allowed";
  if (!within(c.proc, read32(Field.PROCESSOR_CONTROLS))) return "PROCESSOR_CONTROLS has a bit that is not allowed";
  if (!within(c.proc2, read32(Field.PROCESSOR_CONTROLS_2))) return "PROCESSOR_CONTROLS_2 has a bit that is not allowed";
  if (!within(c.exit, read32(Field.EXIT_CONTROLS))) return "EXIT_CONTROLS has a bit that is not allowed";
  if (!within(c.entry, read32(Field.ENTRY_CONTROLS))) return "ENTRY_CONTROLS has a bit that is not allowed";
  const why = auditDependencies(vcpu);
  if (why.length) return why;
  const event = auditInjection();
  return event.length ? event : auditHost();
}

/** Bits that must be 1 are, and no bit that must be 0 is. */
function within(pair: u64, value: u32): bool {
  return (value & <u32>pair) == <u32>pair && (value & ~(<u32>(pair >> 32))) == 0;
}

function auditDependencies(vcpu: Vcpu): string {
  const pin = read32(Field.PIN_CONTROLS);
  const proc = read32(Field.PROCESSOR_CONTROLS);
  const proc2 = (proc & Proc.SECONDARY_CONTROLS) != 0 ? read32(Field.PROCESSOR_CONTROLS_2) : 0;
  if ((pin & Pin.VIRTUAL_NMIS) != 0 && (pin & Pin.NMI_EXITING) == 0) return "virtual NMIs without NMI exiting";
  if ((proc & Proc.NMI_WINDOW) != 0 && (pin & Pin.VIRTUAL_NMIS) == 0) return "NMI window without virtual NMIs";
  if ((proc & Proc.IO_BITMAPS) != 0 && unaligned(Field.IO_BITMAP_A)) return "IO_BITMAP_A";
  if ((proc & Proc.IO_BITMAPS) != 0 && unaligned(Field.IO_BITMAP_B)) return "IO_BITMAP_B";
  if ((proc & Proc.MSR_BITMAPS) != 0 && unaligned(Field.MSR_BITMAP)) return "MSR_BITMAP";
  if ((proc & Proc.TPR_SHADOW) != 0 && unaligned(Field.VIRTUAL_APIC_ADDRESS)) return "VIRTUAL_APIC_ADDRESS";
  const apic =
    proc2 & (Proc2.VIRTUALIZE_X2APIC | Proc2.APIC_REGISTER_VIRTUALIZATION | Proc2.VIRTUAL_INTERRUPT_DELIVERY);
  if ((proc & Proc.TPR_SHADOW) == 0 && apic != 0) return "APIC virtualisation without TPR shadow";
  if ((proc2 & Proc2.VIRTUALIZE_APIC_ACCESSES) != 0 && unaligned(Field.APIC_ACCESS_ADDRESS))
    return "APIC_ACCESS_ADDRESS";
  if (
    (proc2 & (Proc2.VIRTUALIZE_X2APIC | Proc2.VIRTUALIZE_APIC_ACCESSES)) ==
    (Proc2.VIRTUALIZE_X2APIC | Proc2.VIRTUALIZE_APIC_ACCESSES)
  )
    return "x2APIC mode and APIC accesses both virtualised";
  if ((proc2 & Proc2.VIRTUAL_INTERRUPT_DELIVERY) != 0 && (pin & Pin.EXTERNAL_INTERRUPT_EXITING) == 0)
    return "virtual-interrupt delivery without external-interrupt exiting";
  if ((proc2 & Proc2.ENABLE_VPID) != 0 && read32(Field.VPID) == 0) return "VPID is 0";
  if ((proc2 & Proc2.UNRESTRICTED_GUEST) != 0 && (proc2 & Proc2.ENABLE_EPT) == 0)
    return "unrestricted guest without EPT";
  if (vmread(Field.EPT_POINTER) != vcpu.vm.eptp || (vcpu.vm.eptp & 0x38) != 0x18) return "EPT_POINTER";
  return "";
}

function unaligned(field: u32): bool {
  const pa = vmread(field);
  return (pa & 0xfff) != 0 || pa >> <u64>physBits() != 0;
}

function auditInjection(): string {
  const info = read32(Field.ENTRY_INTERRUPTION_INFO);
  if ((info & 0x8000_0000) == 0) return "";
  const type = (info >> 8) & 7;
  const vector = info & 0xff;
  if (type == 1 || (info & 0x7fff_f000) != 0) return "ENTRY_INTERRUPTION_INFO has a reserved type or bit";
  if ((type == 2 && vector != 2) || (type == 3 && vector > 31))
    return "ENTRY_INTERRUPTION_INFO: vector does not fit the type";
  const wants = type == 3 && (vmread(Field.GUEST_CR0) & CR0_PE) != 0 && vector < 32 && ((0x22_7d00 >> vector) & 1) != 0;
  if (wants != ((info & 0x800) != 0))
    return "ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector";
  const length = read32(Field.ENTRY_INSTRUCTION_LENGTH);
  if (type >= 4 && type <= 6 && (length > 15 || (length == 0 && !zeroLengthInjection(capability()))))
    return "ENTRY_INSTRUCTION_LENGTH";
  return "";
}

function auditHost(): string {
  const c = capability();
  const cr0 = vmread(Field.HOST_CR0);
  const cr4 = vmread(Field.HOST_CR4);
  if ((cr0 & c.cr0Fixed0) != c.cr0Fixed0 || (cr0 & ~c.cr0Fixed1) != 0) return "HOST_CR0";
  if ((cr4 & c.cr4Fixed0) != c.cr4Fixed0 || (cr4 & ~c.cr4Fixed1) != 0) return "HOST_CR4";
  if (vmread(Field.HOST_CR3) >> <u64>physBits() != 0) return "HOST_CR3";
  if (read32(Field.HOST_CS_SELECTOR) == 0) return "HOST_CS_SELECTOR";
  if (read32(Field.HOST_TR_SELECTOR) == 0) return "HOST_TR_SELECTOR";
  if (!canonical(vmread(Field.HOST_GDTR_BASE))) return "HOST_GDTR_BASE";
  if (!canonical(vmread(Field.HOST_IDTR_BASE))) return "HOST_IDTR_BASE";
  if (!canonical(vmread(Field.HOST_TR_BASE))) return "HOST_TR_BASE";
  if (!canonical(vmread(Field.HOST_RIP))) return "HOST_RIP";
  if ((vmread(Field.HOST_EFER) & (EFER_LMA | EFER_LME)) != (EFER_LMA | EFER_LME)) return "HOST_EFER";
  return "nothing found";
}

function canonical(va: u64): bool {
  return <u64>(((<i64>va) << 16) >> 16) == va;
}

// ---- Guest state

/** The first guest field that the manual's checks refuse; "nothing found" if they pass. */
export function auditGuest(vcpu: Vcpu): string {
  let why = auditControlRegisters(vcpu);
  if (!why.length) why = auditSegments(vcpu);
  if (!why.length) why = auditTables();
  if (!why.length) why = auditFlags(vcpu);
  if (!why.length) why = auditNonRegister();
  return why.length ? why : "nothing found";
}

function auditControlRegisters(vcpu: Vcpu): string {
  const c = capability();
  const cr0 = vmread(Field.GUEST_CR0);
  const cr4 = vmread(Field.GUEST_CR4);
  const free: u64 = vcpu.unrestricted ? CR0_PE | CR0_PG : 0;
  if ((cr0 & c.cr0Fixed0 & ~free) != (c.cr0Fixed0 & ~free) || (cr0 & ~c.cr0Fixed1) != 0)
    return "GUEST_CR0: a fixed bit";
  if ((cr0 & CR0_PG) != 0 && (cr0 & CR0_PE) == 0) return "GUEST_CR0: PG without PE";
  if ((cr4 & c.cr4Fixed0) != c.cr4Fixed0 || (cr4 & ~c.cr4Fixed1) != 0) return "GUEST_CR4: a fixed bit";
  const long = (read32(Field.ENTRY_CONTROLS) & EntryControl.IA32E_MODE_GUEST) != 0;
  if (long && ((cr0 & CR0_PG) == 0 || (cr4 & CR4_PAE) == 0)) return "IA-32e mode without CR0.PG and CR4.PAE";
  if (!long && (cr4 & CR4_PCIDE) != 0) return "GUEST_CR4: PCIDE outside IA-32e mode";
  if (vmread(Field.GUEST_CR3) >> <u64>physBits() != 0) return "GUEST_CR3";
  const efer = vmread(Field.GUEST_EFER);
  if ((efer & ~(<u64>0xd01)) != 0) return "GUEST_EFER: a reserved bit";
  if (long != ((efer & EFER_LMA) != 0)) return "GUEST_EFER: LMA differs from IA-32e mode guest";
  if ((cr0 & CR0_PG) != 0 && ((efer & EFER_LMA) != 0) != ((efer & EFER_LME) != 0))
    return "GUEST_EFER: LMA differs from LME";
  if ((read32(Field.GUEST_DEBUGCTL) & ~0xdfc3) != 0) return "GUEST_DEBUGCTL";
  if (vmread(Field.GUEST_DR7) >> 32 != 0) return "GUEST_DR7";
  if (!canonical(vmread(Field.GUEST_SYSENTER_ESP))) return "GUEST_SYSENTER_ESP";
  if (!canonical(vmread(Field.GUEST_SYSENTER_EIP))) return "GUEST_SYSENTER_EIP";
  return "";
}

function auditSegments(vcpu: Vcpu): string {
  const virtual8086 = (vmread(Field.GUEST_RFLAGS) & RFLAGS_VM) != 0;
  if ((read32(segmentSelector(Segment.TR)) & 4) != 0) return "GUEST_TR_SELECTOR: TI";
  for (let i: u32 = 0; i <= <u32>Segment.GS; i++) {
    const why = virtual8086 ? auditVirtual8086(i) : auditSegment(vcpu, i);
    if (why.length) return why;
  }
  return auditSystemSegments();
}

function auditVirtual8086(i: u32): string {
  if (vmread(segmentBase(i)) != (<u64>read32(segmentSelector(i))) << 4) return "a virtual-8086 segment's base";
  if (read32(segmentLimit(i)) != 0xffff) return "a virtual-8086 segment's limit";
  return read32(segmentAccess(i)) == 0xf3 ? "" : "a virtual-8086 segment's access rights";
}

function auditSegment(vcpu: Vcpu, i: u32): string {
  const access = read32(segmentAccess(i));
  if (i == Segment.CS) return auditCode(vcpu, access);
  if ((access & UNUSABLE) != 0) return "";
  if ((access & 0x10) == 0) return "a segment's S bit";
  if ((access & 0x80) == 0) return "a segment's P bit";
  if ((access & 0xf00) != 0 || access >> 17 != 0) return "a segment's reserved access bits";
  if (granularityWrong(i, access)) return "a segment's granularity does not fit its limit";
  if (i == Segment.SS) return auditStack(vcpu, access);
  if ((access & 1) == 0) return "a data segment is not accessed";
  if ((access & 8) != 0 && (access & 2) == 0) return "a data segment is execute-only code";
  return "";
}

function granularityWrong(i: u32, access: u32): bool {
  const limit = read32(segmentLimit(i));
  if ((limit & 0xfff) != 0xfff && (access & 0x8000) != 0) return true;
  return limit >> 20 != 0 && (access & 0x8000) == 0;
}

function auditCode(vcpu: Vcpu, access: u32): string {
  const type = access & 15;
  if (type != 9 && type != 11 && type != 13 && type != 15 && !(vcpu.unrestricted && type == 3))
    return "GUEST_CS_ACCESS: type";
  if ((access & 0x90) != 0x90) return "GUEST_CS_ACCESS: S or P";
  const long = (read32(Field.ENTRY_CONTROLS) & EntryControl.IA32E_MODE_GUEST) != 0;
  if (long && (access & 0x6000) == 0x6000) return "GUEST_CS_ACCESS: L and D/B";
  if (granularityWrong(Segment.CS, access)) return "GUEST_CS_LIMIT does not fit its granularity";
  const dpl = (access >> 5) & 3;
  const stack = (read32(Field.GUEST_SS_ACCESS) >> 5) & 3;
  if (type == 3 && dpl != 0) return "GUEST_CS_ACCESS: DPL of a data segment";
  if ((type == 9 || type == 11) && dpl != stack) return "GUEST_CS_ACCESS: DPL differs from that of SS";
  if ((type == 13 || type == 15) && dpl > stack) return "GUEST_CS_ACCESS: conforming DPL above that of SS";
  return "";
}

function auditStack(vcpu: Vcpu, access: u32): string {
  const type = access & 15;
  if (type != 3 && type != 7) return "GUEST_SS_ACCESS: type";
  if (vcpu.unrestricted) return "";
  return ((access >> 5) & 3) == (read32(Field.GUEST_SS_SELECTOR) & 3) ? "" : "GUEST_SS_ACCESS: DPL differs from RPL";
}

function auditSystemSegments(): string {
  const tr = read32(Field.GUEST_TR_ACCESS);
  const long = (read32(Field.ENTRY_CONTROLS) & EntryControl.IA32E_MODE_GUEST) != 0;
  const type = tr & 15;
  if (type != 11 && (long || type != 3)) return "GUEST_TR_ACCESS: not a busy TSS";
  if ((tr & (UNUSABLE | 0x10)) != 0 || (tr & 0x80) == 0) return "GUEST_TR_ACCESS: unusable, S or P";
  if (granularityWrong(Segment.TR, tr)) return "GUEST_TR_LIMIT does not fit its granularity";
  const ldtr = read32(Field.GUEST_LDTR_ACCESS);
  if ((ldtr & UNUSABLE) == 0 && (ldtr & 0x9f) != 0x82) return "GUEST_LDTR_ACCESS";
  if (!canonical(vmread(Field.GUEST_TR_BASE))) return "GUEST_TR_BASE";
  if (!canonical(vmread(Field.GUEST_FS_BASE))) return "GUEST_FS_BASE";
  if (!canonical(vmread(Field.GUEST_GS_BASE))) return "GUEST_GS_BASE";
  if (vmread(Field.GUEST_CS_BASE) >> 32 != 0) return "GUEST_CS_BASE";
  return "";
}

function auditTables(): string {
  if (!canonical(vmread(Field.GUEST_GDTR_BASE))) return "GUEST_GDTR_BASE";
  if (!canonical(vmread(Field.GUEST_IDTR_BASE))) return "GUEST_IDTR_BASE";
  if (read32(Field.GUEST_GDTR_LIMIT) >> 16 != 0) return "GUEST_GDTR_LIMIT";
  return read32(Field.GUEST_IDTR_LIMIT) >> 16 != 0 ? "GUEST_IDTR_LIMIT" : "";
}

function auditFlags(vcpu: Vcpu): string {
  const flags = vmread(Field.GUEST_RFLAGS);
  const long = (read32(Field.ENTRY_CONTROLS) & EntryControl.IA32E_MODE_GUEST) != 0;
  if ((flags & ~(<u64>0x3f_7fd7)) != 0 || (flags & 2) == 0) return "GUEST_RFLAGS: a reserved bit";
  if ((flags & RFLAGS_VM) != 0 && (long || (vmread(Field.GUEST_CR0) & CR0_PE) == 0)) return "GUEST_RFLAGS: VM";
  const wide = long && (read32(Field.GUEST_CS_ACCESS) & 0x2000) != 0;
  if (!wide && vmread(Field.GUEST_RIP) >> 32 != 0) return "GUEST_RIP above 4 GiB outside 64-bit mode";
  if (wide && !canonical(vmread(Field.GUEST_RIP))) return "GUEST_RIP";
  const info = read32(Field.ENTRY_INTERRUPTION_INFO);
  const interrupt = (info & 0x8000_0700) == 0x8000_0000;
  return interrupt && (flags & RFLAGS_IF) == 0 ? "an interrupt is injected with RFLAGS.IF = 0" : "";
}

function auditNonRegister(): string {
  const blocking = read32(Field.GUEST_INTERRUPTIBILITY);
  const flags = vmread(Field.GUEST_RFLAGS);
  const shadow = blocking & (Blocking.STI | Blocking.MOV_SS);
  if (read32(Field.GUEST_ACTIVITY) > <u32>Activity.WAIT_FOR_SIPI) return "GUEST_ACTIVITY";
  if (blocking >> 5 != 0) return "GUEST_INTERRUPTIBILITY: a reserved bit";
  if (shadow == (Blocking.STI | Blocking.MOV_SS)) return "GUEST_INTERRUPTIBILITY: STI and MOV SS";
  if ((blocking & Blocking.STI) != 0 && (flags & RFLAGS_IF) == 0)
    return "GUEST_INTERRUPTIBILITY: STI with RFLAGS.IF = 0";
  const type = read32(Field.ENTRY_INTERRUPTION_INFO) & 0x8000_0700;
  if (type == 0x8000_0000 && shadow != 0) return "an interrupt is injected into an interrupt shadow";
  if (type == 0x8000_0200 && (blocking & (Blocking.MOV_SS | Blocking.NMI)) != 0)
    return "an NMI is injected while NMIs are blocked";
  const pending = vmread(Field.GUEST_PENDING_DEBUG);
  if ((pending & PENDING_RESERVED) != 0) return "GUEST_PENDING_DEBUG: a reserved bit";
  const stepping = (flags & RFLAGS_TF) != 0 && (read32(Field.GUEST_DEBUGCTL) & 2) == 0;
  if (shadow != 0 && stepping != ((pending & (1 << 14)) != 0)) return "GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF";
  return vmread(Field.VMCS_LINK_POINTER) != u64.MAX_VALUE ? "VMCS_LINK_POINTER" : "";
}
