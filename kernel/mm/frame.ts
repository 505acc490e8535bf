// The frame allocator: who owns which physical memory, handed out in runs of 4 KiB, 2 MiB and 1 GiB.
// Every function that makes memory reachable (EPT, host mappings, VMCS, DMA) asks here first, so that
// a wrong address is a refused call. TABLE frames come from 2 MiB pools, which the table window maps
// whole; all else comes from the general memory, which no window maps by itself.

import { isAligned } from "../lib/bits";
import { breaks, lock, mended, nameLock, SPINLOCK_BYTES, Spinlock, unlock } from "../lib/spinlock";
import { Status } from "../lib/status";
import {
  bytesOf,
  freePoolFrame,
  hasOwner,
  isInPool,
  levelOf,
  makePool,
  MEMORY_LIMIT,
  Owner,
  OWNER_LIMIT,
  ownerAt,
  pieceAt,
  poolFrames,
  pushSpare,
  setRange,
  SPARES_FOR_RANGE,
  spareCount,
  takePoolFrame,
  takeRun,
  TOP_SHIFT,
} from "./block";
import { isMemory } from "./phys";
import { coverTables, mapPool, unmapPool } from "./tablewindow";

export { Owner } from "./block";

const frames = changetype<Spinlock>(memory.data(16, 8));
if (SPINLOCK_BYTES != 16) ERROR("frame: size of the lock");

/** Spare frames for blocks that refill() keeps, and the pool frames below which it adds a pool. */
const SPARES: u32 = 12;
const POOL_RESERVE: u64 = 16;
const POOL_BYTES: u64 = 0x20_0000;

function enter(): void {
  lock(frames);
  breaks(frames);
}

function leave(): void {
  mended(frames);
  unlock(frames);
}

// ---- Boot

let bootPool: u64 = 0; // written at boot
/** Frames of the first pool that are in use: the first describes it. */
let bootUsed: u64 = 1; // written at boot
/** Blocks for the memory map may take so many frames of the first pool; the rest is for what lies in it. */
const MAP_FRAMES: u64 = 256;
const POOL_FRAMES: u64 = 512;

/**
 * Starts with the free 2 MiB run at `pool`, below 4 GiB and aligned, as first table pool. addMemory()
 * for all memory follows, with `pool` as FREE memory, then finishBoot().
 */
export function startFrames(pool: u64): void {
  nameLock(frames, "frames");
  bootPool = pool;
}

/**
 * Gives [base, end) of the memory map to `owner`; what lies above MEMORY_LIMIT is left out. Boot only.
 * NO_MEMORY if the map is so ragged that its description does not fit: the range stays ABSENT.
 */
export function addMemory(base: u64, end: u64, owner: u32): Status {
  return bootUsed > MAP_FRAMES ? Status.NO_MEMORY : coverMemory(base, end, owner);
}

/** As addMemory, for what lies in the map's memory: the image, modules. Later calls win. */
export function coverMemory(base: u64, end: u64, owner: u32): Status {
  const limit = min(end, MEMORY_LIMIT);
  enter();
  for (let at = base; at < limit; ) {
    // Until finishBoot() the first pool is no pool yet: spares come from its front.
    while (spareCount() < SPARES && bootUsed < POOL_FRAMES) pushSpare(bootPool + (bootUsed++ << 12));
    if (spareCount() < SPARES_FOR_RANGE) break;
    const next = min(limit, ((at >> TOP_SHIFT) + 1) << TOP_SHIFT); // at most one new block of the highest level
    setRange(at, next, owner);
    at = next;
  }
  leave();
  return spareCount() < SPARES_FOR_RANGE ? Status.NO_MEMORY : Status.OK;
}

/** The first pool becomes one, and the table window gets its tables. NO_MEMORY if they do not fit. */
export function finishBoot(): Status {
  enter();
  makePool(bootPool, <u32>bootUsed);
  for (let pa: u64 = 0; pa < MEMORY_LIMIT; pa += (<u64>1) << TOP_SHIFT) {
    if (hasOwner(pa, min(pa + ((<u64>1) << TOP_SHIFT), MEMORY_LIMIT), Owner.ABSENT)) continue;
    if (coverTables(pa)) return Status.NO_MEMORY;
  }
  const status = mapPool(bootPool); // more pools come when the core's own tables, which reach them, are in use
  leave();
  return status;
}

// ---- Taking

/**
 * A frame for `owner`, with whatever it held before; 0 if none is left.
 * @allocates
 */
export function allocFrame(owner: u32): u64 {
  enter();
  refill();
  const pa = owner == <u32>Owner.TABLE ? takePoolFrame() : takeRun(1, owner);
  leave();
  return pa;
}

