// Enumerates PCI: functions on every bus that bridges lead to, with BARs and capabilities, through
// ports CF8H/CFCH or, where the firmware describes it, memory-mapped configuration space.
// PCI Local Bus Specification 3.0, "Configuration Space"; PCI Express Base Specification, "Enhanced
// Configuration Access Mechanism".

import { deviceload32, devicestore32, in32, out32 } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import * as platform from "./platform";

const ADDRESS_PORT: u32 = 0xcf8;
const DATA_PORT: u32 = 0xcfc;
const ADDRESS_ENABLE: u32 = 0x8000_0000;
const NO_DEVICE: u32 = 0xffff_ffff;
export const MAX_FUNCTIONS: u32 = 256;
const MOST_CAPABILITIES: u32 = 48; // of 4 bytes at least, in 192
const BUS_BYTES: u64 = 1 << 20; // of ECAM

/** Offsets in configuration space. */
const enum At {
  ID = 0x00,
  COMMAND_STATUS = 0x04,
  CLASS = 0x08,
  HEADER = 0x0c, // type in bits 23:16
  BAR = 0x10,
  BUSES = 0x18, // bridges: primary, secondary, subordinate
  CAPABILITIES = 0x34,
}

const COMMAND_IO_MEMORY: u32 = 3;
const STATUS_CAPABILITIES: u32 = 1 << 20; // in the dword at COMMAND_STATUS
const MULTI_FUNCTION: u32 = 0x80;
const CLASS_BRIDGE: u32 = 0x06;
const SUBCLASS_HOST: u32 = 0x00;

/** Capabilities worth knowing, as bits of PciFunction.capabilities. */
export const enum Capability {
  MSI = 1,
  MSIX = 2,
  EXPRESS = 4,
  VENDOR = 8, // virtio among others
}

@unmanaged
export class PciFunction {
  address: u32; // bus << 8 | device << 3 | function
  segment: u32;
  id: u32; // device << 16 | vendor
  classCode: u32; // class << 16 | subclass << 8 | interface
  headerType: u32; // 0 device, 1 bridge to PCI, 2 to CardBus
  capabilities: u32; // Capability
  bars: u32; // a bit for each BAR that decodes memory or ports
  pad: u32;
  // six BARs follow: u64 base, u64 bytes
}
const BARS: usize = 32;
const FUNCTION_BYTES: usize = 128;

const functions: usize = memory.data(256 * 128, 8);
let functionCount: u32 = 0; // written at boot
const busSeen: usize = memory.data(32); // a bit a bus of the segment being scanned [boot CPU only]
const busQueue: usize = memory.data(256); // [boot CPU only]
let queued: u32 = 0; // written at boot

export function count(): u32 {
  return functionCount;
}

export function functionAt(index: u32): PciFunction {
  return changetype<PciFunction>(functions + <usize>index * FUNCTION_BYTES);
}

/** Base and size of BAR `bar` (0..5) of a function; size 0: it decodes nothing. */
export function barBase(f: PciFunction, bar: u32): u64 {
  return load<u64>(changetype<usize>(f) + BARS + ((<usize>bar) << 4));
}

export function barBytes(f: PciFunction, bar: u32): u64 {
  return load<u64>(changetype<usize>(f) + BARS + ((<usize>bar) << 4), 8);
}

// ---- Access

/** The ECAM that covers a bus, mapped; null (0) if there is none. */
function ecamOf(segment: u32, bus: u32): platform.Ecam {
  const p = platform.platform();
  for (let i: u32 = 0; i < p.ecamCount; i++) {
    const ecam = platform.ecamAt(i);
    if (ecam.segment != segment || bus < ecam.busStart || bus > ecam.busEnd) continue;
    return ecam;
  }
  return changetype<platform.Ecam>(0);
}

/** Where ECAM keeps the configuration space of a function; 0 without ECAM. */
function ecamAddress(segment: u32, address: u32): u64 {
  const ecam = ecamOf(segment, address >> 8);
  return changetype<usize>(ecam) ? ecam.base + ((<u64>address) << 12) : 0;
}

/** Reads the dword at `offset`; all ones if nothing is there. Ports reach segment 0 and 256 bytes only. */
export function read(segment: u32, address: u32, offset: u32): u32 {
  const pa = ecamAddress(segment, address);
  if (pa) return deviceload32(pa + (offset & 0xffc));
  if (segment != 0 || offset >= 256) return NO_DEVICE;
  out32(ADDRESS_PORT, ADDRESS_ENABLE | (address << 8) | (offset & 0xfc));
  return in32(DATA_PORT);
}

