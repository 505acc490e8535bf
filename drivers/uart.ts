// The 16550 UART and its ancestors, at ports or in memory. Output polls: a byte leaves when the
// transmitter has room, and nothing waits for ever. Input arrives by interrupt into a ring, or by poll.
// "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs", National Semiconductor.

import { deviceload32, deviceload8, devicestore32, devicestore8, in8, out8, pause, rdtsc } from "../kernel/cpu/insn";
import * as tsc from "../kernel/cpu/tsc";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";

export const MAX_UARTS: u32 = 4;

/** Registers; DLAB in LCR turns the first two into the divisor. */
const enum Reg {
  DATA = 0, // divisor, low byte
  IER = 1, // divisor, high byte
  IIR_FCR = 2,
  LCR = 3,
  MCR = 4,
  LSR = 5,
  MSR = 6,
  SCRATCH = 7,
}

const enum Lsr {
  DR = 0x01, // a byte was received
  THRE = 0x20, // the transmitter can take a byte (with FIFO: a FIFO full)
  TEMT = 0x40, // the last bit has left
}

const LCR_8N1: u32 = 0x03;
const LCR_DLAB: u32 = 0x80;
const FCR_ENABLE_CLEAR: u32 = 0x07; // FIFO on, both cleared, an interrupt from the first byte
const IIR_FIFO: u32 = 0xc0;
const MCR_DTR_RTS_OUT2: u32 = 0x0b; // OUT2 lets the interrupt through on a PC
const IER_RECEIVED: u32 = 0x01;
const CLOCK_BAUD: u32 = 115_200;
const FIFO_BYTES: u32 = 16;
/** Polls of LSR until the transmitter counts as dead: over a second, at any baud that is used. */
const MOST_POLLS: u32 = 2_000_000;
const RING_BYTES: u32 = 256;

@unmanaged
export class Uart {
  base: u64; // port, or physical address
  isMemory: u32;
  shift: u32; // memory: registers lie 1 << shift apart
  isPresent: u32;
  fifoBytes: u32;
  room: u32; // bytes that the transmitter still takes without a poll
  isDead: u32;
  dropped: u32; // bytes not sent because it was dead, or not received because the ring was full
  ringHead: u32; // [atomic: the interrupt writes it, the reader reads it]
  ringTail: u32; // [atomic: the other way round]
  irq: u32; // ISA interrupt of the four standard ports; 0: none
  hasInterrupt: u32; // input arrives by interrupt
}

const uarts: usize = memory.data(4 * 64, 8);
const rings: usize = memory.data(4 * 256);
let uartCount: u32 = 0; // written at boot
if (offsetof<Uart>() > 64) ERROR("uart: layout");

export function uartAt(index: u32): Uart {
  return changetype<Uart>(uarts + ((<usize>index) << 6));
}

export function count(): u32 {
  return uartCount;
}

function read(u: Uart, register: Reg): u32 {
  if (!u.isMemory) return in8(<u32>u.base + <u32>register);
  const pa = u.base + ((<u64>register) << u.shift);
  return (u.shift == 2 ? deviceload32(pa) : deviceload8(pa)) & 0xff;
}

function write(u: Uart, register: Reg, value: u32): void {
  if (!u.isMemory) {
    out8(<u32>u.base + <u32>register, value);
    return;
  }
  const pa = u.base + ((<u64>register) << u.shift);
  if (u.shift == 2) devicestore32(pa, value);
  else devicestore8(pa, value);
}

/**
 * Sets one up and returns its number, or -1 if there is none (or no room for it): a port without a
 * device reads all ones. `baud` 0: as the firmware left it. `shift` is for memory only.
 */
export function open(base: u64, isMemory: bool, shift: u32, baud: u32): i32 {
  if (uartCount == MAX_UARTS) return -1;
  const u = uartAt(uartCount);
  memory.fill(changetype<usize>(u), 0, offsetof<Uart>());
  u.base = base;
  u.isMemory = u32(isMemory);
  u.shift = shift;
  if (isMemory && mapDevice(base & ~(<u64>4095), 0x1000) != Status.OK) return -1;
  if (!detect(u)) return -1;
  u.isPresent = 1;
  u.irq = isMemory ? 0 : base == 0x3f8 || base == 0x3e8 ? 4 : base == 0x2f8 || base == 0x2e8 ? 3 : 0;
  configure(u, baud);
  uartCount++;
  return <i32>uartCount - 1;
}

