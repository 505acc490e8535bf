// Extended page tables: from guest-physical to host-physical, four levels, leaves of 4 KiB, 2 MiB and
// 1 GiB. A leaf is installed only for frames that belong to the VM. What needs memory is prepared first,
// then committed, so that a refusal leaves the tables as they were. Nothing here invalidates: after a leaf
// lost rights or moved, the caller does (vmx/vpid.ts). protectEpt() and mergeEpt() free tables: no vCPU of
// the VM runs meanwhile, and an INVEPT precedes its next entry.
// Intel SDM Vol. 3, "EPT Translation Mechanism".
//
//   leaf: 0 R  1 W  2 X  5:3 memory type  6 ignore PAT  7 large  8 accessed  9 dirty  51:12 address

import { Status } from "../lib/status";
import { levelOf, Owner } from "./block";
import { allocFrame, freeRun, isOwned } from "./frame";
import { uniformType } from "./memtype";
import { entryFor } from "./pagetable";
import { readEntry, swapEntry, writeEntry, zeroFrame } from "./phys";

/** Rights of a leaf. X alone needs the capability execute-only; W without R is never legal. */
export const enum EptBit {
  READ = 1,
  WRITE = 2,
  EXECUTE = 4,
  ALL = 7,
}

const RIGHTS: u64 = 7;
const TYPE_SHIFT: u64 = 3;
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/** An entry that refers to a table: rights are cut at the leaf alone. */
const TABLE: u64 = RIGHTS;

const TOP: u32 = 4;
const MIXED: u32 = 0xff;
/** Guest-physical addresses that four levels translate. */
export const EPT_LIMIT: u64 = (<u64>1) << 48;

/** EPT pointer: write-back tables, four levels, and accessed and dirty flags where they are. */
export function eptPointer(root: u64, accessedDirty: bool): u64 {
  return root | 6 | (3 << 3) | (accessedDirty ? 1 << 6 : 0);
}

/** An empty table; 0 if there is no frame. */
export function createEpt(): u64 {
  const root = allocFrame(Owner.TABLE);
  if (root) zeroFrame(root);
  return root;
}

/** Frees the tables. The frames that they mapped are their owner's. */
export function destroyEpt(root: u64): void {
  for (let i: u64 = 0; i < 4096; i += 8) destroyTable(readEntry(root + i), 3);
  freeRun(root, 12, Owner.TABLE);
}

/** Frees the table of `level` that `entry` refers to, with what is below: three levels, no recursion. */
function destroyTable(entry: u64, level: u32): void {
  if (!refersToTable(entry)) return;
  const table = entry & ADDRESS;
  if (level > 1) for (let i: u64 = 0; i < 4096; i += 8) destroyDirectory(readEntry(table + i), level - 1);
  freeRun(table, 12, Owner.TABLE);
}

function destroyDirectory(entry: u64, level: u32): void {
  if (!refersToTable(entry)) return;
  const table = entry & ADDRESS;
  if (level > 1) for (let i: u64 = 0; i < 4096; i += 8) destroyLast(readEntry(table + i));
  freeRun(table, 12, Owner.TABLE);
}

function destroyLast(entry: u64): void {
  if (refersToTable(entry)) freeRun(entry & ADDRESS, 12, Owner.TABLE);
}

function refersToTable(entry: u64): bool {
  return entry != 0 && (entry & LARGE) == 0;
}

// ---- Walking

/** Level (1..3) of the leaf of the last walk(); 0: there was none. Kept for its callers' next step. */
@unmanaged
class Walked {
  at: u64; // pa of the entry at which the walk ended
  entry: u64;
  level: u32; // of the table that holds it
  pad: u32;
}

/**
 * The entry that translates `gpa`: 0 if nothing does. `out`: 24 bytes for where it stands (pa, u64), the
 * entry (u64) and the level of its table (u32), where the walk ended also if nothing is mapped.
 */
