// The host's address spaces. The core's root maps the core alone; each VM has a root of its own that
// adds its arena and its memory, and nothing of another VM. What all have in common hangs below the
// same tables, so that one store changes it everywhere. See docs/architecture.md, "Address space".
//
// No page is writable and executable. Frames of guests appear in their own VM's root only; the check of
// the frame's owner is made here, where the mapping is made.

import {
  ARENA_BASE,
  ARENA_BYTES,
  DEVICE_WINDOW,
  DEVICE_WINDOW_BYTES,
  GUEST_WINDOW,
  GUEST_WINDOW_BYTES,
  IMAGE_BASE,
  LINEAR_START,
  MAX_VMS,
  PERCPU_BASE,
  PERCPU_BYTES,
  SHARED_END,
  STACK_GUARDS,
  STACK_SLOT_BYTES,
  STACKS_BASE,
} from "../config";
import { cpuBlock, imageBoundary, invlpg, readCr3, writeCr3 } from "../cpu/insn";
import { fitsBelow } from "../lib/bits";
import { lock, nameLock, SPINLOCK_BYTES, Spinlock, unlock } from "../lib/spinlock";
import { Status } from "../lib/status";
import { MEMORY_LIMIT, Owner } from "./block";
import {
  ADDRESS,
  GLOBAL,
  LARGE,
  LEAF_R,
  LEAF_RW,
  LEAF_RX,
  NEW,
  OWN_RW,
  PAT,
  PAT_LARGE,
  TABLE,
  TYPE_UC,
  TYPE_WB,
  TYPE_WC,
  WRITE,
} from "./entry";
import { allocFrame, freeRun, isOwned, ownerOf } from "./frame";
import {
  entryFor,
  freeTables,
  leafAt,
  mapPage,
  mapRange,
  pageBits,
  sizeAt,
  TOP_LEVEL,
  unmapPage,
  unmapRange,
} from "./pagetable";
import { readEntry, writeEntry, zeroFrame } from "./phys";
import { WINDOW_PDPTS, windowEntry, windowFirst } from "./tablewindow";

const maps = changetype<Spinlock>(memory.data(16, 8)); // covers all roots but the guest windows in them
if (SPINLOCK_BYTES != 16) ERROR("hostmap: size of the lock");

let core: u64 = 0; // written at boot
/** Root of each VM, 0: none. */
const roots: usize = memory.data(64 * 8, 8); // [maps]
if (MAX_VMS != 64) ERROR("hostmap: roots");

const PAGE: u64 = 4096;
const GUEST_FIRST: u32 = <u32>((GUEST_WINDOW >> 39) & 511);
const GUEST_LAST: u32 = <u32>(((GUEST_WINDOW + GUEST_WINDOW_BYTES - 1) >> 39) & 511);
const DEVICE_FIRST: u32 = <u32>((DEVICE_WINDOW >> 39) & 511);
const DEVICE_LAST: u32 = <u32>(((DEVICE_WINDOW + DEVICE_WINDOW_BYTES - 1) >> 39) & 511);
const TOP_INDEX: u32 = 511;

/** The core's own root: no guest's memory in it. */
export function coreRoot(): u64 {
  return core;
}

// ---- The core

/**
 * Builds the core's root from the boot tables, and enters it: from then on the boot tables are not used.
 * Boot CPU only. NO_MEMORY: still on the boot tables.
 */
export function enterCore(): Status {
  nameLock(maps, "host mappings");
  const boot = readCr3() & ADDRESS;
  const root = newTable();
  if (!root) return Status.NO_MEMORY;
  if (buildCore(root, boot)) return Status.NO_MEMORY;
  core = root;
  writeCr3(root);
  return Status.OK;
}

function buildCore(root: u64, boot: u64): Status {
  for (let i: u32 = 0; i < WINDOW_PDPTS; i++) {
    writeEntry(root + ((<u64>(windowFirst() + i)) << 3), windowEntry(i));
  }
  if (mapImage(root)) return Status.NO_MEMORY;
  if (prepareTables(root, PERCPU_BASE, ARENA_BASE)) return Status.NO_MEMORY;
  if (takeOver(root, boot, PERCPU_BASE, PERCPU_BYTES)) return Status.NO_MEMORY;
  return takeOver(root, boot, STACKS_BASE, STACK_SLOT_BYTES);
}

