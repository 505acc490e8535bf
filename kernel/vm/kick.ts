// Getting a vCPU's attention: it sleeps (wake it), runs on another CPU (an IPI makes it exit), or is
// about to run anyway. Its pending bits were set before. Also how a CPU is told to look at its work.

import * as apic from "../cpu/apic";
import { cpuBlock } from "../cpu/insn";
import { cpuAt } from "../cpu/percpu";
import { Vector } from "../cpu/vector";
import { HostWork, Virt, virtAt } from "../vcpu/current";
import { Vcpu } from "../vcpu/vcpu";
import { Vm, vcpuOf } from "../vcpu/vm";
import { VmSlot } from "./directory";
import { moveState, stateOf, Task, taskAt, TaskState } from "./task";

/** Index of this CPU. */
export function here(): u32 {
  return load<u32>(cpuBlock(), 4);
}

/** Sets work bits of a CPU and makes it look, wherever it is. */
export function tellCpu(cpu: u32, work: u32): void {
  atomic.or<u32>(changetype<usize>(virtAt(cpu)) + workOffset(), work);
  if (cpu != here()) apic.sendFixed(Vector.KICK, cpuAt(cpu).apicId);
}

function workOffset(): usize {
  return offsetof<Virt>("work");
}

/** Makes the task run soon if it sleeps, or leave its guest if it runs elsewhere. */
export function kickTask(task: Task): void {
  if (moveState(task, TaskState.BLOCKED, TaskState.READY)) {
    task.wakeups += 1;
    tellCpu(task.cpu, HostWork.WOKEN);
  } else if (stateOf(task) == TaskState.RUNNING && task.cpu != here())
    apic.sendFixed(Vector.KICK, cpuAt(task.cpu).apicId);
}

/**
 * Makes every vCPU of a VM look at its slot: one that sleeps wakes, one that runs on another CPU exits by the IPI, and its
 * loop looks because a work bit is set.
 */
export function kickSlot(slot: VmSlot): void {
  for (let i: u32 = 0; i < slot.taskCount; i++) {
    const task = taskAt(slot.firstTask + i);
    kickTask(task);
    if (stateOf(task) == TaskState.RUNNING) tellCpu(task.cpu, HostWork.RESCHEDULE);
  }
}

/** Sends what handlers asked for: every vCPU in Vm.kicks gets attention. */
export function drainKicks(vm: Vm, self: Vcpu): void {
  let kicks = atomic.xchg<u32>(changetype<usize>(vm) + offsetof<Vm>("kicks"), 0);
  while (kicks) {
    const index = <u32>ctz(kicks);
    kicks &= kicks - 1;
    if (index != self.index && index < vm.vcpuCount) kickTask(changetype<Task>(vcpuOf(vm, index).task));
  }
}
