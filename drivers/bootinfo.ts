// What the boot loader told us, in a neutral form: the multiboot readers fill it, everyone else reads
// it. All of it is copied into linear memory at once, because the loader's own structures lie in
// memory that is about to be handed out.

import { deviceload8, deviceread } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";

/** Kinds of physical memory, with the numbers of ACPI's address map interface; larger wins an overlap, but see rank(). */
export const enum MemoryKind {
  USABLE = 1,
  RESERVED = 2,
  ACPI_RECLAIM = 3, // the firmware's tables
  ACPI_NVS = 4,
  BAD = 5,
}

export const enum Protocol {
  NONE = 0,
  MULTIBOOT1 = 1,
  MULTIBOOT2 = 2,
}

export const MAX_REGIONS: u32 = 256;
export const MAX_MODULES: u32 = 64;
const REGION_BYTES: usize = 24;
const MODULE_BYTES: usize = 24;
/** A string that a guest is described by has as many at most, its NUL included (tools/image/modules.ts refuses longer ones). */
export const MOST_STRING: u32 = 4096;
const POOL_BYTES: u32 = 65536;
/** No structure of the loader lies above: the boot page tables map this much to read it. */
export const LOADER_LIMIT: u64 = 0x1_0000_0000;

@unmanaged
export class Region {
  base: u64; // physical, page aligned
  end: u64; // one past the last byte, page aligned
  kind: u32; // MemoryKind
  pad: u32;
}

@unmanaged
export class BootModule {
  base: u64; // physical
  bytes: u64;
  text: usize; // its string in linear memory
  textBytes: u32;
}

/** A linear framebuffer or the text screen that the loader left. */
export const enum FramebufferKind {
  NONE = 0,
  RGB = 1,
  TEXT = 2,
}

@unmanaged
export class BootInfo {
  protocol: u32; // Protocol
  regionCount: u32; // regionAt(): sorted, disjoint
  moduleCount: u32; // moduleAt()
  commandLineBytes: u32;
  commandLine: usize;
  loaderName: usize;
  loaderNameBytes: u32;
  rsdp: usize; // a copy of the RSDP that the loader passed; 0: none
  rsdpBytes: u32;
  framebufferKind: u32;
  framebuffer: u64; // physical
  framebufferPitch: u32; // bytes a row
  framebufferWidth: u32; // pixels, or characters
  framebufferHeight: u32;
  framebufferBits: u32; // a pixel
  redShift: u32;
  greenShift: u32;
  blueShift: u32;
  poolUsed: u32;
  efiSystemTable: u64; // physical; 0: not booted through UEFI
}

const theInfo: usize = memory.data(128, 8);
const regions: usize = memory.data(256 * 24, 8);
const modules: usize = memory.data(64 * 24, 8);
const pool: usize = memory.data(65536, 8);
if (offsetof<BootInfo>() > 128 || offsetof<Region>() != 24) ERROR("bootinfo: layout");

export function bootInfo(): BootInfo {
  return changetype<BootInfo>(theInfo);
}

export function regionAt(index: u32): Region {
  return changetype<Region>(regions + <usize>index * REGION_BYTES);
}

export function moduleAt(index: u32): BootModule {
  return changetype<BootModule>(modules + <usize>index * MODULE_BYTES);
}

/** Forgets everything. */
export function clear(): void {
  memory.fill(theInfo, 0, offsetof<BootInfo>());
}

// ---- For the readers

/** Takes `bytes` of the pool; 0 if it is full. */
export function poolAlloc(bytes: u32): usize {
  const info = bootInfo();
  if (bytes > POOL_BYTES - info.poolUsed) return 0;
  const at = pool + info.poolUsed;
  info.poolUsed += (bytes + 7) & ~7;
  return at;
}

/** Whether the loader's `bytes` at `pa` can be read at all. */
export function isReadable(pa: u64, bytes: u64): bool {
  return pa != 0 && pa < LOADER_LIMIT && bytes <= LOADER_LIMIT - pa;
}

