// The guest's 8254: three counters at 1.193182 MHz, and port 61H. Nothing counts: each channel knows
// when its count was loaded, and what software can see is computed from the time that has passed.
// Channel 0 drives IRQ 0, channel 1 only toggles the refresh bit of port 61H, channel 2 has the gate and the
// output that port 61H shows. Intel 8254 data sheet, "Mode Definitions" and "Read-Back Command".

import { rdtsc } from "../cpu/insn";
import { Status } from "../lib/status";
import { Pending, request } from "../vcpu/event";
import { arenaAlloc, Vm, vcpuOf } from "../vcpu/vm";
import { IRQ_TIMER, edgeIrq, Taken } from "./line";
import { clockTicks, PIT_HZ, tscTicks } from "./rate";

/** How a byte at the data port goes to or comes from the 16-bit count. */
const enum Half {
  NONE = 0,
  LOW = 1,
  HIGH = 2,
  BOTH = 3, // low byte first
}

/** Missed ticks of a periodic channel 0 that are made up for; more are forgotten. */
const MAX_BACKLOG: u64 = 16;

@unmanaged
export class Channel {
  /** Host TSC at which the running count was loaded or triggered. */
  start: u64;
  /** Ticks that had passed when the gate stopped the count. */
  frozen: u64;
  /** Channel 0: periods (or the one end) that IRQ 0 was already raised for. */
  given: u64;
  /** Channel 0: host TSC of the next edge; 0: none. */
  deadline: u64;
  /** The count as loaded: 1 to 65536 (10000 in BCD). 0: none since the control word. */
  count: u32;
  mode: u32;
  bcd: u32;
  access: u32;
  gate: u32;
  /** 1: the count runs. */
  running: u32;
  /** 1: the next byte written or read is the high one. */
  writeHigh: u32;
  readHigh: u32;
  lowByte: u32;
  /** Latched count, with the number of bytes still to be read in latchedBytes. */
  latch: u32;
  latchedBytes: u32;
  status: u32;
  statusLatched: u32;
  pad: u32;
}
const CHANNEL_BYTES: usize = offsetof<Channel>();

@unmanaged
export class Pit {
  /** Bits 1..0 of port 61H: speaker data and gate of channel 2. */
  port61: u32;
  pad: u32;
}
const CHANNELS: usize = offsetof<Pit>();
const PIT_BYTES: usize = CHANNELS + 3 * CHANNEL_BYTES;

/** Gives the VM its 8254. NO_MEMORY if the arena is full. */
export function createVpit(vm: Vm): Status {
  const at = arenaAlloc(vm, PIT_BYTES, 8);
  if (!at) return Status.NO_MEMORY;
  vm.vpit = at;
  resetVpit(vm);
  return Status.OK;
}

export function resetVpit(vm: Vm): void {
  memory.fill(vm.vpit, 0, PIT_BYTES);
  for (let i: u32 = 0; i < 3; i++) {
    const c = channel(vm, i);
    c.access = Half.BOTH;
    c.mode = 3;
    c.gate = i == 2 ? 0 : 1;
  }
}

function channel(vm: Vm, index: u32): Channel {
  return changetype<Channel>(vm.vpit + CHANNELS + <usize>index * CHANNEL_BYTES);
}

// ---- What a channel shows

/** PIT ticks since the count was loaded or triggered. */
function elapsed(c: Channel, now: u64): u64 {
  return c.running ? clockTicks(now - c.start, PIT_HZ) : c.frozen;
}

function isPeriodic(c: Channel): bool {
  return c.mode == 2 || c.mode == 3;
}

/** The value of the counting element, before BCD. Modes other than 2 and 3 count on below zero. */
function currentCount(c: Channel, now: u64): u32 {
  if (!c.count) return 0;
  const passed = elapsed(c, now);
  const count = <u64>c.count;
  if (c.mode == 2) return <u32>(count - (passed % count));
  if (c.mode == 3) return <u32>(count - ((2 * passed) % count)) & ~1;
  const modulus: u64 = c.bcd ? 10000 : 65536;
  return <u32>((count + modulus - (passed % modulus)) % modulus);
}

