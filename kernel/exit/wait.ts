// PAUSE loops, MONITOR and MWAIT.

import { HostWork, noteWork } from "../vcpu/current";
import { Vcpu } from "../vcpu/vcpu";
import { advance } from "../vendor";
import { raiseUd } from "./fault";

/** A spin loop was seen: whoever holds the lock may be waiting for this CPU. */
export function onPause(vcpu: Vcpu): void {
  noteWork(HostWork.YIELD);
  advance(vcpu);
}

/** CPUID shows no MONITOR. */
export function onMonitor(vcpu: Vcpu): void {
  raiseUd(vcpu);
}
export function onMwait(vcpu: Vcpu): void {
  raiseUd(vcpu);
}
