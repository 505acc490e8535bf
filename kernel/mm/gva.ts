// The guest's own paging: from a linear address to a guest-physical one, for operands of instructions
// that the core must execute itself. The walk follows Intel SDM Vol. 3, chapter "Paging": formats of
// paging-structure entries, access rights, error codes, accessed and dirty flags.

import { bytesAt, casGuest, GuestRam, loadGuest, writableBytesAt } from "./guestmem";
import {
  CR0_PG,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PKE,
  CR4_PKS,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
  RFLAGS_AC,
} from "../cpu/registerbits";

/** What kind of access; the bits are those that a page-fault error code shows. */
export const enum Walk {
  READ = 0,
  WRITE = 0x02,
  USER = 0x04, // CPL 3
  FETCH = 0x10,
  /** Descriptor-table and TSS accesses, supervisor whatever the CPL: SMAP ignores RFLAGS.AC. */
  IMPLICIT = 0x100,
  /** Looks only: sets no accessed or dirty flag. */
  PROBE = 0x200,
}

/** Page-fault error code. */
const enum Fault {
  PRESENT = 0x01,
  RESERVED = 0x08,
  FETCH = 0x10,
  KEY = 0x20,
}
const ERROR_FROM_WALK: u32 = 0x06; // WRITE, USER; FETCH only where NX or SMEP is on

const P: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;
const RIGHTS: u64 = 6; // W | U: a translation has them if every level grants them

/** An entry that another vCPU keeps changing under the walk is retried so often, then taken as it was. */
const RETRIES: u32 = 8;

/** Where reads of paging structures outside of memory end: all ones, as on a bus that nobody answers. */
const NOBODY: u64 = 0xffff_ffff_ffff_ffff;

/** The paging state of a vCPU, and the answer of the last walk. */
@unmanaged
export class GuestPaging {
  cr0: u64;
  cr3: u64;
  cr4: u64;
  efer: u64;
  rflags: u64;
  pkru: u32;
  pkrs: u32;
  /** PAE paging: the PDPTEs as loaded, not as they stand in memory. */
  pdpte0: u64;
  pdpte1: u64;
  pdpte2: u64;
  pdpte3: u64;
  physBits: u32; // MAXPHYADDR that the guest sees
  gigabytePages: u32; // 1: 1 GiB pages exist
  // Answer
  gpa: u64;
  error: u32; // page-fault error code, if the walk failed
  pageLog2: u32;
  // Scratch of the walk: guest-physical address and value of each entry that was used
  depth: u32;
  entryBytes: u32;
  at0: u64;
  at1: u64;
  at2: u64;
  at3: u64;
  at4: u64;
  value0: u64;
  value1: u64;
  value2: u64;
  value3: u64;
  value4: u64;
}

/**
 * Translates linear address `gva` for `access` (Walk bits). True: `p.gpa` holds the answer, valid to
 * the end of its page of 2^p.pageLog2 bytes. False: the access takes #PF with `p.error`. The caller has
 * made sure that `gva` is canonical (64-bit mode) or below 4 GiB.
 */
export function walk(ram: GuestRam, p: GuestPaging, gva: u64, access: u32): bool {
  if ((p.cr0 & CR0_PG) == 0) {
    p.gpa = gva & 0xffff_ffff;
    p.pageLog2 = 12;
    return true;
  }
  for (let i: u32 = 0; i < RETRIES; i++) {
    p.depth = 0;
    if (!translate(ram, p, gva, access)) return false;
    if ((access & Walk.PROBE) != 0 || setFlags(ram, p, access)) return true;
  }
  return true;
}

function translate(ram: GuestRam, p: GuestPaging, gva: u64, access: u32): bool {
  if ((p.cr4 & CR4_PAE) == 0) return walkLegacy(ram, p, gva & 0xffff_ffff, access);
  p.entryBytes = 8;
  if ((p.efer & EFER_LMA) != 0) {
    const levels: u32 = (p.cr4 & CR4_LA57) != 0 ? 5 : 4;
    return walkLevels(ram, p, gva, access, p.cr3 & addressMask(p), levels, RIGHTS, 0);
  }
  const pdpte = pdpteOf(p, <u32>(gva >> 30) & 3);
  if ((pdpte & P) == 0) return fault(p, access, 0);
  return walkLevels(ram, p, gva & 0xffff_ffff, access, pdpte & addressMask(p), 2, RIGHTS, 0);
}