export function walkEpt(root: u64, gpa: u64, out: usize): u64 {
  const w = changetype<Walked>(out);
  let table = root;
  let level = TOP;
  while (true) {
    const at = entryFor(table, level, gpa);
    const entry = readEntry(at);
    w.at = at;
    w.entry = entry;
    w.level = level;
    if (entry == 0 || level == 1 || (level < TOP && (entry & LARGE) != 0)) return entry;
    table = entry & ADDRESS;
    level--;
  }
}

/** hpa behind `gpa`, or EPT_LIMIT if nothing is mapped. `scratch`: 24 bytes. */
export function translateEpt(root: u64, gpa: u64, scratch: usize): u64 {
  const entry = walkEpt(root, gpa, scratch);
  if (!entry) return EPT_LIMIT;
  const mask = sizeOf(changetype<Walked>(scratch).level) - 1;
  return (entry & ADDRESS & ~mask) | (gpa & mask);
}

function sizeOf(level: u32): u64 {
  return (<u64>1) << (12 + 9 * <u64>(level - 1));
}

// ---- Mapping

/** A leaf for 2^log2 bytes at `hpa`, within which the memory type does not change. */
function leafFor(hpa: u64, log2Bytes: u32, access: u32): u64 {
  const type = uniformType(hpa, log2Bytes);
  return hpa | access | ((<u64>type) << TYPE_SHIFT) | IGNORE_PAT | (log2Bytes > 12 ? LARGE : 0);
}

function legal(access: u32): bool {
  return access != 0 && (access & ~RIGHTS) == 0 && (access & (EptBit.READ | EptBit.WRITE)) != EptBit.WRITE;
}

/**
 * Maps [gpa, gpa + bytes) to the frames [hpa, ...) of VM `vm` with the largest leaves that fit, up to 2^limit
 * bytes. WRONG_OWNER, BAD_ADDRESS (unaligned, or beyond the space), BUSY (something is there), NO_MEMORY: the
 * tables are as they were.
 */
export function mapEpt(vm: u32, root: u64, gpa: u64, hpa: u64, bytes: u64, access: u32, limit: u32): Status {
  if (((gpa | hpa | bytes) & 0xfff) != 0 || gpa > EPT_LIMIT || bytes > EPT_LIMIT - gpa) return Status.BAD_ADDRESS;
  if (!legal(access)) return Status.BAD_ARGUMENT;
  if (bytes != 0 && !isOwned(hpa, bytes, Owner.VM_FIRST + vm)) return Status.WRONG_OWNER;
  const tables = throughLeaves(root, gpa, hpa, bytes, limit, COUNTING, 0);
  if (tables == CLASH) return Status.BUSY;
  const reserve = takeTables(<u32>tables);
  if (tables != 0 && reserve == 0) return Status.NO_MEMORY;
  throughLeaves(root, gpa, hpa, bytes, limit, access, reserve);
  return Status.OK;
}

/** Instead of rights: nothing is installed. */
const COUNTING: u32 = 0;

/**
 * Goes through the range by the largest leaves that fit. COUNTING: returns how many tables they lack, or CLASH. With
 * rights: installs them, with tables from `chain`; returns what is left of it.
 */
function throughLeaves(root: u64, gpa: u64, hpa: u64, bytes: u64, limit: u32, access: u32, chain: u64): u64 {
  let carried = chain; // the count, or the rest of the chain
  for (let done: u64 = 0; done < bytes; ) {
    const at = gpa + done;
    const log2 = fitting(at, hpa + done, bytes - done, limit);
    if (access != COUNTING) carried = install(root, at, levelOf(log2), leafFor(hpa + done, log2, access), carried);
    else {
      const missing = missingTables(root, gpa, at, levelOf(log2));
      if (missing == CLASH) return CLASH;
      carried += missing;
    }
    done += (<u64>1) << log2;
  }
  return carried;
}

const CLASH: u32 = 0xffff_ffff;