/** Text, read-only data, data, and the shared part of linear memory; bss holds the boot tables, and what is of use there has windows of its own. */
function mapImage(root: u64): Status {
  const text = imageBoundary(0);
  const rodata = imageBoundary(1);
  const data = imageBoundary(2);
  const linear = imageBoundary(4);
  if (mapImagePart(root, text, rodata, LEAF_RX)) return Status.NO_MEMORY;
  if (mapImagePart(root, rodata, data, LEAF_R)) return Status.NO_MEMORY;
  if (mapImagePart(root, data, linear, LEAF_RW)) return Status.NO_MEMORY;
  return mapRange(root, LINEAR_START, linear - IMAGE_BASE, SHARED_END - LINEAR_START, LEAF_RW, 12);
}

function mapImagePart(root: u64, from: u64, to: u64, flags: u64): Status {
  return mapRange(root, from, from - IMAGE_BASE, to - from, flags, 12);
}

/** Makes the page tables for [from, to) at once: every root refers to them. */
function prepareTables(root: u64, from: u64, to: u64): Status {
  for (let va = from; va < to; va += 0x20_0000) {
    const table = newTable();
    if (!table) return Status.NO_MEMORY;
    writeEntry(entryFor(directoryOf(root, va), 2, va), table | TABLE);
  }
  return Status.OK;
}

function directoryOf(root: u64, va: u64): u64 {
  const pdpt = readEntry(entryFor(root, TOP_LEVEL, va)) & ADDRESS;
  return readEntry(entryFor(pdpt, 3, va)) & ADDRESS;
}

/** Maps the frames that the boot tables map at [va, va + bytes). */
function takeOver(root: u64, boot: u64, va: u64, bytes: u64): Status {
  for (let at = va; at < va + bytes; at += PAGE) {
    const leaf = leafAt(boot, at);
    if (!leaf) continue;
    const status = mapPage(root, at, readEntry(leaf) & ADDRESS, 12, LEAF_RW);
    if (status) return status;
  }
  return Status.OK;
}

function newTable(): u64 {
  const frame = allocFrame(Owner.TABLE);
  if (frame) zeroFrame(frame);
  return frame;
}

// ---- CPUs

/**
 * Gives CPU `index` its block in linear memory, zeroed, and its stacks. The mappings are seen in every
 * root. NO_MEMORY: nothing is mapped.
 */
export function mapCpu(index: u32): Status {
  const block = PERCPU_BASE + <usize>index * PERCPU_BYTES;
  const stacks = STACKS_BASE + <u64>index * STACK_SLOT_BYTES;
  lock(maps);
  let status = mapFresh(block, PERCPU_BYTES, 0);
  if (status == Status.OK) {
    status = mapFresh(stacks, STACK_SLOT_BYTES, STACK_GUARDS);
    if (status != Status.OK) unmapFresh(block, PERCPU_BYTES);
  }
  unlock(maps);
  if (status == Status.OK) memory.fill(block, 0, PERCPU_BYTES);
  return status;
}

/** Takes back what mapCpu() gave; only for a CPU that never ran. */
export function unmapCpu(index: u32): void {
  lock(maps);
  unmapFresh(PERCPU_BASE + <usize>index * PERCPU_BYTES, PERCPU_BYTES);
  unmapFresh(STACKS_BASE + <u64>index * STACK_SLOT_BYTES, STACK_SLOT_BYTES);
  unlock(maps);
}

/** Maps new frames of the core at [va, va + bytes), but for the pages whose bit in `guards` is set. */
function mapFresh(va: u64, bytes: u64, guards: u32): Status {
  for (let at: u64 = 0; at < bytes; at += PAGE) {
    if ((guards >> <u32>(at >> 12)) & 1) continue;
    const frame = allocFrame(Owner.CORE);
    const status: Status = frame ? mapPage(core, va + at, frame, 12, LEAF_RW) : Status.NO_MEMORY;
    if (status == Status.OK) continue;
    if (frame) freeRun(frame, 12, Owner.CORE);
    unmapFresh(va, at);
    return status;
  }
  return Status.OK;
}

