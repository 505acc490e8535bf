// Who owns which physical memory, as a tree of blocks outside linear memory. A block describes 512
// equal children: 4 KiB frames (level 1), 2 MiB runs (level 2) or 1 GiB runs (level 3). A child has one
// owner, or is split and described by a block of the next level down. Blocks with free children of one
// level hang together in a list, so that taking a run looks at one block. Blocks lie in TABLE frames.
//
//   +0 next, +8 previous block in its list (pa, 0: none)   +16 pa of the memory described
//   +24 u32 level   +28 u32 free children   +32 u32 list   +64 512 bits: which children are free
//   +2048 512 u32: the child's owner, or SPLIT + frame number of its block
//
// No locks here: kernel/mm/frame.ts holds the one that covers all of this.

import { panic } from "../lib/panic";
import { fillEntries, readEntry, readWord, writeEntry, writeWord } from "./phys";

/** Who a frame belongs to. */
export const enum Owner {
  ABSENT = 0, // no memory, or none that we may touch
  FREE = 1,
  CORE = 2, // the image, stacks, CPU blocks
  TABLE = 3, // reached through the table window
  FIRMWARE = 4, // tables and data of the firmware, and all below 1 MiB
  MODULE = 5, // what the boot loader loaded for us
  DEVICE = 6, // registers, framebuffer
  VM_FIRST = 16, // + number of the VM
}
export const OWNER_LIMIT: u32 = 16 + 64;

/** Physical memory that can be described: what the table window spans, but for its last GiB. */
export const MEMORY_LIMIT: u64 = 0x0fff_c000_0000;

const NEXT: u64 = 0;
const PREVIOUS: u64 = 8;
const BASE: u64 = 16;
const LEVEL: u64 = 24;
const FREE_COUNT: u64 = 28;
const LIST: u64 = 32;
const FREE_MAP: u64 = 64;
const WORDS: u64 = 2048;

const CHILDREN: u32 = 512;
const TOP_LEVEL: u32 = 3;
export const TOP_SHIFT: u64 = 39; // a level-3 block describes 512 GiB
const SPLIT: u32 = 0x1_0000; // smaller words are owners

/** Lists of blocks with free children: of level 1, 2 and 3, and at 0 those of the table pools. */
const POOL_LIST: u32 = 0;
const heads: usize = memory.data(4 * 8, 8); // [frames.lock]
/** pa of the level-3 block of each 512 GiB, 0: none. */
const tops: usize = memory.data(32 * 8, 8); // [frames.lock]
/** Bytes by owner. */
const bytesByOwner: usize = memory.data(80 * 8, 8); // [frames.lock]
/** TABLE frames set aside for blocks: +0 u32 how many, +8 u64 each. */
const SPARE_LIMIT: u32 = 24;
const spares: usize = memory.data(8 + 24 * 8, 8); // [frames.lock]
/** Free frames in the table pools. */
const poolFree: usize = memory.data(8, 8); // [frames.lock]
if (OWNER_LIMIT != 80) ERROR("block: bytesByOwner");

function shiftOf(level: u32): u64 {
  return 12 + 9 * <u64>(level - 1);
}

/** 1, 2 or 3 for runs of 12, 21 or 30 bits; 0 for other sizes. */
export function levelOf(log2Bytes: u32): u32 {
  return log2Bytes == 12 ? 1 : log2Bytes == 21 ? 2 : log2Bytes == 30 ? 3 : 0;
}

function indexOf(pa: u64, level: u32): u32 {
  return <u32>(pa >> shiftOf(level)) & (CHILDREN - 1);
}

function wordAt(block: u64, index: u32): u32 {
  return readWord(block + WORDS + ((<u64>index) << 2));
}

function setWord(block: u64, index: u32, word: u32): void {
  writeWord(block + WORDS + ((<u64>index) << 2), word);
}

function blockOf(word: u32): u64 {
  return (<u64>word - SPLIT) << 12;
}

// ---- Spare frames

export function spareCount(): u32 {
  return load<u32>(spares);
}