/**
 * How many tables the leaf of `level` at `gpa` lacks that no earlier leaf of the range from `first` needs too;
 * CLASH if something is mapped there.
 */
function missingTables(root: u64, first: u64, gpa: u64, level: u32): u32 {
  let table = root;
  let l = TOP;
  for (; l > level; l--) {
    const entry = readEntry(entryFor(table, l, gpa));
    if (entry == 0) break;
    if (l < TOP && (entry & LARGE) != 0) return CLASH;
    table = entry & ADDRESS;
  }
  const there = readEntry(entryFor(table, l, gpa));
  if (there != 0) return l == level && vacant(there, level) ? 0 : CLASH;
  let count: u32 = 0;
  for (; l > level; l--) {
    const start = gpa & ~(sizeOf(l) - 1); // of what the missing table of level l - 1 covers
    if (gpa == max(start, first)) count++;
  }
  return count;
}

/** `entry` of a table of `level` refers to an empty page table. */
function vacant(entry: u64, level: u32): bool {
  if (level != 2 || (entry & LARGE) != 0) return false;
  const table = entry & ADDRESS;
  for (let i: u64 = 0; i < 4096; i += 8) if (readEntry(table + i) != 0) return false;
  return true;
}

/** `count` zeroed frames, each but the last with the address of the next in its first entry; 0: not so many, none taken. */
function takeTables(count: u32): u64 {
  let chain: u64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const frame = allocFrame(Owner.TABLE);
    if (!frame) {
      freeTables(chain);
      return 0;
    }
    zeroFrame(frame);
    writeEntry(frame, chain);
    chain = frame;
  }
  return chain;
}

function freeTables(chain: u64): void {
  for (let frame = chain; frame != 0; ) {
    const next = readEntry(frame);
    freeRun(frame, 12, Owner.TABLE);
    frame = next;
  }
}

/** Puts `leaf` into the table of `level`, making the tables above it from `chain`; returns the rest of it. */
function install(root: u64, gpa: u64, level: u32, leaf: u64, chain: u64): u64 {
  let table = root;
  let left = chain;
  for (let l = TOP; l > level; l--) {
    const at = entryFor(table, l, gpa);
    let entry = readEntry(at);
    if (entry == 0) {
      entry = left | TABLE;
      left = readEntry(left);
      writeEntry(entry & ADDRESS, 0);
      writeEntry(at, entry);
    }
    table = entry & ADDRESS;
  }
  const at = entryFor(table, level, gpa);
  const there = readEntry(at);
  writeEntry(at, leaf);
  if (there) freeRun(there & ADDRESS, 12, Owner.TABLE); // an empty table gave way to a large leaf
  return left;
}

/** log2 of the largest leaf: aligned, within the range and the limit, of one memory type. */
function fitting(gpa: u64, hpa: u64, bytes: u64, limit: u32): u32 {
  for (let log2: u32 = 30; log2 > 12; log2 -= 9) {
    const size = (<u64>1) << log2;
    if (log2 <= limit && ((gpa | hpa) & (size - 1)) == 0 && bytes >= size && uniformType(hpa, log2) != MIXED)
      return log2;
  }
  return 12;
}

/** Clears the leaf at `gpa`; returns how many bytes it, or the hole there, spans. */
function clearOne(root: u64, gpa: u64): u64 {
  let table = root;
  let level = TOP;
  while (true) {
    const at = entryFor(table, level, gpa);
    const entry = readEntry(at);
    const leaf = level == 1 || (level < TOP && (entry & LARGE) != 0);
    if (entry == 0 || leaf) {
      if (entry) writeEntry(at, 0);
      return sizeOf(level) - (gpa & (sizeOf(level) - 1));
    }
    table = entry & ADDRESS;
    level--;
  }
}

// ---- Changing

/**
 * Takes [gpa, gpa + bytes) out. NO_MEMORY if a large leaf at an end cannot be divided; then nothing
 * changed. The caller invalidates before the frames are used otherwise.
 */
