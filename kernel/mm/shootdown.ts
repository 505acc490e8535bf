// Removing translations of the host's address space on every CPU. The asking CPU writes what to drop,
// interrupts the others and waits until each has said that it is done.
//
// Whoever asks holds no lock that another CPU may spin for: a CPU that spins with interrupts off would
// never answer. CPUs that ask at the same time answer each other while they wait.
// Intel SDM Vol. 3, "Propagation of Paging-Structure Changes to Multiple Processors".

import * as apic from "../cpu/apic";
import { cpuBlock, invlpg, pause, rdtsc, readCr4, writeCr4 } from "../cpu/insn";
import { cpuAt, CpuBlock, cpuCount, isOnline } from "../cpu/percpu";
import { tscKhz } from "../cpu/tsc";
import { Vector } from "../cpu/vector";
import * as log from "../lib/log";
import { nameLock, SPINLOCK_BYTES, Spinlock, tryLock, unlock } from "../lib/spinlock";
import { Status } from "../lib/status";
import { CR4_PGE } from "../cpu/registerbits";

/** From so many pages on, dropping everything is cheaper. */
const PAGE_LIMIT: u64 = 32;
/** An answer takes microseconds; a CPU that owes it for this long is lost. */
const TIMEOUT_MILLISECONDS: u64 = 1000;
/** Where the clock is not calibrated yet. */
const TIMEOUT_TICKS: u64 = 10_000_000_000;

/** What to drop: +0 u32 number of the request, +8 u64 first address, +16 u64 pages (0: everything). [asking] */
const request: usize = memory.data(24, 8);
const asking = changetype<Spinlock>(memory.data(16, 8));
if (SPINLOCK_BYTES != 16) ERROR("shootdown: size of the lock");

/**
 * Drops the translations of `pageCount` pages of 4 KiB from `va` (of any page size that maps them) on
 * every CPU that is online. TIMEOUT, with a line in the log, if one does not answer.
 */
export function flushEverywhere(va: u64, pageCount: u64): Status {
  nameLock(asking, "shootdown");
  while (!tryLock(asking)) {
    onShootdown();
    pause();
  }
  const number = load<u32>(request) + 1;
  store<u64>(request, va, 8);
  store<u64>(request, pageCount > PAGE_LIMIT ? 0 : pageCount, 16);
  atomic.store<u32>(request, number);
  const self = load<u32>(cpuBlock(), 4);
  onShootdown();
  const count = cpuCount();
  for (let i: u32 = 0; i < count; i++) if (i != self && isOnline(i)) apic.sendFixed(Vector.SHOOTDOWN, cpuAt(i).apicId);
  const status = awaitAnswers(number, self, count);
  unlock(asking);
  return status;
}

function awaitAnswers(number: u32, self: u32, count: u32): Status {
  const limit = tscKhz() ? tscKhz() * TIMEOUT_MILLISECONDS : TIMEOUT_TICKS;
  const since = rdtsc();
  for (let i: u32 = 0; i < count; i++) {
    if (i == self || !isOnline(i)) continue;
    while (seen(i) != number) {
      if (rdtsc() - since > limit) return lost(i);
      pause();
    }
  }
  return Status.OK;
}

function seen(index: u32): u32 {
  return atomic.load<u32>(changetype<usize>(cpuAt(index)) + offsetof<CpuBlock>("flushSeen"));
}

function lost(index: u32): Status {
  log.begin(log.Level.ERROR, "shootdown");
  log.str("CPU ");
  log.dec(index);
  log.str(" does not answer");
  log.end();
  return Status.TIMEOUT;
}

/** Carries the current request out on this CPU, once: for Vector.SHOOTDOWN, and for loops that wait with interrupts off. */
export function onShootdown(): void {
  const mine = cpuBlock() + offsetof<CpuBlock>("flushSeen");
  const number = atomic.load<u32>(request);
  if (load<u32>(mine) == number) return;
  const pages = load<u64>(request, 16);
  if (pages == 0) flushAll();
  for (let i: u64 = 0; i < pages; i++) invlpg(load<u64>(request, 8) + (i << 12));
  atomic.store<u32>(mine, number);
}

/** Drops every translation of this CPU, global ones too: any change of CR4.PGE does. */
export function flushAll(): void {
  const cr4 = readCr4();
  writeCr4(cr4 ^ CR4_PGE);
  writeCr4(cr4);
}
