// Exits of the processor's APIC virtualisation. Intel SDM Vol. 3, "APIC Virtualization and Virtual Interrupts".

import { Access } from "../vcpu/exit";
import { Pending, setPending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { readQualification, recoverEvent } from "../vendor";
import { onApicWrite as lapicWritten, onEoi, vlapicOf, mmioBase } from "../virq/vlapic";
import { emulateAt } from "./emulate";
import { stopWithReport } from "./unexpected";

const OFFSET: u64 = 0xfff;
/** Access types of the exit qualification: 0 read, 1 write, 2 fetch, 3 during delivery, 10 and 15 physical. */
const WRITE: u32 = 1;
const FETCH: u32 = 2;

/** An access to the APIC page that the processor leaves to us. */
export function onApicAccess(vcpu: Vcpu): void {
  const q = readQualification();
  recoverEvent(vcpu);
  const type = <u32>(q >> 12) & 15;
  if (type >= FETCH) {
    stopWithReport(vcpu, "the APIC page is used for instructions, or in the delivery of an event");
    return;
  }
  vcpu.exitGva = q & OFFSET;
  vcpu.exitGpa = mmioBase(vlapicOf(vcpu)) + (q & OFFSET);
  vcpu.exitAccess = Access.FINAL | Access.OFFSET_VALID | (type == WRITE ? Access.WRITE : Access.READ);
  emulateAt(vcpu);
}

/** The register is written already; its effect is ours. RIP is past the instruction. */
export function onApicWrite(vcpu: Vcpu): void {
  lapicWritten(vlapicOf(vcpu), <u32>(readQualification() & OFFSET));
}

/** EOI of a level-triggered vector. */
export function onVirtualizedEoi(vcpu: Vcpu): void {
  onEoi(vlapicOf(vcpu), <u32>(readQualification() & 0xff));
}

/** TPR fell: something that waited may go in now. */
export function onTprBelowThreshold(vcpu: Vcpu): void {
  setPending(vcpu, Pending.INTERRUPT);
}
