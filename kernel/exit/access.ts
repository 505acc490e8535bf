// The memory operand of an instruction that the core executes: a linear address (segment.ts) goes through the guest's
// page tables to RAM or a device. A fault is queued for the guest and the instruction is given up before it changed anything.

import { Access, SegmentState } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { Walk } from "../mm/gva";
import { isLongMode64 } from "../vendor";
import { Alu } from "./alu";
import { Insn } from "./decode";
import { exchangeOperandAt, ordinary, pagingOf, readOperandAt, translate, writeOperandAt } from "./linear";

// The block at Vcpu.decode: records do not nest, so each has its place.
//
//   0  Insn   256  Alu   288  Operand   352  SegmentState   384  code bytes (16)
const ALU: usize = 256;
const OPERAND: usize = 288;
const SEGMENT: usize = 352;
const CODE: usize = 384;
export const DECODE_BYTES: usize = 400;
if (offsetof<Insn>() > ALU) ERROR("Insn does not fit its place");
if (offsetof<Operand>() > SEGMENT - OPERAND) ERROR("Operand does not fit its place");

/** A translated memory operand. It has a second part where it crosses into another page. */
@unmanaged
export class Operand {
  gpa: u64;
  nextGpa: u64;
  bytes: u32;
  firstBytes: u32; // in the first page; == bytes where nothing is crossed
  /** Result of the last load. */
  value: u64;
}

export function insnOf(vcpu: Vcpu): Insn {
  return changetype<Insn>(vcpu.decode);
}
export function aluOf(vcpu: Vcpu): Alu {
  return changetype<Alu>(vcpu.decode + ALU);
}
export function operandOf(vcpu: Vcpu): Operand {
  return changetype<Operand>(vcpu.decode + OPERAND);
}
export function codeOf(vcpu: Vcpu): usize {
  return vcpu.decode + CODE;
}

export function segmentOf(vcpu: Vcpu): SegmentState {
  return changetype<SegmentState>(vcpu.decode + SEGMENT);
}
// ---- Memory operands

/**
 * Translates `bytes` bytes at linear address `gva` into operandOf(vcpu). False: #PF is queued. The
 * processor itself has translated the address of an EPT violation: that answer is taken where it fits.
 */
export function translateOperand(vcpu: Vcpu, gva: u64, bytes: u32, write: bool): bool {
  const operand = operandOf(vcpu);
  const inPage: u32 = 4096 - (<u32>gva & 4095);
  operand.bytes = bytes;
  operand.firstBytes = bytes < inPage ? bytes : inPage;
  if (bytes <= inPage && processorTranslated(vcpu, gva, write)) {
    operand.gpa = vcpu.exitGpa;
    return true;
  }
  if (!translatePart(vcpu, gva, write)) return false;
  operand.gpa = pagingOf(vcpu).gpa;
  if (operand.firstBytes == bytes) return true;
  const next = isLongMode64() ? gva + inPage : (gva + inPage) & 0xffff_ffff;
  if (!translatePart(vcpu, next, write)) return false;
  operand.nextGpa = pagingOf(vcpu).gpa;
  return true;
}

function processorTranslated(vcpu: Vcpu, gva: u64, write: bool): bool {
  const wanted: u32 = Access.GVA_VALID | Access.FINAL | (write ? Access.WRITE : 0);
  return (vcpu.exitAccess & wanted) == wanted && vcpu.exitGva == gva;
}

/**
 * True if the processor has translated the only memory operand of an instruction to vcpu.exitGpa: then segment, paging and
 * alignment allow the access. Of an access to the APIC page it tells the offset alone, and that is enough for one operand.
 */
export function isExitOperand(vcpu: Vcpu, gva: u64, bytes: u32, write: bool): bool {
  const offset = <u32>gva & 0xfff;
  if (offset + bytes > 4096) return false;
  const access = vcpu.exitAccess;
  const wanted: u32 = Access.FINAL | (write ? Access.WRITE : 0);
  if ((access & wanted) != wanted) return false;
  if ((access & Access.GVA_VALID) != 0) return vcpu.exitGva == gva;
  return (access & Access.OFFSET_VALID) != 0 && <u32>vcpu.exitGva == offset;
}

function translatePart(vcpu: Vcpu, gva: u64, write: bool): bool {
  return translate(vcpu, gva, ordinary(write ? Walk.WRITE : 0));
}

/** The operand's value, zero-extended. 1, 2, 4 or 8 bytes. */
export function loadOperand(vcpu: Vcpu): u64 {
  return loadPart(vcpu, 0, operandOf(vcpu).bytes);
}

export function storeOperand(vcpu: Vcpu, value: u64): void {
  storePart(vcpu, 0, operandOf(vcpu).bytes, value);
}

/** 1, 2, 4 or 8 bytes of an operand of any size, from its byte `at` on. */
export function loadPart(vcpu: Vcpu, at: u32, bytes: u32): u64 {
  const operand = operandOf(vcpu);
  if (isWhole(operand, at, bytes)) return readOperandAt(vcpu, byteGpa(operand, at), bytes);
  let value: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) value |= readOperandAt(vcpu, byteGpa(operand, at + i), 1) << (i << 3);
  return value;
}

export function storePart(vcpu: Vcpu, at: u32, bytes: u32, value: u64): void {
  const operand = operandOf(vcpu);
  if (isWhole(operand, at, bytes)) writeOperandAt(vcpu, byteGpa(operand, at), bytes, value);
  else
    for (let i: u32 = 0; i < bytes; i++) writeOperandAt(vcpu, byteGpa(operand, at + i), 1, (value >> (i << 3)) & 0xff);
}

/** The part lies in one page. */
function isWhole(operand: Operand, at: u32, bytes: u32): bool {
  return at + bytes <= operand.firstBytes || at >= operand.firstBytes;
}

/** Locked store: true if the operand still held `expected`. One that crosses pages is a plain store. */
export function exchangeOperand(vcpu: Vcpu, expected: u64, value: u64): bool {
  const operand = operandOf(vcpu);
  if (operand.firstBytes == operand.bytes) return exchangeOperandAt(vcpu, operand.gpa, operand.bytes, expected, value);
  storeOperand(vcpu, value);
  return true;
}

function byteGpa(operand: Operand, i: u32): u64 {
  return i < operand.firstBytes ? operand.gpa + i : operand.nextGpa + (i - operand.firstBytes);
}