function pdpteOf(p: GuestPaging, index: u32): u64 {
  if (index == 0) return p.pdpte0;
  if (index == 1) return p.pdpte1;
  return index == 2 ? p.pdpte2 : p.pdpte3;
}

/** Bits MAXPHYADDR-1 .. 12 of an entry. */
function addressMask(p: GuestPaging): u64 {
  return (((<u64>1) << p.physBits) - 1) & ~(<u64>0xfff);
}

/** Levels with 512 entries of 8 bytes; `level` 5 is a PML5, 1 a page table. */
function walkLevels(
  ram: GuestRam,
  p: GuestPaging,
  gva: u64,
  access: u32,
  table: u64,
  level: u32,
  rights: u64,
  noExecute: u64,
): bool {
  while (level != 0) {
    const shift = 12 + 9 * (level - 1);
    const at = table + (((gva >> shift) & 511) << 3);
    const entry = loadEntry(ram, at, 8);
    if ((entry & P) == 0) return fault(p, access, 0);
    const leaf = level == 1 || (level <= 3 && (entry & PS) != 0);
    if ((entry & reservedBits(p, level, leaf)) != 0) return fault(p, access, Fault.PRESENT | Fault.RESERVED);
    remember(p, at, entry);
    rights &= entry;
    noExecute |= entry;
    if (leaf) {
      const offset = ((<u64>1) << shift) - 1;
      return finish(p, access, (entry & addressMask(p) & ~offset) | (gva & offset), shift, rights, noExecute, entry);
    }
    table = entry & addressMask(p);
    level--;
  }
  return false; // level 1 is always a leaf
}

/** Bits that must be zero in a present entry. PAE's own PDPTEs were checked when CR3 was loaded. */
function reservedBits(p: GuestPaging, level: u32, leaf: bool): u64 {
  let bits: u64 = 0x000f_ffff_ffff_f000 & ~addressMask(p);
  if ((p.efer & EFER_NXE) == 0) bits |= XD;
  if ((p.efer & EFER_LMA) == 0) bits |= 0x7ff0_0000_0000_0000; // PAE paging: 62:52 too
  if (level >= 4) bits |= PS;
  else if (level == 3) bits |= !leaf ? 0 : p.gigabytePages != 0 ? 0x3fff_e000 : PS;
  else if (level == 2 && leaf) bits |= 0x001f_e000;
  return bits;
}

/** 32-bit paging: two levels with 1024 entries of 4 bytes. */
function walkLegacy(ram: GuestRam, p: GuestPaging, gva: u64, access: u32): bool {
  p.entryBytes = 4;
  const pdeAt = (p.cr3 & 0xffff_f000) + ((gva >> 22) << 2);
  const pde = loadEntry(ram, pdeAt, 4);
  if ((pde & P) == 0) return fault(p, access, 0);
  remember(p, pdeAt, pde);
  if ((pde & PS) != 0 && (p.cr4 & CR4_PSE) != 0) return finishLarge(p, gva, access, pde);
  const pteAt = (pde & 0xffff_f000) + (((gva >> 12) & 0x3ff) << 2);
  const pte = loadEntry(ram, pteAt, 4);
  if ((pte & P) == 0) return fault(p, access, 0);
  remember(p, pteAt, pte);
  return finish(p, access, (pte & 0xffff_f000) | (gva & 0xfff), 12, pde & pte & RIGHTS, 0, pte);
}

/** A 4 MiB page; PSE-36 puts physical bits 39:32 into bits 20:13, as far as MAXPHYADDR goes. */
function finishLarge(p: GuestPaging, gva: u64, access: u32, pde: u64): bool {
  const high = p.physBits > 40 ? 8 : p.physBits > 32 ? p.physBits - 32 : 0;
  const reserved: u64 = 0x003f_e000 & ~((((<u64>1) << high) - 1) << 13);
  if ((pde & reserved) != 0) return fault(p, access, Fault.PRESENT | Fault.RESERVED);
  const gpa = (pde & 0xffc0_0000) | (((pde >> 13) & 0xff) << 32) | (gva & 0x3f_ffff);
  return finish(p, access, gpa, 22, pde & RIGHTS, 0, pde);
}

