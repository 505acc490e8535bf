// Copies texts and modules into guest memory.

import { gueststore8 } from "../cpu/insn";
import { Status } from "../lib/status";
import { copyModuleToGuest, copyToGuest } from "../mm/guestmem";
import { GuestModule } from "./config";
import { Plan, ramOfPlan } from "./plan";

/** Copies `bytes` of text and a NUL to `gpa`. The place was reserved. */
export function putText(plan: Plan, gpa: u64, text: usize, bytes: u32): void {
  copyToGuest(ramOfPlan(plan), gpa, text, bytes);
  gueststore8(gpa + bytes, 0);
}

/** Copies a boot module to `gpa`. BAD_ADDRESS unless it fits. */
export function putModule(plan: Plan, gpa: u64, module: GuestModule): Status {
  return copyModuleToGuest(ramOfPlan(plan), gpa, module.pa, module.bytes);
}
