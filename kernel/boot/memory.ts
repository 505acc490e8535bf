// From the boot loader's memory map to owned frames and the final address space.

import { moduleAt, MemoryKind, bootInfo, regionAt } from "../../drivers/bootinfo";
import { physBits } from "../cpu/feature";
import { imageEnd, imageStart } from "../cpu/insn";
import { alignDown, alignUp } from "../lib/bits";
import * as log from "../lib/log";
import { Status } from "../lib/status";
import { addMemory, coverMemory, finishBoot, freeBytes, Owner, ownedBytes, startFrames } from "../mm/frame";
import { enterCore } from "../mm/hostmap";
import { MEMORY_LIMIT } from "../mm/block";
import { isMemory } from "../mm/phys";

const POOL_BYTES: u64 = 0x20_0000;
/** The boot page tables reach this far. */
const POOL_LIMIT: u64 = 0x1_0000_0000;
const LOW_END: u64 = 0x10_0000;
const VIDEO: u64 = 0xa_0000;
const VIDEO_END: u64 = 0xc_0000;
/** The last addresses below 1 MiB that are never the firmware's own data. */
const TRAMPOLINE_LIMIT: u64 = 0x9_f000;
const PAGE: u64 = 4096;

/**
 * Sets up the frame allocator and leaves the boot page tables. NO_MEMORY with a line in the log if the
 * machine has too little.
 */
export function startMemory(): Status {
  const pool = findPool();
  if (pool == 0) {
    log.error("memory", "no free 2 MiB below 4 GiB for page tables: this machine has too little memory");
    return Status.NO_MEMORY;
  }
  startFrames(pool);
  if (addRegions()) log.warn("memory", "the memory map has too many pieces: some memory is not used");
  if (addTaken() || finishBoot() != Status.OK || enterCore() != Status.OK) {
    log.error("memory", "no memory for the core's page tables");
    return Status.NO_MEMORY;
  }
  return Status.OK;
}

/** The lowest free, aligned 2 MiB that is there: near the image, so that large runs stay whole. */
function findPool(): u64 {
  const count = bootInfo().regionCount;
  for (let i: u32 = 0; i < count; i++) {
    const region = regionAt(i);
    if (region.kind != MemoryKind.USABLE) continue;
    const end = min(region.end, POOL_LIMIT);
    for (let at = alignUp(max(region.base, LOW_END), POOL_BYTES); at + POOL_BYTES <= end; at += POOL_BYTES) {
      if (isClear(at, at + POOL_BYTES) && isMemory(at, POOL_BYTES)) return at;
    }
  }
  return 0;
}

/** Whether neither the image nor a module touches [base, end). */
function isClear(base: u64, end: u64): bool {
  if (base < imageEnd() && imageStart() < end) return false;
  const count = bootInfo().moduleCount;
  for (let i: u32 = 0; i < count; i++) {
    const module = moduleAt(i);
    if (base < module.base + module.bytes && module.base < end) return false;
  }
  return true;
}

/** Owners for all memory that the map lists. NO_MEMORY if some of it had to be left out. */
function addRegions(): Status {
  let status: Status = Status.OK;
  const count = bootInfo().regionCount;
  const limit = (<u64>1) << physBits(); // a map may claim what the processor cannot address
  for (let i: u32 = 0; i < count; i++) {
    const region = regionAt(i);
    if (addMemory(region.base, min(region.end, limit), ownerFor(region.kind))) status = Status.NO_MEMORY;
  }
  return status;
}

/** What of it is not free, whatever the map says. */
function addTaken(): Status {
  if (coverMemory(0, LOW_END, Owner.FIRMWARE) || coverMemory(VIDEO, VIDEO_END, Owner.DEVICE)) return Status.NO_MEMORY;
  const modules = bootInfo().moduleCount;
  for (let i: u32 = 0; i < modules; i++) {
    const module = moduleAt(i);
    const end = alignUp(module.base + module.bytes, PAGE);
    if (coverMemory(alignDown(module.base, PAGE), end, Owner.MODULE)) return Status.NO_MEMORY;
  }
  return coverMemory(imageStart(), imageEnd(), Owner.CORE);
}

function ownerFor(kind: u32): u32 {
  if (kind == MemoryKind.USABLE) return Owner.FREE;
  if (kind == MemoryKind.ACPI_RECLAIM || kind == MemoryKind.ACPI_NVS) return Owner.FIRMWARE;
  if (kind == MemoryKind.RESERVED) return Owner.DEVICE; // registers or the firmware's: never ours
  return Owner.ABSENT;
}

/** The highest usable frame below 640 KiB, for the code in which further CPUs start; 0 if there is none. */
export function findTrampoline(): u64 {
  let best: u64 = 0;
  const count = bootInfo().regionCount;
  for (let i: u32 = 0; i < count; i++) {
    const region = regionAt(i);
    if (region.kind != MemoryKind.USABLE) continue;
    const end = alignDown(min(region.end, TRAMPOLINE_LIMIT), PAGE);
    if (end > region.base && end - PAGE > best && isClear(end - PAGE, end)) best = end - PAGE;
  }
  return best;
}

/** One line on what there is and who has it. */
export function reportMemory(): void {
  log.begin(log.Level.INFO, "memory");
  log.size(freeBytes());
  log.str(" free, core ");
  log.size(ownedBytes(Owner.CORE));
  log.str(", tables ");
  log.size(ownedBytes(Owner.TABLE));
  log.str(", modules ");
  log.size(ownedBytes(Owner.MODULE));
  log.str(", firmware ");
  log.size(ownedBytes(Owner.FIRMWARE));
  log.end();
  const highest = bootInfo().regionCount ? regionAt(bootInfo().regionCount - 1).end : 0;
  if (highest > MEMORY_LIMIT) log.warn("memory", "what lies at 16 TiB and above is not used");
}