/** Level of the OUT pin. */
function output(c: Channel, now: u64): bool {
  if (!c.count) return c.mode != 0;
  const passed = elapsed(c, now);
  const count = <u64>c.count;
  switch (c.mode) {
    case 0:
      return passed >= count;
    case 1:
      return passed >= count || (!c.running && !passed);
    case 2:
      return passed % count != count - 1;
    case 3:
      return passed % count < (count + 1) / 2;
    default:
      return passed != count;
  }
}

/** The count as the data port shows it: 0 stands for the largest. */
function encode(c: Channel, count: u32): u32 {
  if (!c.bcd) return count & 0xffff;
  const n = count % 10000;
  return (n % 10) | (((n / 10) % 10) << 4) | (((n / 100) % 10) << 8) | ((n / 1000) << 12);
}

function decode(c: Channel, value: u32): u32 {
  if (!c.bcd) return value ? value : 65536;
  const n = (value & 15) + ((value >> 4) & 15) * 10 + ((value >> 8) & 15) * 100 + (value >> 12) * 1000;
  return n ? n : 10000;
}

// ---- Loading and the gate

function loadCount(c: Channel, value: u32, now: u64): void {
  // Modes 2 and 3 finish the current period first; starting at once is what drivers cannot tell apart.
  c.count = decode(c, value);
  c.given = 0;
  if (c.mode == 1 || c.mode == 5) {
    c.running = 0; // waits for its trigger
    c.frozen = 0;
    return;
  }
  begin(c, now);
}

function begin(c: Channel, now: u64): void {
  c.start = now;
  c.frozen = 0;
  c.running = c.gate;
  c.given = 0;
}

/** Gate of channel 2, by bit 0 of port 61H. "Gate Pin Operations Summary". */
function setGate(c: Channel, gate: u32, now: u64): void {
  if (gate == c.gate) return;
  c.gate = gate;
  if (!c.count) return;
  const retriggers = c.mode != 0 && c.mode != 4;
  if (gate) {
    if (retriggers) begin(c, now);
    else {
      c.start = now - tscTicks(c.frozen, PIT_HZ);
      c.running = 1;
    }
  } else if (c.mode != 1 && c.mode != 5) {
    c.frozen = elapsed(c, now);
    c.running = 0;
  }
}

// ---- Channel 0 and IRQ 0

/** Computes the next edge; the run loop of vCPU 0 sets the host's timer for it. */
function reschedule(vm: Vm, c: Channel, now: u64): void {
  schedule(c, now);
  request(vcpuOf(vm, 0), Pending.TIMER);
}

function schedule(c: Channel, now: u64): void {
  c.deadline = 0;
  if (!c.count || !c.running || c.mode == 1 || c.mode == 5) return;
  if (!isPeriodic(c)) {
    if (!c.given) c.deadline = c.start + tscTicks(c.count, PIT_HZ);
    return;
  }
  const due = elapsed(c, now) / <u64>c.count;
  // What is behind comes at double speed, the rest on its grid.
  c.deadline =
    due > c.given ? now + (tscTicks(c.count, PIT_HZ) >> 1) : c.start + tscTicks((due + 1) * <u64>c.count, PIT_HZ);
}

/** Host TSC at which channel 0 has its next edge; ~0 if never. */
export function pitDeadline(vm: Vm): u64 {
  const deadline = vm.vpit ? channel(vm, 0).deadline : 0;
  return deadline ? deadline : ~(<u64>0);
}

/** Raises IRQ 0 if it is due. Under the VM's device lock. */
export function expirePit(vm: Vm, now: u64): void {
  const c = channel(vm, 0);
  if (!c.deadline || c.deadline > now) return;
  const due = isPeriodic(c) ? elapsed(c, now) / <u64>c.count : 1;
  const taken = edgeIrq(vm, IRQ_TIMER);
  if (taken == Taken.NO)
    c.given = due; // masked: nobody misses these
  else if (taken == Taken.YES) c.given += 1;
  if (due > c.given + MAX_BACKLOG) c.given = due - MAX_BACKLOG;
  if (c.given > due) c.given = due;
  schedule(c, now);
}