export function unmapEpt(root: u64, gpa: u64, bytes: u64): Status {
  const status = isolate(root, gpa, bytes);
  if (status) return status;
  for (let done: u64 = 0; done < bytes; ) done += clearOne(root, gpa + done);
  return Status.OK;
}

/** Gives what is mapped in the range the rights `access`; holes stay. Otherwise as unmapEpt. */
export function protectEpt(root: u64, gpa: u64, bytes: u64, access: u32): Status {
  if (!legal(access)) return Status.BAD_ARGUMENT;
  const status = isolate(root, gpa, bytes);
  if (status) return status;
  for (let done: u64 = 0; done < bytes; ) done += protectOne(root, gpa + done, access);
  mergeEpt(root, gpa);
  if (bytes) mergeEpt(root, gpa + bytes - 1);
  return Status.OK;
}

function protectOne(root: u64, gpa: u64, access: u32): u64 {
  let table = root;
  let level = TOP;
  while (true) {
    const at = entryFor(table, level, gpa);
    const entry = readEntry(at);
    if (entry == 0 || level == 1 || (level < TOP && (entry & LARGE) != 0)) {
      if (entry) changeRights(at, entry, access);
      return sizeOf(level) - (gpa & (sizeOf(level) - 1));
    }
    table = entry & ADDRESS;
    level--;
  }
}

/** The processor may set accessed and dirty at any time: those bits are kept. */
function changeRights(at: u64, entry: u64, access: u32): void {
  let expected = entry;
  while (true) {
    const there = swapEntry(at, expected, (expected & ~RIGHTS) | access);
    if (there == expected) return;
    expected = there;
  }
}

/** Divides large leaves that cross an end of the range. Checked before: nothing is divided in vain. */
function isolate(root: u64, gpa: u64, bytes: u64): Status {
  if (((gpa | bytes) & 0xfff) != 0 || gpa > EPT_LIMIT || bytes > EPT_LIMIT - gpa) return Status.BAD_ADDRESS;
  let status = splitAt(root, gpa);
  if (!status) status = splitAt(root, gpa + bytes);
  if (status) {
    mergeEpt(root, gpa); // what was divided before the memory ran out
    mergeEpt(root, gpa + bytes);
  }
  return status;
}

/** Makes `gpa` a leaf boundary. */
function splitAt(root: u64, gpa: u64): Status {
  if (gpa >= EPT_LIMIT) return Status.OK;
  let table = root;
  for (let level = TOP; level > 1; level--) {
    const at = entryFor(table, level, gpa);
    let entry = readEntry(at);
    if (entry == 0 || (gpa & (sizeOf(level) - 1)) == 0) return Status.OK;
    if (level < TOP && (entry & LARGE) != 0) {
      entry = split(at, entry, level);
      if (!entry) return Status.NO_MEMORY;
    }
    table = entry & ADDRESS;
  }
  return Status.OK;
}

/** Replaces a large leaf by a table of 512 smaller ones that say the same; returns the new entry, 0 without memory. */
function split(at: u64, leaf: u64, level: u32): u64 {
  const frame = allocFrame(Owner.TABLE);
  if (!frame) return 0;
  const step = sizeOf(level - 1);
  const attributes = (leaf & ~ADDRESS & ~(level == 2 ? LARGE : 0)) | (leaf & ADDRESS);
  for (let i: u64 = 0; i < 512; i++) writeEntry(frame + (i << 3), attributes + i * step);
  writeEntry(at, frame | TABLE);
  return frame | TABLE;
}

/** Puts the 512 leaves around `gpa` together again where they agree, from 4 KiB up. Same translations, fewer entries. */
export function mergeEpt(root: u64, gpa: u64): void {
  if (gpa >= EPT_LIMIT) return;
  for (let level: u32 = 2; level < TOP; level++) {
    const at = parentOf(root, gpa, level);
    if (!at) continue;
    const entry = readEntry(at);
    if (!refersToTable(entry)) continue;
    const leaf = merged(entry & ADDRESS, level);
    if (!leaf) return;
    writeEntry(at, leaf);
    freeRun(entry & ADDRESS, 12, Owner.TABLE);
  }
}

