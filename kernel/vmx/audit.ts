// Why a VM entry failed. The processor says no more than "guest state" or a number; here the manual's
// checks are made again in software, in its order, and the first that fails is named with its field.
// Intel SDM Vol. 3, "Checks on VMX Controls and Host-State Area", "Checking and Loading Guest State".

import { vmread } from "../cpu/insn";
import { begin, bytes, dec, end, hex, Level, str } from "../lib/log";
import { physBits } from "../cpu/feature";
import { Vcpu } from "../vcpu/vcpu";
import { canonical, goodPat, isUnrestricted, read32, secondaryControls } from "./auditfield";
import { auditGuest } from "./auditguest";
import { NO_SEGMENT, refusedSegment, segmentName } from "./auditsegment";
import { capability, mayBeOne, zeroLengthInjection } from "./capability";
import { EntryControl, ExitControl, Pin, Proc, Proc2 } from "./control";
import { Entry } from "./exit";
import { Field } from "./field";
import { CR0_PE, CR4_PAE, EFER_LMA, EFER_LME } from "../cpu/registerbits";

const EFER_RESERVED: u64 = ~(<u64>0xd01);
/** Local APIC's page: the task priority. */
const VTPR: usize = 0x80;

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
    reportGuestState();
  }
  end();
}

function reportGuestState(): void {
  const why = auditGuest();
  const segment = refusedSegment(why);
  if (segment != NO_SEGMENT) str(segmentName(segment));
  str(why);
}

// ---- Controls and host state

/** The first control or host field that is not allowed; "nothing found" if all are. */
export function auditControls(vcpu: Vcpu): string {
  const c = capability();
  if (!within(c.pin, read32(Field.PIN_CONTROLS))) return "PIN_CONTROLS has a bit that is not allowed";
  if (!within(c.proc, read32(Field.PROCESSOR_CONTROLS))) return "PROCESSOR_CONTROLS has a bit that is not allowed";
  if (!within(c.proc2, secondaryControls())) return "PROCESSOR_CONTROLS_2 has a bit that is not allowed";
  if (!within(c.exit, read32(Field.EXIT_CONTROLS))) return "EXIT_CONTROLS has a bit that is not allowed";
  if (!within(c.entry, read32(Field.ENTRY_CONTROLS))) return "ENTRY_CONTROLS has a bit that is not allowed";
  let why = auditDependencies(vcpu);
  if (!why.length) why = auditApic(vcpu);
  if (!why.length) why = auditTransition();
  if (!why.length) why = auditInjection();
  return why.length ? why : auditHost();
}

/** Bits that must be 1 are, and no bit that must be 0 is. */
function within(pair: u64, value: u32): bool {
  return (value & <u32>pair) == <u32>pair && (value & ~(<u32>(pair >> 32))) == 0;
}

function auditDependencies(vcpu: Vcpu): string {
  const pin = read32(Field.PIN_CONTROLS);
  const proc = read32(Field.PROCESSOR_CONTROLS);
  const proc2 = secondaryControls();
  if ((pin & Pin.VIRTUAL_NMIS) != 0 && (pin & Pin.NMI_EXITING) == 0) return "virtual NMIs without NMI exiting";
  if ((proc & Proc.NMI_WINDOW) != 0 && (pin & Pin.VIRTUAL_NMIS) == 0) return "NMI window without virtual NMIs";
  if (read32(Field.CR3_TARGET_COUNT) > (<u32>(capability().misc >> 16) & 0x1ff)) return "CR3_TARGET_COUNT";
  if ((proc & Proc.IO_BITMAPS) != 0 && unaligned(Field.IO_BITMAP_A)) return "IO_BITMAP_A";
  if ((proc & Proc.IO_BITMAPS) != 0 && unaligned(Field.IO_BITMAP_B)) return "IO_BITMAP_B";
  if ((proc & Proc.MSR_BITMAPS) != 0 && unaligned(Field.MSR_BITMAP)) return "MSR_BITMAP";
  if ((proc2 & Proc2.ENABLE_VPID) != 0 && read32(Field.VPID) == 0) return "VPID is 0";
  if ((proc2 & Proc2.UNRESTRICTED_GUEST) != 0 && (proc2 & Proc2.ENABLE_EPT) == 0)
    return "unrestricted guest without EPT";
  if (vmread(Field.EPT_POINTER) != vcpu.vm.eptp || (vcpu.vm.eptp & 0x38) != 0x18) return "EPT_POINTER";
  return "";
}

/** APIC virtualisation. */
function auditApic(vcpu: Vcpu): string {
  const shadow = (read32(Field.PROCESSOR_CONTROLS) & Proc.TPR_SHADOW) != 0;
  const proc2 = secondaryControls();
  const delivery = (proc2 & Proc2.VIRTUAL_INTERRUPT_DELIVERY) != 0;
  const accesses = (proc2 & Proc2.VIRTUALIZE_APIC_ACCESSES) != 0;
  const x2apic = (proc2 & Proc2.VIRTUALIZE_X2APIC) != 0;
  if (!shadow && (x2apic || delivery || (proc2 & Proc2.APIC_REGISTER_VIRTUALIZATION) != 0))
    return "APIC virtualisation without TPR shadow";
  if (shadow && unaligned(Field.VIRTUAL_APIC_ADDRESS)) return "VIRTUAL_APIC_ADDRESS";
  if (shadow && !delivery && read32(Field.TPR_THRESHOLD) > 15) return "TPR_THRESHOLD: a reserved bit";
  if (shadow && !delivery && !accesses && read32(Field.TPR_THRESHOLD) > load<u32>(vcpu.virtualApic + VTPR) >> 4)
    return "TPR_THRESHOLD above the virtual TPR";
  if (accesses && unaligned(Field.APIC_ACCESS_ADDRESS)) return "APIC_ACCESS_ADDRESS";
  if (x2apic && accesses) return "x2APIC mode and APIC accesses both virtualised";
  if (delivery && (read32(Field.PIN_CONTROLS) & Pin.EXTERNAL_INTERRUPT_EXITING) == 0)
    return "virtual-interrupt delivery without external-interrupt exiting";
  return "";
}