/** Puts a TABLE frame aside for a block; false if there is no room for it. */
export function pushSpare(frame: u64): bool {
  const count = load<u32>(spares);
  if (count == SPARE_LIMIT) return false;
  store<u64>(spares + 8 + ((<usize>count) << 3), frame);
  store<u32>(spares, count + 1);
  return true;
}

function popSpare(): u64 {
  const count = load<u32>(spares);
  if (count == 0) panic("block: a split without a spare frame");
  store<u32>(spares, count - 1);
  return load<u64>(spares + ((<usize>count) << 3));
}

// ---- Lists of blocks with free children

function headOf(list: u32): u64 {
  return load<u64>(heads + ((<usize>list) << 3));
}

function link(block: u64): void {
  const list = readWord(block + LIST);
  const first = headOf(list);
  writeEntry(block + NEXT, first);
  writeEntry(block + PREVIOUS, 0);
  if (first) writeEntry(first + PREVIOUS, block);
  store<u64>(heads + ((<usize>list) << 3), block);
}

function unlink(block: u64): void {
  const next = readEntry(block + NEXT);
  const previous = readEntry(block + PREVIOUS);
  if (next) writeEntry(next + PREVIOUS, previous);
  if (previous) writeEntry(previous + NEXT, next);
  else store<u64>(heads + ((<usize>readWord(block + LIST)) << 3), next);
}

// ---- Blocks

/** Makes the frame at `block` describe the memory at `base`, all of whose children have `owner`. */
function initBlock(block: u64, base: u64, level: u32, list: u32, owner: u32): void {
  fillEntries(block, 0, WORDS / 8);
  writeEntry(block + BASE, base);
  writeWord(block + LEVEL, level);
  writeWord(block + LIST, list);
  fillEntries(block + WORDS, ((<u64>owner) << 32) | owner, 256);
  if (owner != Owner.FREE) return;
  fillEntries(block + FREE_MAP, u64.MAX_VALUE, CHILDREN / 64);
  writeWord(block + FREE_COUNT, CHILDREN);
  link(block);
}

/** Replaces child `index` of `block`, which has one owner, by a block of the next level down. */
function split(block: u64, index: u32): u64 {
  const level = readWord(block + LEVEL);
  const owner = wordAt(block, index);
  const child = popSpare();
  const base = readEntry(block + BASE) + ((<u64>index) << shiftOf(level));
  initBlock(child, base, level - 1, level - 1, owner);
  if (owner == Owner.FREE) markTaken(block, index);
  setWord(block, index, SPLIT + <u32>(child >> 12));
  return child;
}

function markTaken(block: u64, index: u32): void {
  const at = block + FREE_MAP + ((<u64>(index >> 6)) << 3);
  writeEntry(at, readEntry(at) & ~((<u64>1) << (index & 63)));
  const left = readWord(block + FREE_COUNT) - 1;
  writeWord(block + FREE_COUNT, left);
  if (left == 0) unlink(block);
}

function markFree(block: u64, index: u32): void {
  const at = block + FREE_MAP + ((<u64>(index >> 6)) << 3);
  writeEntry(at, readEntry(at) | ((<u64>1) << (index & 63)));
  const count = readWord(block + FREE_COUNT) + 1;
  writeWord(block + FREE_COUNT, count);
  if (count == 1) link(block);
}

function firstFree(block: u64): u32 {
  for (let at: u32 = 0; at < CHILDREN; at += 64) {
    const word = readEntry(block + FREE_MAP + <u64>(at >> 3));
    if (word) return at + <u32>ctz(word);
  }
  panic("block: in a list of blocks with free children, but has none");
  return 0;
}

/** The block whose child of `level` holds `pa`; splits what is in the way. */
function reach(pa: u64, level: u32): u64 {
  let block = topFor(pa);
  for (let l = TOP_LEVEL; l > level; l--) {
    const index = indexOf(pa, l);
    const word = wordAt(block, index);
    block = word >= SPLIT ? blockOf(word) : split(block, index);
  }
  return block;
}

