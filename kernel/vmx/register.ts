// Registers of the current vCPU that live in its VMCS, and what an emulated instruction does to them.
// Each accessor is one VMREAD or VMWRITE; callers read what they need once.

import { vmread, vmwrite } from "../cpu/insn";
import { Segment, SegmentState } from "../vcpu/exit";
import { Gpr, gpr, setGpr, Vcpu } from "../vcpu/vcpu";
import { capability, mayBeOne } from "./capability";
import { Blocking, EntryControl, Proc2 } from "./control";
import { setPagingOff, setPagingOn } from "./paging";
import { Field, segmentAccess, segmentBase, segmentLimit, segmentSelector } from "./field";
import {
  CR0_AM,
  CR0_CD,
  CR0_EM,
  CR0_MP,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  EFER_LMA,
  EFER_LME,
  RFLAGS_RF,
  RFLAGS_TF,
} from "../cpu/registerbits";

/** Pending debug exceptions: a single step is due. */
export const PENDING_BS: u64 = 1 << 14;
/** A breakpoint that DR7 enables was met. */
const PENDING_ENABLED: u64 = 1 << 12;
const DEBUGCTL_BTF: u64 = 1 << 1;

/** Guest bits that pass through: the processor keeps them, reads and writes do not exit. */
export const CR0_GUEST_OWNED: u64 = CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM;

// ---- General registers

export function readRip(): u64 {
  return vmread(Field.GUEST_RIP);
}
export function writeRip(value: u64): void {
  vmwrite(Field.GUEST_RIP, value);
}
export function readRsp(): u64 {
  return vmread(Field.GUEST_RSP);
}
export function writeRsp(value: u64): void {
  vmwrite(Field.GUEST_RSP, value);
}
export function readRflags(): u64 {
  return vmread(Field.GUEST_RFLAGS);
}
export function writeRflags(value: u64): void {
  vmwrite(Field.GUEST_RFLAGS, value);
}

/** Register 0..15 by encoding, RSP included. */
export function readGpr(vcpu: Vcpu, index: u32): u64 {
  return index == Gpr.RSP ? vmread(Field.GUEST_RSP) : gpr(vcpu, index);
}
export function writeGpr(vcpu: Vcpu, index: u32, value: u64): void {
  if (index == Gpr.RSP) vmwrite(Field.GUEST_RSP, value);
  else setGpr(vcpu, index, value);
}

/**
 * Moves past the instruction that exited: RIP, RF cleared, interrupt shadow ended, and a single step
 * trap made due if TF is set. Intel SDM Vol. 3, "Saving RIP, RSP, RFLAGS, and SSP" and "Masking
 * Exceptions and Interrupts When Switching Stacks".
 */
export function advance(vcpu: Vcpu): void {
  skip(vmread(Field.EXIT_INSTRUCTION_LENGTH));
}

/** advance() for an instruction whose length was found by decoding. */
export function skip(bytes: u64): void {
  const rip = vmread(Field.GUEST_RIP);
  const next = rip + bytes;
  // Outside 64-bit mode EIP wraps at 4 GiB; in it, RIP never crosses that line by accident.
  vmwrite(Field.GUEST_RIP, (rip ^ next) >> 32 == 0 ? next : wrapRip(next));
  const blocking = <u32>vmread(Field.GUEST_INTERRUPTIBILITY);
  if ((blocking & (Blocking.STI | Blocking.MOV_SS)) != 0) {
    vmwrite(Field.GUEST_INTERRUPTIBILITY, blocking & ~(Blocking.STI | Blocking.MOV_SS));
  }
  const flags = vmread(Field.GUEST_RFLAGS);
  if ((flags & (RFLAGS_TF | RFLAGS_RF)) != 0) finishFlags(flags);
}

function wrapRip(next: u64): u64 {
  return isLongMode64() ? next : next & 0xffff_ffff;
}

