// The text a guest prints. Bytes go to a ring; whole lines are drained from it to the log with the VM's
// name in front. A line that stays unfinished (a prompt) follows after a short rest. In the other
// direction a ring holds what the operator typed, until the guest's UART has room.
//
// Both rings: one producer, one consumer, free-running indices.

import * as console from "../../drivers/console";
import { rdtsc } from "../cpu/insn";
import { fromNanoseconds } from "../cpu/tsc";
import { begin, char, bytes as logBytes, end, Level } from "../lib/log";
import { Status } from "../lib/status";
import { HostWork, noteWork, virt } from "../vcpu/current";
import { Pending, request } from "../vcpu/event";
import { arenaAlloc, Vm, vcpuOf } from "../vcpu/vm";

export const OUTPUT_BYTES: u32 = 4096; // powers of two
export const INPUT_BYTES: u32 = 1024;
/** A longer line is cut here and goes on in the next one. */
const LINE_BYTES: u32 = 160;
const REST_NANOSECONDS: u64 = 50_000_000;
/** Half of the log's lines, and what one takes at 115200 baud. */
const BACKLOG_LINES: u32 = 512;
const LINE_NANOSECONDS: u64 = 8_000_000;

@unmanaged
export class ByteRing {
  head: u32; // written by the consumer
  tail: u32; // written by the producer
  mask: u32;
  /** Bytes in the unfinished line at the tail. */
  open: u32;
  /** Host TSC at which an unfinished line is to be printed; 0: none. */
  flushAt: u64;
  /** Bytes that found no room. */
  lost: u64;
  /** 1: the operator's terminal takes the bytes as they are; nothing is drained to the log. */
  attached: u32;
  pad: u32;
}
const DATA: usize = offsetof<ByteRing>();

/** Gives the VM its two rings. NO_MEMORY if the arena is full. */
export function createConsole(vm: Vm): Status {
  vm.console = createRing(vm, OUTPUT_BYTES);
  vm.input = createRing(vm, INPUT_BYTES);
  return vm.console && vm.input ? Status.OK : Status.NO_MEMORY;
}

function createRing(vm: Vm, capacity: u32): usize {
  const at = arenaAlloc(vm, DATA + capacity, 8);
  if (at) changetype<ByteRing>(at).mask = capacity - 1;
  return at;
}

/** Appends a byte. False if the ring is full. */
export function pushByte(ring: ByteRing, byte: u32): bool {
  const tail = ring.tail;
  if (tail - atomic.load<u32>(changetype<usize>(ring)) > ring.mask) {
    ring.lost += 1;
    return false;
  }
  store<u8>(changetype<usize>(ring) + DATA + (tail & ring.mask), byte);
  atomic.store<u32>(changetype<usize>(ring) + offsetof<ByteRing>("tail"), tail + 1);
  return true;
}

/** Takes a byte; -1 if there is none. */
export function popByte(ring: ByteRing): i32 {
  const head = ring.head;
  if (head == atomic.load<u32>(changetype<usize>(ring) + offsetof<ByteRing>("tail"))) return -1;
  const byte: i32 = load<u8>(changetype<usize>(ring) + DATA + (head & ring.mask));
  atomic.store<u32>(changetype<usize>(ring), head + 1);
  return byte;
}

/** Bytes that wait in the ring. */
export function ringUsed(ring: ByteRing): u32 {
  return (
    atomic.load<u32>(changetype<usize>(ring) + offsetof<ByteRing>("tail")) - atomic.load<u32>(changetype<usize>(ring))
  );
}

/** The guest prints `byte`. Lines are drained at their end, so the ring holds one line and little more. */
export function printByte(vm: Vm, byte: u32): void {
  const ring = changetype<ByteRing>(vm.console);
  if (byte == 0x0d && !ring.attached) return; // the log ends lines itself
  pushByte(ring, byte);
  if (ring.attached) return;
  if (byte == 0x0a || ++ring.open >= LINE_BYTES) drainConsole(vm);
  else if (!ring.flushAt) {
    ring.flushAt = rdtsc() + fromNanoseconds(REST_NANOSECONDS);
    request(vcpuOf(vm, 0), Pending.TIMER);
  }
}

/**
 * Sends what the ring holds to the log, as lines of the VM.
 * @repeats a line of the ring's less each time
 */
export function drainConsole(vm: Vm): void {
  const ring = changetype<ByteRing>(vm.console);
  ring.open = 0;
  ring.flushAt = 0;
  while (ringUsed(ring)) drainLine(vm, ring);
}

/**
 * A guest that prints faster than the host's UARTs rests after its lines, the longer the more wait: none is overwritten
 * in the log before it was printed. The host's own and those of other guests need room too.
 */
function restIfAhead(): void {
  const waiting = console.backlog();
  if (waiting < BACKLOG_LINES) return;
  const lines = <u64>(waiting - BACKLOG_LINES) / 32 + 1;
  virt().rest = fromNanoseconds(lines * LINE_NANOSECONDS);
  noteWork(HostWork.YIELD);
}

/** @repeats a byte of the ring's less each time */
function drainLine(vm: Vm, ring: ByteRing): void {
  begin(Level.INFO, "guest");
  logBytes(vm.name, vm.nameBytes);
  char(0x7c); // |
  char(0x20);
  for (let byte = popByte(ring); byte >= 0 && byte != 0x0a; byte = popByte(ring)) char(byte == 9 ? 0x20 : <u32>byte);
  end();
  restIfAhead();
}

/** Host TSC at which an unfinished line is due; ~0 if there is none. */
export function consoleDeadline(vm: Vm): u64 {
  const at = vm.console ? changetype<ByteRing>(vm.console).flushAt : 0;
  return at ? at : ~(<u64>0);
}
