// The last translation of an instruction's page, kept with everything it was derived from. It is taken again
// only while the registers and every paging entry that the walk read are the same: then a new walk would
// find the same, and a change that the guest made without an exit is seen at once. Only IA-32e paging, whose
// walk is the longest, and only walks that change nothing (Walk.PROBE).

import { loadGuest } from "./guestmem";
import { GuestPaging } from "./gva";
import { EFER_LMA } from "../cpu/registerbits";

const PAGE_OFFSET: u64 = 0xfff;

@unmanaged
export class WalkMemo {
  depth: u32; // entries that were read; 0: nothing is kept
  access: u32; // Walk bits
  page: u64; // linear address of the page
  cr0: u64;
  cr3: u64;
  cr4: u64;
  efer: u64;
  gpa: u64; // of the page
  at0: u64; // guest-physical addresses of the entries
  at1: u64;
  at2: u64;
  at3: u64;
  at4: u64;
  value0: u64; // and their values
  value1: u64;
  value2: u64;
  value3: u64;
  value4: u64;
}

/** Whether the memo answers for `gva`; then `p.gpa` is set, valid to the end of the 4 KiB page. */
export function recall(m: WalkMemo, p: GuestPaging, gva: u64, access: u32): bool {
  const page = gva & ~PAGE_OFFSET;
  const differs = (m.page ^ page) | (m.cr3 ^ p.cr3) | (m.cr4 ^ p.cr4) | (m.cr0 ^ p.cr0) | (m.efer ^ p.efer);
  if (differs != 0 || m.access != access || m.depth == 0) return false;
  const end = changetype<usize>(m) + ((<usize>m.depth) << 3);
  for (let slot = changetype<usize>(m); slot < end; slot += 8) {
    const value = loadGuest(load<u64>(slot, offsetof<WalkMemo>("at0")), 8);
    if (value != load<u64>(slot, offsetof<WalkMemo>("value0"))) return false;
  }
  p.gpa = m.gpa | (gva & PAGE_OFFSET);
  p.pageLog2 = 12;
  return true;
}

/** Keeps a walk that has just succeeded. All its entries are in memory: others never succeed. */
export function keep(m: WalkMemo, p: GuestPaging, gva: u64, access: u32): void {
  m.depth = 0;
  if ((p.efer & EFER_LMA) == 0) return;
  m.access = access;
  m.page = gva & ~PAGE_OFFSET;
  m.cr0 = p.cr0;
  m.cr3 = p.cr3;
  m.cr4 = p.cr4;
  m.efer = p.efer;
  m.gpa = p.gpa & ~PAGE_OFFSET;
  const entries = offsetof<GuestPaging>("value4") + 8 - offsetof<GuestPaging>("at0");
  memory.copy(
    changetype<usize>(m) + offsetof<WalkMemo>("at0"),
    changetype<usize>(p) + offsetof<GuestPaging>("at0"),
    entries,
  );
  m.depth = p.depth;
}

if (
  offsetof<WalkMemo>("value4") - offsetof<WalkMemo>("at0") !=
  offsetof<GuestPaging>("value4") - offsetof<GuestPaging>("at0")
)
  ERROR("WalkMemo: entries as in GuestPaging");
