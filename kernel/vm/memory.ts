// The memory of a VM: reserved in the largest runs there are, zeroed, mapped in its guest window and its
// EPT when it is created; scrubbed and returned when it is destroyed.
//
//   0 .. A0000H          RAM          E0000H .. 100000H   RAM (tables of firmware)
//   1 MiB .. low end     RAM          4 GiB ..            what did not fit below 3 GiB

import { Status } from "../lib/status";
import { allocRun, freeRun, Owner } from "../mm/frame";
import { createEpt, destroyEpt, EptBit, eptPointer, mapEpt, reserveEpt } from "../mm/ept";
import { fillGuest, SlotKind } from "../mm/guestmem";
import { mapGuest, unmapGuest } from "../mm/hostmap";
import { rightsOf, frameBehind } from "../vcpu/memory";
import { arenaAlloc, arenaPaOf, ramOf, slotOf, Vm, Without } from "../vcpu/vm";
import { eptAccessedDirty, largestLeafLog2, unrestrictedGuest } from "../vendor";

const TWO_MIB: u64 = 0x20_0000;
/** Scrubbed in one go: other guests wait for so long at most. */
const SCRUB_BYTES: u64 = 0x8000;
const GIB: u64 = 0x4000_0000;
const LOW_MAX: u64 = 0xc000_0000;
const HIGH_START: u64 = 0x1_0000_0000;
const CONVENTIONAL: u64 = 0xa_0000;
/** Firmware's segments, and those of option ROMs before them: systems search both, 16 bytes at a time. */
const FIRMWARE: u64 = 0xc_0000;
const EXTENDED: u64 = 0x10_0000;
const APIC_GPA: u64 = 0xfee0_0000;
/** Between the local APIC and the firmware's end of the space: no device is there. */
const IDENTITY_GPA: u64 = 0xfef0_0000;

/** Reserves and maps `bytes` of RAM. NO_MEMORY: destroyMemory() takes back what there is. */
export function createMemory(vm: Vm, bytes: u64): Status {
  vm.eptRoot = createEpt();
  if (!vm.eptRoot) return Status.NO_MEMORY;
  vm.eptp = eptPointer(vm.eptRoot, eptAccessedDirty() && (vm.without & Without.EPT_AD) == 0 && !needsIdentity(vm));
  vm.pageLog2 = min(vm.pageLog2, (vm.without & Without.LARGE_PAGES) != 0 ? 12 : largestLeafLog2());
  let status = createSpecial(vm);
  if (!status) status = reserve(vm, 0, min(bytes, LOW_MAX));
  if (!status && bytes > LOW_MAX) status = reserve(vm, HIGH_START, bytes - LOW_MAX);
  if (status) return status;
  addSlots(vm, bytes);
  return scrubAndMap(vm);
}

/** The APIC-access page, and the identity table for guests without unrestricted guest. */
function createSpecial(vm: Vm): Status {
  vm.apicAccessPa = allocRun(Owner.VM_FIRST + vm.number, 12);
  if (!vm.apicAccessPa) return Status.NO_MEMORY;
  const status = mapEpt(vm.number, vm.eptRoot, APIC_GPA, vm.apicAccessPa, 0x1000, EptBit.READ | EptBit.WRITE, 12);
  if (status) return status;
  vm.apicPageMapped = 1;
  return needsIdentity(vm) ? createIdentity(vm) : Status.OK;
}

/** Whether a guest without paging runs on a page table of ours. */
function needsIdentity(vm: Vm): bool {
  return !unrestrictedGuest() || (vm.without & Without.UNRESTRICTED_GUEST) != 0;
}

/**
 * 32-bit paging with 1024 pages of 4 MiB, each at its own address: a page of the arena, which the guest finds
 * at IDENTITY_GPA and cannot write. Accessed and dirty flags are set beforehand, and those of the EPT are
 * off, so the processor never writes there either.
 */
function createIdentity(vm: Vm): Status {
  const table = arenaAlloc(vm, 4096, 4096);
  if (!table) return Status.NO_MEMORY;
  // Present, writable, user, accessed, dirty, large.
  for (let i: u32 = 0; i < 1024; i++) store<u32>(table + ((<usize>i) << 2), (i << 22) | 0xe7);
  vm.identityRoot = IDENTITY_GPA;
  return mapEpt(vm.number, vm.eptRoot, IDENTITY_GPA, arenaPaOf(vm, table), 0x1000, EptBit.READ, 12);
}

/** Frames for [gpa, gpa + bytes) in the guest window: 1 GiB runs where they fit, else of 2 MiB. */
function reserve(vm: Vm, gpa: u64, bytes: u64): Status {
  for (let done: u64 = 0; done < bytes; ) {
    const at = gpa + done;
    let log2: u32 = at >= GIB && (at & (GIB - 1)) == 0 && bytes - done >= GIB ? 30 : 21;
    let status = reserveRun(vm, at, log2);
    if (status == Status.NO_MEMORY && log2 == 30) {
      log2 = 21;
      status = reserveRun(vm, at, log2);
    }
    if (status) return status;
    done += (<u64>1) << log2;
  }
  return Status.OK;
}

