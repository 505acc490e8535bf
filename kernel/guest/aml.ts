// The guest's DSDT, from a small script: each row opens a package, closes one, or holds bytes as they
// are. Package lengths are filled in when a package closes, in the two-byte form.
// ACPI Specification, "ACPI Machine Language (AML) Specification".

import { guestload8, gueststore8 } from "../cpu/insn";
import { Cursor, put8 } from "./cursor";

const enum Row {
  END = 0,
  OPEN = 1, // n, n bytes of opcode: a package length follows, then what comes until CLOSE
  CLOSE = 2,
  BYTES = 3, // n, n bytes
  BUFFER = 4, // a Buffer whose size is that of its contents; CLOSE_BUFFER ends it
  CLOSE_BUFFER = 5,
}

/*
 * Scope (\) { Name (_S5, Package (4) { 5, 5, 0, 0 }) }
 * Scope (_SB) {
 *   Device (PCI0) { _HID PNP0A03, _UID 0, _BBN 0, _CRS: bus 0, ports 0..CF7, CF8..CFF, D00..FFFF,
 *                   memory E0000000..FEBFFFFF }
 *   Device (CFG)  { _HID PNP0C02, _CRS: memory C0000000, 1 MiB }
 *   Device (COM1) { _HID PNP0501, _UID 1, _CRS: ports 3F8..3FF, IRQ 4 }
 *   Device (RTC)  { _HID PNP0B00, _CRS: ports 70..71, IRQ 8 }
 * }
 */
// biome-ignore format: a row a line
const dsdt: usize = memory.data<u8>([
  3, 6, 0x08, 0x5c, 0x5f, 0x53, 0x35, 0x5f, // Name (\_S5_,
  1, 1, 0x12, // Package
  3, 7, 0x04, 0x0a, 0x05, 0x0a, 0x05, 0x00, 0x00, // (4) { 5, 5, 0, 0 })
  2,

  1, 1, 0x10, // Scope
  3, 5, 0x5c, 0x5f, 0x53, 0x42, 0x5f, // \_SB_

  1, 2, 0x5b, 0x82, // Device
  3, 4, 0x50, 0x43, 0x49, 0x30, // PCI0
  3, 10, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x0a, 0x03, // Name (_HID, EISAID PNP0A03)
  3, 6, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x00, // Name (_UID, Zero)
  3, 6, 0x08, 0x5f, 0x42, 0x42, 0x4e, 0x00, // Name (_BBN, Zero)
  3, 5, 0x08, 0x5f, 0x43, 0x52, 0x53, // Name (_CRS,
  4,
  // WordBusNumber: producer, fixed, 0..0, length 1
  3, 16, 0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
  // IO (Decode16, CF8, CF8, 1, 8): the configuration ports, consumed
  3, 8, 0x47, 0x01, 0xf8, 0x0c, 0xf8, 0x0c, 0x01, 0x08,
  // WordIO: producer, entire range, 0..CF7, length CF8H
  3, 16, 0x88, 0x0d, 0x00, 0x01, 0x0c, 0x03, 0x00, 0x00, 0x00, 0x00, 0xf7, 0x0c, 0x00, 0x00, 0xf8, 0x0c,
  // WordIO: D00..FFFF, length F300H
  3, 16, 0x88, 0x0d, 0x00, 0x01, 0x0c, 0x03, 0x00, 0x00, 0x00, 0x0d, 0xff, 0xff, 0x00, 0x00, 0x00, 0xf3,
  // DWordMemory: producer, read-write, not cacheable, E0000000..FEBFFFFF, length 1EC00000H
  3, 26, 0x87, 0x17, 0x00, 0x00, 0x0c, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0,
  0xff, 0xff, 0xbf, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0x1e,
  3, 2, 0x79, 0x00, // EndTag
  5,
  2, // PCI0

  1, 2, 0x5b, 0x82,
  3, 4, 0x43, 0x46, 0x47, 0x5f, // CFG_: the memory-mapped configuration space, reserved
  3, 10, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x0c, 0x02, // _HID PNP0C02
  3, 5, 0x08, 0x5f, 0x43, 0x52, 0x53,
  4,
  3, 12, 0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x10, 0x00, // Memory32Fixed C0000000, 1 MiB
  3, 2, 0x79, 0x00,
  5,
  2,

  1, 2, 0x5b, 0x82,
  3, 4, 0x43, 0x4f, 0x4d, 0x31, // COM1
  3, 10, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x05, 0x01, // _HID PNP0501
  3, 6, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x01, // _UID One
  3, 5, 0x08, 0x5f, 0x43, 0x52, 0x53,
  4,
  3, 8, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, // IO 3F8, 8 ports
  3, 3, 0x22, 0x10, 0x00, // IRQNoFlags { 4 }
  3, 2, 0x79, 0x00,
  5,
  2,

  1, 2, 0x5b, 0x82,
  3, 4, 0x52, 0x54, 0x43, 0x5f, // RTC_
  3, 10, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x0b, 0x00, // _HID PNP0B00
  3, 5, 0x08, 0x5f, 0x43, 0x52, 0x53,
  4,
  3, 8, 0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x01, 0x02, // IO 70, 2 ports
  3, 3, 0x22, 0x00, 0x01, // IRQNoFlags { 8 }
  3, 2, 0x79, 0x00,
  5,
  2,

  2, // Scope
  0,
]);

