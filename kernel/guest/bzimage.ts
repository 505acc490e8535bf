// Linux by its 64-bit boot protocol: the kernel's own setup header is checked and copied into
// boot_params, the protected-mode part goes where it asks, and it is entered in long mode.
// Linux kernel documentation, "The Linux/x86 Boot Protocol", "64-bit BOOT PROTOCOL" and "Zero Page".

import { gueststore32, gueststore64, gueststore8 } from "../cpu/insn";
import { Status } from "../lib/status";
import { copyModuleToGuest, fillGuest } from "../mm/guestmem";
import { guestModuleAt } from "./config";
import { MapForm, writeMap } from "./e820";
import { has, Image, read16, read32, read64, read8 } from "./image";
import { EXTENDED_START, FOUR_GIB, isRam, placeAbove, placeBelow, reserve } from "./place";
import { EntryMode, entryOf, imageOf, Plan, placementOf, ramOfPlan, refuse } from "./plan";
import { putText } from "./text";

// Setup header, offsets in the file and in boot_params alike.
const enum Header {
  SETUP_SECTS = 0x1f1,
  SYSSIZE = 0x1f4,
  BOOT_FLAG = 0x1fe,
  JUMP = 0x200, // its second byte is the length of the header after 202H
  MAGIC = 0x202,
  VERSION = 0x206,
  TYPE_OF_LOADER = 0x210,
  LOADFLAGS = 0x211,
  CODE32_START = 0x214,
  RAMDISK_IMAGE = 0x218,
  RAMDISK_SIZE = 0x21c,
  CMD_LINE_PTR = 0x228,
  INITRD_ADDR_MAX = 0x22c,
  KERNEL_ALIGNMENT = 0x230,
  RELOCATABLE_KERNEL = 0x234,
  XLOADFLAGS = 0x236,
  CMDLINE_SIZE = 0x238,
  PREF_ADDRESS = 0x258,
  INIT_SIZE = 0x260,
  END = 0x268,
}

// boot_params beside the setup header.
const enum Params {
  ACPI_RSDP = 0x070,
  EXT_RAMDISK_IMAGE = 0x0c0,
  EXT_RAMDISK_SIZE = 0x0c4,
  EXT_CMD_LINE_PTR = 0x0c8,
  ALT_MEM_K = 0x1e0,
  E820_ENTRIES = 0x1e8,
  E820_TABLE = 0x2d0,
}

const HEADER_MAGIC: u32 = 0x5372_6448; // "HdrS"
const OLDEST_VERSION: u32 = 0x020c; // xloadflags
const XLF_KERNEL_64: u32 = 1;
const XLF_ABOVE_4G: u32 = 2;
const LOADED_HIGH: u32 = 1;
const ENTRY_64: u64 = 0x200;
const UNKNOWN_LOADER: u32 = 0xff;

// A GDT with the selectors that the protocol names: 10H code, 18H data.
const GDT_BYTES: u64 = 32;
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;

export function isBzImage(image: Image): bool {
  return (
    has(image, 0, Header.END) &&
    read16(image, Header.BOOT_FLAG) == 0xaa55 &&
    read32(image, Header.MAGIC) == HEADER_MAGIC
  );
}

/** Loads the kernel and prepares its entry. BAD_FORMAT after one line that says why. */
export function loadBzImage(plan: Plan): Status {
  const image = imageOf(plan);
  if (!isBzImage(image)) return refuse(plan, "not a bzImage");
  if (read16(image, Header.VERSION) < OLDEST_VERSION) return refuse(plan, "its boot protocol is older than 2.12");
  if (!(read16(image, Header.XLOADFLAGS) & XLF_KERNEL_64)) return refuse(plan, "it has no 64-bit entry point");
  if (!(read8(image, Header.LOADFLAGS) & LOADED_HIGH)) return refuse(plan, "it is a zImage: only bzImage loads high");
  if (plan.config.commandLineBytes > read32(image, Header.CMDLINE_SIZE))
    return refuse(plan, "its command line is longer than the kernel takes");
  const loadAt = placeKernel(plan);
  if (!loadAt) return Status.BAD_FORMAT;
  return buildParams(plan, loadAt);
}

/** Bytes of the file before the protected-mode part. */
function setupBytes(image: Image): u64 {
  const sectors = read8(image, Header.SETUP_SECTS);
  return (<u64>(sectors ? sectors + 1 : 5)) << 9;
}

/** Copies the protected-mode part; returns its address, or 0 after one line that says why. */
function placeKernel(plan: Plan): u64 {
  const image = imageOf(plan);
  const p = placementOf(plan);
  const offset = setupBytes(image);
  const bytes = (<u64>read32(image, Header.SYSSIZE)) << 4;
  const need = <u64>read32(image, Header.INIT_SIZE);
  // The last paragraph may be cut short in the file.
  if (bytes < 16 || !has(image, offset, bytes - 15)) {
    refuse(plan, "the bzImage is shorter than its header says");
    return 0;
  }
  const fileBytes = min(bytes, image.bytes - offset);
  const room = max(need, bytes);
  let at = read64(image, Header.PREF_ADDRESS);
  if (!isRam(p, at, room) || at < EXTENDED_START) at = relocated(plan, room);
  else if (!reserve(p, at, room)) at = 0;
  if (!at) {
    refuse(plan, "the kernel needs more memory than the guest has");
    return 0;
  }
  copyModuleToGuest(ramOfPlan(plan), at, image.pa + offset, fileBytes);
  plan.kernelEnd = at + room;
  return at;
}

