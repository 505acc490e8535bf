// Which vCPU a CPU runs next. Each CPU has its own list of tasks and looks at nobody else's; fairness is
// weighted run time, a cap is a share of a window. Nothing here runs between an exit and the next entry
// of the same vCPU.

import { MAX_CPUS } from "../config";
import * as timer from "../cpu/timer";
import { cpuCount, isOnline } from "../cpu/percpu";
import { fromNanoseconds } from "../cpu/tsc";
import { rdtsc } from "../cpu/insn";
import { HostWork, noteWork, Virt, virt, virtAt } from "../vcpu/current";
import { kickTask } from "./kick";
import { keyOf, MAX_TASKS, moveState, stateOf, Task, taskAt, TaskState, WEIGHT_ONE } from "./task";

const SLICE_NANOSECONDS: u64 = 2_000_000;
const WINDOW_NANOSECONDS: u64 = 20_000_000;
/** The log and the other chores of the idle loop get a CPU that always has guests this often. */
const HOUSE_NANOSECONDS: u64 = 10_000_000;
const SOON_NANOSECONDS: u64 = 1_000_000;
/** Keys of the slice timer and of the chores' timer: no task has them. */
const SLICE_KEY: u64 = 0xffff_ffff;
const HOUSE_KEY: u64 = 0xffff_fffe;

/** Tasks that a CPU takes: each may need a timer, beside those of the slice, of the chores and of the operator's shell. */
export const MAX_CPU_TASKS: u32 = timer.MAX_TIMERS - 3;

/** The CPU that takes one more task: allowed by `pinMask` (0: any), not full, with the least weight. MAX_CPUS: none. */
export function chooseCpu(pinMask: u64, weight: u32): u32 {
  let best: u32 = MAX_CPUS;
  let least: u32 = u32.MAX_VALUE;
  for (let i: u32 = 0; i < cpuCount(); i++) {
    if (!takesTasks(i, pinMask) || tasksOn(i) >= MAX_CPU_TASKS) continue;
    const load = weightOn(i) + weight;
    if (load >= least) continue;
    least = load;
    best = i;
  }
  return best;
}

/** How many more tasks the CPUs take that `pinMask` allows; where none of those is there, the boot CPU. */
export function roomFor(pinMask: u64): u32 {
  let room: u32 = 0;
  let found = false;
  for (let i: u32 = 0; i < cpuCount(); i++) {
    if (!takesTasks(i, pinMask)) continue;
    found = true;
    room += roomOn(i);
  }
  return found ? room : roomOn(0);
}

function takesTasks(cpu: u32, pinMask: u64): bool {
  if (!isOnline(cpu) || atomic.load<u32>(changetype<usize>(virtAt(cpu)) + offsetof<Virt>("ready")) == 0) return false;
  return pinMask == 0 || (cpu < 64 && ((pinMask >> <u64>cpu) & 1) != 0);
}

function roomOn(cpu: u32): u32 {
  return MAX_CPU_TASKS - min(tasksOn(cpu), MAX_CPU_TASKS);
}

/** Tasks of a CPU that have not ended. */
export function tasksOn(cpu: u32): u32 {
  let count: u32 = 0;
  for (let at = headOf(virtAt(cpu)); at != 0; at = changetype<Task>(at).next)
    if (stateOf(changetype<Task>(at)) != TaskState.ENDED) count++;
  return count;
}

function weightOn(cpu: u32): u32 {
  let sum: u32 = 0;
  for (let at = headOf(virtAt(cpu)); at != 0; at = changetype<Task>(at).next) sum += changetype<Task>(at).weight;
  return sum;
}

function headOf(v: Virt): usize {
  return atomic.load<usize>(changetype<usize>(v) + offsetof<Virt>("tasks"));
}

/** Puts a task that is not in a list yet into its CPU's. Any CPU may do this. */
export function addTask(task: Task): void {
  const at = changetype<usize>(virtAt(task.cpu)) + offsetof<Virt>("tasks");
  while (true) {
    const head = atomic.load<usize>(at);
    task.next = head;
    if (atomic.cmpxchg<usize>(at, head, changetype<usize>(task)) == head) return;
  }
}

/** Takes this CPU's ended tasks out of its list. Only that CPU removes; others may add at the head meanwhile. */
function dropEnded(v: Virt): void {
  const head = headOf(v);
  if (head == 0) return;
  let previous = changetype<Task>(head);
  for (let at = previous.next; at != 0; at = changetype<Task>(at).next) {
    if (stateOf(changetype<Task>(at)) == TaskState.ENDED) previous.next = free(changetype<Task>(at));
    else previous = changetype<Task>(at);
  }
  if (stateOf(changetype<Task>(head)) != TaskState.ENDED) return;
  const next = changetype<Task>(head).next;
  if (atomic.cmpxchg<usize>(changetype<usize>(v) + offsetof<Virt>("tasks"), head, next) == head)
    free(changetype<Task>(head));
}

/** The task's number may be used again; returns what came after it. */
function free(task: Task): usize {
  const next = task.next;
  moveState(task, TaskState.ENDED, TaskState.FREE);
  return next;
}

/** The ready task with the least weighted time, or null. Tasks over their cap wait for their window. */
export function chooseTask(now: u64): Task | null {
  const mine = virt();
  let best: Task | null = null;
  let ended: bool = false;
  for (let at = headOf(mine); at != 0; at = changetype<Task>(at).next) {
    const task = changetype<Task>(at);
    const state = stateOf(task);
    if (state == TaskState.ENDED) ended = true;
    if (state != TaskState.READY || waitsForWindow(task, now)) continue;
    if (best == null || task.virtualTime < best.virtualTime) best = task;
  }
  if (ended) dropEnded(mine);
  return best;
}

