// The checks of VM entry on the guest's segment registers.
// Intel SDM Vol. 3, "Checks on Guest Segment Registers".

import { vmread } from "../cpu/insn";
import { Segment } from "../vcpu/exit";
import { canonical, entersLongMode, isUnrestricted, read32 } from "./auditfield";
import { Field, segmentAccess, segmentBase, segmentLimit, segmentSelector } from "./field";
import { CR0_PE, RFLAGS_VM } from "../cpu/registerbits";

const UNUSABLE: u32 = 0x1_0000;
const RESERVED: u32 = 0xfffe_0f00;
const TABLE_INDICATOR: u32 = 4;
const DATA_ACCESSED_WRITABLE: u32 = 3;

/** What is not a segment's fault. */
export const NO_SEGMENT: u32 = 8;

const NAMES: StaticArray<string> = ["ES: ", "CS: ", "SS: ", "DS: ", "FS: ", "GS: ", "LDTR: ", "TR: "];

export function segmentName(segment: u32): string {
  return unchecked(NAMES[segment]);
}

/** What the manual's checks have against a segment register; "": nothing. */
export function auditSegments(): string {
  for (let i: u32 = 0; i < NO_SEGMENT; i++) {
    const why = auditSegment(i);
    if (why.length) return why;
  }
  return "";
}

/** The segment register at which auditGuest() found `why`, or NO_SEGMENT. */
export function refusedSegment(why: string): u32 {
  for (let i: u32 = 0; i < NO_SEGMENT; i++) {
    const own = auditSegment(i);
    if (own.length) return changetype<usize>(own) == changetype<usize>(why) ? i : NO_SEGMENT;
  }
  return NO_SEGMENT;
}

function auditSegment(i: u32): string {
  const access = read32(segmentAccess(i));
  if (i == Segment.TR) return auditTaskRegister(access);
  if (i == Segment.LDTR) return auditLocalTable(access);
  if ((vmread(Field.GUEST_RFLAGS) & RFLAGS_VM) != 0) return auditVirtual8086(i);
  if ((i == Segment.FS || i == Segment.GS) && !canonical(vmread(segmentBase(i)))) return "base is not canonical";
  if (i == Segment.CS) return auditCode(access);
  if (i == Segment.SS && !isUnrestricted() && rplOf(Segment.SS) != rplOf(Segment.CS))
    return "selector: RPL differs from that of CS";
  if (i == Segment.SS) {
    const why = auditStackLevel(access);
    if (why.length) return why;
  }
  return (access & UNUSABLE) != 0 ? "" : auditData(i, access);
}

function auditVirtual8086(i: u32): string {
  if (vmread(segmentBase(i)) != (<u64>read32(segmentSelector(i))) << 4) return "virtual-8086 mode: base";
  if (read32(segmentLimit(i)) != 0xffff) return "virtual-8086 mode: limit";
  return read32(segmentAccess(i)) == 0xf3 ? "" : "virtual-8086 mode: access rights";
}

function rplOf(i: u32): u32 {
  return read32(segmentSelector(i)) & 3;
}

/** S, P, the reserved bits and the limit: the same for CS and usable data segments. */
function auditCommon(i: u32, access: u32): string {
  if ((access & 0x10) == 0) return "access rights: S";
  if ((access & 0x80) == 0) return "access rights: P";
  if ((access & RESERVED) != 0) return "access rights: a reserved bit";
  return granularityWrong(i, access) ? "limit does not fit its granularity" : "";
}

function granularityWrong(i: u32, access: u32): bool {
  const limit = read32(segmentLimit(i));
  if ((limit & 0xfff) != 0xfff && (access & 0x8000) != 0) return true;
  return limit >> 20 != 0 && (access & 0x8000) == 0;
}

function auditData(i: u32, access: u32): string {
  const type = access & 15;
  if (i <= <u32>Segment.DS && vmread(segmentBase(i)) >> 32 != 0) return "base above 4 GiB";
  if (i == Segment.SS && type != 3 && type != 7) return "access rights: type of a stack";
  if ((type & 1) == 0) return "access rights: not accessed";
  if ((type & 8) != 0 && (type & 2) == 0) return "access rights: execute-only code";
  if (i != Segment.SS && !isUnrestricted() && type <= 11 && levelOf(access) < rplOf(i))
    return "access rights: DPL below the selector's RPL";
  return auditCommon(i, access);
}

function levelOf(access: u32): u32 {
  return (access >> 5) & 3;
}

/** SS.DPL is the privilege level, and counts even if SS is unusable. */
function auditStackLevel(access: u32): string {
  if (!isUnrestricted() && levelOf(access) != rplOf(Segment.SS)) return "access rights: DPL differs from RPL";
  const isReal = (vmread(Field.GUEST_CR0) & CR0_PE) == 0;
  const flat = (read32(Field.GUEST_CS_ACCESS) & 15) == DATA_ACCESSED_WRITABLE;
  return (isReal || flat) && levelOf(access) != 0 ? "access rights: DPL in real mode" : "";
}

function auditCode(access: u32): string {
  const type = access & 15;
  if ((access & UNUSABLE) != 0) return "access rights: unusable";
  if (vmread(Field.GUEST_CS_BASE) >> 32 != 0) return "base above 4 GiB";
  if (type != 9 && type != 11 && type != 13 && type != 15 && !(isUnrestricted() && type == DATA_ACCESSED_WRITABLE))
    return "access rights: type of code";
  const dpl = levelOf(access);
  const stack = levelOf(read32(Field.GUEST_SS_ACCESS));
  if (type == DATA_ACCESSED_WRITABLE && dpl != 0) return "access rights: DPL of a data segment";
  if ((type == 9 || type == 11) && dpl != stack) return "access rights: DPL differs from that of SS";
  if ((type == 13 || type == 15) && dpl > stack) return "access rights: conforming DPL above that of SS";
  if (entersLongMode() && (access & 0x6000) == 0x6000) return "access rights: L and D/B";
  return auditCommon(Segment.CS, access);
}

function auditTaskRegister(access: u32): string {
  const type = access & 15;
  if ((read32(Field.GUEST_TR_SELECTOR) & TABLE_INDICATOR) != 0) return "selector: TI";
  if (!canonical(vmread(Field.GUEST_TR_BASE))) return "base is not canonical";
  if (type != 11 && (entersLongMode() || type != 3)) return "access rights: not a busy TSS";
  if ((access & (UNUSABLE | 0x10)) != 0 || (access & 0x80) == 0) return "access rights: unusable, S or P";
  if ((access & RESERVED) != 0) return "access rights: a reserved bit";
  return granularityWrong(Segment.TR, access) ? "limit does not fit its granularity" : "";
}

function auditLocalTable(access: u32): string {
  if ((access & UNUSABLE) != 0) return "";
  if ((read32(Field.GUEST_LDTR_SELECTOR) & TABLE_INDICATOR) != 0) return "selector: TI";
  if (!canonical(vmread(Field.GUEST_LDTR_BASE))) return "base is not canonical";
  if ((access & 0x9f) != 0x82) return "access rights: not an LDT";
  if ((access & RESERVED) != 0) return "access rights: a reserved bit";
  return granularityWrong(Segment.LDTR, access) ? "limit does not fit its granularity" : "";
}
