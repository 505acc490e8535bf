// The guest's 16550A at 3F8H, IRQ 4. What it sends goes to the VM's console at once, so the transmitter
// is always empty; what the operator types comes in through a 16-byte FIFO as fast as the guest reads.
// National Semiconductor PC16550D data sheet, "Registers", "FIFO Interrupt Mode Operation".

import { Status } from "../lib/status";
import { arenaAlloc, Vm } from "../vcpu/vm";
import { IRQ_COM1, setIrq } from "../virq/line";
import { ByteRing, popByte, printByte, ringUsed } from "./console";

export const UART_PORT: u32 = 0x3f8;

/** Register numbers (port offsets). */
const enum Reg {
  DATA = 0, // RBR, THR; divisor low with DLAB
  IER = 1, // divisor high with DLAB
  IIR = 2, // FCR when written
  LCR = 3,
  MCR = 4,
  LSR = 5,
  MSR = 6,
  SCR = 7,
}

const enum Ier {
  RECEIVED = 1,
  EMPTY = 2,
  LINE_STATUS = 4,
  MODEM_STATUS = 8,
}

/** Interrupt identification, by falling priority. */
const enum Iir {
  LINE_STATUS = 6,
  RECEIVED = 4,
  TIMEOUT = 12,
  EMPTY = 2,
  MODEM_STATUS = 0,
  NONE = 1,
  FIFOS_ENABLED = 0xc0,
}

const enum Lsr {
  DATA_READY = 1,
  OVERRUN = 2,
  THR_EMPTY = 0x20,
  TRANSMITTER_EMPTY = 0x40,
}

const LCR_DLAB: u32 = 0x80;
const MCR_LOOP: u32 = 0x10;
const MSR_CTS_DSR_DCD: u32 = 0xb0;
const FCR_ENABLE: u32 = 1;
const FIFO_BYTES: u32 = 16;

@unmanaged
export class Vuart {
  ier: u32;
  lcr: u32;
  mcr: u32;
  msr: u32;
  scratch: u32;
  divisor: u32;
  fcr: u32;
  overrun: u32;
  /** 1: the transmitter-empty interrupt waits to be seen. */
  emptyPending: u32;
  /** Receive FIFO: index of the oldest byte, and how many. */
  fifoHead: u32;
  fifoCount: u32;
  /** Level of IRQ 4. */
  line: u32;
}
const FIFO: usize = offsetof<Vuart>();

/** Gives the VM its UART. NO_MEMORY if the arena is full. */
export function createVuart(vm: Vm): Status {
  vm.vuart = arenaAlloc(vm, FIFO + FIFO_BYTES, 8);
  if (!vm.vuart) return Status.NO_MEMORY;
  resetVuart(vm);
  return Status.OK;
}

export function resetVuart(vm: Vm): void {
  const u = changetype<Vuart>(vm.vuart);
  memory.fill(vm.vuart, 0, FIFO + FIFO_BYTES);
  u.divisor = 12; // 9600 baud
  u.msr = MSR_CTS_DSR_DCD;
}

