// The bytes of the instruction at RIP, read once: what is decoded is what is executed, whatever another
// vCPU writes meanwhile.

import { copyFromGuest } from "../mm/guestmem";
import { GuestPaging, walk, Walk } from "../mm/gva";
import { Segment } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { readRip, readSegmentBase } from "../vendor";
import { is64, ordinary, readPaging } from "./linear";

export const MAX_INSTRUCTION: u32 = 15;

/** Linear address of the instruction at RIP. */
export function instructionAddress(): u64 {
  const rip = readRip();
  return is64() ? rip : (rip + readSegmentBase(Segment.CS)) & 0xffff_ffff;
}

/**
 * Copies up to 15 bytes of the instruction to `out`; fewer where its second page is not there. Returns
 * how many. Nothing is raised: an instruction that needs more bytes than there are was not fetched so.
 */
export function fetchInstruction(vcpu: Vcpu, out: usize): u32 {
  const p = readPaging(vcpu);
  const gva = instructionAddress();
  const first: u32 = 4096 - (<u32>gva & 0xfff);
  if (first >= MAX_INSTRUCTION) return fetchPart(vcpu, p, gva, out, MAX_INSTRUCTION);
  const got = fetchPart(vcpu, p, gva, out, first);
  if (got != first) return got;
  return first + fetchPart(vcpu, p, gva + first, out + first, MAX_INSTRUCTION - first);
}

function fetchPart(vcpu: Vcpu, p: GuestPaging, gva: u64, out: usize, bytes: u32): u32 {
  if (!walk(ramOf(vcpu.vm), p, gva, ordinary(Walk.FETCH | Walk.PROBE))) return 0;
  return copyFromGuest(ramOf(vcpu.vm), out, p.gpa, bytes) ? 0 : bytes;
}
