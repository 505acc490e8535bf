// Which device answers a port or a physical address. A table of one byte for each of the 65536 ports, and
// a few address ranges, say the device's kind; a `switch` on the kind calls it. Reads that nobody
// claims are all ones, writes are dropped, both are counted.
//
// Devices that several vCPUs share are called under the VM's device lock. The local APIC is the vCPU's own.

import { Status } from "../lib/status";
import { Vcpu } from "../vcpu/vcpu";
import { arenaAlloc, Vm } from "../vcpu/vm";
import { lockDevices, unlockDevices } from "../virq/lock";
import { IOAPIC_GPA, readVioapic, writeVioapic } from "../virq/vioapic";
import { mmioBase, mmioRead as lapicRead, mmioWrite as lapicWrite, vlapicOf } from "../virq/vlapic";
import { readElcr, readPic, writeElcr, writePic } from "../virq/vpic";
import { readPit, readPort61, writePit, writePort61 } from "../virq/vpit";
import { readKeyboard, readPort92, writeKeyboard, writePort92 } from "./vkbd";
import {
  ECAM_BYTES,
  ECAM_GPA,
  readEcam,
  readPciData,
  readPciPort,
  writeEcam,
  writePciData,
  writePciPort,
} from "./vpci";
import { readPm, writePm } from "./vpm";
import { readRtc, writeRtc } from "./vrtc";
import { readTest, readTestMemory, TEST_MEMORY_BYTES, TEST_MEMORY_GPA, writeTest, writeTestMemory } from "./vtest";
import { readUart, writeUart } from "./vuart";

export const enum Port {
  NONE = 0,
  PIC = 1,
  ELCR = 2,
  PIT = 3,
  PORT61 = 4,
  PORT80 = 5, // POST codes and delays: reads as written
  PORT92 = 6,
  RTC = 7,
  UART = 8,
  KEYBOARD = 9,
  LAST_BYTE_WIDE = 15, // up to here a wider access is several of one byte
  PM = 16,
  PCI = 17, // CF8H..CFBH, and CF9H by bytes
  PCI_DATA = 18,
  TEST = 19,
}

export const enum Mmio {
  NONE = 0,
  IOAPIC = 1,
  TEST_MEMORY = 2,
  ECAM = 3,
}

const PORTS: usize = 65536;
const MAX_RANGES: u32 = 16;

@unmanaged
export class Bus {
  rangeCount: u32;
  /** What was written to port 80H last. */
  post: u32;
}
@unmanaged
class Range {
  gpa: u64;
  bytes: u64;
  kind: u32;
  pad: u32;
}
const RANGES: usize = offsetof<Bus>();
const RANGE_BYTES: usize = offsetof<Range>();
const KINDS: usize = RANGES + <usize>MAX_RANGES * RANGE_BYTES;

/** Gives the VM an empty bus. NO_MEMORY if the arena is full. */
export function createBus(vm: Vm): Status {
  vm.bus = arenaAlloc(vm, KINDS + PORTS, 8);
  return vm.bus ? Status.OK : Status.NO_MEMORY;
}

/** Claims `count` ports from `first`. */
export function claimPorts(vm: Vm, first: u32, count: u32, kind: u32): void {
  memory.fill(vm.bus + KINDS + first, <u8>kind, count);
}

/** Claims [gpa, gpa + bytes); ranges stay sorted. FULL if the table is, BAD_ADDRESS if it overlaps another. */
export function claimMmio(vm: Vm, gpa: u64, bytes: u64, kind: u32): Status {
  const bus = changetype<Bus>(vm.bus);
  if (bus.rangeCount == MAX_RANGES) return Status.FULL;
  let at = bus.rangeCount;
  for (let i: u32 = 0; i < bus.rangeCount; i++) {
    const r = rangeAt(vm, i);
    if (gpa < r.gpa + r.bytes && r.gpa < gpa + bytes) return Status.BAD_ADDRESS;
    if (r.gpa > gpa && i < at) at = i;
  }
  const slot = changetype<usize>(rangeAt(vm, at));
  memory.copy(slot + RANGE_BYTES, slot, <usize>(bus.rangeCount - at) * RANGE_BYTES);
  const r = changetype<Range>(slot);
  r.gpa = gpa;
  r.bytes = bytes;
  r.kind = kind;
  bus.rangeCount += 1;
  return Status.OK;
}

function rangeAt(vm: Vm, index: u32): Range {
  return changetype<Range>(vm.bus + RANGES + <usize>index * RANGE_BYTES);
}

// ---- Ports

/** An access that reaches beyond the last port finds nobody there. */
function kindOf(vm: Vm, port: u32): u32 {
  return port < <u32>PORTS ? load<u8>(vm.bus + KINDS + port) : Port.NONE;
}

