// The PCI host bridge by configuration mechanism 1 (CF8H, CFCH) and, at CF9H, the reset control register.
// Bus 0 holds the bridge itself; other functions register their 256 bytes of configuration space.
// PCI Local Bus Specification, "Configuration Mechanism #1"; Intel ICH, "RST_CNT".

import { Status } from "../lib/status";
import { arenaAlloc, Vm } from "../vcpu/vm";
import { resetVm } from "./power";

export const PCI_DEVICES: u32 = 32;
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

// ---- CFCH..CFFH

/** The addressed function, or 0: bus 0, function 0 of a device that exists. */
function addressed(vm: Vm): usize {
  const address = changetype<Vpci>(vm.vpci).address;
  if (!(address & ADDRESS_ENABLE) || (address >> 16) & 0xff || (address >> 8) & 7) return 0;
  const f = functionAt(vm, (address >> 11) & 31);
  return f.config ? changetype<usize>(f) : 0;
}

/** Offset in configuration space of an access of `bytes` at `port`; -1 if it leaves the register. */
function configOffset(vm: Vm, port: u32, bytes: u32): i32 {
  const within = port & 3;
  return within + bytes > 4 ? -1 : <i32>((changetype<Vpci>(vm.vpci).address & 0xfc) + within);
}

/** No device answers with all ones: that is how software finds out, so it is not counted. */
export function readPciData(vm: Vm, port: u32, bytes: u32): u32 {
  const f = addressed(vm);
  const offset = configOffset(vm, port, bytes);
  const ones: u32 = bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1;
  if (!f || offset < 0) return ones;
  const aligned = load<u32>(changetype<PciFunction>(f).config + (offset & 0xfc));
  return (aligned >> ((offset & 3) << 3)) & ones;
}

export function writePciData(vm: Vm, port: u32, bytes: u32, value: u32): void {
  const found = addressed(vm);
  const offset = configOffset(vm, port, bytes);
  if (!found || offset < 0) return;
  const f = changetype<PciFunction>(found);
  for (let i: u32 = 0; i < bytes; i++) {
    const at = <usize>(<u32>offset + i);
    const writable = load<u8>(f.writable + at);
    const byte = <u8>(value >> (i << 3));
    store<u8>(f.config + at, (load<u8>(f.config + at) & ~writable) | (byte & writable));
  }
}
