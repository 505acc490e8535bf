// The instructions that the core executed last, decoded, each with all that its bytes were found by: registers, paging
// entries and the bytes themselves. One is taken again only while every one of them is the same: then fetching and
// decoding would give the same, and what the guest changes without an exit, its code or its tables, is seen at
// once. Only 64-bit mode, where drivers poll and acknowledge; only instructions that do not reach into another page.

import { loadGuest } from "../mm/guestmem";
import { WalkMemo } from "../mm/walkmemo";
import { Segment } from "../vcpu/exit";
import { Gpr, Vcpu } from "../vcpu/vcpu";
import { rawCr3, rawCr4, rawEfer, readRip, readSegmentAccess } from "../vendor";
import { Form, Insn, Kind, NO_REGISTER } from "./decode";

/** Entries of the table; RIP chooses one. */
const SLOTS: u32 = 16;
/** No instruction is there: it is not canonical. */
const NOWHERE: u64 = 0x8000_0000_0000_0000;

/** What is known of an instruction without looking at it again. */
export const enum Plain {
  MOVE = 1, // a MOV whose operand can be found by adding up: no FS, GS, RIP or RSP, no AH to BH
  STORE32 = 2, // one of 32 bits to memory
}

@unmanaged
export class Recent {
  rip: u64;
  cr3: u64;
  cr4: u64;
  efer: u64;
  cs: u32; // access rights
  /** Guest-physical addresses of the paging entries; four at least, the last one repeated. */
  at0: u64;
  at1: u64;
  at2: u64;
  at3: u64;
  at4: u64;
  value0: u64; // and their values
  value1: u64;
  value2: u64;
  value3: u64;
  value4: u64;
  gpa: u64; // of the first byte
  code0: u64; // the first 16 bytes
  code1: u64;
  levels: u32; // 4 or 5
  plain: u32; // Plain bits
}
const INSN: usize = (offsetof<Recent>() + 7) & ~7;
const SLOT_BYTES: usize = (INSN + offsetof<Insn>() + 15) & ~15;
/** Size of Vcpu.recent. */
export const RECENT_BYTES: usize = <usize>SLOTS * SLOT_BYTES;

/** A table without instructions. */
export function forgetInstructions(vcpu: Vcpu): void {
  for (let i: u32 = 0; i < SLOTS; i++) changetype<Recent>(vcpu.recent + <usize>i * SLOT_BYTES).rip = NOWHERE;
}

export function insnIn(r: Recent): Insn {
  return changetype<Insn>(changetype<usize>(r) + INSN);
}

function slotFor(vcpu: Vcpu, rip: u64): Recent {
  const index = (<u32>rip ^ (<u32>rip >> 4)) & (SLOTS - 1);
  return changetype<Recent>(vcpu.recent + <usize>index * SLOT_BYTES);
}

/** The instruction at RIP, if it is known and nothing that it depends on has changed. */
export function recall(vcpu: Vcpu): Recent | null {
  const rip = readRip();
  const r = slotFor(vcpu, rip);
  if (r.rip != rip || !sameRegisters(r) || changes(r) != 0) return null;
  return r.levels < 5 || loadGuest(r.at4, 8) == r.value4 ? r : null;
}

/** Length of the MOV of 32 bits to memory at RIP; 0 if it is another instruction, or none that is known. */
export function recallStore(vcpu: Vcpu): u32 {
  const known = recall(vcpu);
  return known == null || (known.plain & Plain.STORE32) == 0 ? 0 : insnIn(known).length;
}

/**
 * What decides where the bytes are and what they mean. CR0 and the mode need no look of their own: EFER.LMA and CS.L say that paging
 * is on and the code 64-bit. Nor does the privilege level: that the instruction may be fetched, the processor found when it did.
 */
function sameRegisters(r: Recent): bool {
  const paging = (rawCr3() ^ r.cr3) | (rawCr4() ^ r.cr4) | (rawEfer() ^ r.efer);
  return (paging | <u64>(readSegmentAccess(Segment.CS) ^ r.cs)) == 0;
}

/** Bits that differ now in the first four paging entries and in the instruction's bytes. */
function changes(r: Recent): u64 {
  return (
    (loadGuest(r.at0, 8) ^ r.value0) |
    (loadGuest(r.at1, 8) ^ r.value1) |
    (loadGuest(r.at2, 8) ^ r.value2) |
    (loadGuest(r.at3, 8) ^ r.value3) |
    (loadGuest(r.gpa, 8) ^ r.code0) |
    (loadGuest(r.gpa + 8, 8) ^ r.code1)
  );
}

/** Where the instruction at RIP is to be decoded; keep() makes it known afterwards. */
export function placeFor(vcpu: Vcpu): Recent {
  const r = slotFor(vcpu, readRip());
  r.rip = NOWHERE;
  return r;
}

/**
 * Makes the instruction known that was decoded into its place from 16 bytes at `code`, in 64-bit mode; `memo` holds the walk
 * that found its page.
 */
export function keep(vcpu: Vcpu, r: Recent, memo: WalkMemo, code: usize): void {
  const rip = readRip();
  if (memo.depth == 0 || memo.page != (rip & ~(<u64>0xfff)) || (rip & 0xfff) > 0xff0) return;
  r.cr3 = rawCr3();
  r.cr4 = rawCr4();
  r.efer = rawEfer();
  r.cs = readSegmentAccess(Segment.CS);
  r.levels = memo.depth < 5 ? 4 : 5;
  for (let i: u32 = 0; i < 5; i++) copyEntry(r, memo, i, min(i, memo.depth - 1));
  r.gpa = memo.gpa | (rip & 0xfff);
  r.code0 = load<u64>(code);
  r.code1 = load<u64>(code, 8);
  r.plain = plainOf(insnIn(r));
  r.rip = rip;
}

function copyEntry(r: Recent, memo: WalkMemo, to: u32, from: u32): void {
  const source = changetype<usize>(memo) + ((<usize>from) << 3);
  const target = changetype<usize>(r) + ((<usize>to) << 3);
  store<u64>(target, load<u64>(source, offsetof<WalkMemo>("at0")), offsetof<Recent>("at0"));
  store<u64>(target, load<u64>(source, offsetof<WalkMemo>("value0")), offsetof<Recent>("value0"));
}

function plainOf(insn: Insn): u32 {
  if (!isPlain(insn)) return 0;
  return insn.bytes == 4 && (insn.flags & Form.TO_REGISTER) == 0 ? Plain.MOVE | Plain.STORE32 : Plain.MOVE;
}

function isPlain(insn: Insn): bool {
  if (insn.kind != Kind.MOV || insn.addressBytes != 8 || insn.segment >= <u32>Segment.FS) return false;
  if ((insn.flags & (Form.HIGH_BYTE | Form.ABSOLUTE)) != 0 || insn.memoryBytes != insn.bytes) return false;
  return isPlainRegister(insn.base) && isPlainRegister(insn.index) && insn.register != Gpr.RSP;
}

function isPlainRegister(register: u32): bool {
  return register == NO_REGISTER || (register < 16 && register != Gpr.RSP);
}
