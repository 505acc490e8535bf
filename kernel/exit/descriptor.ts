// Segment descriptors in guest memory, and loading a segment register from one with the checks of a task
// switch. Intel SDM Vol. 3, "Segment Descriptors" and "Exceptions and Interrupts" of the task chapter.

import { Walk } from "../mm/gva";
import { queueException, Vector } from "../vcpu/event";
import { Segment, SegmentBit } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import {
  readSegmentAccess,
  readSegmentBase,
  readSegmentLimit,
  readTableBase,
  readTableLimit,
  writeSegment,
} from "../vendor";
import { readLinear, writeLinear } from "./linear";

const TABLE_INDICATOR: u32 = 4;
const RPL: u32 = 3;
const ACCESSED: u64 = (<u64>1) << 40;

/** Reads of descriptors are supervisor accesses whatever the CPL. */
export const SYSTEM_ACCESS: u32 = Walk.IMPLICIT;

/** Linear address of the selector's descriptor; 0 if it lies outside its table (or is null). */
export function descriptorAddress(selector: u32): u64 {
  const offset = selector & 0xfff8;
  if ((selector & TABLE_INDICATOR) == 0) {
    if (offset == 0 || offset + 7 > readTableLimit(0)) return 0;
    return readTableBase(0) + offset;
  }
  if ((readSegmentAccess(Segment.LDTR) & SegmentBit.UNUSABLE) != 0 || offset + 7 > readSegmentLimit(Segment.LDTR))
    return 0;
  return readSegmentBase(Segment.LDTR) + offset;
}

/** The descriptor's 8 bytes are in Vcpu.operand. False: a fault is queued (`vector` with the selector if it is outside). */
export function readDescriptor(vcpu: Vcpu, selector: u32, vector: u32): bool {
  const at = descriptorAddress(selector);
  if (!at) return refuse(vcpu, vector, selector);
  if (!readLinear(vcpu, at, vcpu.scratch, 8, SYSTEM_ACCESS)) return false;
  vcpu.operand = load<u64>(vcpu.scratch);
  return true;
}

/** As readDescriptor, for a system segment: in long mode it has 16 bytes, at Vcpu.scratch. Faults are #GP. */
export function readSystemDescriptor(vcpu: Vcpu, selector: u32, long: bool): bool {
  if (long && (selector & 0xfff8) + 15 > readTableLimit(0)) return refuse(vcpu, Vector.GP, selector);
  const at = descriptorAddress(selector);
  if (!at) return refuse(vcpu, Vector.GP, selector);
  if (!readLinear(vcpu, at, vcpu.scratch, long ? 16 : 8, SYSTEM_ACCESS)) return false;
  vcpu.operand = load<u64>(vcpu.scratch);
  return true;
}

/** Sets the accessed flag of the descriptor in Vcpu.operand, there and in its table, if it is clear. */
export function markAccessed(vcpu: Vcpu, selector: u32): bool {
  if ((vcpu.operand & ACCESSED) != 0) return true;
  vcpu.operand |= ACCESSED;
  return writeDescriptor(vcpu, selector, vcpu.operand);
}

export function writeDescriptor(vcpu: Vcpu, selector: u32, descriptor: u64): bool {
  store<u64>(vcpu.scratch, descriptor);
  return writeLinear(vcpu, descriptorAddress(selector), vcpu.scratch, 8, SYSTEM_ACCESS);
}

export function baseOf(descriptor: u64): u64 {
  return ((descriptor >> 16) & 0xff_ffff) | ((descriptor >> 32) & 0xff00_0000);
}

export function limitOf(descriptor: u64): u32 {
  const limit = <u32>(descriptor & 0xffff) | (<u32>(descriptor >> 32) & 0xf_0000);
  return (accessOf(descriptor) & SegmentBit.GRANULARITY) != 0 ? (limit << 12) | 0xfff : limit;
}

