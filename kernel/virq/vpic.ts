// The guest's pair of 8259A interrupt controllers with the ELCR of PCI chipsets. The slave's output is
// the master's input 2. The pair's own output drives LINT0 of vCPU 0 and asks for an ExtINT.
// Intel 8259A data sheet, "Programming the 8259A"; PIIX3, "ELCR".

import { Status } from "../lib/status";
import { Pending, request } from "../vcpu/event";
import { arenaAlloc, Vm, vcpuOf } from "../vcpu/vm";
import { Taken } from "./line";
import { setLint, vlapicOf } from "./vlapic";

/** Which initialisation word the chip expects at its odd port. */
const enum Init {
  READY = 0,
  ICW2 = 1,
  ICW3 = 2,
  ICW4 = 3,
}

@unmanaged
export class Pic {
  /** Requests, latched (edge) or following the line (level). */
  irr: u32;
  imr: u32;
  isr: u32;
  /** Levels of the input lines. */
  lines: u32;
  /** Bit n: input n is level-triggered. */
  elcr: u32;
  /** ELCR bits that software may set. */
  elcrWritable: u32;
  vectorBase: u32;
  /** The input of highest priority. */
  first: u32;
  init: u32;
  /** ICW1: bit 0 ICW4 follows, bit 1 single, bit 3 level-triggered mode for all inputs. */
  icw1: u32;
  readIsr: u32;
  poll: u32;
  specialMask: u32;
  specialFullyNested: u32;
  autoEoi: u32;
  rotateOnAutoEoi: u32;
  isMaster: u32;
}

/** Master, then slave. */
@unmanaged
export class PicPair {
  /** 1: the master's INT output is high. */
  output: u32;
}
const MASTER: usize = 8;
const PIC_BYTES: usize = offsetof<Pic>();
const CASCADE: u32 = 2;

/** Gives the VM its pair. NO_MEMORY if the arena is full. */
export function createVpic(vm: Vm): Status {
  const at = arenaAlloc(vm, MASTER + 2 * PIC_BYTES, 8);
  if (!at) return Status.NO_MEMORY;
  vm.vpic = at;
  resetVpic(vm);
  return Status.OK;
}

export function resetVpic(vm: Vm): void {
  memory.fill(vm.vpic, 0, MASTER + 2 * PIC_BYTES);
  const master = chip(vm, false);
  const slave = chip(vm, true);
  master.isMaster = 1;
  master.elcrWritable = 0xf8;
  slave.elcrWritable = 0xde;
}

function chip(vm: Vm, slave: bool): Pic {
  return changetype<Pic>(vm.vpic + MASTER + (slave ? PIC_BYTES : 0));
}

// ---- Priorities

/** Distance of the highest-priority bit in `bits` from the first input; 8 if none. */
function rank(pic: Pic, bits: u32): u32 {
  if (!bits) return 8;
  const rotated = (bits >> pic.first) | (bits << (8 - pic.first));
  return ctz<u32>(rotated & 0xff);
}

/** The input that the chip wants to have served, or -1. "Fully Nested Mode" and its special forms. */
function wanted(pic: Pic): i32 {
  const request = rank(pic, pic.irr & ~pic.imr & 0xff);
  if (request == 8) return -1;
  let serving = pic.isr;
  if (pic.specialMask) serving &= ~pic.imr;
  if (pic.specialFullyNested && pic.isMaster) serving &= ~(1 << CASCADE);
  return request < rank(pic, serving) ? <i32>((request + pic.first) & 7) : -1;
}

/** Passes the slave's output to the master and the master's to LINT0. */
function update(vm: Vm): void {
  const master = chip(vm, false);
  const slave = chip(vm, true);
  const pair = changetype<PicPair>(vm.vpic);
  const requests = (master.irr & ~master.imr) | (slave.irr & ~slave.imr) | (master.lines & (1 << CASCADE));
  if ((requests | pair.output) == 0) return; // quiet before and after: masks come and go all the time
  const cascade = wanted(slave) >= 0;
  if (cascade != ((master.lines & (1 << CASCADE)) != 0)) drive(master, CASCADE, cascade);
  const output: u32 = wanted(master) >= 0 ? 1 : 0;
  if (output == pair.output) return;
  pair.output = output;
  const boot = vcpuOf(vm, 0);
  if (output) request(boot, Pending.INTERRUPT);
  if (boot.vlapic) setLint(vlapicOf(boot), 0, output != 0);
}

function isLevel(pic: Pic, bit: u32): bool {
  return (pic.elcr & bit) != 0 || (pic.icw1 & 8) != 0;
}

/** Moves input `input` of one chip. */
function drive(pic: Pic, input: u32, level: bool): u32 {
  const bit: u32 = 1 << input;
  const rising = level && !(pic.lines & bit);
  const had = (pic.irr & bit) != 0;
  pic.lines = level ? pic.lines | bit : pic.lines & ~bit;
  if (isLevel(pic, bit) || input == (pic.isMaster ? CASCADE : 8)) pic.irr = level ? pic.irr | bit : pic.irr & ~bit;
  else if (rising) pic.irr |= bit;
  else if (!level) pic.irr &= ~bit; // a request that falls before its INTA is gone
  if (!rising || pic.imr & bit) return Taken.NO;
  return had ? Taken.MERGED : Taken.YES;
}

// ---- Lines and acknowledgement

/** Moves line `irq` (0..15). The result says what a rising edge became. */
export function setPicLine(vm: Vm, irq: u32, level: bool): u32 {
  const taken = drive(chip(vm, irq >= 8), irq & 7, level);
  update(vm);
  return taken;
}

/** True if a request on line `irq` waits, unmasked, for its INTA. */
export function isPicWaiting(vm: Vm, irq: u32): bool {
  const pic = chip(vm, irq >= 8);
  return (((pic.irr & ~pic.imr) >> (irq & 7)) & 1) != 0;
}

