// Guest-physical memory of the current VM: the only user of the guest* intrinsics. The guest window
// maps exactly the VM's memory slots, so an unchecked access outside of them traps and stops that VM;
// callers with an address from the guest ask `bytesAt` (or use the copying functions) first.

import {
  guestcas8,
  guestcas16,
  guestcas32,
  guestcas64,
  guestcopyfromdevice,
  guestfill,
  guestload8,
  guestload16,
  guestload32,
  guestload64,
  guestread,
  gueststore8,
  gueststore16,
  gueststore32,
  gueststore64,
  guestwrite,
} from "../cpu/insn";
import { Status } from "../lib/status";

export const enum SlotKind {
  RAM = 0,
  ROM = 1, // reads and fetches; writes are dropped
}

/** A range of guest-physical memory, [gpa, gpa + bytes). */
@unmanaged
export class Slot {
  gpa: u64;
  bytes: u64;
  kind: u32; // SlotKind
  reserved: u32;
}
export const SLOT_BYTES: usize = 24;
if (offsetof<Slot>() != 24) ERROR("SLOT_BYTES is not the size of Slot");

/** The memory of a VM. `main` repeats the RAM slot that most accesses hit. */
@unmanaged
export class GuestRam {
  mainGpa: u64;
  mainBytes: u64;
  memoryBytes: u64; // RAM in all
  slots: usize; // Slots, sorted by nothing, disjoint
  slotCount: u32;
  /** No memory from the end of `main` on for so many bytes: where devices are is found out without a search. */
  holeBytes: u64;
}

function slotAt(ram: GuestRam, gpa: u64): Slot | null {
  for (let i: u32 = 0; i < ram.slotCount; i++) {
    const slot = changetype<Slot>(ram.slots + <usize>i * SLOT_BYTES);
    if (gpa - slot.gpa < slot.bytes) return slot;
  }
  return null;
}

/** Bytes of memory from `gpa` to the end of its slot; 0 where there is none. */
export function bytesAt(ram: GuestRam, gpa: u64): u64 {
  const offset = gpa - ram.mainGpa;
  if (offset < ram.mainBytes) return ram.mainBytes - offset;
  if (offset - ram.mainBytes < ram.holeBytes) return 0;
  const slot = slotAt(ram, gpa);
  return slot == null ? 0 : slot.bytes - (gpa - slot.gpa);
}

/** As bytesAt, but for writing: 0 in ROM. */
export function writableBytesAt(ram: GuestRam, gpa: u64): u64 {
  const offset = gpa - ram.mainGpa;
  if (offset < ram.mainBytes) return ram.mainBytes - offset;
  if (offset - ram.mainBytes < ram.holeBytes) return 0;
  const slot = slotAt(ram, gpa);
  return slot == null || slot.kind != SlotKind.RAM ? 0 : slot.bytes - (gpa - slot.gpa);
}

/** SlotKind of the slot that holds `gpa`; RAM where there is none. */
export function slotKindAt(ram: GuestRam, gpa: u64): u32 {
  if (gpa - ram.mainGpa < ram.mainBytes) return SlotKind.RAM;
  const slot = slotAt(ram, gpa);
  return slot == null ? <u32>SlotKind.RAM : slot.kind;
}

/** Loads 1, 2, 4 or 8 bytes, zero-extended. The caller checked the range. */
export function loadGuest(gpa: u64, bytes: u32): u64 {
  if (bytes == 8) return guestload64(gpa);
  if (bytes == 4) return guestload32(gpa);
  if (bytes == 2) return guestload16(gpa);
  return guestload8(gpa);
}

/** Stores the low 1, 2, 4 or 8 bytes of `value`. The caller checked the range. */
export function storeGuest(gpa: u64, bytes: u32, value: u64): void {
  if (bytes == 8) gueststore64(gpa, value);
  else if (bytes == 4) gueststore32(gpa, <u32>value);
  else if (bytes == 2) gueststore16(gpa, <u32>value & 0xffff);
  else gueststore8(gpa, <u32>value & 0xff);
}

/** Locked compare and exchange of 1, 2, 4 or 8 bytes; returns what was there. The caller checked the range. */
export function casGuest(gpa: u64, bytes: u32, expected: u64, replacement: u64): u64 {
  if (bytes == 8) return guestcas64(gpa, expected, replacement);
  if (bytes == 4) return guestcas32(gpa, <u32>expected, <u32>replacement);
  if (bytes == 2) return guestcas16(gpa, <u32>expected & 0xffff, <u32>replacement & 0xffff);
  return guestcas8(gpa, <u32>expected & 0xff, <u32>replacement & 0xff);
}

/**
 * Copies `bytes` from guest memory to `ptr`, across adjacent slots.
 * BAD_ADDRESS if any byte is not memory; then nothing was copied past the gap.
 */
export function copyFromGuest(ram: GuestRam, ptr: usize, gpa: u64, bytes: usize): Status {
  while (bytes != 0) {
    const there = bytesAt(ram, gpa);
    if (there == 0) return Status.BAD_ADDRESS;
    const step = there < <u64>bytes ? <usize>there : bytes;
    guestread(ptr, gpa, step);
    ptr += step;
    gpa += step;
    bytes -= step;
  }
  return Status.OK;
}

/** Copies `bytes` from `ptr` to guest RAM. BAD_ADDRESS as above; ROM counts as a gap. */
export function copyToGuest(ram: GuestRam, gpa: u64, ptr: usize, bytes: usize): Status {
  while (bytes != 0) {
    const there = writableBytesAt(ram, gpa);
    if (there == 0) return Status.BAD_ADDRESS;
    const step = there < <u64>bytes ? <usize>there : bytes;
    guestwrite(gpa, ptr, step);
    ptr += step;
    gpa += step;
    bytes -= step;
  }
  return Status.OK;
}

/** Copies `bytes` of a boot module at host-physical `pa` to guest memory (ROM too: for loaders). BAD_ADDRESS unless it fits one slot. */
export function copyModuleToGuest(ram: GuestRam, gpa: u64, pa: u64, bytes: u64): Status {
  if (bytes == 0) return Status.OK;
  if (bytesAt(ram, gpa) < bytes) return Status.BAD_ADDRESS;
  guestcopyfromdevice(gpa, pa, bytes);
  return Status.OK;
}

/** Fills `bytes` of one slot. BAD_ADDRESS unless the range fits one slot. */
export function fillGuest(ram: GuestRam, gpa: u64, byte: u32, bytes: u64): Status {
  if (bytes == 0) return Status.OK;
  if (bytesAt(ram, gpa) < bytes) return Status.BAD_ADDRESS;
  guestfill(gpa, byte, bytes);
  return Status.OK;
}
