// ACPI power management registers: PM1 event and control blocks and the 32-bit PM timer, at PM_BASE.
// ACPI mode is always on and there is no SMI. S5 powers the VM off. ACPI Specification,
// "ACPI Hardware Specification", "PM1 Control Registers", "Power Management Timer".

import { rdtsc } from "../cpu/insn";
import { Status } from "../lib/status";
import { arenaAlloc, StopReason, Vm } from "../vcpu/vm";
import { IRQ_SCI, setIrq } from "../virq/line";
import { clockTicks, PM_TIMER_HZ } from "../virq/rate";
import { stopVm } from "../vcpu/event";

export const PM_BASE: u32 = 0x600;
export const PM_EVENT: u32 = 0; // status, then enable, 16 bits each
export const PM_CONTROL: u32 = 4;
export const PM_TIMER: u32 = 8;
export const PM_BYTES: u32 = 12;
/** SLP_TYP of S5, as the DSDT's \_S5 says. */
export const SLEEP_TYPE_S5: u32 = 5;

const SCI_ENABLE: u32 = 1;
const SLEEP_ENABLE: u32 = 1 << 13;
const POWER_BUTTON: u32 = 1 << 8;
const EVENT_BITS: u32 = 0x0521; // TMR, GBL, PWRBTN, RTC

@unmanaged
export class Vpm {
  status: u32;
  enable: u32;
  control: u32;
  pad: u32;
}

/** Gives the VM its registers. NO_MEMORY if the arena is full. */
export function createVpm(vm: Vm): Status {
  vm.vpm = arenaAlloc(vm, offsetof<Vpm>(), 8);
  if (!vm.vpm) return Status.NO_MEMORY;
  resetVpm(vm);
  return Status.OK;
}

export function resetVpm(vm: Vm): void {
  memory.fill(vm.vpm, 0, offsetof<Vpm>());
  changetype<Vpm>(vm.vpm).control = SCI_ENABLE;
}

/** The block as bytes: the register that holds byte `offset`, shifted down to it. */
function valueAt(vm: Vm, offset: u32): u32 {
  const pm = changetype<Vpm>(vm.vpm);
  const shift = (offset & 3) << 3;
  switch (offset >> 2) {
    case PM_EVENT >> 2:
      return (pm.status | (pm.enable << 16)) >> shift;
    case PM_CONTROL >> 2:
      return pm.control >> shift;
    default:
      return <u32>clockTicks(rdtsc(), PM_TIMER_HZ) >> shift;
  }
}

export function readPm(vm: Vm, port: u32, bytes: u32): u32 {
  const value = valueAt(vm, port - PM_BASE);
  return bytes == 4 ? value : value & ((1 << (bytes << 3)) - 1);
}

export function writePm(vm: Vm, port: u32, bytes: u32, value: u32): void {
  const pm = changetype<Vpm>(vm.vpm);
  const offset = port - PM_BASE;
  const shift = (offset & 3) << 3;
  const mask = (bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1) << shift;
  const placed = value << shift;
  if (offset >> 2 == PM_EVENT >> 2) {
    pm.status &= ~(placed & mask & 0xffff); // one clears
    pm.enable = ((pm.enable & ~(mask >> 16)) | ((placed & mask) >> 16)) & EVENT_BITS;
    updateSci(vm, pm);
  } else if (offset >> 2 == PM_CONTROL >> 2) writeControl(vm, pm, (pm.control & ~mask) | (placed & mask));
}

function writeControl(vm: Vm, pm: Vpm, value: u32): void {
  pm.control = (value & 0x1c02) | SCI_ENABLE;
  if (value & SLEEP_ENABLE && ((value >> 10) & 7) == SLEEP_TYPE_S5) stopVm(vm, StopReason.POWER_OFF, 0);
}

/** The operator presses the power button: a guest with ACPI shuts itself down. Under the VM's device lock. */
export function pressPowerButton(vm: Vm): void {
  const pm = changetype<Vpm>(vm.vpm);
  pm.status |= POWER_BUTTON;
  updateSci(vm, pm);
}

function updateSci(vm: Vm, pm: Vpm): void {
  setIrq(vm, IRQ_SCI, (pm.status & pm.enable) != 0);
}