function fifoCapacity(u: Vuart): u32 {
  return u.fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

function fifoPush(u: Vuart, byte: u32): void {
  if (u.fifoCount == fifoCapacity(u)) {
    u.overrun = 1;
    return;
  }
  store<u8>(changetype<usize>(u) + FIFO + ((u.fifoHead + u.fifoCount) & (FIFO_BYTES - 1)), byte);
  u.fifoCount += 1;
}

function fifoPop(u: Vuart): u32 {
  if (!u.fifoCount) return 0;
  const byte = load<u8>(changetype<usize>(u) + FIFO + u.fifoHead);
  u.fifoHead = (u.fifoHead + 1) & (FIFO_BYTES - 1);
  u.fifoCount -= 1;
  return byte;
}

// ---- Interrupts

/** Bytes at which the FIFO asks for service: FCR bits 7..6. */
function triggerLevel(u: Vuart): u32 {
  if (!(u.fcr & FCR_ENABLE)) return 1;
  switch (u.fcr >> 6) {
    case 0:
      return 1;
    case 1:
      return 4;
    case 2:
      return 8;
    default:
      return 14;
  }
}

/** The pending interrupt of highest priority. Bytes below the trigger count as timed out: no more are on the line. */
function identify(u: Vuart): u32 {
  if (u.ier & Ier.LINE_STATUS && u.overrun) return Iir.LINE_STATUS;
  if (u.ier & Ier.RECEIVED && u.fifoCount) return u.fifoCount >= triggerLevel(u) ? Iir.RECEIVED : Iir.TIMEOUT;
  if (u.ier & Ier.EMPTY && u.emptyPending) return Iir.EMPTY;
  if (u.ier & Ier.MODEM_STATUS && u.msr & 15) return Iir.MODEM_STATUS;
  return Iir.NONE;
}

function update(vm: Vm, u: Vuart): void {
  const line: u32 = identify(u) != <u32>Iir.NONE ? 1 : 0;
  if (line == u.line) return;
  u.line = line;
  setIrq(vm, IRQ_COM1, line != 0);
}

/**
 * Moves what the operator typed into the FIFO, as far as there is room. Under the VM's device lock.
 * @repeats until the FIFO is full
 */
export function pumpInput(vm: Vm): void {
  const u = changetype<Vuart>(vm.vuart);
  const ring = changetype<ByteRing>(vm.input);
  if (u.mcr & MCR_LOOP || !ringUsed(ring)) return;
  while (u.fifoCount < fifoCapacity(u) && ringUsed(ring)) fifoPush(u, <u32>popByte(ring));
  update(vm, u);
}

// ---- Modem lines

/** In loopback the outputs DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD. */
function modemInputs(u: Vuart): u32 {
  if (!(u.mcr & MCR_LOOP)) return MSR_CTS_DSR_DCD;
  const mcr = u.mcr;
  return ((mcr & 1) << 5) | ((mcr & 2) << 3) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
}

/** Delta bits: a change of CTS, DSR, DCD; the falling edge of RI. */
function updateModem(u: Vuart): void {
  const before = u.msr & 0xf0;
  const after = modemInputs(u);
  const changed = before ^ after;
  let delta = (changed >> 4) & 0xb;
  if (changed & before & 0x40) delta |= 4;
  u.msr = after | (u.msr & 15) | delta;
}

// ---- Registers

/** IN from register `reg` (0..7). */
export function readUart(vm: Vm, reg: u32): u32 {
  const u = changetype<Vuart>(vm.vuart);
  switch (reg) {
    case Reg.DATA:
      return u.lcr & LCR_DLAB ? u.divisor & 0xff : readData(vm, u);
    case Reg.IER:
      return u.lcr & LCR_DLAB ? u.divisor >> 8 : u.ier;
    case Reg.IIR:
      return readIir(vm, u);
    case Reg.LCR:
      return u.lcr;
    case Reg.MCR:
      return u.mcr;
    case Reg.LSR:
      return readLsr(vm, u);
    case Reg.MSR:
      return readMsr(vm, u);
    default:
      return u.scratch;
  }
}

function readData(vm: Vm, u: Vuart): u32 {
  const byte = fifoPop(u);
  pumpInput(vm);
  update(vm, u);
  return byte;
}

/** Reading IIR takes back the transmitter-empty interrupt if it is the one shown. */
function readIir(vm: Vm, u: Vuart): u32 {
  const id = identify(u);
  if (id == <u32>Iir.EMPTY) {
    u.emptyPending = 0;
    update(vm, u);
  }
  return id | (u.fcr & FCR_ENABLE ? Iir.FIFOS_ENABLED : 0);
}

function readLsr(vm: Vm, u: Vuart): u32 {
  pumpInput(vm);
  const lsr =
    <u32>(Lsr.THR_EMPTY | Lsr.TRANSMITTER_EMPTY) |
    (u.fifoCount ? <u32>Lsr.DATA_READY : 0) |
    (u.overrun ? <u32>Lsr.OVERRUN : 0);
  u.overrun = 0;
  update(vm, u);
  return lsr;
}

function readMsr(vm: Vm, u: Vuart): u32 {
  const msr = u.msr;
  u.msr &= 0xf0;
  update(vm, u);
  return msr;
}

/** OUT to register `reg` (0..7). */
export function writeUart(vm: Vm, reg: u32, value: u32): void {
  const u = changetype<Vuart>(vm.vuart);
  switch (reg) {
    case Reg.DATA:
      if (u.lcr & LCR_DLAB) u.divisor = (u.divisor & 0xff00) | value;
      else transmit(vm, u, value);
      break;
    case Reg.IER:
      if (u.lcr & LCR_DLAB) u.divisor = (u.divisor & 0xff) | (value << 8);
      else writeIer(u, value & 15);
      break;
    case Reg.IIR:
      writeFcr(u, value);
      break;
    case Reg.LCR:
      u.lcr = value;
      break;
    case Reg.MCR:
      u.mcr = value & 0x1f;
      updateModem(u);
      break;
    case Reg.SCR:
      u.scratch = value;
      break;
  }
  update(vm, u);
}

function transmit(vm: Vm, u: Vuart, byte: u32): void {
  if (u.mcr & MCR_LOOP) fifoPush(u, byte);
  else printByte(vm, byte);
  u.emptyPending = 1; // empty again as soon as it was written
}

/** Enabling the transmitter-empty interrupt while the transmitter is empty raises it. */
function writeIer(u: Vuart, value: u32): void {
  if (value & ~u.ier & Ier.EMPTY) u.emptyPending = 1;
  u.ier = value;
}

/** A change of the enable bit, or bit 1, empties the receive FIFO. */
function writeFcr(u: Vuart, value: u32): void {
  if ((value ^ u.fcr) & FCR_ENABLE || value & 2) {
    u.fifoCount = 0;
    u.fifoHead = 0;
  }
  u.fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}