function finishFlags(flags: u64): void {
  vmwrite(Field.GUEST_RFLAGS, flags & ~RFLAGS_RF);
  if ((flags & RFLAGS_TF) != 0 && (vmread(Field.GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0) {
    vmwrite(Field.GUEST_PENDING_DEBUG, vmread(Field.GUEST_PENDING_DEBUG) | PENDING_BS);
  }
}

/** A debug exception is due at the next entry: a single step, or a breakpoint that MOV SS had put off. */
export function isDebugPending(): bool {
  return (vmread(Field.GUEST_PENDING_DEBUG) & (PENDING_BS | PENDING_ENABLED)) != 0;
}

/** True in 64-bit mode proper: IA-32e mode and CS.L. */
export function isLongMode64(): bool {
  return (vmread(Field.GUEST_EFER) & EFER_LMA) != 0 && (vmread(Field.GUEST_CS_ACCESS) & 0x2000) != 0;
}

/** Outside of 64-bit mode: log2 of the default operand and address size in bytes (CS.D): 1 or 2. */
export function codeSizeLog2(): u32 {
  return (vmread(Field.GUEST_CS_ACCESS) & 0x4000) != 0 ? 2 : 1;
}

/** Current privilege level: SS.DPL, whatever the mode. */
export function readCpl(): u32 {
  return (<u32>vmread(Field.GUEST_SS_ACCESS) >> 5) & 3;
}

// ---- Control registers, as the guest believes them to be

export function readCr0(): u64 {
  // The mask is CR0_MASK's value in every VMCS.
  return (vmread(Field.CR0_SHADOW) & ~CR0_GUEST_OWNED) | (vmread(Field.GUEST_CR0) & CR0_GUEST_OWNED);
}

export function readCr4(): u64 {
  const mask = vmread(Field.CR4_MASK);
  return (vmread(Field.CR4_SHADOW) & mask) | (vmread(Field.GUEST_CR4) & ~mask);
}

export function readCr3(vcpu: Vcpu): u64 {
  return vcpu.cr3Forced ? vcpu.cr3Shadow : vmread(Field.GUEST_CR3);
}

/** CR3, CR4 and EFER as the processor has them: they differ from what the guest believes only while it has paging off. */
export function rawCr3(): u64 {
  return vmread(Field.GUEST_CR3);
}
export function rawCr4(): u64 {
  return vmread(Field.GUEST_CR4);
}
export function rawEfer(): u64 {
  return vmread(Field.GUEST_EFER);
}

/**
 * CR0 without checks; exit/cr decides what a guest may write. Bits that VMX fixes are added, and a change
 * of PG is followed up where unrestricted guest is missing.
 */
export function writeCr0(vcpu: Vcpu, value: u64): void {
  vmwrite(Field.CR0_SHADOW, value);
  // CD and NW stay 0 in the register: caches of the host are not the guest's to disable.
  vmwrite(Field.GUEST_CR0, (value & ~(CR0_CD | CR0_NW)) | vcpu.cr0Fixed);
  if (vcpu.unrestricted) return;
  if ((value & CR0_PG) != 0) setPagingOn(vcpu);
  else setPagingOff(vcpu);
}

export function writeCr4(vcpu: Vcpu, value: u64): void {
  vmwrite(Field.CR4_SHADOW, value);
  vmwrite(Field.GUEST_CR4, (value | vcpu.cr4Fixed) & ~vcpu.cr4Hidden);
}

/** CR3; where paging is off without unrestricted guest, only its shadow. */
export function writeCr3(vcpu: Vcpu, value: u64): void {
  vcpu.cr3Shadow = value;
  if (!vcpu.cr3Forced) vmwrite(Field.GUEST_CR3, value);
}

export function readEfer(vcpu: Vcpu): u64 {
  return vcpu.cr3Forced ? vcpu.efer : vmread(Field.GUEST_EFER);
}

/**
 * EFER and, from its LMA, whether the next entry is to IA-32e mode. On the identity table CR0.PG is 1 in the
 * VMCS, and VM entry then demands LME = LMA: a guest that has prepared LME gets it when it switches paging on.
 */
export function writeEfer(vcpu: Vcpu, value: u64): void {
  vcpu.efer = value;
  vmwrite(Field.GUEST_EFER, vcpu.cr3Forced ? value & ~EFER_LME : value);
  const mode = (value & EFER_LMA) != 0 ? <u32>EntryControl.IA32E_MODE_GUEST : 0;
  const controls = (vcpu.entryControls & ~EntryControl.IA32E_MODE_GUEST) | mode;
  if (controls == vcpu.entryControls) return;
  vcpu.entryControls = controls;
  vmwrite(Field.ENTRY_CONTROLS, controls);
}

export function readDr7(): u64 {
  return vmread(Field.GUEST_DR7);
}
export function writeDr7(value: u64): void {
  vmwrite(Field.GUEST_DR7, value);
}

/** PDPTEs of PAE paging, as the processor holds them. */
export function readPdpte(index: u32): u64 {
  return vmread(Field.GUEST_PDPTE0 + 2 * index);
}
export function writePdpte(index: u32, value: u64): void {
  vmwrite(Field.GUEST_PDPTE0 + 2 * index, value);
}

// ---- Segments and tables

export function readSegment(index: u32, out: SegmentState): void {
  out.selector = <u32>vmread(segmentSelector(index));
  out.base = vmread(segmentBase(index));
  out.limit = <u32>vmread(segmentLimit(index));
  out.access = <u32>vmread(segmentAccess(index));
}

export function writeSegment(index: u32, selector: u32, base: u64, limit: u32, access: u32): void {
  vmwrite(segmentSelector(index), selector);
  vmwrite(segmentBase(index), base);
  vmwrite(segmentLimit(index), limit);
  vmwrite(segmentAccess(index), access);
}

export function readSelector(index: u32): u32 {
  return <u32>vmread(segmentSelector(index));
}

export function readSegmentBase(index: u32): u64 {
  return vmread(segmentBase(index));
}
export function readSegmentLimit(index: u32): u32 {
  return <u32>vmread(segmentLimit(index));
}
export function readSegmentAccess(index: u32): u32 {
  return <u32>vmread(segmentAccess(index));
}

/** Always true, for MSR handlers that end with it. */
export function writeSegmentBase(index: u32, base: u64): bool {
  vmwrite(segmentBase(index), base);
  return true;
}

// ---- MSRs that have fields

/** IA32_SYSENTER_CS, ESP, EIP: 174H..176H. */
export function readSysenter(msr: u32): u64 {
  return vmread(
    msr == 0x174
      ? <u32>Field.GUEST_SYSENTER_CS
      : msr == 0x175
        ? <u32>Field.GUEST_SYSENTER_ESP
        : <u32>Field.GUEST_SYSENTER_EIP,
  );
}
export function writeSysenter(msr: u32, value: u64): bool {
  if (msr == 0x174) vmwrite(Field.GUEST_SYSENTER_CS, value & 0xffff_ffff);
  else vmwrite(msr == 0x175 ? <u32>Field.GUEST_SYSENTER_ESP : <u32>Field.GUEST_SYSENTER_EIP, value);
  return true;
}
export function readPat(): u64 {
  return vmread(Field.GUEST_PAT);
}
export function writeGuestPat(value: u64): void {
  vmwrite(Field.GUEST_PAT, value);
}
export function readGuestDebugctl(): u64 {
  return vmread(Field.GUEST_DEBUGCTL);
}
export function writeGuestDebugctl(value: u64): void {
  vmwrite(Field.GUEST_DEBUGCTL, value);
}
export function writeTscOffset(offset: u64): void {
  vmwrite(Field.TSC_OFFSET, offset);
}

/** INVPCID runs in the guest. */
export function hasInvpcid(): bool {
  return mayBeOne(capability().proc2, Proc2.ENABLE_INVPCID);
}

/** INS and OUTS exits tell the segment and address size (IA32_VMX_BASIC[54]). */
export function hasStringInfo(): bool {
  return ((capability().basic >> 54) & 1) != 0;
}

/** GDTR (0) or IDTR (1). */
export function readTableBase(which: u32): u64 {
  return vmread(Field.GUEST_GDTR_BASE + 2 * which);
}
export function readTableLimit(which: u32): u32 {
  return <u32>vmread(Field.GUEST_GDTR_LIMIT + 2 * which);
}
export function writeTable(which: u32, base: u64, limit: u32): void {
  vmwrite(Field.GUEST_GDTR_BASE + 2 * which, base);
  vmwrite(Field.GUEST_GDTR_LIMIT + 2 * which, limit);
}

/** Segment registers of a flat 32-bit or 64-bit start: code and data with base 0 and limit 4 GiB. */
export function setFlatSegments(codeSelector: u32, dataSelector: u32, codeAccess: u32): void {
  writeSegment(Segment.CS, codeSelector, 0, 0xffff_ffff, codeAccess);
  writeSegment(Segment.SS, dataSelector, 0, 0xffff_ffff, 0xc093);
  writeSegment(Segment.DS, dataSelector, 0, 0xffff_ffff, 0xc093);
  writeSegment(Segment.ES, dataSelector, 0, 0xffff_ffff, 0xc093);
  writeSegment(Segment.FS, dataSelector, 0, 0xffff_ffff, 0xc093);
  writeSegment(Segment.GS, dataSelector, 0, 0xffff_ffff, 0xc093);
}

/** CR0 bits that VMX operation demands of this VMCS: NE, and without unrestricted guest PE and PG. */
export function requiredCr0(unrestricted: bool): u64 {
  const fixed = capability().cr0Fixed0;
  return unrestricted ? fixed & ~(CR0_PE | CR0_PG) : fixed;
}
