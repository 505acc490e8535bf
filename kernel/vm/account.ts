// What guests cost, when the host's command line says `account=on`: exits by reason and time in the guest
// for each vCPU, and each CPU's idle time. The rest of the time is the host's own.

import { virtAt } from "../vcpu/current";
import { cpuCount, isOnline } from "../cpu/percpu";
import { rdtsc } from "../cpu/insn";
import * as log from "../lib/log";
import { EXIT_REASONS } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { Vm, vcpuOf } from "../vcpu/vm";

/** An exit of the stay that began at vcpu.entryTsc. */
export function countExit(vcpu: Vcpu): void {
  const ticks = rdtsc() - vcpu.entryTsc;
  vcpu.guestTicks += ticks;
  const at = vcpu.exitCounts + ((<usize>vcpu.exitReason & (EXIT_REASONS - 1)) << 3);
  store<u64>(at, load<u64>(at) + 1);
}

/** The VM begins to run: its accounts start at zero. In its address space. */
export function beginAccount(vm: Vm): void {
  vm.accountTsc = rdtsc();
  vm.accountIdle = idleTicks();
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    vcpuOf(vm, i).guestTicks = 0;
    memory.fill(vcpuOf(vm, i).exitCounts, 0, (<usize>EXIT_REASONS) << 3);
  }
}

/** Idle ticks of all CPUs. */
function idleTicks(): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < cpuCount(); i++) if (isOnline(i)) sum += virtAt(i).idleTicks;
  return sum;
}

/** Logs the VM's accounts; in its address space. Ticks are the TSC's, idle ticks those of all CPUs together. */
export function reportAccount(vm: Vm): void {
  const now = rdtsc();
  let guest: u64 = 0;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) guest += vcpuOf(vm, i).guestTicks;
  line(vm);
  log.str("ticks ");
  log.dec(now - vm.accountTsc);
  log.str(", in the guest ");
  log.dec(guest);
  log.str(", idle ");
  log.dec(idleTicks() - vm.accountIdle);
  log.end();
  for (let reason: u32 = 0; reason < EXIT_REASONS; reason++) reportReason(vm, reason);
}

function reportReason(vm: Vm, reason: u32): void {
  let count: u64 = 0;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) count += load<u64>(vcpuOf(vm, i).exitCounts + ((<usize>reason) << 3));
  if (count == 0) return;
  line(vm);
  log.str("exit ");
  log.dec(reason);
  log.str(": ");
  log.dec(count);
  log.end();
}

function line(vm: Vm): void {
  log.begin(log.Level.INFO, "account");
  log.bytes(vm.name, vm.nameBytes);
  log.str(": ");
}
