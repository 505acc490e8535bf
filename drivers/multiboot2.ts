// Reads the multiboot 2 information: a list of tags.
// Multiboot2 Specification 2.0, "Boot information format".

import { deviceload8, deviceload32, deviceload64, deviceread } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";
import * as boot from "./bootinfo";

export const MAGIC: u32 = 0x36d7_6289;

/** Tag types. */
const enum Tag {
  END = 0,
  COMMAND_LINE = 1,
  LOADER_NAME = 2,
  MODULE = 3,
  BASIC_MEMORY = 4,
  MEMORY_MAP = 6,
  FRAMEBUFFER = 8,
  EFI64_SYSTEM_TABLE = 12,
  ACPI_OLD = 14,
  ACPI_NEW = 15,
  EFI_MEMORY_MAP = 17,
  EFI_BOOT_SERVICES = 18, // they were not ended
}

/** The header of a tag: type, size. Tags start at multiples of 8. */
const TAG_HEADER: u32 = 8;
const MOST_BYTES: u32 = 4 << 20;
const MOST_COMMAND_LINE: u32 = 4096;

/** Fills BootInfo from the tags at physical `info`; what cannot be is left out with a warning. */
export function read(info: u64): void {
  boot.bootInfo().protocol = boot.Protocol.MULTIBOOT2;
  if (!boot.isReadable(info, 16)) {
    log.error("boot", "the multiboot 2 information lies nowhere: going on without it");
    return;
  }
  let total = deviceload32(info);
  if (total > MOST_BYTES || !boot.isReadable(info, total)) {
    log.warn("boot", "the multiboot 2 information claims an absurd size: reading its first 64 KiB");
    total = <u32>min(<u64>0x1_0000, boot.LOADER_LIMIT - info);
  }
  readMaps(info, total);
  let at: u32 = TAG_HEADER;
  while (at <= total - TAG_HEADER && total >= TAG_HEADER) {
    const size = sizeAt(info, at, total);
    if (size == 0) return;
    readTag(info + at, deviceload32(info + at), size);
    at += (size + 7) & ~7;
  }
  log.warn("boot", "the multiboot 2 information has no end tag");
}

/** The size of the tag at `at`; 0 at the end, or if it cannot be. */
function sizeAt(info: u64, at: u32, total: u32): u32 {
  if (deviceload32(info + at) == Tag.END) return 0;
  const size = deviceload32(info + at + 4);
  if (size >= TAG_HEADER && size <= total - at) return size;
  log.warn("boot", "multiboot 2 tag of impossible size: the rest is ignored");
  return 0;
}

/** The first tag of a type: physical address, or 0. */
function find(info: u64, total: u32, type: Tag): u64 {
  let at: u32 = TAG_HEADER;
  while (total >= TAG_HEADER && at <= total - TAG_HEADER) {
    const found = deviceload32(info + at);
    const size = deviceload32(info + at + 4);
    if (found == Tag.END || size < TAG_HEADER || size > total - at) return 0;
    if (found == <u32>type) return info + at;
    at += (size + 7) & ~7;
  }
  return 0;
}

/** The EFI map knows more than the loader's summary of it, which knows more than two sizes. */
function readMaps(info: u64, total: u32): void {
  const out = boot.bootInfo();
  const efi = find(info, total, Tag.EFI_MEMORY_MAP);
  if (efi) readEfiMap(efi, deviceload32(efi + 4));
  const map = find(info, total, Tag.MEMORY_MAP);
  if (out.regionCount == 0 && map) readMap(map, deviceload32(map + 4));
  const basic = find(info, total, Tag.BASIC_MEMORY);
  if (out.regionCount == 0 && basic && deviceload32(basic + 4) >= 16) {
    boot.addRegion(0, (<u64>min(deviceload32(basic + 8), 640)) << 10, boot.MemoryKind.USABLE);
    boot.addRegion(0x10_0000, (<u64>deviceload32(basic + 12)) << 10, boot.MemoryKind.USABLE);
  }
}

