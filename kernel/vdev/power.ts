// How a guest ends itself or starts over, whichever of its devices it uses for that.

import { Pending, request } from "../vcpu/event";
import { StopReason, Vm, vcpuOf } from "../vcpu/vm";

/** Stops the VM for `reason`; the first reason counts. `code`: the guest's own exit code. */
export function stopVm(vm: Vm, reason: u32, code: u32): void {
  const at = changetype<usize>(vm) + offsetof<Vm>("stopReason");
  if (atomic.cmpxchg<u32>(at, StopReason.NONE, reason) == <u32>StopReason.NONE) vm.stopCode = code;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) request(vcpuOf(vm, i), Pending.STOP);
}

/** The guest pulled the reset line. */
export function resetVm(vm: Vm): void {
  const at = changetype<usize>(vm) + offsetof<Vm>("stopReason");
  atomic.cmpxchg<u32>(at, StopReason.NONE, StopReason.RESET);
  for (let i: u32 = 0; i < vm.vcpuCount; i++) request(vcpuOf(vm, i), Pending.RESET);
}
