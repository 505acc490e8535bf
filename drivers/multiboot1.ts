// Reads the multiboot 1 information structure.
// Multiboot Specification 0.6.96, "Boot information format".

import { deviceload8, deviceload32, deviceload64 } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";
import * as boot from "./bootinfo";

export const MAGIC: u32 = 0x2bad_b002;

/** Offsets in the structure. */
const enum At {
  FLAGS = 0,
  MEM_LOWER = 4,
  MEM_UPPER = 8,
  CMDLINE = 16,
  MODS_COUNT = 20,
  MODS_ADDR = 24,
  MMAP_LENGTH = 44,
  MMAP_ADDR = 48,
  LOADER_NAME = 64,
  FRAMEBUFFER_ADDR = 88,
  FRAMEBUFFER_PITCH = 96,
  FRAMEBUFFER_WIDTH = 100,
  FRAMEBUFFER_HEIGHT = 104,
  FRAMEBUFFER_BPP = 108,
  FRAMEBUFFER_TYPE = 109,
  FRAMEBUFFER_RED = 110, // position and size of red, green, blue: six bytes
  END = 116,
}

/** Bits of FLAGS. */
const enum Has {
  MEMORY = 1 << 0,
  CMDLINE = 1 << 2,
  MODULES = 1 << 3,
  MMAP = 1 << 6,
  LOADER_NAME = 1 << 9,
  FRAMEBUFFER = 1 << 12,
}

const MODULE_ENTRY_BYTES: u64 = 16;
const MMAP_ENTRY_LEAST: u32 = 20; // without the size field itself
const MOST_MAP_BYTES: u64 = 0x1_0000;
const MOST_COMMAND_LINE: u32 = 4096;

/** Fills BootInfo from the structure at physical `info`; what cannot be is left out with a warning. */
export function read(info: u64): void {
  const out = boot.bootInfo();
  out.protocol = boot.Protocol.MULTIBOOT1;
  if (!boot.isReadable(info, <u64>At.END)) {
    log.error("boot", "the multiboot 1 information lies nowhere: going on without it");
    return;
  }
  const flags = deviceload32(info + At.FLAGS);
  const base = changetype<usize>(out);
  if (flags & Has.CMDLINE) {
    out.commandLine = boot.copyString(
      deviceload32(info + At.CMDLINE),
      MOST_COMMAND_LINE,
      base + offsetof<boot.BootInfo>("commandLineBytes"),
    );
  }
  if (flags & Has.LOADER_NAME) {
    out.loaderName = boot.copyString(
      deviceload32(info + At.LOADER_NAME),
      64,
      base + offsetof<boot.BootInfo>("loaderNameBytes"),
    );
  }
  if (flags & Has.MMAP) readMap(deviceload32(info + At.MMAP_ADDR), deviceload32(info + At.MMAP_LENGTH));
  if (out.regionCount == 0 && flags & Has.MEMORY) readSizes(info);
  if (flags & Has.MODULES) readModules(deviceload32(info + At.MODS_ADDR), deviceload32(info + At.MODS_COUNT));
  if (flags & Has.FRAMEBUFFER) readFramebuffer(info);
}

/** Entries of a size field and that many bytes: base, length, type. */
function readMap(map: u64, bytes: u64): void {
  if (!boot.isReadable(map, min(bytes, MOST_MAP_BYTES))) {
    log.warn("boot", "the memory map lies nowhere: ignored");
    return;
  }
  if (bytes > MOST_MAP_BYTES) log.warn("boot", "the memory map claims an absurd size: reading its first 64 KiB");
  const end = min(bytes, MOST_MAP_BYTES);
  let at: u64 = 0;
  while (at + 4 + MMAP_ENTRY_LEAST <= end) {
    const entryBytes = deviceload32(map + at);
    if (entryBytes < MMAP_ENTRY_LEAST) {
      log.warn("boot", "memory map with an entry of impossible size: the rest is ignored");
      return;
    }
    const type = deviceload32(map + at + 20);
    boot.addRegion(deviceload64(map + at + 4), deviceload64(map + at + 12), kindOf(type));
    at += <u64>entryBytes + 4;
  }
}

/** Types that the specification does not name are not ours to use. */
function kindOf(type: u32): boot.MemoryKind {
  return type >= 1 && type <= 5 ? <boot.MemoryKind>type : boot.MemoryKind.RESERVED;
}

/** Without a map: memory below 640 KiB and above 1 MiB, up to the first hole. */
function readSizes(info: u64): void {
  boot.addRegion(0, (<u64>min(deviceload32(info + At.MEM_LOWER), 640)) << 10, boot.MemoryKind.USABLE);
  boot.addRegion(0x10_0000, (<u64>deviceload32(info + At.MEM_UPPER)) << 10, boot.MemoryKind.USABLE);
}

function readModules(list: u64, count: u32): void {
  if (count == 0) return;
  if (!boot.isReadable(list, <u64>count * MODULE_ENTRY_BYTES)) {
    log.warn("boot", "the list of boot modules lies nowhere: ignored");
    return;
  }
  const most = min(count, boot.MAX_MODULES + 1);
  for (let i: u32 = 0; i < most; i++) {
    const entry = list + <u64>i * MODULE_ENTRY_BYTES;
    boot.addModule(deviceload32(entry), deviceload32(entry + 4), deviceload32(entry + 8));
  }
}

function readFramebuffer(info: u64): void {
  const out = boot.bootInfo();
  out.framebufferKind = deviceload8(info + At.FRAMEBUFFER_TYPE);
  out.framebuffer = deviceload64(info + At.FRAMEBUFFER_ADDR);
  out.framebufferPitch = deviceload32(info + At.FRAMEBUFFER_PITCH);
  out.framebufferWidth = deviceload32(info + At.FRAMEBUFFER_WIDTH);
  out.framebufferHeight = deviceload32(info + At.FRAMEBUFFER_HEIGHT);
  out.framebufferBits = deviceload8(info + At.FRAMEBUFFER_BPP);
  out.redShift = deviceload8(info + At.FRAMEBUFFER_RED);
  out.greenShift = deviceload8(info + At.FRAMEBUFFER_RED + 2);
  out.blueShift = deviceload8(info + At.FRAMEBUFFER_RED + 4);
}
