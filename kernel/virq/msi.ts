// Message-signalled interrupts: a write to FEE00000H..FEEFFFFFH.
// Intel SDM Vol. 3, "Message Signalled Interrupts".

import { Vm } from "../vcpu/vm";
import { route } from "./ipi";

const REDIRECTION_HINT: u64 = 8;
const LOGICAL: u64 = 4;
const LOWEST_PRIORITY: u32 = 1;

/** Sends the message. False if `address` is not one for interrupts, or no APIC took it. */
export function sendMsi(vm: Vm, address: u64, data: u32): bool {
  if (address >> 20 != 0xfee) return false;
  const logical = (address & LOGICAL) != 0;
  let mode = (data >> 8) & 7;
  if (address & REDIRECTION_HINT && logical && mode == 0) mode = LOWEST_PRIORITY;
  return route(vm, false, <u32>(address >> 12) & 0xff, logical, mode, data & 0xff, (data & 0x8000) != 0);
}
