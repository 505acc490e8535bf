// The small PC that a VM is: its devices created, put on the bus, and reset, a line each.

import { Status } from "../lib/status";
import { Vm, vcpuOf } from "../vcpu/vm";
import { createVioapic, resetVioapic } from "../virq/vioapic";
import { createVlapic, powerUp, vlapicOf } from "../virq/vlapic";
import { createVpic, resetVpic } from "../virq/vpic";
import { createVpit, resetVpit } from "../virq/vpit";
import { claimFixedRanges, claimPorts, createBus, Port } from "./bus";
import { createConsole, drainConsole } from "./console";
import { FWCFG_SELECTOR } from "./vfwcfg";
import { createVkbd, resetVkbd } from "./vkbd";
import { createVpci, resetVpci } from "./vpci";
import { createVpm, PM_BASE, PM_BYTES, resetVpm } from "./vpm";
import { createVrtc, resetVrtc } from "./vrtc";
import { createVtest, DEBUG_PORT, EXIT_PORT, LINE_PORT, LINE_PORTS, SCRATCH_PORT, STRING_PORT } from "./vtest";
import { createVuart, resetVuart, UART_PORT } from "./vuart";

/**
 * Gives the VM its devices and each vCPU its local APIC. The vCPUs exist and memoryBytes is known.
 * physicalBits: width of guest-physical addresses. testPorts: also the ports of vtest.ts.
 * NO_MEMORY if the arena is full; then the VM is destroyed by the caller.
 */
export function createPlatform(vm: Vm, physicalBits: u32, testPorts: bool): Status {
  let status = createBus(vm);
  if (!status) status = createConsole(vm);
  for (let i: u32 = 0; !status && i < vm.vcpuCount; i++) status = createVlapic(vcpuOf(vm, i), physicalBits);
  if (!status) status = createVpic(vm);
  if (!status) status = createVioapic(vm);
  if (!status) status = createVpit(vm);
  if (!status) status = createVrtc(vm);
  if (!status) status = createVuart(vm);
  if (!status) status = createVkbd(vm);
  if (!status) status = createVpm(vm);
  if (!status) status = createVpci(vm);
  if (!status && testPorts) status = createVtest(vm);
  if (status) return status;
  claimAll(vm);
  return claimFixedRanges(vm);
}

function claimAll(vm: Vm): void {
  claimPorts(vm, 0x20, 2, Port.PIC);
  claimPorts(vm, 0xa0, 2, Port.PIC);
  claimPorts(vm, 0x4d0, 2, Port.ELCR);
  claimPorts(vm, 0x40, 4, Port.PIT);
  claimPorts(vm, 0x61, 1, Port.PORT61);
  claimPorts(vm, 0x80, 1, Port.PORT80);
  claimPorts(vm, 0xed, 1, Port.PORT80); // the other port that drivers write for a delay
  claimPorts(vm, 0x92, 1, Port.PORT92);
  claimPorts(vm, 0x70, 2, Port.RTC);
  claimPorts(vm, UART_PORT, 8, Port.UART);
  claimPorts(vm, 0x60, 1, Port.KEYBOARD);
  claimPorts(vm, 0x64, 1, Port.KEYBOARD);
  claimPorts(vm, PM_BASE, PM_BYTES, Port.PM);
  claimPorts(vm, 0xcf8, 4, Port.PCI);
  claimPorts(vm, 0xcfc, 4, Port.PCI_DATA);
  if (vm.vtest) claimTestPorts(vm);
}

function claimTestPorts(vm: Vm): void {
  claimPorts(vm, DEBUG_PORT, 1, Port.TEST);
  claimPorts(vm, EXIT_PORT, 1, Port.TEST);
  claimPorts(vm, STRING_PORT, 1, Port.TEST);
  claimPorts(vm, SCRATCH_PORT, 4, Port.TEST);
  claimPorts(vm, LINE_PORT, LINE_PORTS, Port.TEST);
  claimPorts(vm, FWCFG_SELECTOR, 2, Port.TEST);
}

/** All devices as after power-up; the VM's memory and vCPU registers are the caller's. */
export function resetPlatform(vm: Vm): void {
  drainConsole(vm);
  resetVpic(vm);
  resetVioapic(vm);
  resetVpit(vm);
  resetVrtc(vm);
  resetVuart(vm);
  resetVkbd(vm);
  resetVpm(vm);
  resetVpci(vm);
  for (let i: u32 = 0; i < vm.vcpuCount; i++) powerUp(vlapicOf(vcpuOf(vm, i)));
}
