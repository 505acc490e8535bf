// Writes structures byte after byte into guest memory and sums them up, for the checksums of ACPI.

import { guestload8, gueststore32, gueststore8 } from "../cpu/insn";

@unmanaged
export class Cursor {
  /** Where the next byte goes. */
  at: u64;
  /** Where the current table began. */
  start: u64;
}

const theCursor: usize = memory.data(16, 8); // [loading is done by one CPU at a time: vm/create]

/** The cursor, set to `gpa`. */
export function cursorAt(gpa: u64): Cursor {
  const c = changetype<Cursor>(theCursor);
  c.at = gpa;
  c.start = gpa;
  return c;
}

export function put8(c: Cursor, value: u32): void {
  gueststore8(c.at, value & 0xff);
  c.at += 1;
}

export function put16(c: Cursor, value: u32): void {
  put8(c, value);
  put8(c, value >> 8);
}

export function put32(c: Cursor, value: u32): void {
  put16(c, value);
  put16(c, value >> 16);
}

export function put64(c: Cursor, value: u64): void {
  put32(c, <u32>value);
  put32(c, <u32>(value >> 32));
}

/** The characters of `text`, all ASCII. */
export function putText(c: Cursor, text: string): void {
  for (let i = 0; i < text.length; i++) put8(c, load<u16>(changetype<usize>(text) + ((<usize>i) << 1)));
}

export function putZeros(c: Cursor, count: u32): void {
  for (let i: u32 = 0; i < count; i++) put8(c, 0);
}

/** Moves up to the next multiple of `align`, writing zeros. */
export function alignTo(c: Cursor, align: u64): void {
  while (c.at & (align - 1)) put8(c, 0);
}

/** The byte that makes `bytes` from `gpa` on sum up to zero, with the one at `hole` counted as zero. */
export function checksum(gpa: u64, bytes: u64, hole: u64): u32 {
  let sum: u32 = 0;
  for (let i: u64 = 0; i < bytes; i++) if (gpa + i != hole) sum += guestload8(gpa + i);
  return (0 - sum) & 0xff;
}

// ---- ACPI tables: ACPI Specification, "System Description Table Header"

/** Begins a table: signature (4 characters), revision; length and checksum follow in endTable. */
export function beginTable(c: Cursor, signature: string, revision: u32): void {
  alignTo(c, 16);
  c.start = c.at;
  putText(c, signature);
  put32(c, 0); // length
  put8(c, revision);
  put8(c, 0); // checksum
  putText(c, "BASALT"); // OEM ID
  putText(c, "BASALTVM"); // OEM table ID
  put32(c, 1); // OEM revision
  putText(c, "BSLT"); // creator
  put32(c, 1);
}

/** Fills in length and checksum; returns the table's address. */
export function endTable(c: Cursor): u64 {
  const bytes = c.at - c.start;
  gueststore32(c.start + 4, <u32>bytes);
  gueststore8(c.start + 9, checksum(c.start, bytes, c.start + 9));
  return c.start;
}
