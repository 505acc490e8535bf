// The lock of one VM's shared devices (8259, 8254, I/O APIC, clock, UART, ...). It belongs to the VM
// and dies with it. A VM with one vCPU never takes it. Local APICs need none: see vlapic.ts.
// Order: nothing else is taken while it is held.

import { cpuBlock, pause } from "../cpu/insn";
import { Vm } from "../vcpu/vm";

/** Who held it is gone: everybody passes. */
const BROKEN: u32 = 0xffff_ffff;

/**
 * Takes the VM's device lock.
 * @locks own
 */
export function lockDevices(vm: Vm): void {
  if (vm.vcpuCount == 1) return;
  const at = changetype<usize>(vm) + offsetof<Vm>("lock");
  const self = load<u32>(cpuBlock(), 4) + 1; // CpuBlock.index
  while (true) {
    const holder = atomic.cmpxchg<u32>(at, 0, self);
    if (holder == 0 || holder == BROKEN) return;
    pause();
  }
}

/**
 * The core trapped on this CPU while it served `vm`, which ends: its other vCPUs must not wait for a lock that
 * nobody gives back. Devices may be half-changed; what comes of that is the VM's alone.
 */
export function breakDeviceLock(vm: Vm): void {
  atomic.store<u32>(changetype<usize>(vm) + offsetof<Vm>("lock"), BROKEN);
}

/** Gives it back. */
export function unlockDevices(vm: Vm): void {
  if (vm.vcpuCount == 1) return;
  const self = load<u32>(cpuBlock(), 4) + 1;
  atomic.cmpxchg<u32>(changetype<usize>(vm) + offsetof<Vm>("lock"), self, 0); // a broken lock stays open
}