function unmapFresh(va: u64, bytes: u64): void {
  for (let at = va; at < va + bytes; at += PAGE) {
    const leaf = leafAt(core, at);
    if (!leaf) continue;
    const frame = readEntry(leaf) & ADDRESS;
    writeEntry(leaf, 0);
    invlpg(at);
    freeRun(frame, 12, Owner.CORE);
  }
}

// ---- Devices and firmware

/**
 * Makes device registers reachable through the device* intrinsics, uncached; page aligned. Mapping them
 * again is fine. WRONG_OWNER if any of it is RAM; BAD_ADDRESS if it does not fit the window.
 */
export function mapDevice(pa: u64, bytes: u64): Status {
  return mapWindow(pa, bytes, LEAF_RW | TYPE_UC, false);
}

/** As mapDevice, write-combining: for framebuffers. */
export function mapFramebuffer(pa: u64, bytes: u64): Status {
  return mapWindow(pa, bytes, LEAF_RW | TYPE_WC, false);
}

/** Makes the firmware's tables or a boot module readable; any alignment. WRONG_OWNER if it is other memory. */
export function mapFirmware(pa: u64, bytes: u64): Status {
  const base = pa & ~(PAGE - 1);
  return mapWindow(base, (pa - base + bytes + (PAGE - 1)) & ~(PAGE - 1), LEAF_R | TYPE_WB, true);
}

function mapWindow(pa: u64, bytes: u64, flags: u64, isFirmware: bool): Status {
  if (core == 0) return Status.UNSUPPORTED; // the boot tables map the low 4 GiB, read-only
  if (!fitsBelow(pa, bytes, DEVICE_WINDOW_BYTES) || ((pa | bytes) & (PAGE - 1)) != 0) return Status.BAD_ADDRESS;
  if (!mayMap(pa, bytes, isFirmware)) return Status.WRONG_OWNER;
  lock(maps);
  const status = mapMissing(pa, bytes, flags);
  if (status == Status.OK) shareDeviceTables();
  unlock(maps);
  return status;
}

/** Registers lie outside RAM; tables and modules where the memory map puts such things, or outside of it. */
function mayMap(pa: u64, bytes: u64, isFirmware: bool): bool {
  for (let at = pa; at < pa + bytes && at < MEMORY_LIMIT; at += PAGE) {
    const owner = ownerOf(at);
    if (owner == <u32>Owner.ABSENT || owner == <u32>Owner.DEVICE) continue;
    if (!isFirmware || (owner != <u32>Owner.FIRMWARE && owner != <u32>Owner.MODULE)) return false;
  }
  return true;
}

/**
 * Maps what of the range is not mapped; BUSY if some of it is mapped otherwise. New pages carry a mark
 * until all of them are there, so that a failure can take exactly those away again.
 */
function mapMissing(pa: u64, bytes: u64, flags: u64): Status {
  let status: Status = Status.OK;
  let done: u64 = 0;
  while (done < bytes && status == Status.OK) {
    const va = DEVICE_WINDOW + pa + done;
    let bits = sizeAt(core, va);
    if (bits) {
      if ((readEntry(leafAt(core, va)) & ~NEW) != leafFor(pa + done, bits, flags)) status = Status.BUSY;
    } else {
      // Firmware's memory may change its type at any page; registers are uncached whatever the MTRRs say.
      bits = largestFree(va, pa + done, bytes - done, flags & WRITE ? 21 : 12);
      status = mapPage(core, va, pa + done, bits, typeFor(bits, flags) | NEW);
    }
    if (status == Status.OK) done += ((<u64>1) << bits) - ((pa + done) & (((<u64>1) << bits) - 1));
  }
  settle(pa, done, status == Status.OK);
  return status;
}

/** Keeps or removes the pages of the range that carry the mark. */
function settle(pa: u64, bytes: u64, keep: bool): void {
  for (let done: u64 = 0; done < bytes; ) {
    const va = DEVICE_WINDOW + pa + done;
    const bits = sizeAt(core, va);
    const leaf = leafAt(core, va);
    done += ((<u64>1) << bits) - ((pa + done) & (((<u64>1) << bits) - 1));
    if ((readEntry(leaf) & NEW) == 0) continue;
    if (keep) writeEntry(leaf, readEntry(leaf) & ~NEW);
    else unmapRange(core, va, (<u64>1) << bits);
  }
}

