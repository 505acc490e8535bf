// All virtual time in one place: what a vCPU waits for, and what is due. vCPU 0 answers for the devices
// that the VM's vCPUs share. Deadlines are host TSC values.

import { Vcpu } from "../vcpu/vcpu";
import { Vm } from "../vcpu/vm";
import { lockDevices, unlockDevices } from "../virq/lock";
import { vlapicOf } from "../virq/vlapic";
import { expirePit, pitDeadline } from "../virq/vpit";
import { expireTimer } from "../virq/vtimer";
import { consoleDeadline, drainConsole } from "./console";
import { expireRtc, rtcDeadline } from "./vrtc";

/** The earliest deadline of `vcpu` in host TSC; ~0 if it waits for none. */
export function nextDeadline(vcpu: Vcpu): u64 {
  const own = vlapicOf(vcpu).timerDeadline;
  const next = own ? own : ~(<u64>0);
  return vcpu.index ? next : min(next, deviceDeadline(vcpu.vm));
}

/** Fires what is due at `now`. */
export function expire(vcpu: Vcpu, now: u64): void {
  expireTimer(vlapicOf(vcpu), now);
  if (!vcpu.index && deviceDeadline(vcpu.vm) <= now) expireDevices(vcpu.vm, now);
}

function deviceDeadline(vm: Vm): u64 {
  return min(min(pitDeadline(vm), rtcDeadline(vm)), consoleDeadline(vm));
}

function expireDevices(vm: Vm, now: u64): void {
  lockDevices(vm);
  if (pitDeadline(vm) <= now) expirePit(vm, now);
  if (rtcDeadline(vm) <= now) expireRtc(vm, now);
  if (consoleDeadline(vm) <= now) drainConsole(vm);
  unlockDevices(vm);
}
