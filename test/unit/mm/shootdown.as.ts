// The interrupt entry that the shootdown needs, without the drivers.

import * as apic from "../../../kernel/cpu/apic";
import { Vector } from "../../../kernel/cpu/vector";
import { onShootdown } from "../../../kernel/mm/shootdown";

export function useX2apic(): void {
  apic.setMode(true, 0);
}

let deaf: bool = false;

/** From now on interrupts are taken and nothing is done. */
export function turnDeaf(): void {
  deaf = true;
}

export function onInterrupt(vector: u32): void {
  if (!deaf && vector == <u32>Vector.SHOOTDOWN) onShootdown();
  apic.eoi();
}
