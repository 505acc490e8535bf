// Each CPU's block in linear memory. Its first two words are fixed for NASM (kernel/abi.ts); what else a
// CPU keeps for itself (timers, the log line, trap frames, held locks) has an offset in kernel/config.ts.

import { MAX_CPUS, PERCPU_BASE, PERCPU_BYTES, PERCPU_SCRATCH } from "../config";
import { cpuBlock } from "./insn";

export const enum CpuState {
  ABSENT = 0,
  STARTING = 1, // it has its memory, and a start-up IPI on the way
  ONLINE = 2,
  FAILED = 3, // it did not come in time, or cannot be used
}

@unmanaged
export class CpuBlock {
  self: u32; // this block's address; GS:0
  index: u32;
  apicId: u32;
  pad: u32;
  work: u32; // bits that other CPUs set; atomics
  flushSeen: u32; // the last shootdown that this CPU carried out; atomics
  descriptors: u64; // pa of the frame with its GDT and TSS
  entryTsc: u64; // boot CPU: the counter when boot/entry.asm began
}
if (offsetof<CpuBlock>("index") != 4) ERROR("CpuBlock: index does not match boot/");
if (offsetof<CpuBlock>() > PERCPU_SCRATCH) ERROR("CpuBlock is too large");

/** CPU states, readable for indices whose blocks are not mapped: u8 each. Atomics. */
const states: usize = memory.data(256, 8);
const counts: usize = memory.data(8, 8); // +0 u32 CPUs known, +4 u32 CPUs online; atomics
if (MAX_CPUS != 256) ERROR("percpu: states");

/** This CPU. */
export function cpu(): CpuBlock {
  return changetype<CpuBlock>(cpuBlock());
}

/** CPU `index`, which must have been given its memory. */
export function cpuAt(index: u32): CpuBlock {
  return changetype<CpuBlock>(PERCPU_BASE + <usize>index * PERCPU_BYTES);
}

/** 256 bytes of this CPU, for results that are used up at once. */
export function scratch(): usize {
  return cpuBlock() + PERCPU_SCRATCH;
}

/** Indices go from 0 to below this; not all of them need be online. */
export function cpuCount(): u32 {
  return atomic.load<u32>(counts);
}

export function onlineCount(): u32 {
  return atomic.load<u32>(counts, 4);
}

export function stateOf(index: u32): CpuState {
  return <CpuState>atomic.load<u8>(states + <usize>index);
}

export function isOnline(index: u32): bool {
  return atomic.load<u8>(states + <usize>index) == <u8>CpuState.ONLINE;
}

/** Fills the block of CPU `index`, whose memory is mapped and zero. */
export function initBlock(index: u32, apicId: u32): void {
  const block = cpuAt(index);
  block.self = <u32>changetype<usize>(block);
  block.index = index;
  block.apicId = apicId;
  atomic.store<u8>(states + <usize>index, <u8>CpuState.STARTING);
  if (index >= cpuCount()) atomic.store<u32>(counts, index + 1);
}

/** Moves CPU `index` from one state to the next; false if it is in another, because somebody was faster. */
export function offer(index: u32, from: CpuState, to: CpuState): bool {
  if (atomic.cmpxchg<u8>(states + <usize>index, <u8>from, <u8>to) != <u8>from) return false;
  if (to == CpuState.ONLINE) atomic.add<u32>(counts, 1, 4);
  return true;
}

/** Sets bits in CPU `index`'s mailbox; the caller wakes it with Vector.KICK. */
export function postWork(index: u32, bits: u32): void {
  atomic.or<u32>(changetype<usize>(cpuAt(index)) + offsetof<CpuBlock>("work"), bits);
}

/** Takes all bits out of this CPU's mailbox. */
export function takeWork(): u32 {
  return atomic.xchg<u32>(cpuBlock() + offsetof<CpuBlock>("work"), 0);
}