/** A task over its cap; its timer brings the CPU back when the window ends. */
function waitsForWindow(task: Task, now: u64): bool {
  if (task.notBefore <= now) return false;
  timer.arm(<u64>task.number + 1, task.notBefore);
  return true;
}

/** True if another task of this CPU is ready to run. */
function isContended(self: Task): bool {
  for (let at = headOf(virt()); at != 0; at = changetype<Task>(at).next) {
    if (at != changetype<usize>(self) && stateOf(changetype<Task>(at)) == TaskState.READY) return true;
  }
  return false;
}

/** A turn begins: the slice is armed if somebody else waits, or the task has a cap. */
export function beginTurn(task: Task, now: u64): void {
  const mine = virt();
  task.startedAt = now;
  if (task.virtualTime < mine.floorTime) task.virtualTime = mine.floorTime;
  mine.floorTime = task.virtualTime;
  mine.sliceEnd = 0;
  if (!mine.houseAt) {
    mine.houseAt = now + fromNanoseconds(HOUSE_NANOSECONDS);
    timer.arm(HOUSE_KEY, mine.houseAt);
  }
  if (task.cap != 0 || isContended(task)) startSlice(now);
}

export function startSlice(now: u64): void {
  const mine = virt();
  if (mine.sliceEnd) return;
  mine.sliceEnd = now + fromNanoseconds(SLICE_NANOSECONDS);
  timer.arm(SLICE_KEY, mine.sliceEnd);
}

/** The CPU sleeps, but has something left to print. */
export function wakeSoon(): void {
  const mine = virt();
  const soon = rdtsc() + fromNanoseconds(SOON_NANOSECONDS);
  if (mine.houseAt != 0 && mine.houseAt <= soon) return;
  mine.houseAt = soon;
  timer.arm(HOUSE_KEY, soon);
}

/** A turn ends: its time is charged. */
export function endTurn(task: Task, now: u64): void {
  const mine = virt();
  if (mine.sliceEnd) timer.cancel(SLICE_KEY);
  mine.sliceEnd = 0;
  const ran = now - task.startedAt;
  task.ranTicks += ran;
  task.virtualTime += (ran * WEIGHT_ONE) / <u64>task.weight;
  if (task.cap) chargeCap(task, ran, now);
}

function chargeCap(task: Task, ran: u64, now: u64): void {
  const window = fromNanoseconds(WINDOW_NANOSECONDS);
  if (now - task.windowStart >= window) {
    task.windowStart = now - ran;
    task.windowTicks = 0;
  }
  task.windowTicks += ran;
  const allowed = (window * <u64>task.cap) / 100;
  if (task.windowTicks >= allowed)
    task.notBefore = task.windowStart + max(window, (task.windowTicks * 100) / <u64>task.cap);
}

/**
 * The host timer fired on this CPU: wakes whose deadline it was, and notes the CPU's own work. `running`: address of the
 * running task, 0 if none runs. True if its deadline was among them: then armTask() is to follow, which sets the hardware.
 */
export function takeTimers(running: usize): bool {
  const ownKey: u64 = running ? keyOf(changetype<Task>(running)) : 0;
  let own: bool = false;
  for (let key = timer.takeExpired(); key != 0; key = timer.takeExpired()) {
    if (key == ownKey) {
      changetype<Task>(running).armedFor = 0;
      own = true;
    } else otherExpired(key);
  }
  if (!own) timer.settle();
  return own;
}

/**
 * takeTimers() where the deadline of the running task is the CPU's earliest, and has come: only armTask() is to follow. False: it is
 * not so, and nothing was done.
 */
export function takeOwnTimer(task: Task, now: u64): bool {
  if (!timer.isFirstExpired(keyOf(task), now)) return false;
  task.armedFor = 0;
  return true;
}

function otherExpired(key: u64): void {
  if (key <= MAX_TASKS) {
    const task = taskAt(<u32>key - 1);
    task.armedFor = 0;
    task.timerDue = 1;
    kickTask(task);
    return;
  }
  if (key == SLICE_KEY) virt().sliceEnd = 0;
  else if (key == HOUSE_KEY) virt().houseAt = 0;
  noteWork(HostWork.RESCHEDULE); // other keys: somebody in the idle loop waits for it
}

/** Sets the task's timer, and with it the hardware; u64.MAX_VALUE: none. False if it was set so already. */
export function armTask(task: Task, deadline: u64): bool {
  if (deadline == u64.MAX_VALUE) {
    task.armedFor = 0;
    timer.cancel(keyOf(task)); // also where it is not armed: it may have expired just now
    return true;
  }
  const wanted = max(deadline, 1);
  if (wanted == task.armedFor) return false;
  task.armedFor = wanted;
  timer.arm(keyOf(task), wanted);
  return true;
}

/** A task of this CPU woke while another runs: does it deserve the CPU now, or at the end of a slice? */
export function considerWoken(running: Task, now: u64): bool {
  for (let at = headOf(virt()); at != 0; at = changetype<Task>(at).next) {
    const task = changetype<Task>(at);
    if (at == changetype<usize>(running) || stateOf(task) != TaskState.READY) continue;
    if (
      max(task.virtualTime, virt().floorTime) + fromNanoseconds(SLICE_NANOSECONDS) <
      running.virtualTime + (now - running.startedAt)
    )
      return true;
    startSlice(now);
  }
  return false;
}