/** Copies a string that ends with NUL or after `most` bytes into the pool and leaves its length in `lengthOut` (u32). 0 if there is no room. */
export function copyString(pa: u64, most: u32, lengthOut: usize): usize {
  store<u32>(lengthOut, 0);
  if (!isReadable(pa, 1)) return 0;
  const limit = <u32>min(<u64>most, LOADER_LIMIT - pa);
  let length: u32 = 0;
  while (length < limit && deviceload8(pa + length) != 0) length++;
  const at = poolAlloc(length + 1);
  if (!at) {
    log.warn("boot", "the strings of the boot loader have more than 64 KiB together: one is ignored");
    return 0;
  }
  deviceread(at, pa, length);
  store<u8>(at + length, 0);
  store<u32>(lengthOut, length);
  return at;
}

/** Adds one range of the loader's map; an end past 2^64 is cut, an empty range is left out. */
export function addRegion(base: u64, bytes: u64, kind: MemoryKind): void {
  const info = bootInfo();
  if (bytes == 0) return;
  if (info.regionCount == MAX_REGIONS) return; // normalise() tells
  const region = regionAt(info.regionCount++);
  let end = base + bytes;
  if (end < base) {
    warnRange("memory range wraps around: cut at 2^64", base, end);
    end = ~PAGE_MASK;
  }
  // Usable memory shrinks to whole pages, all else grows.
  if (kind == MemoryKind.USABLE) {
    region.base = roundUp(base);
    region.end = end & ~PAGE_MASK;
  } else {
    region.base = base & ~PAGE_MASK;
    region.end = roundUp(end);
  }
  region.kind = kind;
  if (region.base >= region.end) info.regionCount--;
}

const PAGE_MASK: u64 = 4095;

function roundUp(address: u64): u64 {
  return address > ~PAGE_MASK ? ~PAGE_MASK : (address + PAGE_MASK) & ~PAGE_MASK;
}

/** Adds a module; one that cannot be is left out with a warning. */
export function addModule(base: u64, end: u64, textPa: u64): void {
  const info = bootInfo();
  if (end < base || !isReadable(base, end - base)) {
    warnRange("boot module that ends before it begins or lies nowhere: ignored", base, end);
    return;
  }
  if (info.moduleCount == MAX_MODULES) {
    log.warn("boot", "more than 64 boot modules: the rest is ignored");
    return;
  }
  const module = moduleAt(info.moduleCount++);
  module.base = base;
  module.bytes = end - base;
  module.textBytes = 0;
  module.text = 0;
  if (!textPa) return;
  if (hasEnd(textPa, MOST_STRING))
    module.text = copyString(textPa, MOST_STRING, changetype<usize>(module) + offsetof<BootModule>("textBytes"));
  else warnRange("the string of a boot module is longer than 4095 bytes: ignored, and the guest with it", base, end);
}

/** Whether a string ends within `bytes`. */
export function hasEnd(pa: u64, bytes: u32): bool {
  if (!isReadable(pa, 1)) return false;
  const most = <u32>min(<u64>bytes, LOADER_LIMIT - pa);
  for (let i: u32 = 0; i < most; i++) if (deviceload8(pa + i) == 0) return true;
  return false;
}

export function warnRange(text: string, base: u64, end: u64): void {
  log.begin(log.Level.WARN, "boot");
  log.str(text);
  log.str(" (");
  log.hex(base);
  log.str(" .. ");
  log.hex(end);
  log.str(")");
  log.end();
}

// ---- Putting the map in order

const sorted: usize = memory.data(256 * 24, 8); // [boot CPU only]
const edges: usize = memory.data(512 * 8, 8); // [boot CPU only]

/**
 * Makes the regions sorted and disjoint: where ranges overlap, the more restrictive kind wins;
 * neighbours of one kind become one. Say so if there was an overlap or if ranges were lost.
 */
export function normalise(): void {
  const info = bootInfo();
  if (info.regionCount == MAX_REGIONS) log.warn("boot", "memory map has 256 ranges or more: the rest is ignored");
  const edgeCount = collectEdges(info.regionCount);
  let count: u32 = 0;
  let overlaps: u32 = 0;
  for (let i: u32 = 0; i + 1 < edgeCount; i++) {
    const base = edgeAt(i);
    const end = edgeAt(i + 1);
    if (base == end) continue;
    const found = strongest(base, info.regionCount);
    if (found >> 8) overlaps++;
    const kind = found & 0xff;
    if (kind == 0) continue;
    count = append(count, base, end, kind);
  }
  if (overlaps) log.warn("boot", "memory map has overlapping ranges: the more restrictive kind holds");
  memory.copy(regions, sorted, <usize>count * REGION_BYTES);
  info.regionCount = count;
}

