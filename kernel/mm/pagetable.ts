// The host's page tables: one page mapped or unmapped at a time, tables made as they are needed. A
// mapping that cannot be made leaves the tables as they were: what is missing is built aside, from the
// leaf up, and becomes visible with one store. Nothing here invalidates translations: a new mapping
// needs none, and after a removal only the caller knows which CPUs may hold one.
// Intel SDM Vol. 3, "4-Level Paging".

import { Status } from "../lib/status";
import { ADDRESS, LARGE, PRESENT, TABLE } from "./entry";
import { levelOf, Owner } from "./block";
import { allocFrame, freeRun } from "./frame";
import { readEntry, writeEntry, zeroFrame } from "./phys";

export const TOP_LEVEL: u32 = 4;

/** pa of the entry of `table`, a table of `level` (1: page table ... 4: PML4), that translates `va`. */
export function entryFor(table: u64, level: u32, va: u64): u64 {
  return table + (((va >> (12 + 9 * <u64>(level - 1))) & 511) << 3);
}

/**
 * Maps the page of 2^log2Bytes (12, 21 or 30) at `va` to `pa` with the leaf's `flags` (entry.ts).
 * BAD_ADDRESS if one of them is not aligned to the size; BUSY if something is mapped there already;
 * NO_MEMORY with the tables unchanged.
 */
export function mapPage(root: u64, va: u64, pa: u64, log2Bytes: u32, flags: u64): Status {
  const level = levelOf(log2Bytes);
  if (level == 0) return Status.BAD_ARGUMENT;
  if (((va | pa) & (((<u64>1) << log2Bytes) - 1)) != 0) return Status.BAD_ADDRESS;
  let table = root;
  let l = TOP_LEVEL;
  for (; l > level; l--) {
    const entry = readEntry(entryFor(table, l, va));
    if (entry == 0) break;
    if (l < TOP_LEVEL && (entry & LARGE) != 0) return Status.BUSY;
    table = entry & ADDRESS;
  }
  const at = entryFor(table, l, va);
  if (readEntry(at) != 0) return Status.BUSY;
  const entry = chain(va, level, l, pa | flags | (level > 1 ? LARGE : 0));
  if (entry == 0) return Status.NO_MEMORY;
  writeEntry(at, entry);
  return Status.OK;
}

/** Builds the tables of levels `from` up to below `to` around `leaf`; returns the entry for level `to`, 0 if frames ran out. */
function chain(va: u64, from: u32, to: u32, leaf: u64): u64 {
  let entry = leaf;
  for (let l = from; l < to; l++) {
    const frame = allocFrame(Owner.TABLE);
    if (frame == 0) {
      unchain(va, l - 1, from, entry);
      return 0;
    }
    zeroFrame(frame);
    writeEntry(entryFor(frame, l, va), entry);
    entry = frame | TABLE;
  }
  return entry;
}

/** Gives the tables that chain() made back: the topmost is of level `top`. */
function unchain(va: u64, top: u32, from: u32, entry: u64): void {
  let next = entry;
  for (let l = top; l >= from; l--) {
    const frame = next & ADDRESS;
    next = readEntry(entryFor(frame, l, va));
    freeRun(frame, 12, Owner.TABLE);
  }
}

/** pa of the leaf entry that maps `va`, of whatever size; 0 if nothing does. */
export function leafAt(root: u64, va: u64): u64 {
  let table = root;
  let l = TOP_LEVEL;
  while (true) {
    const at = entryFor(table, l, va);
    const entry = readEntry(at);
    if ((entry & PRESENT) == 0) return 0;
    if (l == 1 || (l < TOP_LEVEL && (entry & LARGE) != 0)) return at;
    table = entry & ADDRESS;
    l--;
  }
}

/** pa behind `va`, whatever the size of its page; 0 if nothing maps it. */
export function behind(root: u64, va: u64): u64 {
  let table = root;
  let shift: u64 = 12 + 9 * (TOP_LEVEL - 1);
  while (true) {
    const entry = readEntry(table + (((va >> shift) & 511) << 3));
    if ((entry & PRESENT) == 0) return 0;
    if (shift == 12 || ((entry & LARGE) != 0 && shift <= 30)) {
      const offset = ((<u64>1) << shift) - 1;
      return (entry & ADDRESS & ~offset) | (va & offset);
    }
    table = entry & ADDRESS;
    shift -= 9;
  }
}