/** pa of the entry of level `level` for `gpa`, 0 if the walk ends above. */
function parentOf(root: u64, gpa: u64, level: u32): u64 {
  let table = root;
  for (let l = TOP; l > level; l--) {
    const entry = readEntry(entryFor(table, l, gpa));
    if (entry == 0 || (l < TOP && (entry & LARGE) != 0)) return 0;
    table = entry & ADDRESS;
  }
  return entryFor(table, level, gpa);
}

/** The large leaf that says what the 512 entries of `table` say; 0 if they do not agree. */
function merged(table: u64, level: u32): u64 {
  const first = readEntry(table);
  const step = sizeOf(level - 1);
  const want = level == 2 ? 0 : LARGE;
  if (first == 0 || (first & LARGE) != want || (first & ADDRESS & (sizeOf(level) - 1)) != 0) return 0;
  const same = first & ~(ACCESSED | DIRTY);
  let flags = first & (ACCESSED | DIRTY);
  for (let i: u64 = 1; i < 512; i++) {
    const entry = readEntry(table + (i << 3));
    if ((entry & ~(ACCESSED | DIRTY)) != same + i * step) return 0;
    flags |= entry & (ACCESSED | DIRTY);
  }
  return same | flags | LARGE;
}

// ---- First touch

/** Makes the tables for [gpa, gpa + bytes) down to 4 KiB leaves, without leaves. NO_MEMORY: what was made stays for destroyEpt. */
export function reserveEpt(root: u64, gpa: u64, bytes: u64): Status {
  for (let at = gpa & ~(<u64>0x1f_ffff); at < gpa + bytes; at += 0x20_0000) {
    if (!pageTableOf(root, at)) return Status.NO_MEMORY;
  }
  return Status.OK;
}

/** pa of the page table for `gpa`, made if it is missing; 0 without memory or under a large leaf. */
function pageTableOf(root: u64, gpa: u64): u64 {
  let table = root;
  for (let level = TOP; level > 1; level--) {
    const at = entryFor(table, level, gpa);
    let entry = readEntry(at);
    if ((entry & LARGE) != 0 && level < TOP) return 0;
    if (entry == 0) {
      const frame = allocFrame(Owner.TABLE);
      if (!frame) return 0;
      zeroFrame(frame);
      entry = frame | TABLE;
      writeEntry(at, entry);
    }
    table = entry & ADDRESS;
  }
  return table;
}

/**
 * Fills the 4 KiB leaf for `gpa`, whose tables are reserved, with the frame at `hpa`, which the guest
 * window of the same VM maps already (so its owner was checked then). Nothing is allocated and no lock
 * is taken. NOT_FOUND if there is no table; OK also if the leaf is there.
 */
export function touchEpt(root: u64, gpa: u64, hpa: u64, access: u32): Status {
  let table = root;
  for (let shift: u64 = 39; shift > 12; shift -= 9) {
    const entry = readEntry(table + (((gpa >> shift) & 511) << 3));
    if ((entry & LARGE) != 0) return Status.OK; // reserved, and never set, in the top level
    if (entry == 0) return Status.NOT_FOUND;
    table = entry & ADDRESS;
  }
  swapEntry(entryFor(table, 1, gpa), 0, leafFor(hpa & ~(<u64>0xfff), 12, access));
  return Status.OK;
}

/** Takes the 4 KiB leaf for `gpa` out again, if there is one; its tables stay. Nothing is freed and no lock is taken; the caller invalidates. */
export function untouchEpt(root: u64, gpa: u64): void {
  const at = parentOf(root, gpa, 1);
  if (at) writeEntry(at, 0);
}
