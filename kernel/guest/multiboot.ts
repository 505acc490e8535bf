// Multiboot 1: the header in the kernel, the information structure for it, and the state of the machine.
// Multiboot Specification 0.6.96, "OS image format", "Machine state", "Boot information format".

import { gueststore32 } from "../cpu/insn";
import { Status } from "../lib/status";
import { copyModuleToGuest, fillGuest } from "../mm/guestmem";
import { guestModuleAt } from "./config";
import { entryBytes, MapForm, MAX_E820, writeMap } from "./e820";
import { checkElf, copySegments, elfEntry, isElf, reserveSegments, toPhysical } from "./elf";
import { has, Image, read32 } from "./image";
import { CONVENTIONAL_END, EXTENDED_START, isRam, lowRamBytes, placeAbove, placeBelow, reserve } from "./place";
import { EntryMode, entryOf, imageOf, Plan, placementOf, ramOfPlan, refuse } from "./plan";
import { putModule, putText } from "./text";

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u32 = 0x2bad_b002;
const SEARCH_BYTES: u64 = 8192;

// Header flags. Of bits 0..15, those unknown mean that we must not load the kernel.
const FLAG_ADDRESSES: u32 = 1 << 16;
const KNOWN_REQUIREMENTS: u32 = 0x7; // page-aligned modules, memory information, video mode (none is set)

// Information flags.
const INFO_MEMORY: u32 = 1;
const INFO_COMMAND_LINE: u32 = 4;
const INFO_MODULES: u32 = 8;
const INFO_MAP: u32 = 0x40;
const INFO_LOADER: u32 = 0x200;

const INFO_BYTES: u64 = 128;
const MODULE_BYTES: u64 = 16;

const loaderName: usize = memory.data<u8>([0x42, 0x61, 0x73, 0x61, 0x6c, 0x74]); // Basalt
const LOADER_NAME_BYTES: u32 = 6;

/** Offset of the header in the file; -1 if there is none. */
export function findMultiboot(image: Image): i64 {
  const end = min(image.bytes, SEARCH_BYTES);
  for (let at: u64 = 0; at + 12 <= end; at += 4) {
    if (read32(image, at) != HEADER_MAGIC) continue;
    if (HEADER_MAGIC + read32(image, at + 4) + read32(image, at + 8) == 0) return <i64>at;
  }
  return -1;
}

/** Loads the kernel and prepares its entry. BAD_FORMAT after one line that says why. */
export function loadMultiboot(plan: Plan): Status {
  const image = imageOf(plan);
  const found = findMultiboot(image);
  if (found < 0) return refuse(plan, "no multiboot header in the first 8 KiB");
  const at = <u64>found;
  const flags = read32(image, at + 4);
  if (flags & 0xffff & ~KNOWN_REQUIREMENTS) return refuse(plan, "its multiboot header demands something unknown");
  let status: Status;
  if (flags & FLAG_ADDRESSES) status = loadByAddresses(plan, at);
  else if (isElf(image)) status = loadElf(plan);
  else return refuse(plan, "a multiboot kernel that is no ELF file must give load addresses");
  if (status) return status;
  return buildInformation(plan);
}

function loadElf(plan: Plan): Status {
  let status = checkElf(plan);
  if (!status) status = reserveSegments(plan);
  if (status) return status;
  copySegments(plan);
  const entry = toPhysical(imageOf(plan), elfEntry(imageOf(plan)));
  if (entry >> 32) return refuse(plan, "its entry point is not below 4 GiB");
  entryOf(plan).rip = entry;
  return Status.OK;
}

/** The "a.out kludge": the header says what goes where. */
function loadByAddresses(plan: Plan, at: u64): Status {
  const image = imageOf(plan);
  if (!has(image, at, 32)) return refuse(plan, "the file ends within its multiboot header");
  const headerAddress: u64 = read32(image, at + 12);
  const loadAddress: u64 = read32(image, at + 16);
  const loadEnd: u64 = read32(image, at + 20);
  const bssEnd: u64 = read32(image, at + 24);
  if (headerAddress < loadAddress || headerAddress - loadAddress > at)
    return refuse(plan, "its multiboot header lies before what is to be loaded");
  const offset = at - (headerAddress - loadAddress);
  if (loadEnd && loadEnd < loadAddress) return refuse(plan, "its multiboot load addresses are in the wrong order");
  const fileBytes = loadEnd ? loadEnd - loadAddress : image.bytes - offset;
  if (!has(image, offset, fileBytes)) return refuse(plan, "the file is shorter than its multiboot header says");
  const end = max(loadAddress + fileBytes, bssEnd);
  if (bssEnd && bssEnd < loadAddress + fileBytes) return refuse(plan, "its multiboot bss ends within its data");
  if (!isRam(placementOf(plan), loadAddress, end - loadAddress))
    return refuse(plan, "it lies outside of the guest's memory: give it more");
  reserve(placementOf(plan), loadAddress, end - loadAddress);
  copyModuleToGuest(ramOfPlan(plan), loadAddress, image.pa + offset, fileBytes);
  fillGuest(ramOfPlan(plan), loadAddress + fileBytes, 0, end - loadAddress - fileBytes);
  plan.kernelEnd = end;
  entryOf(plan).rip = read32(image, at + 28);
  return Status.OK;
}