/** True if the pair asks the processor for an interrupt. */
export function picOutput(vm: Vm): bool {
  return changetype<PicPair>(vm.vpic).output != 0;
}

/** The chip's part of an INTA cycle. Returns the input; 7, without a bit in ISR, if the request went away. */
function acknowledgeChip(pic: Pic): u32 {
  const input = wanted(pic);
  if (input < 0) return 7;
  const bit: u32 = 1 << input;
  if (!isLevel(pic, bit) && !(pic.isMaster && <u32>input == CASCADE)) pic.irr &= ~bit;
  if (!pic.autoEoi) pic.isr |= bit;
  else if (pic.rotateOnAutoEoi) pic.first = (<u32>input + 1) & 7;
  return <u32>input;
}

/** INTA: the vector for the processor. Takes the highest request into service. */
export function acknowledgePic(vm: Vm): u32 {
  const master = chip(vm, false);
  const slave = chip(vm, true);
  const cascaded = wanted(master) == CASCADE;
  const input = acknowledgeChip(master);
  const vector = cascaded ? slave.vectorBase + acknowledgeChip(slave) : master.vectorBase + input;
  update(vm);
  return vector;
}

// ---- Ports

/** IN from 20H, 21H, A0H, A1H (port bit 0 selects the register, `slave` the chip). */
export function readPic(vm: Vm, port: u32): u32 {
  const pic = chip(vm, (port & 0x80) != 0);
  if (pic.poll) {
    pic.poll = 0;
    const input = wanted(pic);
    if (input < 0) return 0;
    acknowledgeChip(pic);
    update(vm);
    return 0x80 | <u32>input;
  }
  if (port & 1) return pic.imr;
  return pic.readIsr ? pic.isr : pic.irr;
}

/** OUT to 20H, 21H, A0H, A1H. */
export function writePic(vm: Vm, port: u32, value: u32): void {
  const pic = chip(vm, (port & 0x80) != 0);
  if (port & 1) writeOdd(pic, value);
  else if (value & 0x10) writeIcw1(pic, value);
  else if (value & 0x08) writeOcw3(pic, value);
  else writeOcw2(pic, value);
  update(vm);
}

/** ICW1 starts initialisation: masks and service bits clear, edge latches are forgotten. */
function writeIcw1(pic: Pic, value: u32): void {
  pic.icw1 = value;
  pic.imr = 0;
  pic.isr = 0;
  pic.irr = value & 8 ? pic.lines : pic.lines & pic.elcr;
  pic.first = 0;
  pic.readIsr = 0;
  pic.poll = 0;
  pic.specialMask = 0;
  pic.specialFullyNested = 0;
  pic.autoEoi = 0;
  pic.rotateOnAutoEoi = 0;
  pic.init = Init.ICW2;
}

function writeOdd(pic: Pic, value: u32): void {
  if (pic.init == Init.READY) {
    pic.imr = value;
    return;
  }
  switch (pic.init) {
    case Init.ICW2:
      pic.vectorBase = value & 0xf8;
      pic.init = pic.icw1 & 2 ? afterIcw3(pic) : Init.ICW3;
      break;
    case Init.ICW3: // the wiring is fixed: slave on input 2
      pic.init = afterIcw3(pic);
      break;
    case Init.ICW4:
      pic.specialFullyNested = (value >> 4) & 1;
      pic.autoEoi = (value >> 1) & 1;
      pic.init = Init.READY;
      break;
  }
}

function afterIcw3(pic: Pic): u32 {
  return pic.icw1 & 1 ? Init.ICW4 : Init.READY;
}

function writeOcw3(pic: Pic, value: u32): void {
  if (value & 4) pic.poll = 1;
  if (value & 2) pic.readIsr = value & 1;
  if (value & 0x40) pic.specialMask = (value >> 5) & 1;
}

/** OCW2: rotate (bit 7), specific (bit 6), EOI (bit 5), input in bits 2..0. */
function writeOcw2(pic: Pic, value: u32): void {
  const input = value & 7;
  switch (value >> 5) {
    case 0: // rotate in automatic EOI mode, clear
      pic.rotateOnAutoEoi = 0;
      break;
    case 4: // rotate in automatic EOI mode, set
      pic.rotateOnAutoEoi = 1;
      break;
    case 1: // non-specific EOI
      endHighest(pic, false);
      break;
    case 5: // rotate on non-specific EOI
      endHighest(pic, true);
      break;
    case 3: // specific EOI
      pic.isr &= ~(1 << input);
      break;
    case 7: // rotate on specific EOI
      pic.isr &= ~(1 << input);
      pic.first = (input + 1) & 7;
      break;
    case 6: // set priority
      pic.first = (input + 1) & 7;
      break;
  }
}

function endHighest(pic: Pic, rotate: bool): void {
  // In special mask mode a masked input in service is passed over.
  const distance = rank(pic, pic.specialMask ? pic.isr & ~pic.imr : pic.isr);
  if (distance == 8) return;
  const input = (distance + pic.first) & 7;
  pic.isr &= ~(1 << input);
  if (rotate) pic.first = (input + 1) & 7;
}

/** IN from 4D0H, 4D1H. */
export function readElcr(vm: Vm, port: u32): u32 {
  return chip(vm, (port & 1) != 0).elcr;
}

/** OUT to 4D0H, 4D1H. */
export function writeElcr(vm: Vm, port: u32, value: u32): void {
  const pic = chip(vm, (port & 1) != 0);
  pic.elcr = value & pic.elcrWritable;
  pic.irr = (pic.irr & ~pic.elcr) | (pic.lines & pic.elcr);
  update(vm);
}
