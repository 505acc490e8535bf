// Access to guest memory by linear address, on behalf of an instruction that the core executes: the
// segment's rules, the guest's page tables, then RAM or a device. A fault is queued for the guest and
// the instruction is given up before it changed anything.

import { Feature, has, physBits } from "../cpu/feature";
import { bytesAt, casGuest, copyFromGuest, loadGuest, storeGuest, writableBytesAt } from "../mm/guestmem";
import { GuestPaging, isCanonical, Walk, walk } from "../mm/gva";
import { queueException, queuePageFault, Vector } from "../vcpu/event";
import { Access, Segment, SegmentState } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { mmioRead, mmioWrite } from "../vdev/bus";
import {
  isLongMode64,
  readCpl,
  readCr0,
  readCr3,
  readCr4,
  readEfer,
  readPdpte,
  readRflags,
  readRip,
  readSegment,
} from "../vendor";
import { Alu } from "./alu";
import { Insn, MAX_INSTRUCTION_BYTES } from "./decode";

// The block at Vcpu.decode: records do not nest, so each has its place.
//
//   0    Insn          256  GuestPaging      512  Alu, Operand
//   640  SegmentState  704  code bytes (16)
const PAGING: usize = 256;
const ALU: usize = 512;
const OPERAND: usize = 544;
const SEGMENT: usize = 640;
const CODE: usize = 704;
export const DECODE_BYTES: usize = 768;
if (offsetof<Insn>() > PAGING) ERROR("Insn does not fit its place");
if (offsetof<GuestPaging>() > ALU - PAGING) ERROR("GuestPaging does not fit its place");
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

/** The paging state of the loaded vCPU, read from the processor: once for each instruction. Protection keys are not offered to guests. */
export function readPaging(vcpu: Vcpu): GuestPaging {
  const p = changetype<GuestPaging>(vcpu.decode + PAGING);
  p.cr0 = readCr0();
  p.cr3 = readCr3(vcpu);
  p.cr4 = readCr4();
  p.efer = readEfer(vcpu);
  p.rflags = readRflags();
  p.physBits = physBits();
  p.gigabytePages = has(Feature.PDPE1GB) ? 1 : 0;
  if ((p.cr0 & PG) != 0 && (p.cr4 & PAE) != 0 && (p.efer & LMA) == 0) {
    p.pdpte0 = readPdpte(0);
    p.pdpte1 = readPdpte(1);
    p.pdpte2 = readPdpte(2);
    p.pdpte3 = readPdpte(3);
  }
  return p;
}
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const LMA: u64 = 1 << 10;

function pagingOf(vcpu: Vcpu): GuestPaging {
  return changetype<GuestPaging>(vcpu.decode + PAGING);
}

// ---- Instruction bytes

/**
 * Reads up to 15 bytes at CS:RIP to codeOf(vcpu), once. Returns how many could be read: fewer where the
 * next page has no translation or is not memory (0 also if the first has none; nothing is queued).
 */
export function fetchCode(vcpu: Vcpu, long: bool): u32 {
  const rip = readRip();
  if (long) return fetchLinear(vcpu, rip);
  const code = changetype<SegmentState>(vcpu.decode + SEGMENT);
  readSegment(Segment.CS, code);
  return fetchLinear(vcpu, (code.base + rip) & 0xffff_ffff);
}

function fetchLinear(vcpu: Vcpu, gva: u64): u32 {
  const inPage = 4096 - (<u32>gva & 4095);
  const first = inPage < MAX_INSTRUCTION_BYTES ? inPage : MAX_INSTRUCTION_BYTES;
  if (!fetchPart(vcpu, codeOf(vcpu), gva, first)) return 0;
  if (first == MAX_INSTRUCTION_BYTES) return first;
  const rest = MAX_INSTRUCTION_BYTES - first;
  return fetchPart(vcpu, codeOf(vcpu) + first, gva + first, rest) ? MAX_INSTRUCTION_BYTES : first;
}

function fetchPart(vcpu: Vcpu, to: usize, gva: u64, bytes: u32): bool {
  const p = pagingOf(vcpu);
  const ram = ramOf(vcpu.vm);
  if (!walk(ram, p, gva, userBit() | Walk.FETCH | Walk.PROBE)) return false;
  return copyFromGuest(ram, to, p.gpa, bytes) == 0;
}

function userBit(): u32 {
  return readCpl() == 3 ? Walk.USER : 0;
}

// ---- Segments

/**
 * Linear address of `bytes` bytes at segment:offset, with the checks of the current mode. False: #GP or
 * #SS is queued. `offset` has been cut to the address size already.
 */