/** The upper half of IER reads as zero, and the line status is never all ones; no waiting. */
function detect(u: Uart): bool {
  if (read(u, Reg.LSR) == 0xff) return false;
  write(u, Reg.IER, 0);
  if (read(u, Reg.IER) & 0xf0) return false;
  write(u, Reg.SCRATCH, 0x5a);
  if (read(u, Reg.SCRATCH) != 0x5a) return false;
  write(u, Reg.SCRATCH, 0xa5);
  return read(u, Reg.SCRATCH) == 0xa5;
}

function configure(u: Uart, baud: u32): void {
  if (baud) {
    const divisor = max(min(CLOCK_BAUD / baud, 0xffff), 1);
    write(u, Reg.LCR, LCR_8N1 | LCR_DLAB);
    write(u, Reg.DATA, divisor & 0xff);
    write(u, Reg.IER, divisor >> 8);
  }
  write(u, Reg.LCR, LCR_8N1);
  write(u, Reg.IIR_FCR, FCR_ENABLE_CLEAR);
  u.fifoBytes = (read(u, Reg.IIR_FCR) & IIR_FIFO) == IIR_FIFO ? FIFO_BYTES : 1;
  write(u, Reg.MCR, MCR_DTR_RTS_OUT2);
  write(u, Reg.IER, 0);
}

// ---- Output

/** Sends one byte; drops it if the transmitter never gets ready. */
export function put(u: Uart, byte: u32): void {
  if (u.isDead) {
    u.dropped++;
    return;
  }
  if (u.room == 0 && !waitFor(u, Lsr.THRE)) {
    u.isDead = 1;
    u.dropped++;
    return;
  }
  if (u.room == 0) u.room = u.fifoBytes;
  write(u, Reg.DATA, byte);
  u.room--;
}

/** Whether put() would not wait (or would drop the byte at once). */
export function isReady(u: Uart): bool {
  return u.isDead != 0 || u.room != 0 || (read(u, Reg.LSR) & Lsr.THRE) != 0;
}

/** Sends `length` bytes at `ptr`. */
export function putBytes(u: Uart, ptr: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i++) put(u, load<u8>(ptr + i));
}

/** Waits until everything has left the wire: before the machine ends. */
export function flush(u: Uart): void {
  if (u.isPresent && !u.isDead) waitFor(u, Lsr.TEMT);
  u.room = 0;
}

function waitFor(u: Uart, bit: Lsr): bool {
  if (read(u, Reg.LSR) & bit) return true;
  const since = rdtsc();
  let polls: u32 = 0;
  while (!(read(u, Reg.LSR) & bit) && polls < MOST_POLLS) {
    pause();
    polls++;
  }
  tsc.addWaited(rdtsc() - since);
  return polls < MOST_POLLS;
}

// ---- Input

/** Lets received bytes raise the interrupt. The route must be there already. */
export function enableInput(u: Uart): void {
  receive(u);
  u.hasInterrupt = 1;
  write(u, Reg.IER, IER_RECEIVED);
}

/** Whether get() has a byte. */
export function hasInput(u: Uart): bool {
  return u.ringTail != loadShared(u, offsetof<Uart>("ringHead"));
}

/** Empties the receiver into the ring: from the interrupt, or by polling where there is none. */
export function receive(u: Uart): void {
  const ring = ringOf(u);
  // Bounded: a UART that is always ready (or gone: all ones) must not hold the CPU.
  for (let i: u32 = 0; i < RING_BYTES; i++) {
    const status = read(u, Reg.LSR);
    if (!(status & Lsr.DR) || status == 0xff) break;
    const byte = read(u, Reg.DATA);
    const head = u.ringHead;
    if (head - loadShared(u, offsetof<Uart>("ringTail")) == RING_BYTES) {
      u.dropped++;
      continue;
    }
    store<u8>(ring + (head & (RING_BYTES - 1)), byte);
    storeShared(u, offsetof<Uart>("ringHead"), head + 1);
  }
  // Reading IIR acknowledges whatever else the UART had to say.
  read(u, Reg.IIR_FCR);
}

/** The next received byte, or -1. One reader at a time. */
export function get(u: Uart): i32 {
  const tail = u.ringTail;
  if (tail == loadShared(u, offsetof<Uart>("ringHead"))) return -1;
  const byte = <i32>load<u8>(ringOf(u) + (tail & (RING_BYTES - 1)));
  storeShared(u, offsetof<Uart>("ringTail"), tail + 1);
  return byte;
}

function ringOf(u: Uart): usize {
  return rings + (((changetype<usize>(u) - uarts) >> 6) << 8);
}

function loadShared(u: Uart, offset: usize): u32 {
  return atomic.load<u32>(changetype<usize>(u) + offset);
}

function storeShared(u: Uart, offset: usize, value: u32): void {
  atomic.store<u32>(changetype<usize>(u) + offset, value);
}
