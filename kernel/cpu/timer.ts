// Each CPU's timer queue and the hardware that wakes for it: the TSC deadline, else the local APIC's
// one-shot counter. A timer is a key with a deadline; what the key means is the business of whoever
// takes it out: this layer calls nobody. The queue lies in the CPU's own block, because a timer may
// belong to a VM whose arena is not mapped when it expires. A CPU touches its own queue only.
// Intel SDM Vol. 3, "APIC Timer".

import { PERCPU_TIMERS, PERCPU_TIMERS_BYTES } from "../config";
import { Status } from "../lib/status";
import * as apic from "./apic";
import { cpuBlock, rdtsc, umulh, wrmsr } from "./insn";

export const enum TimerMode {
  NONE = 0, // deadlines are kept, but nothing wakes the CPU: poll
  ONE_SHOT = 1,
  TSC_DEADLINE = 2,
}

/** Deadline of a queue that holds nothing. */
export const NEVER: u64 = u64.MAX_VALUE;

/** At PERCPU_TIMERS; entries follow, the latest deadline first, so that the earliest is cheap to take. */
@unmanaged
class Queue {
  count: u32;
  pad: u32;
  programmed: u64; // the deadline in the hardware; 0: none
  pad2: u64;
  pad3: u64;
}

@unmanaged
class Entry {
  deadline: u64;
  key: u64;
}

const ENTRIES: usize = 32; // sizeof Queue
const ENTRY_BYTES: usize = 16;
/** Timers that a CPU can have armed at once. */
export const MAX_TIMERS: u32 = <u32>((PERCPU_TIMERS_BYTES - ENTRIES) / ENTRY_BYTES);
if (offsetof<Queue>() != 32 || offsetof<Entry>() != 16) ERROR("timer: layout of the queue");

let mode: i32 = TimerMode.NONE; // written at boot
let apicPerTsc: u64 = 0; // written at boot: APIC timer counts per TSC tick, as a fraction of 2^64

/** Chooses the hardware. `fraction`: APIC counts per TSC tick * 2^64, for ONE_SHOT. Boot only. */
export function setMode(newMode: TimerMode, fraction: u64): void {
  mode = newMode;
  apicPerTsc = fraction;
}

export function modeOf(): TimerMode {
  return mode;
}

function queue(): Queue {
  return changetype<Queue>(cpuBlock() + PERCPU_TIMERS);
}

function entryAt(q: Queue, index: u32): Entry {
  return changetype<Entry>(changetype<usize>(q) + ENTRIES + <usize>index * ENTRY_BYTES);
}

/**
 * Arms timer `key` (not 0) of this CPU for `deadline` in TSC ticks; an armed one moves. A deadline in
 * the past expires at once. FULL if MAX_TIMERS others are armed.
 */
export function arm(key: u64, deadline: u64): Status {
  const q = queue();
  let at = q.count - 1;
  if (q.count == 0 || entryAt(q, at).key != key) at = placeOf(q, key); // most often it is the earliest that moves
  if (at == q.count) {
    if (at == MAX_TIMERS) return Status.FULL;
    q.count = at + 1;
  }
  while (at > 0 && entryAt(q, at - 1).deadline < deadline) {
    copyEntry(entryAt(q, at), entryAt(q, at - 1));
    at--;
  }
  while (at + 1 < q.count && entryAt(q, at + 1).deadline > deadline) {
    copyEntry(entryAt(q, at), entryAt(q, at + 1));
    at++;
  }
  const entry = entryAt(q, at);
  entry.deadline = deadline;
  entry.key = key;
  program(q);
  return Status.OK;
}

/** Index of the entry with `key`; the number of entries if it is not armed. */
function placeOf(q: Queue, key: u64): u32 {
  let i: u32 = q.count;
  while (i > 0) if (entryAt(q, --i).key == key) return i;
  return q.count;
}

function copyEntry(to: Entry, from: Entry): void {
  to.deadline = from.deadline;
  to.key = from.key;
}

/** Disarms timer `key` of this CPU; nothing happens if it is not armed. */
export function cancel(key: u64): void {
  const q = queue();
  remove(q, key);
  program(q);
}

function remove(q: Queue, key: u64): void {
  let at = placeOf(q, key);
  if (at == q.count) return;
  q.count--;
  for (; at < q.count; at++) copyEntry(entryAt(q, at), entryAt(q, at + 1));
}

/** The earliest deadline of this CPU, or NEVER. */
export function nextDeadline(): u64 {
  const q = queue();
  return q.count ? entryAt(q, q.count - 1).deadline : NEVER;
}

/**
 * Takes one expired timer out and returns its key; 0 if none has expired. Call it until it returns 0, after the timer
 * interrupt and when polling; then settle(), if nothing is armed anyway.
 */
export function takeExpired(): u64 {
  const q = queue();
  const now = rdtsc();
  // A deadline that has passed is used up; a one-shot counter may have run out early.
  if (q.programmed <= now || mode == TimerMode.ONE_SHOT) q.programmed = 0;
  if (q.count == 0 || entryAt(q, q.count - 1).deadline > now) return 0;
  q.count--;
  return entryAt(q, q.count).key;
}

/**
 * True if timer `key` is the earliest of this CPU and has expired by `now`. It stays in the queue, and the hardware holds nothing: arm()
 * or cancel() it next. What else has expired then interrupts at once.
 */
export function isFirstExpired(key: u64, now: u64): bool {
  const q = queue();
  if (q.count == 0) return false;
  const first = entryAt(q, q.count - 1);
  if (first.key != key || first.deadline > now) return false;
  q.programmed = 0;
  return true;
}

/** Sets the hardware for the earliest deadline, after takeExpired() has left it without one. */
export function settle(): void {
  program(queue());
}

/** Sets the hardware for the earliest deadline, if it is not set so already. */
function program(q: Queue): void {
  const deadline = q.count ? max(entryAt(q, q.count - 1).deadline, 1) : 0;
  if (deadline == q.programmed) return;
  q.programmed = deadline;
  if (mode == TimerMode.TSC_DEADLINE)
    wrmsr(apic.IA32_TSC_DEADLINE, deadline); // 0 disarms
  else if (mode == TimerMode.ONE_SHOT) apic.write(apic.Reg.INITIAL_COUNT, countUntil(deadline)); // 0 stops
}

/**
 * APIC timer counts from now to `deadline`: at least 1, and cut to what the counter holds (the
 * interrupt then comes early and programs the rest).
 */
function countUntil(deadline: u64): u32 {
  if (deadline == 0) return 0;
  const now = rdtsc();
  if (deadline <= now) return 1;
  return <u32>min(umulh(deadline - now, apicPerTsc) + 1, u32.MAX_VALUE);
}