/** log2 of the page that maps `va`: 12, 21 or 30; 0 if nothing does. */
export function sizeAt(root: u64, va: u64): u32 {
  let table = root;
  let l = TOP_LEVEL;
  while (true) {
    const entry = readEntry(entryFor(table, l, va));
    if ((entry & PRESENT) == 0) return 0;
    if (l == 1 || (l < TOP_LEVEL && (entry & LARGE) != 0)) return 12 + 9 * (l - 1);
    table = entry & ADDRESS;
    l--;
  }
}

/** Removes the page of exactly this size at `va`; its tables stay. NOT_FOUND if there is none. */
export function unmapPage(root: u64, va: u64, log2Bytes: u32): Status {
  if (sizeAt(root, va) != log2Bytes) return Status.NOT_FOUND;
  writeEntry(leafAt(root, va), 0);
  return Status.OK;
}

/** The largest of 4 KiB, 2 MiB and `limit` pages that fits at `va` and `pa` with `bytes` left. */
export function pageBits(va: u64, pa: u64, bytes: u64, limit: u32): u32 {
  if (limit >= 30 && ((va | pa) & 0x3fff_ffff) == 0 && bytes >= 0x4000_0000) return 30;
  if (limit >= 21 && ((va | pa) & 0x1f_ffff) == 0 && bytes >= 0x20_0000) return 21;
  return 12;
}

/**
 * Maps [va, va + bytes) to [pa, pa + bytes) in pages of up to 2^limit. A failure takes back what was
 * mapped before it.
 */
export function mapRange(root: u64, va: u64, pa: u64, bytes: u64, flags: u64, limit: u32): Status {
  for (let done: u64 = 0; done < bytes; ) {
    const bits = pageBits(va + done, pa + done, bytes - done, limit);
    const status = mapPage(root, va + done, pa + done, bits, flags);
    if (status != Status.OK) {
      unmapRange(root, va, done);
      return status;
    }
    done += (<u64>1) << bits;
  }
  return Status.OK;
}

/** Removes every page in [va, va + bytes), and the tables that hold nothing any more. */
export function unmapRange(root: u64, va: u64, bytes: u64): void {
  for (let done: u64 = 0; done < bytes; ) {
    const bits = sizeAt(root, va + done);
    if (bits) unmapPage(root, va + done, bits);
    prune(root, va + done);
    done += (<u64>1) << (bits ? bits : 12);
  }
}

/** Frees the tables that translate `va`, from the bottom up, as long as they are empty. */
function prune(root: u64, va: u64): void {
  for (let level: u32 = 1; level < TOP_LEVEL; level++) {
    const at = parentEntry(root, va, level);
    if (at == 0) continue;
    const table = readEntry(at) & ADDRESS;
    if (!isEmpty(table)) return;
    writeEntry(at, 0);
    freeRun(table, 12, Owner.TABLE);
  }
}

/** pa of the entry that refers to the table of `level` which translates `va`; 0 if there is no such table. */
function parentEntry(root: u64, va: u64, level: u32): u64 {
  let table = root;
  let l = TOP_LEVEL;
  while (true) {
    const at = entryFor(table, l, va);
    const entry = readEntry(at);
    if ((entry & PRESENT) == 0 || (l < TOP_LEVEL && (entry & LARGE) != 0)) return 0;
    if (l == level + 1) return at;
    table = entry & ADDRESS;
    l--;
  }
}

function isEmpty(table: u64): bool {
  for (let at = table; at < table + 4096; at += 8) if (readEntry(at) != 0) return false;
  return true;
}

/** Frees every table below entry `index` of `root` and clears it; leaves are left to their owners. */
export function freeTables(root: u64, index: u32): void {
  const at = root + ((<u64>index) << 3);
  const pdpt = readEntry(at);
  if (pdpt == 0) return;
  writeEntry(at, 0);
  for (let i: u64 = 0; i < 4096; i += 8) {
    const directory = readEntry((pdpt & ADDRESS) + i);
    if (directory == 0 || (directory & LARGE) != 0) continue;
    freeDirectory(directory & ADDRESS);
  }
  freeRun(pdpt & ADDRESS, 12, Owner.TABLE);
}

function freeDirectory(directory: u64): void {
  for (let i: u64 = 0; i < 4096; i += 8) {
    const table = readEntry(directory + i);
    if (table != 0 && (table & LARGE) == 0) freeRun(table & ADDRESS, 12, Owner.TABLE);
  }
  freeRun(directory, 12, Owner.TABLE);
}