/** Of the port that an instruction names: it has 16 bits. */
function kindOfNamed(vm: Vm, port: u32): u32 {
  return load<u8>(vm.bus + KINDS + (port & 0xffff));
}

/** IN of 1, 2 or 4 bytes; the value is zero-extended. */
export function portRead(vcpu: Vcpu, port: u32, bytes: u32): u32 {
  const vm = vcpu.vm;
  const kind = kindOfNamed(vm, port);
  if (kind == Port.NONE && bytes == 1) return unclaimed(vm, bytes);
  lockDevices(vm);
  let value: u32 = 0;
  if (bytes == 1) value = readByte(vcpu, kind, port);
  else if (kind > <u32>Port.LAST_BYTE_WIDE) value = readWide(vcpu, kind, port, bytes);
  else for (let i: u32 = 0; i < bytes; i++) value |= readByte(vcpu, kindOf(vm, port + i), port + i) << (i << 3);
  unlockDevices(vm);
  return value;
}

/** OUT of the low 1, 2 or 4 bytes of `value`. */
export function portWrite(vcpu: Vcpu, port: u32, bytes: u32, value: u32): void {
  const vm = vcpu.vm;
  const kind = kindOfNamed(vm, port);
  lockDevices(vm);
  if (bytes == 1) writeByte(vcpu, kind, port, value & 0xff);
  else if (kind > <u32>Port.LAST_BYTE_WIDE) writeWide(vcpu, kind, port, bytes, value & widthMask(bytes));
  else for (let i: u32 = 0; i < bytes; i++) writeByte(vcpu, kindOf(vm, port + i), port + i, (value >> (i << 3)) & 0xff);
  unlockDevices(vm);
}

function widthMask(bytes: u32): u32 {
  return bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1;
}

function unclaimed(vm: Vm, bytes: u32): u32 {
  vm.unknownPorts += 1;
  return widthMask(bytes);
}

function readByte(vcpu: Vcpu, kind: u32, port: u32): u32 {
  const vm = vcpu.vm;
  switch (kind) {
    case Port.PIC:
      return readPic(vm, port);
    case Port.ELCR:
      return readElcr(vm, port);
    case Port.PIT:
      return readPit(vm, port);
    case Port.PORT61:
      return readPort61(vm);
    case Port.PORT80:
      return changetype<Bus>(vm.bus).post;
    case Port.PORT92:
      return readPort92(vm);
    case Port.RTC:
      return readRtc(vm, port);
    case Port.UART:
      return readUart(vm, port & 7);
    case Port.KEYBOARD:
      return readKeyboard(vm, port);
    case Port.NONE:
      return unclaimed(vm, 1);
    default:
      return readWide(vcpu, kind, port, 1);
  }
}

function writeByte(vcpu: Vcpu, kind: u32, port: u32, value: u32): void {
  const vm = vcpu.vm;
  switch (kind) {
    case Port.PIC:
      writePic(vm, port, value);
      break;
    case Port.ELCR:
      writeElcr(vm, port, value);
      break;
    case Port.PIT:
      writePit(vm, port, value);
      break;
    case Port.PORT61:
      writePort61(vm, value);
      break;
    case Port.PORT80:
      changetype<Bus>(vm.bus).post = value;
      break;
    case Port.PORT92:
      writePort92(vm, value);
      break;
    case Port.RTC:
      writeRtc(vm, port, value);
      break;
    case Port.UART:
      writeUart(vm, port & 7, value);
      break;
    case Port.KEYBOARD:
      writeKeyboard(vm, port, value);
      break;
    case Port.NONE:
      vm.unknownPorts += 1;
      break;
    default:
      writeWide(vcpu, kind, port, 1, value);
  }
}

function readWide(vcpu: Vcpu, kind: u32, port: u32, bytes: u32): u32 {
  const vm = vcpu.vm;
  switch (kind) {
    case Port.PM:
      return readPm(vm, port, bytes);
    case Port.PCI:
      return readPciPort(vm, port, bytes);
    case Port.PCI_DATA:
      return readPciData(vm, port, bytes);
    case Port.TEST:
      return readTest(vm, port, bytes);
    default:
      return unclaimed(vm, bytes);
  }
}

function writeWide(vcpu: Vcpu, kind: u32, port: u32, bytes: u32, value: u32): void {
  const vm = vcpu.vm;
  switch (kind) {
    case Port.PM:
      writePm(vm, port, bytes, value);
      break;
    case Port.PCI:
      writePciPort(vm, port, bytes, value);
      break;
    case Port.PCI_DATA:
      writePciData(vm, port, bytes, value);
      break;
    case Port.TEST:
      writeTest(vm, port, bytes, value);
      break;
    default:
      vm.unknownPorts += 1;
  }
}

