// An interrupt line of a device drives both controllers, as on a PC: the 8259 pair and the I/O APIC.
// ISA IRQ 0 is wired to I/O APIC input 2 (the MADT's interrupt source override says so).

import { Vm } from "../vcpu/vm";
import { setPin } from "./vioapic";
import { isPicWaiting, setPicLine } from "./vpic";

/** What became of a rising edge. Ordered: the better of two controllers counts. */
export const enum Taken {
  NO = 0, // masked everywhere, or no edge
  MERGED = 1, // a request from before still waits
  YES = 2,
}

export const IRQ_TIMER: u32 = 0;
export const IRQ_KEYBOARD: u32 = 1;
export const IRQ_COM2: u32 = 3;
export const IRQ_COM1: u32 = 4;
export const IRQ_RTC: u32 = 8;
export const IRQ_SCI: u32 = 9;

/** Moves line `irq` (0..23; above 15 the 8259 pair has none). Under the VM's device lock. */
export function setIrq(vm: Vm, irq: u32, level: bool): u32 {
  const pic: u32 = irq < 16 && vm.vpic ? setPicLine(vm, irq, level) : Taken.NO;
  const apic: u32 = vm.vioapic ? setPin(vm, irq == IRQ_TIMER ? 2 : irq, level) : Taken.NO;
  return max(pic, apic);
}

/** A new edge on a line that then stays high, as the 8254's output does. */
export function edgeIrq(vm: Vm, irq: u32): u32 {
  const waited = vm.vpic != 0 && isPicWaiting(vm, irq);
  setIrq(vm, irq, false);
  const taken = setIrq(vm, irq, true);
  return waited ? Taken.MERGED : taken;
}