function edgeAt(index: u32): u64 {
  return load<u64>(edges + ((<usize>index) << 3));
}

/** All bases and ends, sorted by insertion: maps come nearly sorted. */
function collectEdges(regionCount: u32): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < regionCount; i++) {
    insertEdge(count++, regionAt(i).base);
    insertEdge(count++, regionAt(i).end);
  }
  return count;
}

function insertEdge(count: u32, value: u64): void {
  let at = count;
  while (at > 0 && edgeAt(at - 1) > value) {
    store<u64>(edges + ((<usize>at) << 3), edgeAt(at - 1));
    at--;
  }
  store<u64>(edges + ((<usize>at) << 3), value);
}

/** The kind that holds at `address` (0: none), with bit 8 set if ranges of different kinds claim it. */
function strongest(address: u64, regionCount: u32): u32 {
  let kind: u32 = 0;
  let differ: u32 = 0;
  for (let i: u32 = 0; i < regionCount; i++) {
    const region = regionAt(i);
    if (address < region.base || address >= region.end) continue;
    if (kind != 0 && kind != region.kind) differ = 0x100;
    if (rank(region.kind) > rank(kind)) kind = region.kind;
  }
  return kind | differ;
}

/** Usable memory gives way to the firmware's tables, those to reserved memory, that to bad memory. */
function rank(kind: u32): u32 {
  if (kind == MemoryKind.RESERVED) return 5;
  if (kind == MemoryKind.BAD) return 6;
  return kind;
}

function append(count: u32, base: u64, end: u64, kind: u32): u32 {
  if (count) {
    const last = changetype<Region>(sorted + <usize>(count - 1) * REGION_BYTES);
    if (last.end == base && last.kind == kind) {
      last.end = end;
      return count;
    }
  }
  if (count == MAX_REGIONS) return count;
  const region = changetype<Region>(sorted + <usize>count * REGION_BYTES);
  region.base = base;
  region.end = end;
  region.kind = kind;
  region.pad = 0;
  return count + 1;
}

/** Sum of the usable ranges in bytes. */
export function usableBytes(): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < bootInfo().regionCount; i++) {
    if (regionAt(i).kind == MemoryKind.USABLE) sum += regionAt(i).end - regionAt(i).base;
  }
  return sum;
}

// ---- Report

/** The map, the modules and the loader, to the log. */
export function report(): void {
  const info = bootInfo();
  log.begin(log.Level.INFO, "boot");
  log.str(info.protocol == Protocol.MULTIBOOT2 ? "multiboot 2" : "multiboot 1");
  log.str(info.efiSystemTable ? ", UEFI, loader " : ", loader ");
  log.bytes(info.loaderName, min(info.loaderNameBytes, 40));
  log.end();
  for (let i: u32 = 0; i < info.regionCount; i++) reportRegion(regionAt(i));
  for (let i: u32 = 0; i < info.moduleCount; i++) reportModule(i);
}

function reportRegion(region: Region): void {
  log.begin(log.Level.INFO, "memory");
  log.hexDigits(region.base, 12);
  log.str(" .. ");
  log.hexDigits(region.end, 12);
  log.str(" ");
  log.str(kindName(region.kind));
  log.str(", ");
  log.size(region.end - region.base);
  log.end();
}

function kindName(kind: u32): string {
  if (kind == MemoryKind.USABLE) return "usable";
  if (kind == MemoryKind.ACPI_RECLAIM) return "ACPI tables";
  if (kind == MemoryKind.ACPI_NVS) return "ACPI NVS";
  if (kind == MemoryKind.BAD) return "bad";
  return "reserved";
}

function reportModule(index: u32): void {
  const module = moduleAt(index);
  log.begin(log.Level.INFO, "module");
  log.dec(index);
  log.str(" at ");
  log.hex(module.base);
  log.str(", ");
  log.size(module.bytes);
  log.str(": ");
  log.bytes(module.text, module.textBytes);
  log.end();
}