// ---- Ports 40H to 43H

export function readPit(vm: Vm, port: u32): u32 {
  if ((port & 3) == 3) return 0; // the control register cannot be read
  const c = channel(vm, port & 3);
  if (c.statusLatched) {
    c.statusLatched = 0;
    return c.status;
  }
  if (c.latchedBytes) return readLatch(c);
  const value = encode(c, currentCount(c, rdtsc()));
  switch (c.access) {
    case Half.LOW:
      return value & 0xff;
    case Half.HIGH:
      return value >> 8;
    default:
      c.readHigh ^= 1;
      return c.readHigh ? value & 0xff : value >> 8;
  }
}

function readLatch(c: Channel): u32 {
  if (c.access == Half.HIGH || (c.access == Half.BOTH && c.latchedBytes == 1)) {
    c.latchedBytes = 0;
    return c.latch >> 8;
  }
  c.latchedBytes -= 1;
  return c.latch & 0xff;
}

export function writePit(vm: Vm, port: u32, value: u32): void {
  const now = rdtsc();
  if ((port & 3) == 3) {
    writeControl(vm, value, now);
    return;
  }
  const c = channel(vm, port & 3);
  switch (c.access) {
    case Half.LOW:
      loadCount(c, value, now);
      break;
    case Half.HIGH:
      loadCount(c, value << 8, now);
      break;
    default:
      if (!c.writeHigh) {
        c.lowByte = value;
        c.writeHigh = 1;
        if (c.mode == 0) c.running = 0; // the first byte stops the count
        return;
      }
      c.writeHigh = 0;
      loadCount(c, c.lowByte | (value << 8), now);
  }
  if ((port & 3) == 0) reschedule(vm, c, now);
}

/** Control word: channel (7..6), access (5..4), mode (3..1), BCD (0). Channel 3: read-back. */
function writeControl(vm: Vm, value: u32, now: u64): void {
  const index = value >> 6;
  if (index == 3) {
    for (let i: u32 = 0; i < 3; i++) if (value & (2 << i)) readBack(channel(vm, i), value, now);
    return;
  }
  const c = channel(vm, index);
  const access = (value >> 4) & 3;
  if (access == Half.NONE) {
    latchCount(c, now);
    return;
  }
  const mode = (value >> 1) & 7;
  c.mode = mode > 5 ? mode - 4 : mode;
  c.bcd = value & 1;
  c.access = access;
  c.count = 0;
  c.running = 0;
  c.frozen = 0;
  c.writeHigh = 0;
  c.readHigh = 0;
  c.latchedBytes = 0;
  c.statusLatched = 0;
  if (index == 0) reschedule(vm, c, now);
}

/** A latched count stays until it was read; a second latch command changes nothing. */
function latchCount(c: Channel, now: u64): void {
  if (c.latchedBytes) return;
  c.latch = encode(c, currentCount(c, now));
  c.latchedBytes = c.access == Half.BOTH ? 2 : 1;
}

/** Bit 5 clear latches the count, bit 4 clear the status. */
function readBack(c: Channel, value: u32, now: u64): void {
  if (!(value & 0x20)) latchCount(c, now);
  if (value & 0x10 || c.statusLatched) return;
  const out: u32 = output(c, now) ? 0x80 : 0;
  const noCount: u32 = c.count ? 0 : 0x40;
  c.status = out | noCount | (c.access << 4) | (c.mode << 1) | c.bcd;
  c.statusLatched = 1;
}

// ---- Port 61H

/** Bits 0, 1 as written; bit 4 toggles with each refresh (15 us); bit 5 is channel 2's output. */
export function readPort61(vm: Vm): u32 {
  const now = rdtsc();
  const refresh = <u32>(clockTicks(now, PIT_HZ) / 18) & 1;
  const out: u32 = output(channel(vm, 2), now) ? 0x20 : 0;
  return changetype<Pit>(vm.vpit).port61 | (refresh << 4) | out;
}

export function writePort61(vm: Vm, value: u32): void {
  changetype<Pit>(vm.vpit).port61 = value & 3;
  setGate(channel(vm, 2), value & 1, rdtsc());
}
