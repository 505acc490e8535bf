// PVH: an ELF file with a Xen note that names a 32-bit entry point, and the start_info structure.
// Xen, "x86/HVM direct boot ABI"; xen/include/public/arch-x86/hvm/start_info.h.

import { gueststore32, gueststore64 } from "../cpu/insn";
import { Status } from "../lib/status";
import { fillGuest } from "../mm/guestmem";
import { guestModuleAt } from "./config";
import { entryBytes, MapForm, MAX_E820, writeMap } from "./e820";
import { checkElf, copySegments, headerScratch, programHeader, reserveSegments, Segment } from "./elf";
import { has, Image, read32, read64 } from "./image";
import { CONVENTIONAL_END, isRam, placeAbove, placeBelow } from "./place";
import { EntryMode, entryOf, imageOf, Plan, placementOf, ramOfPlan, refuse } from "./plan";
import { putModule, putText } from "./text";

const XEN_NAME: u32 = 0x006e_6558; // "Xen"
const NOTE_PHYS32_ENTRY: u32 = 18;
const START_MAGIC: u32 = 0x336e_c578;
const START_BYTES: u64 = 56;
const MODULE_BYTES: u64 = 32;

/** The entry point that the note names; ~0 if the (checked) file has none. */
export function pvhEntry(image: Image): u64 {
  const h = headerScratch();
  for (let i: u32 = 0; programHeader(image, i, h); i++) {
    if (h.type != Segment.NOTE || !has(image, h.offset, h.fileBytes)) continue;
    const entry = entryInNotes(image, h.offset, h.offset + h.fileBytes);
    if (entry != ~(<u64>0)) return entry;
  }
  return ~(<u64>0);
}

/** Walks notes: name size, descriptor size, type, then both padded to 4 bytes. */
function entryInNotes(image: Image, start: u64, end: u64): u64 {
  let at = start;
  while (at + 12 <= end) {
    const nameBytes: u64 = read32(image, at);
    const descBytes: u64 = read32(image, at + 4);
    const type = read32(image, at + 8);
    const desc = at + 12 + ((nameBytes + 3) & ~3);
    const next = desc + ((descBytes + 3) & ~3);
    if (desc + descBytes > end) break;
    if (type == NOTE_PHYS32_ENTRY && nameBytes == 4 && read32(image, at + 12) == XEN_NAME) {
      if (descBytes >= 8) return read64(image, desc);
      if (descBytes >= 4) return read32(image, desc);
    }
    at = next;
  }
  return ~(<u64>0);
}

/** Loads the kernel and prepares its entry. BAD_FORMAT after one line that says why. */
export function loadPvh(plan: Plan): Status {
  let status = checkElf(plan);
  if (status) return status;
  const entry = pvhEntry(imageOf(plan));
  if (entry == ~(<u64>0)) return refuse(plan, "the ELF file has neither a PVH entry note nor a multiboot header");
  status = reserveSegments(plan);
  if (status) return status;
  if (entry >> 32 || !isRam(placementOf(plan), entry, 1))
    return refuse(plan, "its PVH entry point is not in its memory");
  copySegments(plan);
  entryOf(plan).rip = entry;
  return buildStartInfo(plan);
}

/** start_info, map, module list and texts in one block. */
function buildStartInfo(plan: Plan): Status {
  const config = plan.config;
  const mapBytes = <u64>MAX_E820 * entryBytes(MapForm.PVH);
  let bytes = START_BYTES + mapBytes + <u64>config.moduleCount * MODULE_BYTES + <u64>config.commandLineBytes + 1;
  for (let i: u32 = 0; i < config.moduleCount; i++) bytes += <u64>guestModuleAt(config, i).textBytes + 1;
  let start = placeBelow(placementOf(plan), bytes, 16, CONVENTIONAL_END);
  if (!start) start = placeAbove(placementOf(plan), plan.kernelEnd, bytes, 4096);
  if (!start) return refuse(plan, "no room for the start information: give it more memory");
  fillGuest(ramOfPlan(plan), start, 0, bytes);
  const list = start + START_BYTES + mapBytes;
  const commandLine = list + <u64>config.moduleCount * MODULE_BYTES;
  gueststore32(start, START_MAGIC);
  gueststore32(start + 4, 1); // version
  gueststore32(start + 12, config.moduleCount);
  gueststore64(start + 16, config.moduleCount ? list : 0);
  gueststore64(start + 24, commandLine);
  gueststore64(start + 32, plan.rsdp);
  gueststore64(start + 40, start + START_BYTES);
  gueststore32(start + 48, writeMap(start + START_BYTES, MapForm.PVH, plan.vm.memoryBytes));
  putText(plan, commandLine, config.commandLine, config.commandLineBytes);
  const status = placeModules(plan, list, commandLine + <u64>config.commandLineBytes + 1);
  if (status) return status;
  entryOf(plan).mode = EntryMode.PROTECTED;
  entryOf(plan).rbx = start;
  return Status.OK;
}

/** Modules (the first is Linux's initrd) go to the top of low memory. */
function placeModules(plan: Plan, list: u64, firstText: u64): Status {
  const config = plan.config;
  let text = firstText;
  for (let i: u32 = 0; i < config.moduleCount; i++) {
    const module = guestModuleAt(config, i);
    const at = placeBelow(placementOf(plan), max<u64>(module.bytes, 1), 4096, placementOf(plan).lowEnd);
    if (!at) return refuse(plan, "its modules do not fit: give it more memory");
    putModule(plan, at, module);
    const row = list + <u64>i * MODULE_BYTES;
    gueststore64(row, at);
    gueststore64(row + 8, module.bytes);
    gueststore64(row + 16, text);
    putText(plan, text, module.text, module.textBytes);
    text += <u64>module.textBytes + 1;
  }
  return Status.OK;
}