export function linearAddress(vcpu: Vcpu, segment: u32, offset: u64, bytes: u32, write: bool, long: bool): bool {
  const operand = operandOf(vcpu);
  const state = changetype<SegmentState>(vcpu.decode + SEGMENT);
  if (long) {
    let address = offset;
    if (segment >= Segment.FS) {
      readSegment(segment, state);
      address += state.base;
    }
    operand.value = address;
    if (isCanonical(pagingOf(vcpu), address)) return true;
    return refuse(vcpu, segment);
  }
  readSegment(segment, state);
  operand.value = (state.base + offset) & 0xffff_ffff;
  return checkLimit(state, offset, bytes, write) || refuse(vcpu, segment);
}

/** #SS for the stack segment, #GP for the others; always false. */
function refuse(vcpu: Vcpu, segment: u32): bool {
  queueException(vcpu, segment == Segment.SS ? Vector.SS : Vector.GP, 0);
  return false;
}

/** Type and limit of a data access outside of 64-bit mode. SDM Vol. 3, "Limit Checking", "Type Checking". */
function checkLimit(state: SegmentState, offset: u64, bytes: u32, write: bool): bool {
  if ((state.access & UNUSABLE) != 0) return false;
  const code = (state.access & 8) != 0;
  if (write ? code || (state.access & 2) == 0 : code && (state.access & 2) == 0) return false;
  const last = offset + bytes - 1;
  const top: u64 = (state.access & BIG) != 0 ? 0xffff_ffff : 0xffff;
  if (!code && (state.access & 4) != 0) return offset > <u64>state.limit && last <= top; // expand-down
  return last <= <u64>state.limit;
}
const UNUSABLE: u32 = 0x10000;
const BIG: u32 = 0x4000;

// ---- Memory operands

/**
 * Translates `bytes` bytes at linear address `gva` into operandOf(vcpu). False: #PF is queued. The
 * processor itself has translated the address of an EPT violation: that answer is taken where it fits.
 */
export function translateOperand(vcpu: Vcpu, gva: u64, bytes: u32, write: bool): bool {
  const operand = operandOf(vcpu);
  const inPage = 4096 - (<u32>gva & 4095);
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

function translatePart(vcpu: Vcpu, gva: u64, write: bool): bool {
  const p = pagingOf(vcpu);
  if (walk(ramOf(vcpu.vm), p, gva, userBit() | (write ? Walk.WRITE : 0))) return true;
  queuePageFault(vcpu, gva, p.error);
  return false;
}

/** The operand's value, zero-extended. 1, 2, 4 or 8 bytes. */
export function loadOperand(vcpu: Vcpu): u64 {
  const operand = operandOf(vcpu);
  if (operand.firstBytes == operand.bytes) return loadPart(vcpu, operand.gpa, operand.bytes);
  let value: u64 = 0;
  for (let i: u32 = 0; i < operand.bytes; i++) value |= loadPart(vcpu, byteGpa(operand, i), 1) << (i << 3);
  return value;
}

export function storeOperand(vcpu: Vcpu, value: u64): void {
  const operand = operandOf(vcpu);
  if (operand.firstBytes == operand.bytes) {
    storePart(vcpu, operand.gpa, operand.bytes, value);
    return;
  }
  for (let i: u32 = 0; i < operand.bytes; i++) storePart(vcpu, byteGpa(operand, i), 1, (value >> (i << 3)) & 0xff);
}

/** Locked store: true if the operand still held `expected`. A device register is not shared: plain store. */
export function exchangeOperand(vcpu: Vcpu, expected: u64, value: u64): bool {
  const operand = operandOf(vcpu);
  const whole = operand.firstBytes == operand.bytes && writableBytesAt(ramOf(vcpu.vm), operand.gpa) >= operand.bytes;
  if (whole) return casGuest(operand.gpa, operand.bytes, expected, value) == expected;
  storeOperand(vcpu, value);
  return true;
}

function byteGpa(operand: Operand, i: u32): u64 {
  return i < operand.firstBytes ? operand.gpa + i : operand.nextGpa + (i - operand.firstBytes);
}

function loadPart(vcpu: Vcpu, gpa: u64, bytes: u32): u64 {
  return bytesAt(ramOf(vcpu.vm), gpa) >= bytes ? loadGuest(gpa, bytes) : mmioRead(vcpu, gpa, bytes);
}

/** RAM, or a device; writes to ROM are dropped, as on a board with its BIOS write-protected. */
function storePart(vcpu: Vcpu, gpa: u64, bytes: u32, value: u64): void {
  const ram = ramOf(vcpu.vm);
  if (writableBytesAt(ram, gpa) >= bytes) storeGuest(gpa, bytes, value);
  else if (bytesAt(ram, gpa) == 0) mmioWrite(vcpu, gpa, bytes, value);
}
