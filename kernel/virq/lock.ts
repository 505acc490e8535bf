// The lock of one VM's shared devices (8259, 8254, I/O APIC, clock, UART, ...). It belongs to the VM
// and dies with it. A VM with one vCPU never takes it. Local APICs need none: see vlapic.ts.
// Order: nothing else is taken while it is held.

import { cpuBlock, pause } from "../cpu/insn";
import { Vm } from "../vcpu/vm";

/** Takes the VM's device lock. */
export function lockDevices(vm: Vm): void {
  if (vm.vcpuCount == 1) return;
  const at = changetype<usize>(vm) + offsetof<Vm>("lock");
  const self = load<u32>(cpuBlock(), 4) + 1; // CpuBlock.index
  while (atomic.cmpxchg<u32>(at, 0, self) != 0) pause();
}

/** Gives it back. */
export function unlockDevices(vm: Vm): void {
  if (vm.vcpuCount == 1) return;
  atomic.store<u32>(changetype<usize>(vm) + offsetof<Vm>("lock"), 0);
}