/**
 * A run of 2^log2Bytes (12, 21 or 30), aligned to its size; 0 if there is none. TABLE frames come one
 * at a time.
 * @allocates
 */
export function allocRun(owner: u32, log2Bytes: u32): u64 {
  const level = levelOf(log2Bytes);
  if (level <= 1) return level ? allocFrame(owner) : 0;
  if (owner == <u32>Owner.TABLE) return 0;
  enter();
  refill();
  const pa = takeRun(level, owner);
  leave();
  return pa;
}

/** Keeps spare frames for blocks, and adds a table pool before the last one is empty. */
function refill(): void {
  while (spareCount() < SPARES && poolFrames() != 0) pushSpare(takePoolFrame());
  if (poolFrames() >= POOL_RESERVE) return;
  const run = takeRun(2, Owner.TABLE);
  if (!run) return;
  if (mapPool(run)) {
    setRange(run, run + POOL_BYTES, Owner.FREE);
  } else if (isMemory(run, POOL_BYTES)) {
    makePool(run, 1);
  } else {
    unmapPool(run);
    setRange(run, run + POOL_BYTES, Owner.ABSENT); // the map was wrong
  }
}

// ---- Giving back

/**
 * Gives a run back. WRONG_OWNER if any of it does not belong to `owner` (so also when it is free
 * already); BAD_ADDRESS if unaligned; NO_MEMORY if it is part of a larger run that cannot be divided
 * now. Memory that a guest could write must have been scrubbed.
 */
export function freeRun(pa: u64, log2Bytes: u32, owner: u32): Status {
  const level = levelOf(log2Bytes);
  if (level == 0 || owner < <u32>Owner.CORE || owner >= OWNER_LIMIT) return Status.BAD_ARGUMENT;
  const bytes = (<u64>1) << log2Bytes;
  if (!isAligned(pa, bytes) || pa >= MEMORY_LIMIT) return Status.BAD_ADDRESS;
  enter();
  const status = release(pa, bytes, level, owner);
  leave();
  return status;
}

function release(pa: u64, bytes: u64, level: u32, owner: u32): Status {
  if (!hasOwner(pa, pa + bytes, owner)) return Status.WRONG_OWNER;
  if (owner == <u32>Owner.TABLE) {
    if (level != 1 || !isInPool(pa)) return Status.WRONG_OWNER;
    freePoolFrame(pa);
    return Status.OK;
  }
  if (pieceAt(pa) > level && spareCount() < SPARES_FOR_RANGE) return Status.NO_MEMORY;
  setRange(pa, pa + bytes, Owner.FREE);
  return Status.OK;
}

/**
 * Passes [pa, pa + bytes), page aligned, from one owner to another (FREE gives it back): for boot
 * modules and firmware memory. WRONG_OWNER if any of it is not `from`'s, or if TABLE is involved.
 */
export function passRange(pa: u64, bytes: u64, from: u32, to: u32): Status {
  if (!isAligned(pa | bytes, 4096) || bytes > MEMORY_LIMIT || pa > MEMORY_LIMIT - bytes) return Status.BAD_ADDRESS;
  if (from == <u32>Owner.TABLE || to == <u32>Owner.TABLE || to >= OWNER_LIMIT) return Status.WRONG_OWNER;
  enter();
  refill();
  let status: Status = Status.OK;
  if (!hasOwner(pa, pa + bytes, from)) status = Status.WRONG_OWNER;
  else if (spareCount() < SPARES_FOR_RANGE) status = Status.NO_MEMORY;
  else setRange(pa, pa + bytes, to);
  leave();
  return status;
}

// ---- Questions

export function ownerOf(pa: u64): u32 {
  enter();
  const owner = ownerAt(pa);
  leave();
  return owner;
}

/** Whether all of [pa, pa + bytes) belongs to `owner`. */
export function isOwned(pa: u64, bytes: u64, owner: u32): bool {
  if (bytes == 0 || bytes > MEMORY_LIMIT || pa > MEMORY_LIMIT - bytes) return false;
  enter();
  const owned = hasOwner(pa, pa + bytes, owner);
  leave();
  return owned;
}

/** Memory that can still be handed out, with what is set aside for the allocator's own records. */
export function freeBytes(): u64 {
  return bytesOf(Owner.FREE) + ((<u64>spareCount()) << 12);
}

/** Memory of `owner`, in bytes. */
export function ownedBytes(owner: u32): u64 {
  return owner < OWNER_LIMIT ? bytesOf(owner) : 0;
}