// ---- Memory-mapped registers

/** True if a device answers at `gpa` for this vCPU: then no memory does. */
export function isMmio(vcpu: Vcpu, gpa: u64): bool {
  return gpa - mmioBase(vlapicOf(vcpu)) < 4096 || findRange(vcpu.vm, gpa) != 0;
}

/** The range that holds `gpa`, or 0. */
function findRange(vm: Vm, gpa: u64): usize {
  const count = changetype<Bus>(vm.bus).rangeCount;
  for (let i: u32 = 0; i < count; i++) {
    const r = rangeAt(vm, i);
    if (gpa < r.gpa) return 0;
    if (gpa - r.gpa < r.bytes) return changetype<usize>(r);
  }
  return 0;
}

/** A read of 1, 2, 4 or 8 bytes, zero-extended. */
export function mmioRead(vcpu: Vcpu, gpa: u64, bytes: u32): u64 {
  if (bytes == 8) return mmioRead4(vcpu, gpa, 4) | (mmioRead4(vcpu, gpa + 4, 4) << 32);
  return mmioRead4(vcpu, gpa, bytes);
}

function mmioRead4(vcpu: Vcpu, gpa: u64, bytes: u32): u64 {
  const v = vlapicOf(vcpu);
  const lapicOffset = gpa - mmioBase(v);
  if (lapicOffset < 4096) return <u64>lapicRead(v, <u32>lapicOffset, bytes);
  const range = findRange(vcpu.vm, gpa);
  if (!range) {
    vcpu.vm.unknownMmio += 1;
    return <u64>widthMask(bytes);
  }
  lockDevices(vcpu.vm);
  const value = readRange(vcpu.vm, changetype<Range>(range), gpa, bytes);
  unlockDevices(vcpu.vm);
  return <u64>(value & widthMask(bytes));
}

/** A write of 1, 2, 4 or 8 bytes. */
export function mmioWrite(vcpu: Vcpu, gpa: u64, bytes: u32, value: u64): void {
  if (bytes == 8) {
    mmioWrite4(vcpu, gpa, 4, <u32>value);
    mmioWrite4(vcpu, gpa + 4, 4, <u32>(value >> 32));
  } else mmioWrite4(vcpu, gpa, bytes, <u32>value & widthMask(bytes));
}

function mmioWrite4(vcpu: Vcpu, gpa: u64, bytes: u32, value: u32): void {
  const v = vlapicOf(vcpu);
  const lapicOffset = gpa - mmioBase(v);
  if (lapicOffset < 4096) {
    lapicWrite(v, <u32>lapicOffset, bytes, value);
    return;
  }
  const range = findRange(vcpu.vm, gpa);
  if (!range) {
    vcpu.vm.unknownMmio += 1;
    return;
  }
  lockDevices(vcpu.vm);
  writeRange(vcpu.vm, changetype<Range>(range), gpa, bytes, value);
  unlockDevices(vcpu.vm);
}

function readRange(vm: Vm, range: Range, gpa: u64, bytes: u32): u32 {
  const offset = <u32>(gpa - range.gpa);
  switch (range.kind) {
    case Mmio.IOAPIC:
      return readVioapic(vm, offset & 0xff);
    case Mmio.TEST_MEMORY:
      return readTestMemory(vm, offset, bytes);
    case Mmio.ECAM:
      return readEcam(vm, offset, bytes);
    default:
      return 0xffff_ffff;
  }
}

function writeRange(vm: Vm, range: Range, gpa: u64, bytes: u32, value: u32): void {
  const offset = <u32>(gpa - range.gpa);
  switch (range.kind) {
    case Mmio.IOAPIC:
      writeVioapic(vm, offset & 0xff, value);
      break;
    case Mmio.TEST_MEMORY:
      writeTestMemory(vm, offset, bytes, value);
      break;
    case Mmio.ECAM:
      writeEcam(vm, offset, bytes, value);
      break;
  }
}

/** The I/O APIC's page, PCI configuration space and the test memory, where the VM has them. */
export function claimFixedRanges(vm: Vm): Status {
  let status = claimMmio(vm, ECAM_GPA, ECAM_BYTES, Mmio.ECAM);
  if (!status) status = claimMmio(vm, IOAPIC_GPA, 4096, Mmio.IOAPIC);
  if (!status && vm.vtest) status = claimMmio(vm, TEST_MEMORY_GPA, TEST_MEMORY_BYTES, Mmio.TEST_MEMORY);
  return status;
}