/** The information structure with all that it points at, in conventional memory if there is room. */
function buildInformation(plan: Plan): Status {
  const config = plan.config;
  const mapBytes = <u64>MAX_E820 * entryBytes(MapForm.MULTIBOOT);
  const text = <u64>config.commandLineBytes + 1;
  let bytes = INFO_BYTES + mapBytes + <u64>config.moduleCount * MODULE_BYTES + text + 16;
  for (let i: u32 = 0; i < config.moduleCount; i++) bytes += <u64>guestModuleAt(config, i).textBytes + 1;
  let info = placeBelow(placementOf(plan), bytes, 16, CONVENTIONAL_END);
  if (!info) info = placeAbove(placementOf(plan), plan.kernelEnd, bytes, 4096);
  if (!info) return refuse(plan, "no room for the multiboot information: give it more memory");
  fillGuest(ramOfPlan(plan), info, 0, bytes);
  writeMemory(plan, info);
  const moduleList = info + INFO_BYTES + mapBytes;
  let strings = moduleList + <u64>config.moduleCount * MODULE_BYTES;
  gueststore32(info + 16, <u32>strings);
  putText(plan, strings, config.commandLine, config.commandLineBytes);
  strings += text;
  gueststore32(info + 64, <u32>strings);
  putText(plan, strings, loaderName, LOADER_NAME_BYTES);
  strings += LOADER_NAME_BYTES + 1;
  const status = placeModules(plan, info, moduleList, strings);
  if (status) return status;
  const entry = entryOf(plan);
  entry.mode = EntryMode.PROTECTED;
  entry.rax = LOADER_MAGIC;
  entry.rbx = info;
  return Status.OK;
}

function writeMemory(plan: Plan, info: u64): void {
  const memoryBytes = plan.vm.memoryBytes;
  const count = writeMap(info + INFO_BYTES, MapForm.MULTIBOOT, memoryBytes);
  const modules: u32 = plan.config.moduleCount ? INFO_MODULES : 0;
  gueststore32(info, INFO_MEMORY | INFO_COMMAND_LINE | INFO_MAP | INFO_LOADER | modules);
  gueststore32(info + 4, <u32>(CONVENTIONAL_END >> 10));
  gueststore32(info + 8, <u32>((lowRamBytes(memoryBytes) - EXTENDED_START) >> 10));
  gueststore32(info + 44, count * <u32>entryBytes(MapForm.MULTIBOOT));
  gueststore32(info + 48, <u32>(info + INFO_BYTES));
}

/** Modules go above the kernel, page-aligned: kernels look for them where their first page tables reach. */
function placeModules(plan: Plan, info: u64, list: u64, firstText: u64): Status {
  const config = plan.config;
  let text = firstText;
  for (let i: u32 = 0; i < config.moduleCount; i++) {
    const module = guestModuleAt(config, i);
    const at = placeAbove(placementOf(plan), max(plan.kernelEnd, EXTENDED_START), max<u64>(module.bytes, 1), 4096);
    if (!at) return refuse(plan, "its modules do not fit: give it more memory");
    putModule(plan, at, module);
    const row = list + <u64>i * MODULE_BYTES;
    gueststore32(row, <u32>at);
    gueststore32(row + 4, <u32>(at + module.bytes));
    gueststore32(row + 8, <u32>text);
    putText(plan, text, module.text, module.textBytes);
    text += <u64>module.textBytes + 1;
  }
  gueststore32(info + 20, config.moduleCount);
  gueststore32(info + 24, config.moduleCount ? <u32>list : 0);
  return Status.OK;
}