function reserveRun(vm: Vm, gpa: u64, log2: u32): Status {
  const owner = Owner.VM_FIRST + vm.number;
  const hpa = allocRun(owner, log2);
  if (!hpa) return Status.NO_MEMORY;
  const status = mapGuest(vm.hostCr3, gpa, hpa, log2);
  if (status) freeRun(hpa, log2, owner);
  return status;
}

function addSlots(vm: Vm, bytes: u64): void {
  vm.memoryBytes = bytes;
  addSlot(vm, 0, CONVENTIONAL);
  addSlot(vm, FIRMWARE, EXTENDED - FIRMWARE);
  vm.mainGpa = EXTENDED;
  vm.mainBytes = min(bytes, LOW_MAX) - EXTENDED;
  vm.holeBytes = HIGH_START - (vm.mainGpa + vm.mainBytes);
  addSlot(vm, vm.mainGpa, vm.mainBytes);
  if (bytes > LOW_MAX) addSlot(vm, HIGH_START, bytes - LOW_MAX);
}

function addSlot(vm: Vm, gpa: u64, bytes: u64): void {
  const slot = slotOf(vm, vm.slotCount);
  slot.gpa = gpa;
  slot.bytes = bytes;
  slot.kind = SlotKind.RAM;
  vm.slotCount += 1;
}

function scrubAndMap(vm: Vm): Status {
  for (let i: u32 = 0; i < vm.slotCount; i++) {
    const slot = slotOf(vm, i);
    fillGuest(ramOf(vm), slot.gpa, 0, slot.bytes);
    const status = vm.lazyMap
      ? reserveEpt(vm.eptRoot, slot.gpa, slot.bytes)
      : mapSlot(vm, slot.gpa, slot.bytes, slot.kind);
    if (status) return status;
  }
  return Status.OK;
}

/** Leaves for the slot, run by run: frames are contiguous within 2 MiB at least. */
function mapSlot(vm: Vm, gpa: u64, bytes: u64, kind: u32): Status {
  for (let done: u64 = 0; done < bytes; ) {
    const at = gpa + done;
    const step = min(bytes - done, contiguous(vm, at));
    const status = mapEpt(vm.number, vm.eptRoot, at, frameBehind(vm, at), step, rightsOf(kind), vm.pageLog2);
    if (status) return status;
    done += step;
  }
  return Status.OK;
}

/** Bytes from `gpa` to the end of its run. */
function contiguous(vm: Vm, gpa: u64): u64 {
  if (
    gpa >= GIB &&
    (gpa & (GIB - 1)) == 0 &&
    frameBehind(vm, gpa + GIB - TWO_MIB) == frameBehind(vm, gpa) + GIB - TWO_MIB
  )
    return GIB;
  return TWO_MIB - (gpa & (TWO_MIB - 1));
}

// ---- The end

/**
 * Scrubs the next SCRUB_BYTES at most of the VM's memory, from `done` bytes into its slots; returns how far it
 * came, the same if nothing is left. The VM's address space is loaded.
 */
export function scrubStep(vm: Vm, done: u64): u64 {
  let skipped = done;
  for (let i: u32 = 0; i < vm.slotCount; i++) {
    const slot = slotOf(vm, i);
    if (skipped < slot.bytes) {
      const step = min(slot.bytes - skipped, SCRUB_BYTES);
      fillGuest(ramOf(vm), slot.gpa + skipped, 0, step);
      return done + step;
    }
    skipped -= slot.bytes;
  }
  return done;
}

/** Returns all frames, scrubbed before, and the EPT. The VM's address space is loaded, on this CPU only. */
export function destroyMemory(vm: Vm): void {
  if (vm.eptRoot) destroyEpt(vm.eptRoot);
  if (vm.apicAccessPa) freeRun(vm.apicAccessPa, 12, Owner.VM_FIRST + vm.number);
  release(vm, 0, LOW_MAX);
  release(vm, HIGH_START, u64.MAX_VALUE);
}

/** Gives back the runs in the guest window from `gpa` on, up to the first hole. */
function release(vm: Vm, gpa: u64, bytes: u64): void {
  const owner = Owner.VM_FIRST + vm.number;
  for (let done: u64 = 0; done < bytes; ) {
    const hpa = frameBehind(vm, gpa + done);
    if (!hpa) return;
    const log2: u32 = unmapGuest(vm.hostCr3, gpa + done, 30) == Status.OK ? 30 : 21;
    if (log2 == 21) unmapGuest(vm.hostCr3, gpa + done, 21);
    freeRun(hpa, log2, owner);
    done += (<u64>1) << log2;
  }
}
