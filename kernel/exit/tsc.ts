// A guest that moves its time-stamp counter moves IA32_TSC_ADJUST with it, and the other way round. The
// VM's own offset stays. Intel SDM Vol. 3, "IA32_TSC_ADJUST MSR".

import { rdtsc } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { writeTscOffset } from "../vendor";
import { refreshClock } from "../vdev/kvmclock";
import { vlapicOf } from "../virq/vlapic";
import { onTscOffsetWrite } from "../virq/vtimer";
import { guestTsc } from "./simple";

export function writeTsc(vcpu: Vcpu, value: u64): bool {
  return writeTscAdjust(vcpu, vcpu.tscAdjust + (value - guestTsc(vcpu)));
}

export function writeTscAdjust(vcpu: Vcpu, value: u64): bool {
  vcpu.tscAdjust = value;
  writeTscOffset(vcpu.vm.tscOffset + value);
  onTscOffsetWrite(vlapicOf(vcpu), rdtsc());
  refreshClock(vcpu);
  return true;
}
