// The ACPI tables that a guest finds at E0000H: RSDP, XSDT, RSDT, FADT with FACS and DSDT, MADT, MCFG.
// ACPI Specification 6.5, chapter "ACPI Software Programming Model".

import { gueststore8 } from "../cpu/insn";
import { ECAM_GPA } from "../vdev/vpci";
import { PM_BASE, PM_CONTROL, PM_EVENT, PM_TIMER } from "../vdev/vpm";
import { Vm, vcpuOf } from "../vcpu/vm";
import { IRQ_SCI } from "../virq/line";
import { IOAPIC_GPA } from "../virq/vioapic";
import { writeDsdt } from "./aml";
import {
  alignTo,
  beginTable,
  checksum,
  Cursor,
  cursorAt,
  endTable,
  put16,
  put32,
  put64,
  put8,
  putText,
  putZeros,
} from "./cursor";
import { ACPI_START } from "./place";

const RSDP_BYTES: u64 = 36;
const TABLES_START: u64 = ACPI_START + 64;

// FADT, fixed feature flags.
const WBINVD: u32 = 1 << 0;
const PROC_C1: u32 = 1 << 2;
const NO_SLEEP_BUTTON: u32 = 1 << 5;
const NO_FIXED_RTC: u32 = 1 << 6;
const TIMER_32_BITS: u32 = 1 << 8;
const RESET_REGISTER: u32 = 1 << 10;
const FADT_FLAGS: u32 = WBINVD | PROC_C1 | NO_SLEEP_BUTTON | NO_FIXED_RTC | TIMER_32_BITS | RESET_REGISTER;
// FADT, IA-PC boot architecture flags: legacy devices are there, VGA is not, neither is a keyboard controller worth probing.
const BOOT_LEGACY_DEVICES: u32 = 1 << 0;
const BOOT_NO_VGA: u32 = 1 << 2;
const RESET_PORT: u64 = 0xcf9;
const RESET_VALUE: u32 = 6;

const GAS_IO: u32 = 1;

// MADT entries.
const LAPIC_ENABLED: u32 = 1;
const PCAT_COMPATIBLE: u32 = 1;
const EDGE_HIGH: u32 = 0x5;
const LEVEL_HIGH: u32 = 0xd;

/** Writes all tables into the VM's memory; returns the address of the RSDP. */
export function writeAcpi(vm: Vm): u64 {
  const c = cursorAt(TABLES_START);
  const facs = writeFacs(c);
  beginTable(c, "DSDT", 2);
  writeDsdt(c);
  const dsdt = endTable(c);
  const fadt = writeFadt(c, facs, dsdt);
  const madt = writeMadt(c, vm);
  const mcfg = writeMcfg(c);
  beginTable(c, "XSDT", 1);
  put64(c, fadt);
  put64(c, madt);
  put64(c, mcfg);
  const xsdt = endTable(c);
  writeRsdp(writeRsdt(c, fadt, madt, mcfg), xsdt);
  return ACPI_START;
}

/** The same for who reads ACPI 1.0: GRUB follows this pointer unseen, even where it is null. */
function writeRsdt(c: Cursor, fadt: u64, madt: u64, mcfg: u64): u64 {
  beginTable(c, "RSDT", 1);
  put32(c, <u32>fadt);
  put32(c, <u32>madt);
  put32(c, <u32>mcfg);
  return endTable(c);
}

function writeRsdp(rsdt: u64, xsdt: u64): void {
  const c = cursorAt(ACPI_START);
  putText(c, "RSD PTR ");
  put8(c, 0); // checksum of the first 20 bytes
  putText(c, "BASALT");
  put8(c, 2); // revision
  put32(c, <u32>rsdt);
  put32(c, <u32>RSDP_BYTES);
  put64(c, xsdt);
  put32(c, 0); // extended checksum, reserved
  gueststore8(ACPI_START + 8, checksum(ACPI_START, 20, ACPI_START + 8));
  gueststore8(ACPI_START + 32, checksum(ACPI_START, RSDP_BYTES, ACPI_START + 32));
}

/** Firmware ACPI control structure: not used, but expected. */
function writeFacs(c: Cursor): u64 {
  alignTo(c, 64);
  const at = c.at;
  putText(c, "FACS");
  put32(c, 64);
  putZeros(c, 24);
  put8(c, 2); // version
  putZeros(c, 31);
  return at;
}

