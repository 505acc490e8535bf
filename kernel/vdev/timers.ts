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

/**
 * Fires what is due at `now` and returns the earliest deadline that `vcpu` waits for in host TSC; ~0 if it waits for none.
 * `moved`: a device's deadline may have moved.
 */
export function serveTimers(vcpu: Vcpu, now: u64, moved: bool): u64 {
  const v = vlapicOf(vcpu);
  expireTimer(v, now);
  const own = v.timerDeadline ? v.timerDeadline : ~(<u64>0);
  if (vcpu.index) return own;
  const vm = vcpu.vm;
  if (moved || vm.deviceDeadline <= now) serveDevices(vm, now);
  return min(own, vm.deviceDeadline);
}

/** Vm.deviceDeadline may be earlier than what the devices wait for, never later: who sets an earlier one asks for the run loop. */
function serveDevices(vm: Vm, now: u64): void {
  if (deviceDeadline(vm) <= now) expireDevices(vm, now);
  vm.deviceDeadline = deviceDeadline(vm);
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
