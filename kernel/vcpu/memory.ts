// A VM's RAM behind its guest-physical addresses: frames are reserved and mapped in the guest window when
// the VM is created; the EPT's leaves are made at once, or on first touch. The guest window's page tables
// are the one record of which frame stands where.

import { GUEST_WINDOW } from "../config";
import { Status } from "../lib/status";
import { EptBit, touchEpt } from "../mm/ept";
import { SlotKind, slotKindAt } from "../mm/guestmem";
import { behind } from "../mm/pagetable";
import { ramOf, Vm } from "./vm";

/** Rights of a slot's leaves. */
export function rightsOf(kind: u32): u32 {
  return kind == SlotKind.ROM ? EptBit.READ | EptBit.EXECUTE : EptBit.ALL;
}

/** hpa of the frame behind `gpa`; 0 if `gpa` is no memory of the VM. */
export function frameBehind(vm: Vm, gpa: u64): u64 {
  return behind(vm.hostCr3, GUEST_WINDOW + gpa);
}

/**
 * Makes the EPT leaf for `gpa` on its first touch. NOT_FOUND if `gpa` is no memory of the VM, or if the VM's
 * leaves were all made when it was created: then the access is not about a missing leaf.
 */
export function mapOnTouch(vm: Vm, gpa: u64): Status {
  if (!vm.lazyMap) return Status.NOT_FOUND;
  const hpa = frameBehind(vm, gpa);
  if (!hpa) return Status.NOT_FOUND;
  return touchEpt(vm.eptRoot, gpa, hpa, rightsOf(slotKindAt(ramOf(vm), gpa)));
}
