// What the tests of kernel/vm/schedule.ts call.
import { CpuState, initBlock, offer } from "../../../kernel/cpu/percpu";
import { virtAt } from "../../../kernel/vcpu/current";
import { addTask, armTask, startSlice, takeTimers } from "../../../kernel/vm/schedule";
import { Task, taskAt, TaskState } from "../../../kernel/vm/task";

export { chooseCpu, MAX_CPU_TASKS, roomFor, tasksOn } from "../../../kernel/vm/schedule";
export { setKhz } from "../../../kernel/cpu/tsc";
export { arm, nextDeadline } from "../../../kernel/cpu/timer";

export function bringUp(cpu: u32): void {
  initBlock(cpu, cpu);
  offer(cpu, CpuState.STARTING, CpuState.ONLINE);
  virtAt(cpu).ready = 1;
}

/** A task that sleeps, in the list of `cpu`. */
export function add(number: u32, cpu: u32): void {
  const task = taskAt(number);
  memory.fill(changetype<usize>(task), 0, offsetof<Task>());
  task.number = number;
  task.cpu = cpu;
  task.weight = 100;
  task.state = TaskState.BLOCKED;
  addTask(task);
}

export function end(number: u32): void {
  taskAt(number).state = TaskState.ENDED;
}

export function wait(number: u32, deadline: u64): void {
  armTask(taskAt(number), deadline);
}

export function slice(now: u64): void {
  startSlice(now);
}

export function take(): void {
  takeTimers(0);
}

/** Its deadline has come. */
export function isDue(number: u32): bool {
  return taskAt(number).timerDue != 0;
}