const MAX_DEPTH: u32 = 8;
const opened: usize = memory.data(64, 8); // u64 for each open package [loading is done by one CPU at a time: vm/create]

const BUFFER_OP: u32 = 0x11;
const WORD_PREFIX: u32 = 0x0b;

/** Writes the body of the DSDT. */
export function writeDsdt(c: Cursor): void {
  let at = dsdt;
  let depth: u32 = 0;
  for (;;) {
    const row: u32 = load<u8>(at++);
    switch (row) {
      case Row.OPEN:
        at = copy(c, at);
        open(c, depth++);
        break;
      case Row.BYTES:
        at = copy(c, at);
        break;
      case Row.BUFFER: // opcode, package length, then the size of the contents as a word
        put8(c, BUFFER_OP);
        open(c, depth++);
        put8(c, WORD_PREFIX);
        put8(c, 0);
        put8(c, 0);
        break;
      case Row.CLOSE_BUFFER:
        closeBuffer(c, --depth);
        break;
      case Row.CLOSE:
        close(c, --depth);
        break;
      default:
        return;
    }
  }
}

/** Copies the counted bytes at `at`; returns what follows them. */
function copy(c: Cursor, at: usize): usize {
  const count: usize = load<u8>(at);
  for (let i: usize = 1; i <= count; i++) put8(c, load<u8>(at + i));
  return at + 1 + count;
}

function open(c: Cursor, depth: u32): void {
  if (depth >= MAX_DEPTH) unreachable();
  store<u64>(opened + ((<usize>depth) << 3), c.at);
  put8(c, 0);
  put8(c, 0);
}

/** PkgLength: counts itself. Two bytes: bits 3..0 with 40H, then bits 11..4. */
function close(c: Cursor, depth: u32): void {
  const at = load<u64>(opened + ((<usize>depth) << 3));
  const bytes = <u32>(c.at - at);
  gueststore8(at, 0x40 | (bytes & 15));
  gueststore8(at + 1, bytes >> 4);
}

function closeBuffer(c: Cursor, depth: u32): void {
  const at = load<u64>(opened + ((<usize>depth) << 3));
  const size = <u32>(c.at - (at + 5));
  gueststore8(at + 3, size & 0xff);
  gueststore8(at + 4, size >> 8);
  fixEndTag(c, at + 5);
  close(c, depth);
}

/** The end tag's checksum makes the resource template sum up to zero. */
function fixEndTag(c: Cursor, start: u64): void {
  let sum: u32 = 0;
  for (let at = start; at < c.at - 1; at++) sum += guestload8(at);
  gueststore8(c.at - 1, (0 - sum) & 0xff);
}