export function write(segment: u32, address: u32, offset: u32, value: u32): void {
  const pa = ecamAddress(segment, address);
  if (pa) {
    devicestore32(pa + (offset & 0xffc), value);
    return;
  }
  if (segment != 0 || offset >= 256) return;
  out32(ADDRESS_PORT, ADDRESS_ENABLE | (address << 8) | (offset & 0xfc));
  out32(DATA_PORT, value);
}

// ---- Enumeration

/** Finds all functions. */
export function start(): void {
  functionCount = 0;
  const p = platform.platform();
  scanSegment(0);
  for (let i: u32 = 0; i < p.ecamCount; i++) {
    const segment = platform.ecamAt(i).segment;
    if (segment != 0 && isFirstOf(i, segment)) scanSegment(segment);
  }
}

function isFirstOf(index: u32, segment: u32): bool {
  for (let i: u32 = 0; i < index; i++) if (platform.ecamAt(i).segment == segment) return false;
  return true;
}

/** Bus 0, then every bus that a bridge leads to, each once: a list of work, because bridges may lie. */
function scanSegment(segment: u32): void {
  memory.fill(busSeen, 0, 32);
  queued = 0;
  const ecam = ecamOf(segment, 0);
  queueBus(changetype<usize>(ecam) || segment == 0 ? 0 : firstBus(segment));
  for (let i: u32 = 0; i < queued; i++) scanBus(segment, load<u8>(busQueue + i));
}

function firstBus(segment: u32): u32 {
  const p = platform.platform();
  for (let i: u32 = 0; i < p.ecamCount; i++)
    if (platform.ecamAt(i).segment == segment) return platform.ecamAt(i).busStart;
  return 0;
}

function queueBus(bus: u32): void {
  const bit = 1 << (bus & 7);
  if (load<u8>(busSeen + (bus >> 3)) & bit) return;
  store<u8>(busSeen + (bus >> 3), load<u8>(busSeen + (bus >> 3)) | bit);
  store<u8>(busQueue + queued, bus);
  queued++;
}

function scanBus(segment: u32, bus: u32): void {
  const ecam = ecamOf(segment, bus);
  if (changetype<usize>(ecam) && !mapBus(ecam, bus)) return;
  for (let device: u32 = 0; device < 32; device++) {
    const address = (bus << 8) | (device << 3);
    if (read(segment, address, At.ID) == NO_DEVICE) continue;
    const last: u32 = (read(segment, address, At.HEADER) >> 16) & MULTI_FUNCTION ? 7 : 0;
    for (let f: u32 = 0; f <= last; f++) addFunction(segment, address | f);
  }
}

function mapBus(ecam: platform.Ecam, bus: u32): bool {
  return mapDevice(ecam.base + <u64>bus * BUS_BYTES, BUS_BYTES) == Status.OK;
}

function addFunction(segment: u32, address: u32): void {
  const id = read(segment, address, At.ID);
  if (id == NO_DEVICE || (id & 0xffff) == 0xffff) return;
  if (functionCount == MAX_FUNCTIONS) {
    log.warn("pci", "more than 256 functions: the rest is ignored");
    functionCount++; // say it once
    return;
  }
  if (functionCount > MAX_FUNCTIONS) return;
  const f = functionAt(functionCount);
  functionCount++;
  memory.fill(changetype<usize>(f), 0, FUNCTION_BYTES);
  f.address = address;
  f.segment = segment;
  f.id = id;
  f.classCode = read(segment, address, At.CLASS) >> 8;
  f.headerType = (read(segment, address, At.HEADER) >> 16) & 0x7f;
  f.capabilities = readCapabilities(f);
  if (f.headerType == 1) queueBus((read(segment, address, At.BUSES) >> 8) & 0xff);
  // A host bridge's BARs may be the memory that the core runs in: let them be.
  if (f.headerType == 0 && f.classCode >> 8 != ((CLASS_BRIDGE << 8) | SUBCLASS_HOST)) readBars(f);
}

