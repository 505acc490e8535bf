// A lock that names its owner. The core runs with interrupts off but for its idle windows, and NMI and
// #MC take no lock, so a CPU cannot interrupt itself inside one.
//
// Each CPU notes the locks that it holds, in its block. If a trap ends the code that held one, the
// unwinder finds it there: a lock whose data was whole is simply given back (`dropHeld`); between
// `breaks` and `mended` the data is half-changed, and the host has to stop.

import { PERCPU_LOCKS, PERCPU_LOCKS_BYTES } from "../config";
import { cpuBlock, pause } from "../cpu/insn";
import { panic } from "./panic";

@unmanaged
export class Spinlock {
  owner: u32; // 0: free; else CPU index + 1
  isBroken: u32; // 1: what it guards is half-changed
  name: usize; // a string literal
  pad: u32;
}
export const SPINLOCK_BYTES: usize = 16;
if (offsetof<Spinlock>() != SPINLOCK_BYTES) ERROR("Spinlock: layout");

/** At PERCPU_LOCKS: how many this CPU holds, and which, oldest first. */
const HELD_LIMIT: u32 = <u32>(PERCPU_LOCKS_BYTES / 4 - 1);

function self(): u32 {
  return load<u32>(cpuBlock(), 4) + 1; // CpuBlock.index
}

/** Names the lock; it is free when its memory is zero. */
export function nameLock(lock: Spinlock, name: string): void {
  lock.name = changetype<usize>(name);
}

/**
 * Takes the lock, when it is free. What one VM owns is locked by virq/lock.ts instead.
 * @locks shared
 */
export function lock(l: Spinlock): void {
  const me = self();
  while (atomic.cmpxchg<u32>(changetype<usize>(l), 0, me) != 0) {
    if (atomic.load<u32>(changetype<usize>(l)) == me) panic("spinlock: taken twice by one CPU");
    pause();
  }
  noteHeld(l);
}

/**
 * Takes the lock if it is free.
 * @locks shared
 */
export function tryLock(l: Spinlock): bool {
  if (atomic.cmpxchg<u32>(changetype<usize>(l), 0, self()) != 0) return false;
  noteHeld(l);
  return true;
}

export function unlock(l: Spinlock): void {
  if (l.owner != self()) panic("spinlock: given back by a CPU that does not hold it");
  forgetHeld(l);
  atomic.store<u32>(changetype<usize>(l), 0);
}

export function isHeld(l: Spinlock): bool {
  return atomic.load<u32>(changetype<usize>(l)) == self();
}

/** From here to `mended`, a trap leaves the guarded data half-changed. */
export function breaks(l: Spinlock): void {
  l.isBroken = 1;
}

export function mended(l: Spinlock): void {
  l.isBroken = 0;
}

function noteHeld(l: Spinlock): void {
  const held = cpuBlock() + PERCPU_LOCKS;
  const count = load<u32>(held);
  if (count == HELD_LIMIT) panic("spinlock: too many held at once");
  store<u32>(held + 4 + ((<usize>count) << 2), <u32>changetype<usize>(l));
  store<u32>(held, count + 1);
}

/** Locks are mostly given back in reverse, so the search begins at the newest. */
function forgetHeld(l: Spinlock): void {
  const held = cpuBlock() + PERCPU_LOCKS;
  const last = load<u32>(held) - 1;
  let at = last;
  while (load<u32>(held + 4 + ((<usize>at) << 2)) != <u32>changetype<usize>(l)) at--;
  for (; at < last; at++) store<u32>(held + 4 + ((<usize>at) << 2), load<u32>(held + 8 + ((<usize>at) << 2)));
  store<u32>(held, last);
}

/**
 * After a trap: gives back every lock that this CPU still holds. Returns null, or the first lock whose
 * data is half-changed; that one and those after it stay taken.
 */
export function dropHeld(): Spinlock | null {
  const held = cpuBlock() + PERCPU_LOCKS;
  while (load<u32>(held) != 0) {
    const l = changetype<Spinlock>(<usize>load<u32>(held + ((<usize>load<u32>(held)) << 2)));
    if (l.isBroken) return l;
    unlock(l);
  }
  return null;
}
