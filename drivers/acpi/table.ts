// ACPI tables as ranges of physical memory: found, mapped and checked once; fields are then read by
// offset, each within the table's length.
// ACPI Specification, "Root System Description Pointer" and "System Description Table Header".

import * as boot from "../bootinfo";
import { deviceload16, deviceload32, deviceload64, deviceload8, deviceread } from "../../kernel/cpu/insn";
import * as log from "../../kernel/lib/log";
import { Status } from "../../kernel/lib/status";
import { mapFirmware } from "../../kernel/mm/hostmap";

export const HEADER_BYTES: u32 = 36;
const MOST_TABLE_BYTES: u32 = 1 << 20; // larger than any real DSDT
const MAX_TABLES: u32 = 128;

/** Signatures as the u32 at a table's start. */
export const enum Signature {
  MADT = 0x43495041, // "APIC"
  FADT = 0x50434146, // "FACP"
  DSDT = 0x54445344,
  MCFG = 0x4746434d,
  HPET = 0x54455048,
  DMAR = 0x52414d44,
  IVRS = 0x53525649,
  XSDT = 0x54445358,
  RSDT = 0x54445352,
}

/** One valid table. */
@unmanaged
export class Table {
  pa: u64;
  signature: u32;
  bytes: u32; // from its header, checked and mapped
}

const tables: usize = memory.data(128 * 16, 8); // [boot only]
let tableCount: u32 = 0; // written at boot
const rsdpCopy: usize = memory.data(40, 8); // [boot only]

export function tableAt(index: u32): Table {
  return changetype<Table>(tables + ((<usize>index) << 4));
}

export function count(): u32 {
  return tableCount;
}

/** The first table with that signature; null (0) if there is none. */
export function find(signature: Signature): Table {
  for (let i: u32 = 0; i < tableCount; i++) if (tableAt(i).signature == <u32>signature) return tableAt(i);
  return changetype<Table>(0);
}

/** Whether `offset` .. `offset + bytes` lies in the table. */
export function has(table: Table, offset: u32, bytes: u32): bool {
  return offset <= table.bytes && bytes <= table.bytes - offset;
}

/** Fields of a table; 0 past its end. */
export function get8(table: Table, offset: u32): u32 {
  return has(table, offset, 1) ? deviceload8(table.pa + offset) : 0;
}

export function get16(table: Table, offset: u32): u32 {
  return has(table, offset, 2) ? deviceload16(table.pa + offset) : 0;
}

export function get32(table: Table, offset: u32): u32 {
  return has(table, offset, 4) ? deviceload32(table.pa + offset) : 0;
}

export function get64(table: Table, offset: u32): u64 {
  return has(table, offset, 8) ? deviceload64(table.pa + offset) : 0;
}

// ---- Finding them all

/** Finds the RSDP and all tables. NOT_FOUND if there is no usable ACPI. */
export function discover(): Status {
  tableCount = 0;
  if (!findRsdp()) return Status.NOT_FOUND;
  const revision: u32 = load<u8>(rsdpCopy, 15);
  const xsdt = revision >= 2 ? load<u64>(rsdpCopy, 24) : 0;
  if (xsdt != 0 && listRoot(xsdt, Signature.XSDT, 8)) return Status.OK;
  const rsdt: u64 = load<u32>(rsdpCopy, 16);
  if (rsdt != 0 && listRoot(rsdt, Signature.RSDT, 4)) return Status.OK;
  log.warn("acpi", "neither XSDT nor RSDT is valid");
  return Status.NOT_FOUND;
}

/** Leaves a valid RSDP in rsdpCopy: the loader's copy, else from the two places where BIOSes put it. */
function findRsdp(): bool {
  const info = boot.bootInfo();
  if (info.rsdp) {
    memory.fill(rsdpCopy, 0, 36);
    memory.copy(rsdpCopy, info.rsdp, min(info.rsdpBytes, 36));
    if (isRsdpValid()) return true;
    log.warn("acpi", "the boot loader's RSDP is not valid: searching");
  }
  if (mapFirmware(0, 0x1000) == Status.OK) {
    const ebda = (<u64>deviceload16(0x40e)) << 4;
    if (ebda >= 0x400 && ebda < 0xa_0000 && searchRsdp(ebda, min(<u64>0x400, 0xa_0000 - ebda))) return true;
  }
  return searchRsdp(0xe_0000, 0x2_0000);
}

