// The PCI host bridge: configuration space by mechanism 1 (CF8H, CFCH) and memory-mapped for bus 0 (ECAM);
// and, at CF9H, the reset control register.
// Bus 0 holds the bridge itself; other functions register their 256 bytes of configuration space.
// PCI Local Bus Specification, "Configuration Mechanism #1"; PCI Express Base Specification,
// "PCI Express Enhanced Configuration Access Mechanism (ECAM)"; Intel ICH, "RST_CNT".

import { Status } from "../lib/status";
import { arenaAlloc, Vm } from "../vcpu/vm";
import { resetVm } from "./power";

export const PCI_DEVICES: u32 = 32;
/** Memory-mapped configuration space of bus 0: 4 KiB for each function. */
export const ECAM_GPA: u64 = 0xc000_0000;
export const ECAM_BYTES: u64 = 0x10_0000;
const CONFIG_BYTES: usize = 256;
const ADDRESS_ENABLE: u32 = 0x8000_0000;

// The bridge looks like Intel's Q35 memory controller hub.
const BRIDGE_ID: u32 = 0x29c0_8086;
const BRIDGE_CLASS: u32 = 0x0600_0000; // host bridge, revision 0

/** One function's configuration space as software sees it, with a mask of the bits that can be written. */
@unmanaged
export class PciFunction {
  config: usize;
  writable: usize;
}

@unmanaged
export class Vpci {
  /** CF8H. */
  address: u32;
  /** CF9H. */
  reset: u32;
}
const FUNCTIONS: usize = offsetof<Vpci>();
const FUNCTION_BYTES: usize = offsetof<PciFunction>();

/** Gives the VM bus 0 with the host bridge. NO_MEMORY if the arena is full. */
export function createVpci(vm: Vm): Status {
  vm.vpci = arenaAlloc(vm, FUNCTIONS + <usize>PCI_DEVICES * FUNCTION_BYTES, 8);
  if (!vm.vpci) return Status.NO_MEMORY;
  const status = addFunction(vm, 0);
  if (status) return status;
  const config = functionAt(vm, 0).config;
  store<u32>(config, BRIDGE_ID);
  store<u32>(config, BRIDGE_CLASS, 8);
  store<u32>(config, 0x1100_1af4, 0x2c); // subsystem: generic virtual machine
  return Status.OK;
}

/** Gives device `device` on bus 0 a zeroed configuration space with nothing writable. NO_MEMORY, BAD_ARGUMENT. */
export function addFunction(vm: Vm, device: u32): Status {
  if (device >= PCI_DEVICES) return Status.BAD_ARGUMENT;
  const at = arenaAlloc(vm, 2 * CONFIG_BYTES, 8);
  if (!at) return Status.NO_MEMORY;
  const f = functionAt(vm, device);
  f.config = at;
  f.writable = at + CONFIG_BYTES;
  return Status.OK;
}

export function functionAt(vm: Vm, device: u32): PciFunction {
  return changetype<PciFunction>(vm.vpci + FUNCTIONS + <usize>device * FUNCTION_BYTES);
}

export function resetVpci(vm: Vm): void {
  const pci = changetype<Vpci>(vm.vpci);
  pci.address = 0;
  pci.reset = 0;
}

// ---- CF8H..CFBH

/** CF8H is a register only for 32-bit accesses; CF9H by byte is reset control; the rest is nobody's. */
export function readPciPort(vm: Vm, port: u32, bytes: u32): u32 {
  const pci = changetype<Vpci>(vm.vpci);
  if (port == 0xcf8 && bytes == 4) return pci.address;
  if (port == 0xcf9 && bytes == 1) return pci.reset;
  vm.unknownPorts += 1;
  return bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1;
}

export function writePciPort(vm: Vm, port: u32, bytes: u32, value: u32): void {
  const pci = changetype<Vpci>(vm.vpci);
  if (port == 0xcf8 && bytes == 4) pci.address = value & 0x80ff_fffc;
  else if (port == 0xcf9 && bytes == 1) writeReset(vm, pci, value);
  else vm.unknownPorts += 1;
}

/** A rising bit 2 resets, hard or soft by bit 1: here the same. */
function writeReset(vm: Vm, pci: Vpci, value: u32): void {
  if (value & ~pci.reset & 4) resetVm(vm);
  pci.reset = value & 0x0e;
}

// ---- Configuration space

/** Function 0 of `device` on bus 0, or 0: no other exists. */
function find(vm: Vm, device: u32, fn: u32): usize {
  if (fn) return 0;
  const f = functionAt(vm, device);
  return f.config ? changetype<usize>(f) : 0;
}

/** No device answers with all ones: that is how software finds out, so it is not counted. */
function readConfig(found: usize, offset: u32, bytes: u32): u32 {
  const ones: u32 = bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1;
  if (!found) return ones;
  if (offset >= <u32>CONFIG_BYTES) return 0; // no extended capabilities
  const aligned = load<u32>(changetype<PciFunction>(found).config + (offset & 0xfc));
  return (aligned >> ((offset & 3) << 3)) & ones;
}

function writeConfig(found: usize, offset: u32, bytes: u32, value: u32): void {
  if (!found || offset >= <u32>CONFIG_BYTES) return;
  const f = changetype<PciFunction>(found);
  for (let i: u32 = 0; i < bytes; i++) {
    const at = <usize>(offset + i);
    const writable = load<u8>(f.writable + at);
    const byte = <u8>(value >> (i << 3));
    store<u8>(f.config + at, (load<u8>(f.config + at) & ~writable) | (byte & writable));
  }
}

/** An access of `bytes` at `within` a doubleword leaves it: such an access reaches nobody. */
function leavesRegister(within: u32, bytes: u32): bool {
  return (within & 3) + bytes > 4;
}

// CFCH..CFFH: what CF8H addresses.

/** The addressed function, or 0. */
function addressed(vm: Vm): usize {
  const address = changetype<Vpci>(vm.vpci).address;
  if (!(address & ADDRESS_ENABLE) || (address >> 16) & 0xff) return 0;
  return find(vm, (address >> 11) & 31, (address >> 8) & 7);
}

export function readPciData(vm: Vm, port: u32, bytes: u32): u32 {
  const offset = (changetype<Vpci>(vm.vpci).address & 0xfc) | (port & 3);
  return readConfig(leavesRegister(port, bytes) ? <usize>0 : addressed(vm), offset, bytes);
}

export function writePciData(vm: Vm, port: u32, bytes: u32, value: u32): void {
  if (leavesRegister(port, bytes)) return;
  writeConfig(addressed(vm), (changetype<Vpci>(vm.vpci).address & 0xfc) | (port & 3), bytes, value);
}

// ECAM: device in bits 19..15, function in 14..12, register in 11..0.

export function readEcam(vm: Vm, offset: u32, bytes: u32): u32 {
  const found: usize = leavesRegister(offset, bytes) ? <usize>0 : find(vm, (offset >> 15) & 31, (offset >> 12) & 7);
  return readConfig(found, offset & 0xfff, bytes);
}

export function writeEcam(vm: Vm, offset: u32, bytes: u32, value: u32): void {
  if (!leavesRegister(offset, bytes))
    writeConfig(find(vm, (offset >> 15) & 31, (offset >> 12) & 7), offset & 0xfff, bytes, value);
}
