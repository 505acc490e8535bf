// Instructions that take a selector from a device or put one there: MOV to a segment register, LLDT, LTR, a far JMP to a
// code segment, SLDT, STR, SMSW. Intel SDM Vol. 2, "Instruction Set Reference"; Vol. 3, "Privilege Checking".

import { queueException, Vector } from "../vcpu/event";
import { Segment, SegmentBit } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { isCanonical } from "../mm/gva";
import {
  blockByMovSs,
  readCpl,
  readCr0,
  readCr4,
  readEfer,
  readRflags,
  readSegmentAccess,
  readSegmentLimit,
  readSelector,
  skip,
  writeRip,
  writeSegment,
} from "../vendor";
import { loadOperand, loadPart, storeOperand } from "./access";
import { maskOf } from "./alu";
import { Insn, Kind } from "./decode";
import {
  accessOf,
  baseOf,
  limitOf,
  loadDescribed,
  loadNull,
  loadVirtual8086,
  markAccessed,
  readDescriptor,
  readSystemDescriptor,
  refuse,
  writeDescriptor,
} from "./descriptor";
import { Emulated } from "./emulated";
import { pagingOf } from "./linear";
import { effectiveAddress } from "./operand";
import { findOperand } from "./segment";
import { CR0_PE, CR4_UMIP, EFER_LMA, RFLAGS_VM } from "../cpu/registerbits";

const BUSY: u64 = (<u64>2) << 40;
const RPL: u32 = 3;
/** Present, writable, accessed. */
const REAL_DATA: u32 = 0x93;

export function usesDescriptors(kind: u32): bool {
  return kind >= <u32>Kind.JMP_FAR && kind <= <u32>Kind.STORE_SYSTEM;
}

/** UNKNOWN: a far JMP through a gate or to a task. */
export function runDescriptor(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  if (insn.kind == Kind.MOV_TO_SEGMENT && (insn.register == <u32>Segment.CS || insn.register > <u32>Segment.GS))
    return fault(vcpu, Vector.UD);
  if (insn.kind == Kind.LLDT || insn.kind == Kind.LTR) {
    if (!isProtected()) return fault(vcpu, Vector.UD);
    if (readCpl() != 0) return fault(vcpu, Vector.GP);
  }
  const write = insn.kind == Kind.STORE_SYSTEM;
  if (write && (readCr4() & CR4_UMIP) != 0 && readCpl() != 0) return fault(vcpu, Vector.GP);
  if (!findOperand(vcpu, insn.segment, effectiveAddress(vcpu, insn), insn.memoryBytes, write, long))
    return Emulated.DONE;
  if (insn.kind == Kind.JMP_FAR) return jumpFar(vcpu, insn, long);
  if (execute(vcpu, insn, long)) finish(insn);
  return Emulated.DONE;
}

function fault(vcpu: Vcpu, vector: u32): Emulated {
  queueException(vcpu, vector, 0);
  return Emulated.DONE;
}

/** Protected mode proper, where selectors name descriptors. */
function isProtected(): bool {
  return (readCr0() & CR0_PE) != 0 && (readRflags() & RFLAGS_VM) == 0;
}

/** After MOV to SS interrupts and debug traps wait for one instruction more. */
function finish(insn: Insn): void {
  skip(insn.length);
  if (insn.kind == Kind.MOV_TO_SEGMENT && insn.register == <u32>Segment.SS) blockByMovSs();
}

function execute(vcpu: Vcpu, insn: Insn, long: bool): bool {
  switch (insn.kind) {
    case Kind.MOV_TO_SEGMENT:
      return loadSegment(vcpu, insn.register, <u32>loadOperand(vcpu), long);
    case Kind.LLDT:
      return loadLdt(vcpu, <u32>loadOperand(vcpu));
    case Kind.LTR:
      return loadTask(vcpu, <u32>loadOperand(vcpu));
    default:
      storeOperand(vcpu, storedValue(insn.aux));
      return true;
  }
}

/** SLDT STR SMSW. */
function storedValue(which: u32): u64 {
  if (which == 2) return readCr0() & 0xffff;
  return which == 0 ? readSelector(Segment.LDTR) : readSelector(Segment.TR);
}

// ---- Data and stack segments

function loadSegment(vcpu: Vcpu, segment: u32, selector: u32, long: bool): bool {
  if (!isProtected()) {
    loadReal(segment, selector);
    return true;
  }
  if ((selector & 0xfffc) == 0) return loadNullSelector(vcpu, segment, selector, long);
  return loadDescribed(vcpu, segment, selector, readCpl(), Vector.GP);
}

/** Real mode keeps limit and rights, whatever they are ("unreal" mode); virtual-8086 mode has its own. */
function loadReal(segment: u32, selector: u32): void {
  const access = readSegmentAccess(segment);
  const base = (<u64>selector) << 4;
  if ((readRflags() & RFLAGS_VM) != 0) loadVirtual8086(segment, selector);
  else if ((access & SegmentBit.UNUSABLE) != 0) writeSegment(segment, selector, base, 0xffff, REAL_DATA);
  else writeSegment(segment, selector, base, readSegmentLimit(segment), access);
}