/** Another place for a kernel that can be moved; 0 if it cannot, or there is none. */
function relocated(plan: Plan, room: u64): u64 {
  const image = imageOf(plan);
  const align: u64 = read32(image, Header.KERNEL_ALIGNMENT);
  if (!read8(image, Header.RELOCATABLE_KERNEL) || align < 4096 || align & (align - 1)) return 0;
  return placeAbove(placementOf(plan), EXTENDED_START, room, align);
}

/** boot_params, command line, page tables, GDT and initrd. */
function buildParams(plan: Plan, kernel: u64): Status {
  const p = placementOf(plan);
  const ram = ramOfPlan(plan);
  const params = placeBelow(p, 4096, 4096, 0x9_0000);
  const commandLine = placeBelow(p, <u64>plan.config.commandLineBytes + 1, 16, 0x9_0000);
  const gdt = placeBelow(p, GDT_BYTES, 16, 0x9_0000);
  const tables = placeBelow(p, TABLE_BYTES, 4096, 0x9_0000);
  if (!params || !commandLine || !gdt || !tables) return refuse(plan, "no room for the boot parameters");
  fillGuest(ram, params, 0, 4096);
  copyHeader(plan, params);
  gueststore8(params + Header.TYPE_OF_LOADER, UNKNOWN_LOADER);
  gueststore32(params + Header.CODE32_START, <u32>kernel);
  gueststore32(params + Header.CMD_LINE_PTR, <u32>commandLine);
  gueststore32(params + Params.EXT_CMD_LINE_PTR, 0);
  gueststore64(params + Params.ACPI_RSDP, plan.rsdp);
  gueststore32(params + Params.ALT_MEM_K, <u32>((placementOf(plan).lowEnd - EXTENDED_START) >> 10));
  gueststore8(params + Params.E820_ENTRIES, writeMap(params + Params.E820_TABLE, MapForm.LINUX, plan.vm.memoryBytes));
  putText(plan, commandLine, plan.config.commandLine, plan.config.commandLineBytes);
  const status = placeInitrd(plan, params);
  if (status) return status;
  writeGdt(gdt);
  writeTables(tables);
  const entry = entryOf(plan);
  entry.mode = EntryMode.LONG;
  entry.rip = kernel + ENTRY_64;
  entry.rsp = params; // unused by the kernel, but a valid stack
  entry.rsi = params;
  entry.cr3 = tables;
  entry.gdt = gdt;
  entry.gdtLimit = <u32>GDT_BYTES - 1;
  return Status.OK;
}

/** The setup header ends 202H + the byte at 201H; what is beyond what we know stays as the kernel had it. */
function copyHeader(plan: Plan, params: u64): void {
  const image = imageOf(plan);
  const end: u64 = Header.MAGIC + read8(image, Header.JUMP + 1);
  const bytes = min(end, 0x290) - Header.SETUP_SECTS;
  if (!has(image, Header.SETUP_SECTS, bytes)) return;
  copyModuleToGuest(ramOfPlan(plan), params + Header.SETUP_SECTS, image.pa + Header.SETUP_SECTS, bytes);
}

/** The first module is the initrd: as high as the kernel allows below 4 GiB, else above where it allows that. */
function placeInitrd(plan: Plan, params: u64): Status {
  if (!plan.config.moduleCount) return Status.OK;
  if (plan.config.moduleCount > 1) return refuse(plan, "Linux takes one initrd");
  const image = imageOf(plan);
  const module = guestModuleAt(plan.config, 0);
  const limit = <u64>read32(image, Header.INITRD_ADDR_MAX) + 1;
  const p = placementOf(plan);
  let at = placeBelow(p, module.bytes, 4096, min(limit, p.lowEnd));
  if (!at && read16(image, Header.XLOADFLAGS) & XLF_ABOVE_4G && p.highEnd > FOUR_GIB)
    at = placeBelow(p, module.bytes, 4096, p.highEnd);
  if (!at) return refuse(plan, "its initrd does not fit: give it more memory");
  copyModuleToGuest(ramOfPlan(plan), at, module.pa, module.bytes);
  gueststore32(params + Header.RAMDISK_IMAGE, <u32>at);
  gueststore32(params + Header.RAMDISK_SIZE, <u32>module.bytes);
  gueststore32(params + Params.EXT_RAMDISK_IMAGE, <u32>(at >> 32));
  gueststore32(params + Params.EXT_RAMDISK_SIZE, <u32>(module.bytes >> 32));
  return Status.OK;
}

function writeGdt(gdt: u64): void {
  gueststore64(gdt, 0);
  gueststore64(gdt + 8, 0);
  gueststore64(gdt + 16, CODE_64);
  gueststore64(gdt + 24, DATA);
}

// PML4, PDPT and four page directories: 4 GiB by 2 MiB pages.
const TABLE_BYTES: u64 = 6 * 4096;
const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 0x80;

function writeTables(tables: u64): void {
  for (let i: u64 = 0; i < 512; i++) {
    gueststore64(tables + i * 8, i ? 0 : (tables + 4096) | PRESENT_WRITABLE);
    gueststore64(tables + 4096 + i * 8, i < 4 ? (tables + 8192 + i * 4096) | PRESENT_WRITABLE : 0);
  }
  for (let i: u64 = 0; i < 2048; i++) gueststore64(tables + 8192 + i * 8, (i << 21) | LARGE | PRESENT_WRITABLE);
}