/** The leaf with which a page of 2^bits at `pa` is mapped. */
function leafFor(pa: u64, bits: u32, flags: u64): u64 {
  return (pa & ~(((<u64>1) << bits) - 1)) | typeFor(bits, flags) | (bits > 12 ? LARGE : 0);
}

/** The upper bit of the memory type is elsewhere in a large page's entry, where PS has its place. */
function typeFor(bits: u32, flags: u64): u64 {
  return bits == 12 || (flags & PAT) == 0 ? flags : (flags & ~PAT) | PAT_LARGE;
}

/** A 2 MiB page where none of its 4 KiB pages is mapped yet. */
function largestFree(va: u64, pa: u64, bytes: u64, limit: u32): u32 {
  const bits = pageBits(va, pa, bytes, limit);
  if (bits == 12) return 12;
  const pdpt = readEntry(entryFor(core, TOP_LEVEL, va)) & ADDRESS;
  if (!pdpt) return bits;
  const directory = readEntry(entryFor(pdpt, 3, va)) & ADDRESS;
  if (!directory) return bits;
  return readEntry(entryFor(directory, 2, va)) ? 12 : bits;
}

/** Lets every VM's root refer to the core's tables of the device window. */
function shareDeviceTables(): void {
  for (let vm: u32 = 0; vm < MAX_VMS; vm++) {
    const root = load<u64>(roots + ((<usize>vm) << 3));
    if (root) copyEntries(root, DEVICE_FIRST, DEVICE_LAST);
  }
}

function copyEntries(root: u64, first: u32, last: u32): void {
  for (let at = (<u64>first) << 3; at <= (<u64>last) << 3; at += 8) {
    const entry = readEntry(core + at);
    if (entry) writeEntry(root + at, entry);
  }
}

// ---- VMs

/**
 * A root for VM `vm` whose arena is the 2 MiB run at `arenaPa`: a value for HOST_CR3. 0 if there is no
 * memory for tables, if the VM has a root, or if the run is not that VM's.
 */
export function createRoot(vm: u32, arenaPa: u64): u64 {
  if (vm >= MAX_VMS || !isOwned(arenaPa, ARENA_BYTES, Owner.VM_FIRST + vm)) return 0;
  lock(maps);
  const root = load<u64>(roots + ((<usize>vm) << 3)) ? 0 : buildRoot(vm, arenaPa);
  if (root) store<u64>(roots + ((<usize>vm) << 3), root);
  unlock(maps);
  return root;
}

/** Own tables down to the directory of the first GiB, where the arena is; everything else is the core's. */
function buildRoot(vm: u32, arenaPa: u64): u64 {
  const root = newTable();
  const pdpt = newTable();
  const directory = newTable();
  if (!root || !pdpt || !directory) {
    if (root) freeRun(root, 12, Owner.TABLE);
    if (pdpt) freeRun(pdpt, 12, Owner.TABLE);
    if (directory) freeRun(directory, 12, Owner.TABLE);
    return 0;
  }
  const shared = directoryOf(core, LINEAR_START);
  for (let va: u64 = 0; va < <u64>ARENA_BASE; va += 0x20_0000) {
    writeEntry(entryFor(directory, 2, va), readEntry(entryFor(shared, 2, va)));
  }
  const arena = <u64>(ARENA_BASE + <usize>vm * ARENA_BYTES);
  writeEntry(entryFor(directory, 2, arena), arenaPa | OWN_RW | LARGE);
  writeEntry(pdpt, directory | TABLE);
  writeEntry(root, pdpt | TABLE);
  copyEntries(root, windowFirst(), windowFirst() + WINDOW_PDPTS - 1);
  copyEntries(root, DEVICE_FIRST, DEVICE_LAST);
  copyEntries(root, TOP_INDEX, TOP_INDEX);
  return root;
}

/** The VM whose root this is, or MAX_VMS. */
function vmOf(root: u64): u32 {
  for (let vm: u32 = 0; vm < MAX_VMS; vm++) if (load<u64>(roots + ((<usize>vm) << 3)) == root) return vm;
  return MAX_VMS;
}