/** SS may be null in 64-bit mode below privilege 3, with the RPL of the code. */
function loadNullSelector(vcpu: Vcpu, segment: u32, selector: u32, long: bool): bool {
  if (segment == Segment.SS && !(long && readCpl() != 3 && (selector & RPL) == readCpl()))
    return refuse(vcpu, Vector.GP, 0);
  if (segment == Segment.SS)
    writeSegment(segment, selector, 0, 0, SegmentBit.UNUSABLE | (readCpl() << SegmentBit.DPL_SHIFT));
  else loadNull(segment, selector);
  return true;
}

// ---- System segments

function loadLdt(vcpu: Vcpu, selector: u32): bool {
  if ((selector & 0xfffc) == 0) {
    loadNull(Segment.LDTR, selector);
    return true;
  }
  return loadSystem(vcpu, Segment.LDTR, selector, 2, 2);
}

/** An available TSS becomes busy. */
function loadTask(vcpu: Vcpu, selector: u32): bool {
  return loadSystem(vcpu, Segment.TR, selector, (readEfer(vcpu) & EFER_LMA) != 0 ? 9 : 1, 9);
}

/** `type` or `other`: what the descriptor must be. */
function loadSystem(vcpu: Vcpu, segment: u32, selector: u32, type: u32, other: u32): bool {
  if ((selector & 0xfffc) == 0 || (selector & 4) != 0) return refuse(vcpu, Vector.GP, selector);
  const long = (readEfer(vcpu) & EFER_LMA) != 0;
  if (!readSystemDescriptor(vcpu, selector, long)) return false;
  const descriptor = vcpu.operand;
  const high = long ? load<u64>(vcpu.scratch, 8) : 0;
  const access = accessOf(descriptor);
  if ((access & 0x1f) != type && (access & 0x1f) != other) return refuse(vcpu, Vector.GP, selector);
  if ((access & SegmentBit.PRESENT) == 0) return refuse(vcpu, Vector.NP, selector);
  const base = baseOf(descriptor) | (high << 32);
  if (long && (!isCanonical(pagingOf(vcpu), base) || ((high >> 32) & 0x1f00) != 0))
    return refuse(vcpu, Vector.GP, selector);
  if (segment == Segment.TR && !writeDescriptor(vcpu, selector, descriptor | BUSY)) return false;
  const busy: u32 = segment == Segment.TR ? 2 : 0;
  writeSegment(segment, selector, base, limitOf(descriptor), access | busy);
  return true;
}

// ---- Far JMP

function jumpFar(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  const bytes = insn.bytes;
  const to = bytes == 8 ? loadPart(vcpu, 0, 8) : loadPart(vcpu, 0, bytes) & maskOf(bytes);
  const selector = <u32>loadPart(vcpu, bytes, 2);
  if (!isProtected()) {
    if (to > <u64>readSegmentLimit(Segment.CS)) return fault(vcpu, Vector.GP);
    skip(insn.length);
    loadReal(Segment.CS, selector);
    writeRip(to);
    return Emulated.DONE;
  }
  if ((selector & 0xfffc) == 0) return fault(vcpu, Vector.GP);
  if (!readDescriptor(vcpu, selector, Vector.GP)) return Emulated.DONE;
  if ((accessOf(vcpu.operand) & SegmentBit.CODE_OR_DATA) == 0) return Emulated.UNKNOWN;
  if (!checkCode(vcpu, selector, to) || !markAccessed(vcpu, selector)) return Emulated.DONE;
  skip(insn.length);
  const cs = (selector & ~RPL) | readCpl();
  writeSegment(Segment.CS, cs, baseOf(vcpu.operand), limitOf(vcpu.operand), accessOf(vcpu.operand));
  writeRip(to);
  return Emulated.DONE;
}

/** A code segment that this privilege may jump to, present, with `to` inside of it. The descriptor is in Vcpu.operand. */
function checkCode(vcpu: Vcpu, selector: u32, to: u64): bool {
  const access = accessOf(vcpu.operand);
  const cpl = readCpl();
  const dpl = (access >> SegmentBit.DPL_SHIFT) & 3;
  const conforming = (access & 4) != 0;
  const wide = (readEfer(vcpu) & EFER_LMA) != 0 && (access & SegmentBit.LONG) != 0;
  if ((access & 8) == 0) return refuse(vcpu, Vector.GP, selector);
  if (conforming ? dpl > cpl : (selector & RPL) > cpl || dpl != cpl) return refuse(vcpu, Vector.GP, selector);
  if (wide && (access & SegmentBit.DEFAULT_BIG) != 0) return refuse(vcpu, Vector.GP, selector);
  if ((access & SegmentBit.PRESENT) == 0) return refuse(vcpu, Vector.NP, selector);
  const inside = wide ? isCanonical(pagingOf(vcpu), to) : to <= <u64>limitOf(vcpu.operand);
  return inside || refuse(vcpu, Vector.GP, 0);
}
