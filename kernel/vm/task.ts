// A vCPU as the scheduler sees it, in shared memory: a CPU must be able to wake and choose vCPUs of VMs
// whose arenas it has not mapped. A task belongs to one CPU for life; only that CPU runs it and keeps its VMCS.

import { MAX_VMS } from "../config";
import { MAX_VCPUS } from "../vcpu/vm";

export const enum TaskState {
  FREE = 0,
  READY = 1,
  RUNNING = 2,
  BLOCKED = 3, // HLT or wait-for-SIPI: somebody wakes it
  ENDED = 4,
}

@unmanaged
export class Task {
  state: u32; // TaskState. Atomic: wakers move BLOCKED to READY
  vm: u32;
  index: u32;
  cpu: u32;
  vcpu: usize;
  weight: u32; // relative share, 1..10000
  cap: u32; // percent of a CPU, 0: no limit
  number: u32; // of this task; its timer key is number + 1
  next: usize; // in its CPU's list
  /** Weighted run time; the smallest runs next. TSC ticks * WEIGHT_ONE / weight. */
  virtualTime: u64;
  /** Ticks run in all, and in the current cap window, which began at windowStart. */
  ranTicks: u64;
  windowTicks: u64;
  windowStart: u64;
  /** While its cap is used up, or it rests from printing: not before this TSC. */
  notBefore: u64;
  /** Deadline in the CPU's timer queue; 0: none. */
  armedFor: u64;
  startedAt: u64; // TSC of the current turn
  /** 1: its deadline passed while it slept or waited; set by its own CPU. */
  timerDue: u32;
  wakeups: u64;
}

export const MAX_TASKS: u32 = 1024;
if (MAX_TASKS != MAX_VMS * MAX_VCPUS) ERROR("task: number of tasks");
const TASK_BYTES: usize = 128;
if (offsetof<Task>() > TASK_BYTES) ERROR("task: size");
const TASKS: usize = memory.data(1024 * 128, 8);

export const WEIGHT_ONE: u64 = 100;

export function taskAt(number: u32): Task {
  return changetype<Task>(TASKS + <usize>number * TASK_BYTES);
}

/** The task of vCPU `index` of VM `vm`; its number is set. */
export function taskOf(vm: u32, index: u32): Task {
  const task = taskAt(vm * MAX_VCPUS + index);
  task.number = vm * MAX_VCPUS + index;
  return task;
}

/** Key of its timer in the CPU's queue; 0 is no key. */
export function keyOf(task: Task): u64 {
  return <u64>task.number + 1;
}

export function stateOf(task: Task): u32 {
  return atomic.load<u32>(changetype<usize>(task));
}

/** Moves the task from one state to another; false if it was in a third. */
export function moveState(task: Task, from: u32, to: u32): bool {
  return atomic.cmpxchg<u32>(changetype<usize>(task), from, to) == from;
}
