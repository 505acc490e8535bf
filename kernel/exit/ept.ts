// Guest-physical accesses that the EPT does not allow: memory whose leaf is made on first touch, ROM that
// is written, devices, and nothing at all. Intel SDM Vol. 3, "Exit Qualification for EPT Violations".

import { bytesAt, writableBytesAt } from "../mm/guestmem";
import { Status } from "../lib/status";
import { Access } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { decodeEpt, recoverEvent, restoreNmiBlocking } from "../vendor";
import { mapOnTouch } from "../vcpu/memory";
import { LapicReg } from "../virq/lapicreg";
import { mmioBase, vlapicOf } from "../virq/vlapic";
import { endByStore } from "./apic";
import { emulateAt } from "./emulate";
import { raiseUd } from "./fault";
import { ordinary, readPaging, translate } from "./linear";
import { recallStore } from "./recent";
import { stopWithReport } from "./unexpected";
import { Walk } from "../mm/gva";

export function onEptViolation(vcpu: Vcpu): void {
  decodeEpt(vcpu);
  recoverEvent(vcpu);
  restoreNmiBlocking(<u32>vcpu.exitQualification);
  const gpa = vcpu.exitGpa;
  const access = vcpu.exitAccess;
  const ram = ramOf(vcpu.vm);
  let there: u64;
  if ((access & Access.WRITE) == 0) there = bytesAt(ram, gpa);
  else {
    there = writableBytesAt(ram, gpa);
    if (there == 0 && endsInterrupt(vcpu, gpa, access)) return;
  }
  if (there != 0 && mapOnTouch(vcpu.vm, gpa) == Status.OK) return;
  if (vcpu.event) stopWithReport(vcpu, "the delivery of an event touches what is not memory");
  else if ((access & Access.FETCH) != 0)
    raiseUd(vcpu); // all ones on the bus: FF FF
  else if ((access & Access.FINAL) == 0 && (access & Access.GVA_VALID) != 0) walkFails(vcpu);
  else emulateAt(vcpu);
}

/**
 * A store that is known writes EOI, and that was done. Where the processor has an APIC-access page this exits as an APIC access. False:
 * it is something else, and nothing was done.
 */
function endsInterrupt(vcpu: Vcpu, gpa: u64, access: u32): bool {
  const operand: u32 = Access.GVA_VALID | Access.FINAL;
  if (gpa - mmioBase(vlapicOf(vcpu)) != <u64>LapicReg.EOI || (access & operand) != operand || vcpu.event) return false;
  const known = recallStore(vcpu);
  if (known == 0) return false;
  endByStore(vcpu, known);
  return true;
}

/** Paging structures that are not in memory read as all ones: reserved bits, so the access takes #PF. */
function walkFails(vcpu: Vcpu): void {
  readPaging(vcpu);
  const write = (vcpu.exitAccess & Access.WRITE) != 0 ? <u32>Walk.WRITE : 0;
  const fetch = (vcpu.exitAccess & Access.FETCH) != 0 ? <u32>Walk.FETCH : 0;
  if (translate(vcpu, vcpu.exitGva, ordinary(write | fetch)))
    stopWithReport(vcpu, "an EPT violation in a page walk that succeeds");
}

/** Never made on purpose: our tables are wrong. */
export function onEptMisconfiguration(vcpu: Vcpu): void {
  decodeEpt(vcpu);
  stopWithReport(vcpu, "EPT misconfiguration");
}