/** Access rights of the whole translation. SDM, "Determination of Access Rights", "Protection Keys". */
function finish(p: GuestPaging, access: u32, gpa: u64, shift: u32, rights: u64, noExecute: u64, leaf: u64): bool {
  const userPage = (rights & U) != 0;
  const user = (access & Walk.USER) != 0 && (access & Walk.IMPLICIT) == 0;
  if (user && !userPage) return fault(p, access, Fault.PRESENT);
  if ((access & Walk.FETCH) != 0) {
    if ((noExecute & XD) != 0 && (p.efer & EFER_NXE) != 0) return fault(p, access, Fault.PRESENT);
    if (!user && userPage && (p.cr4 & CR4_SMEP) != 0) return fault(p, access, Fault.PRESENT);
  } else {
    const write = (access & Walk.WRITE) != 0;
    if (write && (rights & W) == 0 && (user || (p.cr0 & CR0_WP) != 0)) return fault(p, access, Fault.PRESENT);
    if (!user && userPage && smapForbids(p, access)) return fault(p, access, Fault.PRESENT);
    if (keyForbids(p, leaf, userPage, user, write)) return fault(p, access, Fault.PRESENT | Fault.KEY);
  }
  p.gpa = gpa;
  p.pageLog2 = shift;
  return true;
}

function smapForbids(p: GuestPaging, access: u32): bool {
  return (p.cr4 & CR4_SMAP) != 0 && ((access & Walk.IMPLICIT) != 0 || (p.rflags & RFLAGS_AC) == 0);
}

function keyForbids(p: GuestPaging, leaf: u64, userPage: bool, user: bool, write: bool): bool {
  if ((p.efer & EFER_LMA) == 0 || (p.cr4 & (userPage ? CR4_PKE : CR4_PKS)) == 0) return false;
  const rights = (userPage ? p.pkru : p.pkrs) >> (2 * (<u32>(leaf >> 59) & 15));
  if ((rights & 1) != 0) return true;
  return write && (rights & 2) != 0 && (user || (p.cr0 & CR0_WP) != 0);
}

/** Always false, with the error code in `p.error`. */
function fault(p: GuestPaging, access: u32, bits: u32): bool {
  let error = bits | (access & ERROR_FROM_WALK);
  if ((access & Walk.IMPLICIT) != 0) error &= ~(<u32>Walk.USER);
  const showsFetch = (p.cr4 & CR4_SMEP) != 0 || ((p.cr4 & CR4_PAE) != 0 && (p.efer & EFER_NXE) != 0);
  if ((access & Walk.FETCH) != 0 && showsFetch) error |= Fault.FETCH;
  p.error = error;
  return false;
}

function loadEntry(ram: GuestRam, at: u64, bytes: u32): u64 {
  return bytesAt(ram, at) < bytes ? NOBODY : loadGuest(at, bytes);
}

function remember(p: GuestPaging, at: u64, value: u64): void {
  const slot = changetype<usize>(p) + ((<usize>p.depth) << 3);
  store<u64>(slot, at, offsetof<GuestPaging>("at0"));
  store<u64>(slot, value, offsetof<GuestPaging>("value0"));
  p.depth++;
}

/**
 * Sets the accessed flag in every entry used, and the dirty flag in the leaf of a write. False if an
 * entry changed since it was read: the walk must be made again. Entries in ROM stay as they are.
 */
function setFlags(ram: GuestRam, p: GuestPaging, access: u32): bool {
  for (let i: u32 = 0; i < p.depth; i++) {
    const slot = changetype<usize>(p) + ((<usize>i) << 3);
    const at = load<u64>(slot, offsetof<GuestPaging>("at0"));
    const value = load<u64>(slot, offsetof<GuestPaging>("value0"));
    const leaf = i == p.depth - 1;
    const wanted = value | A | (leaf && (access & Walk.WRITE) != 0 ? D : 0);
    if (wanted == value || writableBytesAt(ram, at) < p.entryBytes) continue;
    if (casGuest(at, p.entryBytes, value, wanted) != value) return false;
  }
  return true;
}

/** True if `gva` is canonical for the paging mode (64-bit mode only). */
export function isCanonical(p: GuestPaging, gva: u64): bool {
  const shift: u64 = (p.cr4 & CR4_LA57) != 0 ? 7 : 16;
  return <u64>(((<i64>gva) << shift) >> shift) == gva;
}
