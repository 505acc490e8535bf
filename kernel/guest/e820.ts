// The memory map that a guest is told, in the three forms its boot protocols want.
// ACPI Specification, "System Address Map Interfaces".

import { gueststore32, gueststore64 } from "../cpu/insn";
import { ECAM_BYTES, ECAM_GPA } from "../vdev/vpci";
import { CONVENTIONAL_END, EXTENDED_START, ACPI_START, FOUR_GIB, lowRamBytes } from "./place";

export const enum E820 {
  RAM = 1,
  RESERVED = 2,
}

export const MAX_E820: u32 = 8;

/** Bytes of an entry, and where its fields are, by form. */
export const enum MapForm {
  LINUX = 0, // base u64, size u64, type u32: 20 bytes
  PVH = 1, // base, size, type, reserved u32: 24 bytes
  MULTIBOOT = 2, // entry size u32 (20), base, size, type: 24 bytes
}

/** Writes the map of a guest with `memoryBytes` of RAM to `gpa`; returns the number of entries (at most MAX_E820). */
export function writeMap(gpa: u64, form: u32, memoryBytes: u64): u32 {
  const low = lowRamBytes(memoryBytes);
  let n: u32 = 0;
  n = put(gpa, form, n, 0, CONVENTIONAL_END, E820.RAM);
  n = put(gpa, form, n, CONVENTIONAL_END, 0xa_0000 - CONVENTIONAL_END, E820.RESERVED);
  n = put(gpa, form, n, ACPI_START, EXTENDED_START - ACPI_START, E820.RESERVED);
  n = put(gpa, form, n, EXTENDED_START, low - EXTENDED_START, E820.RAM);
  n = put(gpa, form, n, ECAM_GPA, ECAM_BYTES, E820.RESERVED);
  n = put(gpa, form, n, 0xfec0_0000, 0x1000, E820.RESERVED);
  n = put(gpa, form, n, 0xfee0_0000, 0x1000, E820.RESERVED);
  if (memoryBytes > low) n = put(gpa, form, n, FOUR_GIB, memoryBytes - low, E820.RAM);
  return n;
}

/** Bytes from one entry to the next. */
export function entryBytes(form: u32): u64 {
  return form == MapForm.LINUX ? 20 : 24;
}

function put(gpa: u64, form: u32, index: u32, base: u64, bytes: u64, kind: u32): u32 {
  let at = gpa + <u64>index * entryBytes(form);
  if (form == MapForm.MULTIBOOT) {
    gueststore32(at, 20);
    at += 4;
  }
  gueststore64(at, base);
  gueststore64(at + 8, bytes);
  gueststore32(at + 16, kind);
  if (form == MapForm.PVH) gueststore32(at + 20, 0);
  return index + 1;
}