function topFor(pa: u64): u64 {
  const at = tops + ((<usize>(pa >> TOP_SHIFT)) << 3);
  let block = load<u64>(at);
  if (block) return block;
  block = popSpare();
  initBlock(block, (pa >> TOP_SHIFT) << TOP_SHIFT, TOP_LEVEL, TOP_LEVEL, Owner.ABSENT);
  store<u64>(at, block);
  return block;
}

/** The block of the undivided piece of memory that holds `pa`; 0 if none describes it. */
function leafBlock(pa: u64): u64 {
  if (pa >= MEMORY_LIMIT) return 0;
  let block = load<u64>(tops + ((<usize>(pa >> TOP_SHIFT)) << 3));
  if (!block) return 0;
  for (let level = TOP_LEVEL; level > 1; level--) {
    const word = wordAt(block, indexOf(pa, level));
    if (word < SPLIT) break;
    block = blockOf(word);
  }
  return block;
}

// ---- Owners

export function ownerAt(pa: u64): u32 {
  const block = leafBlock(pa);
  return block ? wordAt(block, indexOf(pa, readWord(block + LEVEL))) : <u32>Owner.ABSENT;
}

/** Whether all of [base, end) has `owner`. */
export function hasOwner(base: u64, end: u64, owner: u32): bool {
  let pa = base;
  while (pa < end) {
    const block = leafBlock(pa);
    const level = block ? readWord(block + LEVEL) : TOP_LEVEL + 1;
    if ((block ? wordAt(block, indexOf(pa, level)) : <u32>Owner.ABSENT) != owner) return false;
    const piece = (<u64>1) << shiftOf(level);
    pa = (pa & ~(piece - 1)) + piece;
  }
  return true;
}

/** What setRange() can need: two splits at each end, and a block for another 512 GiB. */
export const SPARES_FOR_RANGE: u32 = 6;

/**
 * Gives [base, end), page aligned and below MEMORY_LIMIT, to `owner`, whoever had it. Needs up to
 * SPARES_FOR_RANGE spare frames. Free memory comes together again by itself.
 */
export function setRange(base: u64, end: u64, owner: u32): void {
  let pa = base;
  while (pa < end) {
    const level = pieceLevel(pa, end);
    const block = reach(pa, level);
    const index = indexOf(pa, level);
    if (wordAt(block, index) >= SPLIT) {
      pa = setChildrenOf(blockOf(wordAt(block, index)), pa, owner);
      continue;
    }
    setOwner(block, index, owner);
    pa += (<u64>1) << shiftOf(level);
  }
}

/** The largest piece that begins at `pa` and ends by `end`. */
function pieceLevel(pa: u64, end: u64): u32 {
  let level = TOP_LEVEL;
  while (level > 1) {
    const bytes = (<u64>1) << shiftOf(level);
    if ((pa & (bytes - 1)) == 0 && end - pa >= bytes) break;
    level--;
  }
  return level;
}

/** The first undivided piece below `block`, which begins at `pa`; returns the end of that piece. */
function setChildrenOf(block: u64, pa: u64, owner: u32): u64 {
  let at = block;
  while (wordAt(at, 0) >= SPLIT) at = blockOf(wordAt(at, 0));
  const bytes = (<u64>1) << shiftOf(readWord(at + LEVEL));
  setOwner(at, 0, owner);
  return pa + bytes;
}

/** Gives an undivided child to `owner`. */
function setOwner(block: u64, index: u32, owner: u32): void {
  const old = wordAt(block, index);
  if (old == owner) return;
  const level = readWord(block + LEVEL);
  move(old, owner, (<u64>1) << shiftOf(level));
  setWord(block, index, owner);
  if (old == Owner.FREE) markTaken(block, index);
  if (owner != Owner.FREE) return;
  markFree(block, index);
  merge(block);
}