function searchRsdp(base: u64, bytes: u64): bool {
  if (mapFirmware(base, bytes) != Status.OK) return false;
  const first = (base + 15) & ~(<u64>15);
  for (let pa = first; pa + 36 <= base + bytes; pa += 16) {
    if (deviceload64(pa) != 0x2052_5450_2044_5352) continue; // "RSD PTR "
    deviceread(rsdpCopy, pa, 36);
    if (isRsdpValid()) return true;
  }
  return false;
}

function isRsdpValid(): bool {
  if (load<u64>(rsdpCopy) != 0x2052_5450_2044_5352) return false;
  if (sumLinear(20) != 0) return false;
  if (load<u8>(rsdpCopy, 15) < 2) return true;
  // A broken extension leaves the RSDT, which the first checksum covers.
  if (load<u32>(rsdpCopy, 20) < 36 || sumLinear(36) != 0) store<u8>(rsdpCopy, 0, 15);
  return true;
}

function sumLinear(bytes: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < bytes; i++) sum += load<u8>(rsdpCopy + i);
  return sum & 0xff;
}

/** Opens the tables that a root table lists; false if the root itself is not valid. */
function listRoot(pa: u64, signature: Signature, entryBytes: u32): bool {
  const bytes = check(pa, <u32>signature);
  if (bytes == 0) return false;
  const most = min((bytes - HEADER_BYTES) / entryBytes, MAX_TABLES);
  for (let i: u32 = 0; i < most; i++) {
    const at = pa + HEADER_BYTES + <u64>(i * entryBytes);
    add(entryBytes == 8 ? deviceload64(at) : <u64>deviceload32(at));
  }
  return true;
}

/** Adds the table at `pa` if it is valid. */
export function add(pa: u64): void {
  if (pa == 0 || tableCount == MAX_TABLES) return;
  const bytes = check(pa, 0);
  if (bytes == 0) return;
  const table = tableAt(tableCount++);
  table.pa = pa;
  table.signature = deviceload32(pa);
  table.bytes = bytes;
}

/** Maps and checks the table at `pa`; its length, or 0 with a line that says what is wrong. `signature` 0: any. */
function check(pa: u64, signature: u32): u32 {
  if (mapFirmware(pa, HEADER_BYTES) != Status.OK) return reject(pa, "lies where no firmware can be");
  const found = deviceload32(pa);
  const bytes = deviceload32(pa + 4);
  if (signature != 0 && found != signature) return reject(pa, "has the wrong signature");
  if (bytes < HEADER_BYTES || bytes > MOST_TABLE_BYTES) return reject(pa, "has an impossible length");
  if (mapFirmware(pa, bytes) != Status.OK) return reject(pa, "reaches where no firmware can be");
  if (found != <u32>Signature.DSDT && sum(pa, bytes) != 0) return reject(pa, "has a wrong checksum");
  return bytes;
}

function reject(pa: u64, why: string): u32 {
  log.begin(log.Level.WARN, "acpi");
  log.str("the table at ");
  log.hex(pa);
  log.str(" ");
  log.str(why);
  log.str(": ignored");
  log.end();
  return 0;
}

/** The sum of all bytes modulo 256, eight at a time. */
function sum(pa: u64, bytes: u32): u32 {
  const whole = bytes & ~7;
  let even: u64 = 0;
  let total: u64 = 0;
  for (let i: u32 = 0; i < whole; i += 8) {
    const word = deviceload64(pa + i);
    even = (word & 0x00ff_00ff_00ff_00ff) + ((word >> 8) & 0x00ff_00ff_00ff_00ff);
    total += (even * 0x0001_0001_0001_0001) >> 48;
  }
  for (let i = whole; i < bytes; i++) total += deviceload8(pa + i);
  return <u32>total & 0xff;
}
