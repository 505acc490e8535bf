// What a CPU has loaded for its guests. It lies in the CPU's block, at an offset of its own, because
// layers above and below CpuBlock's owner need it.

import { PERCPU_BASE, PERCPU_BYTES, PERCPU_VIRT } from "../config";
import { cpuBlock, rdtsc } from "../cpu/insn";
import { nextDeadline } from "../cpu/timer";
import { Vcpu } from "./vcpu";

@unmanaged
export class Virt {
  /** pa of this CPU's VMXON region; 0: not in VMX operation. */
  vmxonPa: u64;
  /** The vCPU whose VMCS is current on this CPU; 0: none. */
  current: usize;
  /** pa of that VMCS. */
  currentPa: u64;
  /** The vCPU whose lazily switched state (vector, debug and SYSCALL registers, CR2) is in the registers; 0: none. */
  resident: usize;
  /** The address space in which it lies. */
  residentRoot: u64;
  /** vm/schedule's record of the running vCPU; 0: idle. */
  task: usize;
  /** HostWork bits: what this CPU has to do before it enters a guest again. Other CPUs set bits with atomics. */
  work: u32;
  /** HOST_CR3 in force; the core's own root when no VM is. */
  root: u64;
  /** VM number + 1 whose exit is being handled (containment); 0: none. */
  serving: u32;
  /** 1: this CPU may run guests. Atomic. */
  ready: u32;
  /** VM that ran last on this CPU + 1, for barriers between VMs. */
  lastVm: u32;
  /** Set by the NMI handler: an NMI arrived and nobody has looked yet. */
  nmiSeen: u32;
  /** End of the running vCPU's time slice, host TSC; 0: nobody else wants the CPU. */
  sliceEnd: u64;
  /** When the idle loop's chores are due although guests run; 0: not asked for yet. */
  houseAt: u64;
  /** Head of the list of this CPU's tasks (vm/schedule). Atomic. */
  tasks: usize;
  /** Weighted time below which no task that wakes is put. */
  floorTime: u64;
  idleTicks: u64;
  /** The running vCPU printed more than the host's UARTs take: how long it rests after its turn, TSC ticks. */
  rest: u64;
}

/** What a CPU must do in root mode before it goes on with its guest. Other CPUs set bits with atomics. */
export const enum HostWork {
  RESCHEDULE = 1, // the slice is over, or somebody more deserving woke
  TIMERS = 2, // the host timer fired
  WOKEN = 4, // a task of this CPU became ready
  KICKS = 8, // Vm.kicks of the running VM has bits
  YIELD = 16, // the running vCPU spins or sleeps: let another run
  ENABLE = 64, // enter VMX operation
  REAP = 32, // a VM ended: the boot CPU sees to it
}

export function virt(): Virt {
  return changetype<Virt>(cpuBlock() + PERCPU_VIRT);
}

export function virtAt(cpu: u32): Virt {
  return changetype<Virt>(PERCPU_BASE + <usize>cpu * PERCPU_BYTES + PERCPU_VIRT);
}

/** Sets work bits of this CPU, for its run loop or its idle loop. */
export function noteWork(work: u32): void {
  atomic.or<u32>(changetype<usize>(virt()) + offsetof<Virt>("work"), work);
}

/**
 * For a handler that has taken long and will soon be called again: the host's deadline may have passed meanwhile. Its interrupt
 * is taken at the entry, but there are processors that hold it back from a guest with IF 0, and the bound of the stay
 * counts only time in the guest (docs/silicon.md).
 */
export function noteLongWork(): void {
  if (rdtsc() >= nextDeadline()) noteWork(HostWork.TIMERS);
}

/** EPT generation of VM `number` up to which this CPU has forgotten translations (vmx/vpid.ts). */
export function seenGeneration(number: u32): usize {
  return cpuBlock() + PERCPU_VIRT + 512 + ((<usize>number) << 2);
}

/** The vCPU whose VMCS is current here. Only valid while one is. */
export function currentVcpu(): Vcpu {
  return changetype<Vcpu>(virt().current);
}

if (offsetof<Virt>() > 512) ERROR("Virt is larger than its place in the CPU's block");
