// The bytes of the instruction at RIP, read once: what is decoded is what is executed, whatever another
// vCPU writes meanwhile.

import { bytesAt, copyFromGuest, loadGuest } from "../mm/guestmem";
import { GuestPaging, walk, Walk } from "../mm/gva";
import { keep, recall, WalkMemo } from "../mm/walkmemo";
import { Segment } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { readRip, readSegmentBase } from "../vendor";
import { is64, ordinary, readPaging } from "./linear";

export const MAX_INSTRUCTION: u32 = 15;
/** What the buffer holds, and what is read at once. */
const ROOM: u32 = 16;

/** Linear address of the instruction at RIP. */
export function instructionAddress(): u64 {
  return linearRip(is64());
}

function linearRip(long: bool): u64 {
  const rip = readRip();
  return long ? rip : (rip + readSegmentBase(Segment.CS)) & 0xffff_ffff;
}

/**
 * Copies up to 15 bytes of the instruction to `out`, 16 bytes of room; fewer where its second page is not
 * there. Returns how many. `long`: 64-bit mode. Nothing is raised: an instruction that needs more bytes than
 * there are was not fetched so.
 */
export function fetchInstruction(vcpu: Vcpu, out: usize, long: bool): u32 {
  const p = readPaging(vcpu);
  const gva = linearRip(long);
  const first: u32 = 4096 - (<u32>gva & 0xfff);
  if (first >= ROOM) return fetchAtOnce(vcpu, p, gva, out);
  store<u64>(out, 0);
  store<u64>(out, 0, 8);
  const here = min(first, MAX_INSTRUCTION);
  const got = fetchPart(vcpu, p, gva, out, here);
  if (got != here || here == MAX_INSTRUCTION) return got;
  return here + fetchPart(vcpu, p, gva + here, out + here, MAX_INSTRUCTION - here);
}

/** The common case: two loads, where memory goes on for 16 bytes. */
function fetchAtOnce(vcpu: Vcpu, p: GuestPaging, gva: u64, out: usize): u32 {
  if (!translateCode(vcpu, p, gva)) return 0;
  if (bytesAt(ramOf(vcpu.vm), p.gpa) < <u64>ROOM) return 0;
  store<u64>(out, loadGuest(p.gpa, 8));
  store<u64>(out, loadGuest(p.gpa + 8, 8), 8);
  return MAX_INSTRUCTION;
}

/** The last walk for an instruction that paging changed nothing of. */
export function codeMemoOf(vcpu: Vcpu): WalkMemo {
  return changetype<WalkMemo>(vcpu.codeMemo);
}

function translateCode(vcpu: Vcpu, p: GuestPaging, gva: u64): bool {
  const access = ordinary(Walk.FETCH | Walk.PROBE);
  const memo = codeMemoOf(vcpu);
  if (recall(memo, p, gva, access)) return true;
  if (!walk(ramOf(vcpu.vm), p, gva, access)) return false;
  keep(memo, p, gva, access);
  return true;
}

function fetchPart(vcpu: Vcpu, p: GuestPaging, gva: u64, out: usize, bytes: u32): u32 {
  if (!translateCode(vcpu, p, gva)) return 0;
  return copyFromGuest(ramOf(vcpu.vm), out, p.gpa, bytes) ? 0 : bytes;
}
