// Exits of the processor's APIC virtualisation. Intel SDM Vol. 3, "APIC Virtualization and Virtual Interrupts".

import { Access } from "../vcpu/exit";
import { Pending, setPending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { readQualification, recoverEvent, skip } from "../vendor";
import { LapicReg } from "../virq/lapicreg";
import { endOfInterrupt, onApicWrite as lapicWritten, onEoi, vlapicOf, mmioBase } from "../virq/vlapic";
import { emulateAt } from "./emulate";
import { recallStore } from "./recent";
import { stopWithReport } from "./unexpected";

const OFFSET: u64 = 0xfff;
/** Access types of the exit qualification: 0 read, 1 write, 2 fetch, 3 during delivery, 10 and 15 physical. */
const WRITE: u32 = 1;
const FETCH: u32 = 2;

/**
 * An access to the APIC page that the processor leaves to us. Only one during the delivery of an event, of another type, says that in the
 * IDT-vectoring information too. Intel SDM Vol. 3, "Exit Qualification for APIC-Access VM Exits".
 */
export function onApicAccess(vcpu: Vcpu): void {
  const q = readQualification();
  const type = <u32>(q >> 12) & 15;
  const offset = q & OFFSET;
  if (type >= FETCH) {
    recoverEvent(vcpu);
    stopWithReport(vcpu, "the APIC page is used for instructions, or in the delivery of an event");
    return;
  }
  if (type == WRITE && offset == <u64>LapicReg.EOI) {
    const known = recallStore(vcpu);
    if (known != 0) {
      endByStore(vcpu, known);
      return;
    }
  }
  vcpu.exitGva = offset;
  vcpu.exitGpa = mmioBase(vlapicOf(vcpu)) + offset;
  vcpu.exitAccess = Access.FINAL | Access.OFFSET_VALID | (type == WRITE ? Access.WRITE : Access.READ);
  emulateAt(vcpu);
}

/**
 * EOI by a MOV of 32 bits that recallStore() knows, `length` bytes long: it has one operand, the one that the processor tells of, and
 * whatever it writes is an EOI, so that its length is all that is asked of it. (The exit does not tell that: the VM-exit
 * instruction length is undefined here.)
 */
export function endByStore(vcpu: Vcpu, length: u32): void {
  skip(length);
  endOfInterrupt(vlapicOf(vcpu));
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