function readTag(tag: u64, type: u32, size: u32): void {
  const out = boot.bootInfo();
  const base = changetype<usize>(out);
  const body = size - TAG_HEADER;
  switch (type) {
    case Tag.COMMAND_LINE:
      out.commandLine = boot.copyString(
        tag + 8,
        min(body, MOST_COMMAND_LINE),
        base + offsetof<boot.BootInfo>("commandLineBytes"),
      );
      break;
    case Tag.LOADER_NAME:
      out.loaderName = boot.copyString(tag + 8, min(body, 64), base + offsetof<boot.BootInfo>("loaderNameBytes"));
      break;
    case Tag.MODULE:
      readModule(tag, body);
      break;
    case Tag.FRAMEBUFFER:
      if (body >= 24) readFramebuffer(tag, body);
      break;
    case Tag.EFI64_SYSTEM_TABLE:
      if (body >= 8) out.efiSystemTable = deviceload64(tag + 8);
      break;
    case Tag.ACPI_OLD:
      if (out.rsdpBytes < 36) copyRsdp(tag, body, 20);
      break;
    case Tag.ACPI_NEW:
      copyRsdp(tag, body, 36);
      break;
    case Tag.EFI_BOOT_SERVICES:
      log.warn("boot", "the loader did not end UEFI's boot services: the memory map may be out of date");
      break;
    default:
      break;
  }
}

function readModule(tag: u64, body: u32): void {
  if (body < 9) {
    log.warn("boot", "multiboot 2 module tag is too short: ignored");
    return;
  }
  // The string ends in the tag: a missing NUL must not run on.
  const text = boot.hasEnd(tag + 16, body - 8) ? tag + 16 : 0;
  boot.addModule(deviceload32(tag + 8), deviceload32(tag + 12), text);
}

function readMap(tag: u64, size: u32): void {
  const entryBytes = size >= 16 ? deviceload32(tag + 8) : 0;
  if (entryBytes < 24) {
    log.warn("boot", "memory map with entries of impossible size: ignored");
    return;
  }
  for (let at: u64 = 16; at + entryBytes <= <u64>size; at += entryBytes) {
    const type = deviceload32(tag + at + 16);
    const kind = type >= 1 && type <= 5 ? <boot.MemoryKind>type : boot.MemoryKind.RESERVED;
    boot.addRegion(deviceload64(tag + at), deviceload64(tag + at + 8), kind);
  }
}

/** UEFI Specification, "EFI_MEMORY_DESCRIPTOR": type, physical start, virtual start, pages, attributes. */
function readEfiMap(tag: u64, size: u32): void {
  const entryBytes = size >= 16 ? deviceload32(tag + 8) : 0;
  if (entryBytes < 40) {
    log.warn("boot", "EFI memory map with entries of impossible size: ignored");
    return;
  }
  for (let at: u64 = 16; at + entryBytes <= <u64>size; at += entryBytes) {
    const pages = deviceload64(tag + at + 24);
    const bytes = pages > u64.MAX_VALUE >> 12 ? ~(<u64>4095) : pages << 12;
    addEfi(deviceload64(tag + at + 8), bytes, deviceload32(tag + at));
  }
}

/** Merges with the range before if it continues it: EFI maps have hundreds of small neighbours. */
function addEfi(base: u64, bytes: u64, type: u32): void {
  const kind = efiKind(type);
  const count = boot.bootInfo().regionCount;
  if (count) {
    const last = boot.regionAt(count - 1);
    if (last.kind == <u32>kind && last.end == base && base + bytes > base) {
      last.end = base + bytes;
      return;
    }
  }
  boot.addRegion(base, bytes, kind);
}

/** UEFI Specification, "Memory Type Usage after ExitBootServices()". */
function efiKind(type: u32): boot.MemoryKind {
  if (type >= 1 && type <= 4) return boot.MemoryKind.USABLE; // loader and boot services
  if (type == 7) return boot.MemoryKind.USABLE;
  if (type == 8) return boot.MemoryKind.BAD;
  if (type == 9) return boot.MemoryKind.ACPI_RECLAIM;
  if (type == 10) return boot.MemoryKind.ACPI_NVS;
  return boot.MemoryKind.RESERVED;
}

function readFramebuffer(tag: u64, body: u32): void {
  const out = boot.bootInfo();
  out.framebuffer = deviceload64(tag + 8);
  out.framebufferPitch = deviceload32(tag + 16);
  out.framebufferWidth = deviceload32(tag + 20);
  out.framebufferHeight = deviceload32(tag + 24);
  out.framebufferBits = deviceload8(tag + 28);
  const kind = deviceload8(tag + 29);
  out.framebufferKind = kind == boot.FramebufferKind.RGB && body < 30 ? boot.FramebufferKind.NONE : kind;
  if (kind != boot.FramebufferKind.RGB) return;
  out.redShift = deviceload8(tag + 32);
  out.greenShift = deviceload8(tag + 34);
  out.blueShift = deviceload8(tag + 36);
}

function copyRsdp(tag: u64, body: u32, bytes: u32): void {
  if (body < bytes) return;
  const at = boot.poolAlloc(bytes);
  if (!at) return;
  deviceread(at, tag + 8, bytes);
  boot.bootInfo().rsdp = at;
  boot.bootInfo().rsdpBytes = bytes;
}
