// Firmware configuration: how a kernel without ACPI learns the machine's size. Conformance kernels read the
// number of processors and the RAM here. A VM has it with the test ports only; nothing in it can be written.
//
//   510H   selects an item (16 bits) and starts at its first byte
//   511H   the item's next byte; zeros behind its end
//
// QEMU, "QEMU Firmware Configuration (fw_cfg) Device".

import { Vm } from "../vcpu/vm";

export const FWCFG_SELECTOR: u32 = 0x510;
export const FWCFG_DATA: u32 = 0x511;

const enum Item {
  SIGNATURE = 0,
  ID = 1,
  RAM_SIZE = 3, // bytes
  NB_CPUS = 5,
  MAX_CPUS = 15,
}

/** The letters by which a driver knows the interface. */
const QEMU: u64 = 0x554d_4551;
/** ID: the selector and data ports, and nothing else. */
const TRADITIONAL: u64 = 1;

@unmanaged
export class Fwcfg {
  selected: u32;
  /** Bytes of the item that were read; stays at its end. */
  offset: u32;
}

export function selectItem(f: Fwcfg, item: u32): void {
  f.selected = item & 0xffff;
  f.offset = 0;
}

/** The selected item's next byte. */
export function nextByte(vm: Vm, f: Fwcfg): u32 {
  if (f.offset == 8) return 0; // no item is longer
  const value = valueOf(vm, f.selected);
  const byte = <u32>(value >> (f.offset << 3)) & 0xff;
  f.offset += 1;
  return byte;
}

function valueOf(vm: Vm, item: u32): u64 {
  switch (item) {
    case Item.SIGNATURE:
      return QEMU;
    case Item.ID:
      return TRADITIONAL;
    case Item.RAM_SIZE:
      return vm.memoryBytes;
    case Item.NB_CPUS:
    case Item.MAX_CPUS:
      return <u64>vm.vcpuCount;
    default:
      return 0;
  }
}