function readCapabilities(f: PciFunction): u32 {
  if (!(read(f.segment, f.address, At.COMMAND_STATUS) & STATUS_CAPABILITIES)) return 0;
  let at = read(f.segment, f.address, At.CAPABILITIES) & 0xfc;
  let found: u32 = 0;
  for (let i: u32 = 0; i < MOST_CAPABILITIES && at >= 0x40; i++) {
    const header = read(f.segment, f.address, at);
    found |= capabilityBit(header & 0xff);
    at = (header >> 8) & 0xfc;
  }
  return found;
}

function capabilityBit(id: u32): u32 {
  if (id == 0x05) return Capability.MSI;
  if (id == 0x11) return Capability.MSIX;
  if (id == 0x10) return Capability.EXPRESS;
  return id == 0x09 ? Capability.VENDOR : 0;
}

/** Sizes each BAR by writing ones, with decoding off meanwhile, and puts it back. */
function readBars(f: PciFunction): void {
  const command = read(f.segment, f.address, At.COMMAND_STATUS) & 0xffff;
  write(f.segment, f.address, At.COMMAND_STATUS, command & ~COMMAND_IO_MEMORY);
  for (let bar: u32 = 0; bar < 6; ) bar += readBar(f, bar);
  write(f.segment, f.address, At.COMMAND_STATUS, command);
}

/** Reads BAR `bar`; returns how many BARs it takes: 2 if it has 64 bits. */
function readBar(f: PciFunction, bar: u32): u32 {
  const low = probe(f, bar);
  const original = <u32>(low >> 32);
  const mask = <u32>low;
  const isPort = (original & 1) != 0;
  const isWide = !isPort && ((original >> 1) & 3) == 2 && bar < 5;
  const flags: u64 = isPort ? 3 : 15;
  let base: u64 = original & ~(<u32>flags);
  let sizeMask: u64 = 0xffff_ffff_0000_0000 | (mask & ~(<u32>flags));
  if (isPort) sizeMask |= 0xffff_0000; // ports have 16 bits; some devices leave the upper half at zero
  if (isWide) {
    const high = probe(f, bar + 1);
    base |= (high >> 32) << 32;
    sizeMask = (high << 32) | (sizeMask & 0xffff_ffff);
  }
  // The lowest bit that could be set is the size.
  const bytes = (mask & ~(<u32>flags)) == 0 && !(isWide && sizeMask != 0) ? 0 : ~sizeMask + 1;
  if (bytes != 0) {
    const at = changetype<usize>(f) + BARS + ((<usize>bar) << 4);
    store<u64>(at, base);
    store<u64>(at, bytes, 8);
    f.bars |= 1 << bar;
  }
  return isWide ? 2 : 1;
}

/** A BAR's value in bits 63:32, and what it reads after ones were written in bits 31:0. */
function probe(f: PciFunction, bar: u32): u64 {
  const offset: u32 = <u32>At.BAR + 4 * bar;
  const original = read(f.segment, f.address, offset);
  write(f.segment, f.address, offset, 0xffff_ffff);
  const mask = read(f.segment, f.address, offset);
  write(f.segment, f.address, offset, original);
  return ((<u64>original) << 32) | mask;
}

// ---- Report

/** One line a function. */
export function report(): void {
  const shown = min(functionCount, MAX_FUNCTIONS);
  for (let i: u32 = 0; i < shown; i++) reportFunction(functionAt(i));
}

function reportFunction(f: PciFunction): void {
  log.begin(log.Level.INFO, "pci");
  log.hexDigits(f.segment, 4);
  log.str(":");
  log.hexDigits(f.address >> 8, 2);
  log.str(":");
  log.hexDigits((f.address >> 3) & 31, 2);
  log.str(".");
  log.hexDigits(f.address & 7, 1);
  log.str(" ");
  log.hexDigits(f.id & 0xffff, 4);
  log.str(":");
  log.hexDigits(f.id >> 16, 4);
  log.str(" class ");
  log.hexDigits(f.classCode, 6);
  if (f.headerType == 1) log.str(", bridge");
  if (f.capabilities & Capability.MSI) log.str(", MSI");
  if (f.capabilities & Capability.MSIX) log.str(", MSI-X");
  if (f.capabilities & Capability.EXPRESS) log.str(", PCIe");
  for (let bar: u32 = 0; bar < 6; bar++) if (f.bars & (1 << bar)) reportBar(f, bar);
  log.end();
}

function reportBar(f: PciFunction, bar: u32): void {
  log.str(", BAR");
  log.dec(bar);
  log.str(" ");
  log.hex(barBase(f, bar));
  log.str(" ");
  log.size(barBytes(f, bar));
}