/** Access rights as in a VMCS: bits 7:0 and 15:12. */
export function accessOf(descriptor: u64): u32 {
  return <u32>(descriptor >> 40) & 0xf0ff;
}

/** Queues `vector` with the selector as error code; always false. */
export function refuse(vcpu: Vcpu, vector: u32, selector: u32): bool {
  queueException(vcpu, vector, selector & 0xfffc);
  return false;
}

/** Puts a segment register to "null": unusable, with the selector as it is. */
export function loadNull(segment: u32, selector: u32): void {
  writeSegment(segment, selector, 0, 0, SegmentBit.UNUSABLE);
}

/** Virtual-8086 segments: base is the selector times 16. */
export function loadVirtual8086(segment: u32, selector: u32): void {
  writeSegment(segment, selector, (<u64>selector) << 4, 0xffff, 0xf3);
}

/** LDTR during a task switch: faults are #TS. */
export function loadLdtr(vcpu: Vcpu, selector: u32): bool {
  if ((selector & 0xfffc) == 0) {
    loadNull(Segment.LDTR, selector);
    return true;
  }
  if ((selector & TABLE_INDICATOR) != 0) return refuse(vcpu, Vector.TS, selector);
  if (!readDescriptor(vcpu, selector, Vector.TS)) return false;
  const access = accessOf(vcpu.operand);
  if ((access & 0x1f) != 2 || (access & SegmentBit.PRESENT) == 0) return refuse(vcpu, Vector.TS, selector);
  writeSegment(Segment.LDTR, selector, baseOf(vcpu.operand), limitOf(vcpu.operand), access);
  return true;
}

/** CS, SS, DS, ES, FS or GS from the new TSS. `cpl`: the new task's. False: #TS, #NP or #SS is queued. */
export function loadTaskSegment(vcpu: Vcpu, segment: u32, selector: u32, cpl: u32): bool {
  if ((selector & 0xfffc) == 0) {
    if (segment == Segment.CS || segment == Segment.SS) return refuse(vcpu, Vector.TS, selector);
    loadNull(segment, selector);
    return true;
  }
  return loadDescribed(vcpu, segment, selector, cpl, Vector.TS);
}

/**
 * A code, data or stack segment from the descriptor of a selector that is not null, for privilege `cpl`. False: `vector` (an
 * unsuitable one), #NP or #SS is queued, or the fault of an access to the table.
 */
export function loadDescribed(vcpu: Vcpu, segment: u32, selector: u32, cpl: u32, vector: u32): bool {
  if (!readDescriptor(vcpu, selector, vector)) return false;
  const access = accessOf(vcpu.operand);
  if (!suits(segment, selector, access, cpl)) return refuse(vcpu, vector, selector);
  if ((access & SegmentBit.PRESENT) == 0) return refuse(vcpu, segment == Segment.SS ? Vector.SS : Vector.NP, selector);
  if (!markAccessed(vcpu, selector)) return false;
  writeSegment(segment, selector, baseOf(vcpu.operand), limitOf(vcpu.operand), accessOf(vcpu.operand));
  return true;
}

/** Type and privilege. Access bits: 3 code, 2 conforming or expand-down, 1 readable or writable. */
function suits(segment: u32, selector: u32, access: u32, cpl: u32): bool {
  const dpl = (access >> SegmentBit.DPL_SHIFT) & 3;
  const rpl = selector & RPL;
  if ((access & SegmentBit.CODE_OR_DATA) == 0) return false;
  const code = (access & 8) != 0;
  if (segment == Segment.CS) return code && ((access & 4) != 0 ? dpl <= rpl : dpl == rpl);
  if (segment == Segment.SS) return !code && (access & 2) != 0 && dpl == cpl && rpl == cpl;
  if (code && (access & 2) == 0) return false;
  return (code && (access & 4) != 0) || (dpl >= cpl && dpl >= rpl);
}