/** VM-exit and VM-entry controls. No MSR lists are ever used. */
function auditTransition(): string {
  const exit = read32(Field.EXIT_CONTROLS);
  if ((exit & ExitControl.SAVE_PREEMPTION_TIMER) != 0 && (read32(Field.PIN_CONTROLS) & Pin.PREEMPTION_TIMER) == 0)
    return "EXIT_CONTROLS: the preemption timer is saved and does not run";
  if (read32(Field.EXIT_MSR_STORE_COUNT) != 0) return "EXIT_MSR_STORE_COUNT";
  if (read32(Field.EXIT_MSR_LOAD_COUNT) != 0) return "EXIT_MSR_LOAD_COUNT";
  if (read32(Field.ENTRY_MSR_LOAD_COUNT) != 0) return "ENTRY_MSR_LOAD_COUNT";
  const smm: u32 = EntryControl.ENTRY_TO_SMM | EntryControl.DEACTIVATE_DUAL_MONITOR;
  return (read32(Field.ENTRY_CONTROLS) & smm) != 0 ? "ENTRY_CONTROLS: for SMM only" : "";
}

function unaligned(field: u32): bool {
  const pa = vmread(field);
  return (pa & 0xfff) != 0 || pa >> <u64>physBits() != 0;
}

/** Bit n: exception n comes with an error code. */
const WITH_ERROR_CODE: u32 = 0x22_7d00;

function auditInjection(): string {
  const info = read32(Field.ENTRY_INTERRUPTION_INFO);
  if ((info & 0x8000_0000) == 0) return "";
  const type = (info >> 8) & 7;
  const vector = info & 0xff;
  if (type == 1 || (info & 0x7fff_f000) != 0) return "ENTRY_INTERRUPTION_INFO has a reserved type or bit";
  if (type == 7 && !mayBeOne(capability().proc, Proc.MONITOR_TRAP_FLAG))
    return "ENTRY_INTERRUPTION_INFO has a reserved type or bit";
  if ((type == 2 && vector != 2) || (type == 3 && vector > 31) || (type == 7 && vector != 0))
    return "ENTRY_INTERRUPTION_INFO: vector does not fit the type";
  const isReal = isUnrestricted() && (vmread(Field.GUEST_CR0) & CR0_PE) == 0;
  const wants = type == 3 && !isReal && ((WITH_ERROR_CODE >> vector) & 1) != 0;
  if (wants != ((info & 0x800) != 0))
    return "ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector";
  if (wants && read32(Field.ENTRY_EXCEPTION_ERROR_CODE) >> 16 != 0) return "ENTRY_EXCEPTION_ERROR_CODE";
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
  if ((cr4 & (c.cr4Fixed0 | CR4_PAE)) != (c.cr4Fixed0 | CR4_PAE) || (cr4 & ~c.cr4Fixed1) != 0) return "HOST_CR4";
  if (vmread(Field.HOST_CR3) >> <u64>physBits() != 0) return "HOST_CR3";
  if ((read32(Field.EXIT_CONTROLS) & ExitControl.HOST_64_BIT) == 0) return "EXIT_CONTROLS: the host is in 64-bit mode";
  if ((vmread(Field.HOST_EFER) & EFER_RESERVED) != 0) return "HOST_EFER";
  if ((vmread(Field.HOST_EFER) & (EFER_LMA | EFER_LME)) != (EFER_LMA | EFER_LME)) return "HOST_EFER";
  if (!goodPat(vmread(Field.HOST_PAT))) return "HOST_PAT";
  const why = auditHostSegments();
  return why.length ? why : "nothing found";
}

function auditHostSegments(): string {
  for (let field: u32 = Field.HOST_ES_SELECTOR; field <= <u32>Field.HOST_TR_SELECTOR; field += 2) {
    if ((read32(field) & 7) != 0) return "a host selector has a TI or RPL bit";
  }
  if (read32(Field.HOST_CS_SELECTOR) == 0) return "HOST_CS_SELECTOR";
  if (read32(Field.HOST_TR_SELECTOR) == 0) return "HOST_TR_SELECTOR";
  if (!canonical(vmread(Field.HOST_FS_BASE))) return "HOST_FS_BASE";
  if (!canonical(vmread(Field.HOST_GS_BASE))) return "HOST_GS_BASE";
  if (!canonical(vmread(Field.HOST_GDTR_BASE))) return "HOST_GDTR_BASE";
  if (!canonical(vmread(Field.HOST_IDTR_BASE))) return "HOST_IDTR_BASE";
  if (!canonical(vmread(Field.HOST_TR_BASE))) return "HOST_TR_BASE";
  if (!canonical(vmread(Field.HOST_SYSENTER_ESP))) return "HOST_SYSENTER_ESP";
  if (!canonical(vmread(Field.HOST_SYSENTER_EIP))) return "HOST_SYSENTER_EIP";
  return canonical(vmread(Field.HOST_RIP)) ? "" : "HOST_RIP";
}