/**
 * Makes 2^log2Bytes of the VM's memory at `hpa` reachable at GUEST_WINDOW + gpa in its root.
 * WRONG_OWNER unless all of it is that VM's; BAD_ADDRESS, BUSY, NO_MEMORY as mapPage.
 */
export function mapGuest(root: u64, gpa: u64, hpa: u64, log2Bytes: u32): Status {
  const vm = vmOf(root);
  if (root == 0 || vm == MAX_VMS) return Status.NOT_FOUND;
  const bytes = (<u64>1) << log2Bytes;
  if (!fitsBelow(gpa, bytes, GUEST_WINDOW_BYTES)) return Status.BAD_ADDRESS;
  if (!isOwned(hpa, bytes, Owner.VM_FIRST + vm)) return Status.WRONG_OWNER;
  return mapPage(root, GUEST_WINDOW + gpa, hpa, log2Bytes, OWN_RW);
}

/**
 * Takes the mapping away and drops this CPU's translation. Other CPUs on which the root is loaded have
 * to reload CR3 before the frames get another owner. NOT_FOUND if it is not mapped in this size.
 */
export function unmapGuest(root: u64, gpa: u64, log2Bytes: u32): Status {
  const status = unmapPage(root, GUEST_WINDOW + gpa, log2Bytes);
  if (status == Status.OK) invlpg(GUEST_WINDOW + gpa);
  return status;
}

/** Frees the root and its tables. No CPU may have it loaded; frames that it mapped are left to their owner. */
export function destroyRoot(root: u64): void {
  lock(maps);
  const vm = vmOf(root);
  if (root != 0 && vm != MAX_VMS) {
    store<u64>(roots + ((<usize>vm) << 3), 0);
    const pdpt = readEntry(root) & ADDRESS;
    freeRun(readEntry(pdpt) & ADDRESS, 12, Owner.TABLE);
    freeRun(pdpt, 12, Owner.TABLE);
    for (let i = GUEST_FIRST; i <= GUEST_LAST; i++) freeTables(root, i);
    freeRun(root, 12, Owner.TABLE);
  }
  unlock(maps);
}

// ---- Scrubbing

/**
 * This CPU's private part of the core root's guest window, for memory that no VM maps: makes the run at
 * `pa` reachable with the guest* intrinsics at the returned address, on the core's root. `owner` must
 * own it. GUEST_WINDOW_BYTES if that fails. closeRun() ends it.
 */
export function openRun(pa: u64, log2Bytes: u32, owner: u32): u64 {
  if ((readCr3() & ADDRESS) != core || !isOwned(pa, (<u64>1) << log2Bytes, owner)) return GUEST_WINDOW_BYTES;
  const at = (<u64>load<u32>(cpuBlock(), 4)) << 30; // CpuBlock.index: a GiB each
  lock(maps);
  const status = mapPage(core, GUEST_WINDOW + at, pa, log2Bytes, OWN_RW);
  unlock(maps);
  return status ? GUEST_WINDOW_BYTES : at;
}

export function closeRun(at: u64, log2Bytes: u32): void {
  lock(maps);
  unmapRange(core, GUEST_WINDOW + at, (<u64>1) << log2Bytes);
  unlock(maps);
  invlpg(GUEST_WINDOW + at);
}

// ---- Start of further CPUs

/**
 * A root with which a CPU can turn paging on in the frame `trampoline`, below 1 MiB: that page at its own
 * address, executable, and the core's image. It lies below 4 GiB, or 0 is returned.
 */
export function createBringUpRoot(trampoline: u64): u64 {
  const root = newTable();
  if (!root) return 0;
  writeEntry(root + ((<u64>TOP_INDEX) << 3), readEntry(core + ((<u64>TOP_INDEX) << 3)));
  if (root < 0x1_0000_0000 && mapPage(root, trampoline, trampoline, 12, LEAF_RX & ~GLOBAL) == Status.OK) return root;
  freeRun(root, 12, Owner.TABLE);
  return 0;
}

export function destroyBringUpRoot(root: u64): void {
  freeTables(root, 0);
  freeRun(root, 12, Owner.TABLE);
}
