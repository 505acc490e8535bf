// Further CPUs: their memory, their start, all at once, and what each does before it idles.
//
//   boot CPU                                   each further CPU
//   memory for all, trampoline page
//   INIT to all, 10 ms, SIPI to all, again --> boot/trampoline.asm, apmain
//   waits for all of them                      features, controls, descriptors, local APIC; ONLINE; idles
//   asks all to compare their counters     --> compares
//
// Intel SDM Vol. 3, "MP Initialization Protocol".

import { injectAsked } from "../../drivers/fault";
import * as lapic from "../../drivers/lapic";
import { cpuAt as platformCpuAt, platform } from "../../drivers/platform";
import {
  MAX_CPUS,
  TABLE_WINDOW,
  TRAMPOLINE_APIC_IDS,
  TRAMPOLINE_BRINGUP_CR3,
  TRAMPOLINE_CORE_CR3,
  TRAMPOLINE_CPU_COUNT,
} from "../config";
import * as apic from "../cpu/apic";
import { setControls } from "../cpu/control";
import { mergeFeatures } from "../cpu/feature";
import { halt, imageBoundary, imageload64, pause, rdtsc } from "../cpu/insn";
import {
  CpuState,
  cpu,
  cpuAt,
  cpuCount,
  initBlock,
  isOnline,
  offer,
  onlineCount,
  scratch,
  stateOf,
} from "../cpu/percpu";
import * as tsc from "../cpu/tsc";
import * as cmdline from "../lib/cmdline";
import * as log from "../lib/log";
import { lock, nameLock, SPINLOCK_BYTES, Spinlock, unlock } from "../lib/spinlock";
import { Status } from "../lib/status";
import { useDescriptors } from "../mm/descriptor";
import { allocFrame, freeRun, Owner } from "../mm/frame";
import { coreRoot, createBringUpRoot, destroyBringUpRoot, mapCpu, unmapCpu } from "../mm/hostmap";
import { writeEntry, writeWord } from "../mm/phys";
import { flushEverywhere } from "../mm/shootdown";
import { mapFrame, unmapFrame } from "../mm/tablewindow";
import { askCpu, Work } from "./work";
import { findTrampoline } from "./memory";

const INIT_MICROSECONDS: u64 = 10_000;
const SIPI_MICROSECONDS: u64 = 200;
const ARRIVAL_MICROSECONDS: u64 = 1_000_000;
const XAPIC_LIMIT: u32 = 0xff; // the broadcast ID
const WARP_ROUNDS: u32 = 64;

/** CPUs that have compared their counters: u32, atomics. */
const compared: usize = memory.data(4, 4);
/** One CPU at a time and-s its features into the common ones. */
const merging = changetype<Spinlock>(memory.data(16, 8));
if (SPINLOCK_BYTES != 16) ERROR("smp: size of the lock");

/** The boot CPU's own block, descriptors and state: before it starts the others. */
export function adoptBootCpu(): Status {
  const frame = allocFrame(Owner.TABLE);
  if (frame == 0) return Status.NO_MEMORY;
  cpu().descriptors = frame;
  useDescriptors(frame, 0);
  return Status.OK;
}

/** Starts every CPU that the platform lists. What goes wrong with one is a line in the log; the others go on. */
export function startCpus(): void {
  nameLock(merging, "features");
  const count = giveMemory(cpusToStart());
  if (count == 1) return;
  const page = findTrampoline();
  const root = page == 0 ? 0 : createBringUpRoot(page);
  if (root == 0 || mapFrame(page) != Status.OK) log.error("smp", "no frame for the start code: going on with one CPU");
  else {
    fillTrampoline(page, root, count);
    wake(page, count);
    awaitArrivals(count);
    unmapFrame(page);
    flushEverywhere(TABLE_WINDOW + page, 1);
  }
  if (root) destroyBringUpRoot(root);
  dropMissing(count);
  compareCounters();
}

function cpusToStart(): u32 {
  const listed = platform().cpuCount;
  const asked = cmdline.numberOf(cmdline.Option.CPUS, MAX_CPUS);
  return <u32>max(1, min(<u64>listed, asked));
}

/** Memory for CPUs 1 .. wanted - 1; returns how many CPUs there can be, the boot CPU counted. */
function giveMemory(wanted: u32): u32 {
  let index: u32 = 1;
  for (let i: u32 = 1; i < wanted; i++) {
    const id = platformCpuAt(i).apicId;
    if (id >= XAPIC_LIMIT && !apic.isX2apic()) {
      sayOf("has an ID that needs x2APIC, which is off: not started", id);
      continue;
    }
    if (prepareCpu(index, id) != Status.OK) {
      log.warn("smp", "no memory for more CPUs");
      break;
    }
    index++;
  }
  return index;
}