function writeFadt(c: Cursor, facs: u64, dsdt: u64): u64 {
  beginTable(c, "FACP", 6);
  put32(c, <u32>facs);
  put32(c, <u32>dsdt);
  put8(c, 0); // reserved
  put8(c, 0); // preferred profile: unspecified
  put16(c, IRQ_SCI);
  putZeros(c, 8); // SMI_CMD 0: always in ACPI mode; its four commands
  put32(c, PM_BASE + PM_EVENT);
  put32(c, 0); // PM1b
  put32(c, PM_BASE + PM_CONTROL);
  put32(c, 0);
  put32(c, 0); // PM2
  put32(c, PM_BASE + PM_TIMER);
  put32(c, 0); // GPE0
  put32(c, 0); // GPE1
  put8(c, 4); // PM1_EVT_LEN
  put8(c, 2); // PM1_CNT_LEN
  put8(c, 0);
  put8(c, 4); // PM_TMR_LEN
  putZeros(c, 4); // GPE0 and GPE1 lengths, GPE1 base, CST_CNT
  put16(c, 101); // no C2
  put16(c, 1001); // no C3
  putZeros(c, 8); // flush size and stride, duty offset and width, alarm registers but century
  put8(c, 0x32); // CENTURY
  put16(c, BOOT_LEGACY_DEVICES | BOOT_NO_VGA);
  put8(c, 0);
  put32(c, FADT_FLAGS);
  putGas(c, 8, 1, RESET_PORT);
  put8(c, RESET_VALUE);
  put16(c, 0); // ARM_BOOT_ARCH
  put8(c, 5); // minor version
  put64(c, 0); // X_FIRMWARE_CTRL: the 32-bit field counts
  put64(c, dsdt);
  putGas(c, 32, 2, PM_BASE + PM_EVENT);
  putGas(c, 0, 0, 0);
  putGas(c, 16, 2, PM_BASE + PM_CONTROL);
  putGas(c, 0, 0, 0);
  putGas(c, 0, 0, 0);
  putGas(c, 32, 3, PM_BASE + PM_TIMER);
  putGas(c, 0, 0, 0);
  putGas(c, 0, 0, 0);
  putGas(c, 0, 0, 0); // sleep control, sleep status
  putGas(c, 0, 0, 0);
  putText(c, "Basalt\0\0"); // hypervisor vendor identity
  return endTable(c);
}

/** Generic address structure: a port of `bits`, or nothing. `access`: 1 byte, 2 word, 3 dword. */
function putGas(c: Cursor, bits: u32, access: u32, port: u64): void {
  put8(c, GAS_IO);
  put8(c, bits);
  put8(c, 0);
  put8(c, access);
  put64(c, port);
}

function writeMadt(c: Cursor, vm: Vm): u64 {
  beginTable(c, "APIC", 5);
  put32(c, 0xfee0_0000);
  put32(c, PCAT_COMPATIBLE);
  for (let i: u32 = 0; i < vm.vcpuCount; i++) putLapic(c, i, vcpuOf(vm, i).apicId);
  put16(c, 1 | (12 << 8)); // I/O APIC
  put16(c, 0); // ID 0
  put32(c, <u32>IOAPIC_GPA);
  put32(c, 0); // first interrupt
  putOverride(c, 0, 2, EDGE_HIGH);
  putOverride(c, IRQ_SCI, IRQ_SCI, LEVEL_HIGH);
  put16(c, 4 | (6 << 8)); // local APIC NMI: all processors, LINT1
  put8(c, 0xff);
  put16(c, 0);
  put8(c, 1);
  return endTable(c);
}

/** Memory-mapped PCI configuration space: segment 0, bus 0 alone. PCI Firmware Specification, "MCFG Table Description". */
function writeMcfg(c: Cursor): u64 {
  beginTable(c, "MCFG", 1);
  putZeros(c, 8);
  put64(c, ECAM_GPA);
  putZeros(c, 8); // segment 0, first bus 0, last bus 0
  return endTable(c);
}

function putLapic(c: Cursor, uid: u32, apicId: u32): void {
  put16(c, 0 | (8 << 8));
  put8(c, uid);
  put8(c, apicId);
  put32(c, LAPIC_ENABLED);
}

function putOverride(c: Cursor, irq: u32, gsi: u32, flags: u32): void {
  put16(c, 2 | (10 << 8));
  put8(c, 0); // ISA
  put8(c, irq);
  put32(c, gsi);
  put16(c, flags);
}
