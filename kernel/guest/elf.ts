// ELF executables, 32 and 64 bits: checked, then their segments copied to the physical addresses that
// they name. System V ABI, "Object Files" and "Program Loading".

import { Status } from "../lib/status";
import { copyModuleToGuest, fillGuest } from "../mm/guestmem";
import { has, Image, read16, read32, read64, read8 } from "./image";
import { isRam, reserve } from "./place";
import { imageOf, Plan, placementOf, ramOfPlan, refuse } from "./plan";

const MAGIC: u32 = 0x464c_457f;
const CLASS_64: u32 = 2;
const LITTLE_ENDIAN: u32 = 1;
const MACHINE_386: u32 = 3;
const MACHINE_X86_64: u32 = 62;
export const MAX_HEADERS: u32 = 64;

export const enum Segment {
  LOAD = 1,
  NOTE = 4,
}

/** One program header, widened. */
@unmanaged
export class ProgramHeader {
  type: u32;
  pad: u32;
  offset: u64;
  pa: u64;
  va: u64;
  fileBytes: u64;
  memoryBytes: u64;
}

export function isElf(image: Image): bool {
  return has(image, 0, 52) && read32(image, 0) == MAGIC;
}

export function isElf64(image: Image): bool {
  return read8(image, 4) == CLASS_64;
}

/** e_entry. */
export function elfEntry(image: Image): u64 {
  return isElf64(image) ? read64(image, 24) : <u64>read32(image, 24);
}

function headerCount(image: Image): u32 {
  return read16(image, isElf64(image) ? 56 : 44);
}

function headerBytes(image: Image): u64 {
  return isElf64(image) ? 56 : 32;
}

function headerOffset(image: Image): u64 {
  return isElf64(image) ? read64(image, 32) : <u64>read32(image, 28);
}

/** Checks the file header and that the program headers lie in the file. */
export function checkElf(plan: Plan): Status {
  const image = imageOf(plan);
  if (!isElf(image)) return refuse(plan, "not an ELF file");
  const wide = isElf64(image);
  if (wide && !has(image, 0, 64)) return refuse(plan, "the ELF file ends within its header");
  if (!wide && read8(image, 4) != 1) return refuse(plan, "the ELF file is neither of 32 nor of 64 bits");
  if (read8(image, 5) != LITTLE_ENDIAN) return refuse(plan, "the ELF file is not little-endian");
  const machine = read16(image, 18);
  if (machine != MACHINE_386 && machine != MACHINE_X86_64) return refuse(plan, "the ELF file is not for x86");
  const count = headerCount(image);
  if (count == 0) return refuse(plan, "the ELF file has no program headers: it is not an executable");
  if (count > MAX_HEADERS) return refuse(plan, "the ELF file has more than 64 program headers");
  if (<u64>read16(image, wide ? 54 : 42) != headerBytes(image))
    return refuse(plan, "the ELF file's program headers have an unknown size");
  if (!has(image, headerOffset(image), <u64>count * headerBytes(image)))
    return refuse(plan, "the ELF file ends within its program headers");
  return Status.OK;
}

/** Reads program header `index` of a checked file; false if there is none. `out` is a ProgramHeader. */
export function programHeader(image: Image, index: u32, out: ProgramHeader): bool {
  if (index >= headerCount(image)) return false;
  const at = headerOffset(image) + <u64>index * headerBytes(image);
  out.type = read32(image, at);
  if (isElf64(image)) {
    out.offset = read64(image, at + 8);
    out.va = read64(image, at + 16);
    out.pa = read64(image, at + 24);
    out.fileBytes = read64(image, at + 32);
    out.memoryBytes = read64(image, at + 40);
  } else {
    out.offset = read32(image, at + 4);
    out.va = read32(image, at + 8);
    out.pa = read32(image, at + 12);
    out.fileBytes = read32(image, at + 16);
    out.memoryBytes = read32(image, at + 20);
  }
  return true;
}

const header: usize = memory.data(48, 8); // [loading is done by one CPU at a time: vm/create]

/** A header to read into; valid until the next file is looked at. */
export function headerScratch(): ProgramHeader {
  return changetype<ProgramHeader>(header);
}

/** Checks every loadable segment against the file and the guest's RAM, and reserves its place. */
export function reserveSegments(plan: Plan): Status {
  const image = imageOf(plan);
  const h = headerScratch();
  let loadable = false;
  for (let i: u32 = 0; programHeader(image, i, h); i++) {
    if (h.type != Segment.LOAD || h.memoryBytes == 0) continue;
    loadable = true;
    if (!has(image, h.offset, h.fileBytes)) return refuse(plan, "the ELF file ends within a segment");
    if (h.fileBytes > h.memoryBytes) return refuse(plan, "an ELF segment is larger in the file than in memory");
    if (!isRam(placementOf(plan), h.pa, h.memoryBytes))
      return refuse(plan, "an ELF segment lies outside of the guest's memory: give it more, or it is not for a PC");
    if (!reserve(placementOf(plan), h.pa, h.memoryBytes)) return refuse(plan, "too many ELF segments");
    if (h.pa + h.memoryBytes > plan.kernelEnd) plan.kernelEnd = h.pa + h.memoryBytes;
  }
  return loadable ? Status.OK : refuse(plan, "the ELF file has nothing to load");
}

/** Copies the segments that reserveSegments accepted. */
export function copySegments(plan: Plan): void {
  const image = imageOf(plan);
  const ram = ramOfPlan(plan);
  const h = headerScratch();
  for (let i: u32 = 0; programHeader(image, i, h); i++) {
    if (h.type != Segment.LOAD || h.memoryBytes == 0) continue;
    copyModuleToGuest(ram, h.pa, image.pa + h.offset, h.fileBytes);
    fillGuest(ram, h.pa + h.fileBytes, 0, h.memoryBytes - h.fileBytes);
  }
}

/**
 * Physical address of virtual address `va` by the segments; `va` itself if no segment holds it. Entry points
 * are virtual, and some kernels are linked high.
 */
export function toPhysical(image: Image, va: u64): u64 {
  const h = headerScratch();
  for (let i: u32 = 0; programHeader(image, i, h); i++) {
    if (h.type == <u32>Segment.LOAD && va - h.va < h.memoryBytes) return h.pa + (va - h.va);
  }
  return va;
}