/** While all that a block describes is free, its parent says so and the block is not needed. */
function merge(block: u64): void {
  let full = block;
  while (readWord(full + FREE_COUNT) == CHILDREN && readWord(full + LIST) != POOL_LIST) {
    const level = readWord(full + LEVEL) + 1;
    if (level > TOP_LEVEL) return;
    const base = readEntry(full + BASE);
    const parent = reach(base, level);
    unlink(full);
    setWord(parent, indexOf(base, level), Owner.FREE);
    markFree(parent, indexOf(base, level));
    if (!pushSpare(full)) freePoolFrame(full);
    full = parent;
  }
}

function move(from: u32, to: u32, bytes: u64): void {
  const source = bytesByOwner + ((<usize>from) << 3);
  const target = bytesByOwner + ((<usize>to) << 3);
  store<u64>(source, load<u64>(source) - bytes);
  store<u64>(target, load<u64>(target) + bytes);
}

export function bytesOf(owner: u32): u64 {
  return load<u64>(bytesByOwner + ((<usize>owner) << 3));
}

// ---- Taking runs

/**
 * A free run of `level` for `owner`; 0 if there is none, or if splitting a larger one would take the
 * spare frames that giving memory back may need.
 * @allocates
 */
export function takeRun(level: u32, owner: u32): u64 {
  let l = level;
  while (l <= TOP_LEVEL && !headOf(l)) l++;
  if (l > TOP_LEVEL || (l != level && l - level + SPARES_FOR_RANGE > spareCount())) return 0;
  let block = headOf(l);
  let index = firstFree(block);
  for (; l > level; l--) {
    block = split(block, index);
    index = 0;
  }
  setOwner(block, index, owner);
  return readEntry(block + BASE) + ((<u64>index) << shiftOf(level));
}

// ---- Table pools: 2 MiB runs that the table window maps whole

/**
 * Turns the 2 MiB run at `pa`, which has one owner, into a pool of TABLE frames. The window must map
 * it. Its first `used` frames stay taken; the very first describes the pool.
 */
export function makePool(pa: u64, used: u32): void {
  const parent = reach(pa, 2);
  const index = indexOf(pa, 2);
  const old = wordAt(parent, index);
  if (old == Owner.FREE) markTaken(parent, index);
  move(old, Owner.FREE, 0x20_0000);
  initBlock(pa, pa, 1, POOL_LIST, Owner.FREE);
  setWord(parent, index, SPLIT + <u32>(pa >> 12));
  store<u64>(poolFree, load<u64>(poolFree) + CHILDREN);
  for (let i: u32 = 0; i < used; i++) takePoolChild(pa, i);
}

function takePoolChild(block: u64, index: u32): void {
  setWord(block, index, Owner.TABLE);
  markTaken(block, index);
  move(Owner.FREE, Owner.TABLE, 4096);
  store<u64>(poolFree, load<u64>(poolFree) - 1);
}

export function poolFrames(): u64 {
  return load<u64>(poolFree);
}

/**
 * A frame of the table pools; 0 if they are empty.
 * @allocates
 */
export function takePoolFrame(): u64 {
  const block = headOf(POOL_LIST);
  if (!block) return 0;
  const index = firstFree(block);
  takePoolChild(block, index);
  return readEntry(block + BASE) + ((<u64>index) << 12);
}

/** Gives a TABLE frame back to its pool. */
export function freePoolFrame(pa: u64): void {
  const block = leafBlock(pa);
  setWord(block, indexOf(pa, 1), Owner.FREE);
  markFree(block, indexOf(pa, 1));
  move(Owner.TABLE, Owner.FREE, 4096);
  store<u64>(poolFree, load<u64>(poolFree) + 1);
}

/** Level of the undivided piece that holds `pa`. */
export function pieceAt(pa: u64): u32 {
  const block = leafBlock(pa);
  return block ? readWord(block + LEVEL) : TOP_LEVEL;
}

/** Whether `pa` lies in a table pool. */
export function isInPool(pa: u64): bool {
  const block = leafBlock(pa);
  return block != 0 && readWord(block + LIST) == POOL_LIST;
}