function prepareCpu(index: u32, apicId: u32): Status {
  const frame = allocFrame(Owner.TABLE);
  if (frame == 0) return Status.NO_MEMORY;
  if (mapCpu(index) != Status.OK) {
    freeRun(frame, 12, Owner.TABLE);
    return Status.NO_MEMORY;
  }
  initBlock(index, apicId);
  cpuAt(index).descriptors = frame;
  return Status.OK;
}

/** Copies the start code and writes its parameters. */
function fillTrampoline(page: u64, root: u64, count: u32): void {
  const from = imageBoundary(5);
  const bytes = imageBoundary(6) - from;
  for (let i: u64 = 0; i < bytes; i += 8) writeEntry(page + i, imageload64(from + i));
  writeWord(page + TRAMPOLINE_BRINGUP_CR3, <u32>root);
  writeWord(page + TRAMPOLINE_CPU_COUNT, count);
  writeEntry(page + TRAMPOLINE_CORE_CR3, coreRoot());
  for (let i: u32 = 0; i < count; i++) writeWord(page + TRAMPOLINE_APIC_IDS + (i << 2), cpuAt(i).apicId);
}

/** INIT, then two start-up IPIs for those that have not come yet; each step to all CPUs before the next. */
function wake(page: u64, count: u32): void {
  for (let i: u32 = 1; i < count; i++) apic.sendInit(cpuAt(i).apicId);
  tsc.delay(INIT_MICROSECONDS);
  for (let round = 0; round < 2; round++) {
    for (let i: u32 = 1; i < count; i++) {
      if (stateOf(i) == CpuState.STARTING) apic.sendStartup(<u32>(page >> 12), cpuAt(i).apicId);
    }
    tsc.delay(SIPI_MICROSECONDS);
  }
}

/** Waits until all are there, or the time is up; who has not come by then never may. */
function awaitArrivals(count: u32): void {
  const since = rdtsc();
  const limit = tsc.fromNanoseconds(ARRIVAL_MICROSECONDS * 1000);
  while (onlineCount() < count && rdtsc() - since < limit) pause();
  tsc.addWaited(rdtsc() - since);
}

/** Takes the memory of CPUs back that did not come. */
function dropMissing(count: u32): void {
  for (let i: u32 = 1; i < count; i++) {
    if (!offer(i, CpuState.STARTING, CpuState.FAILED)) continue;
    sayOf("does not start", cpuAt(i).apicId);
    freeRun(cpuAt(i).descriptors, 12, Owner.TABLE);
    unmapCpu(i);
  }
}

function sayOf(what: string, apicId: u32): void {
  log.begin(log.Level.WARN, "smp");
  log.str("CPU with APIC ID ");
  log.dec(apicId);
  log.str(" ");
  log.str(what);
  log.end();
}

/** All CPUs publish and compare their counters at the same time. */
function compareCounters(): void {
  const others = onlineCount() - 1;
  if (others == 0) return;
  const count = cpuCount();
  for (let i: u32 = 1; i < count; i++) if (isOnline(i)) askCpu(i, Work.COMPARE);
  tsc.measureWarp(WARP_ROUNDS);
  const since = rdtsc();
  const limit = tsc.fromNanoseconds(ARRIVAL_MICROSECONDS * 1000);
  while (atomic.load<u32>(compared) < others && rdtsc() - since < limit) pause();
  if (tsc.warpTicks() == 0) return;
  log.begin(log.Level.WARN, "smp");
  log.str("the CPUs' time-stamp counters differ by up to ");
  log.dec(tsc.warpTicks());
  log.str(" ticks");
  log.end();
}

/** The other CPUs' part, from their idle loops. */
export function compareHere(): void {
  tsc.measureWarp(WARP_ROUNDS);
  atomic.add<u32>(compared, 1);
}

/**
 * The way of CPU `index` from the trampoline to its idle loop: everything of the CPU's own that the boot
 * CPU set up for itself. Returns with the CPU online.
 */
export function joinCpu(index: u32): void {
  lock(merging);
  const lost = mergeFeatures(scratch());
  unlock(merging);
  setControls();
  useDescriptors(cpu().descriptors, index);
  lapic.startCpu();
  // The boot CPU gave up: this CPU's memory is about to go.
  if (!offer(index, CpuState.STARTING, CpuState.ONLINE)) halt();
  if (lost) log.warn("smp", "this CPU lacks features of the boot CPU: none uses them");
  injectAsked(index);
}

/** Known CPUs that are not online. */
export function missingCount(): u32 {
  return cpuCount() - onlineCount();
}
