// The loop that runs a vCPU: deliver, enter, dispatch, stop or repeat. Between an exit and the next entry
// of the same vCPU nothing is allocated, no lock is shared with another VM, and vector state stays where it is.

import * as timer from "../cpu/timer";
import * as trap from "../cpu/trap";
import { rdtsc, writeCr3 } from "../cpu/insn";
import { fromNanoseconds } from "../cpu/tsc";
import { report } from "../exit/report";
import { dispatch } from "../exit/dispatch";
import { HostWork, Virt, virt } from "../vcpu/current";
import { clearPending, Pending, stopVm } from "../vcpu/event";
import { Vcpu, VcpuState } from "../vcpu/vcpu";
import { StopReason, Vm, vcpuOf } from "../vcpu/vm";
import { deliver, hasInterrupt } from "../virq/deliver";
import { serveTimers } from "../vdev/timers";
import { pumpInput } from "../vdev/vuart";
import { lockDevices, unlockDevices } from "../virq/lock";
import { hasNmiSource } from "../virq/vioapic";
import {
  bringIn,
  enter,
  hasPreemptionTimer,
  loadVmcs,
  readRflags,
  release,
  reportEntryFailure,
  setPreemptionTimer,
  syncEpt,
  takeOut,
} from "../vendor";
import { coreRoot } from "../mm/hostmap";
import { countExit } from "./account";
import { initVcpu, startVcpu } from "./startup";
import { noteEnded, setState, slotAt, SlotState, VmSlot } from "./directory";
import { drainKicks, tellCpu } from "./kick";
import { armTask, beginTurn, chooseTask, considerWoken, endTurn, takeOwnTimer, takeTimers } from "./schedule";
import { moveState, Task, TaskState } from "./task";
import { RFLAGS_IF } from "../cpu/registerbits";

/** What virq/deliver looks at. */
const DELIVERY: u32 = Pending.EVENT | Pending.NMI | Pending.INTERRUPT | Pending.CONTROLS;
/** What attendBriefly() serves. */
const BRIEF: u32 = DELIVERY | Pending.TIMER;

/** Time in the guest before a look at the clock, of one that overstayed. */
const SHORT_STAY_NANOSECONDS: u64 = 20_000;

/** What serve() serves. */
const SERVED: u32 = Pending.INIT | Pending.SIPI | Pending.FLUSH | Pending.DEVICE | Pending.WHERE;

/** Why a turn ended. */
const enum Turn {
  GO_ON = 0,
  PREEMPTED = 1, // it stays ready
  ASLEEP = 2,
  ENDED = 3,
}

/** Gives the CPU to the next ready task until its turn ends. False if no task of this CPU is ready. */
export function runNext(): bool {
  takeTimers(0);
  // The idle loop looks at ENABLE next, before this CPU gets its first guest.
  atomic.and<u32>(changetype<usize>(virt()) + offsetof<Virt>("work"), HostWork.ENABLE);
  const task = chooseTask(rdtsc());
  if (task == null) return false;
  if (!moveState(task, TaskState.READY, TaskState.RUNNING)) return true;
  runTask(task);
  return true;
}

/** Takes this CPU's work bits. */
function takeWork(): u32 {
  return atomic.xchg<u32>(changetype<usize>(virt()) + offsetof<Virt>("work"), 0);
}

function runTask(task: Task): void {
  const vcpu = switchTo(task);
  const mine = virt();
  mine.task = changetype<usize>(task);
  beginTurn(task, rdtsc());
  mine.serving = task.vm + 1;
  trap.enterContained();
  const slot = slotAt(task.vm);
  const turn = slot.stopping ? <u32>Turn.ENDED : slot.paused ? <u32>Turn.ASLEEP : loop(vcpu, task);
  finishTurn(task, vcpu, turn);
}

function finishTurn(task: Task, vcpu: Vcpu, turn: u32): void {
  drainKicks(vcpu.vm, vcpu);
  trap.leaveContained();
  const mine = virt();
  endTurn(task, rdtsc());
  if (mine.rest) rest(task, mine);
  mine.serving = 0;
  mine.task = 0;
  if (turn == Turn.ENDED) endTask(task, vcpu);
  else if (turn == Turn.PREEMPTED) moveState(task, TaskState.RUNNING, TaskState.READY);
  else goToSleep(task, vcpu);
}

/** It printed more than the host can print: not before some of that is out. */
function rest(task: Task, mine: Virt): void {
  task.notBefore = max(task.notBefore, rdtsc() + mine.rest);
  mine.rest = 0;
}

/** Blocked first, then a last look: a waker either sees BLOCKED or has set its bit before this look. */
function goToSleep(task: Task, vcpu: Vcpu): void {
  moveState(task, TaskState.RUNNING, TaskState.BLOCKED);
  if (slotAt(task.vm).paused) return; // resuming wakes all
  if (pendingOf(vcpu) != 0 || vcpu.timerMoved != 0 || task.timerDue != 0 || slotAt(task.vm).stopping != 0)
    moveState(task, TaskState.BLOCKED, TaskState.READY);
}

// ---- Address spaces and register state

/** Loads the task's address space, VMCS and registers; what another left goes back to its owner first. */
function switchTo(task: Task): Vcpu {
  const mine = virt();
  const vcpu = changetype<Vcpu>(task.vcpu);
  if (mine.resident != 0 && mine.resident != task.vcpu) {
    enterSpace(mine.residentRoot);
    takeOut(changetype<Vcpu>(mine.resident));
  }
  enterSpace(slotAt(task.vm).hostCr3);
  loadVmcs(vcpu);
  bringIn(vcpu);
  mine.residentRoot = mine.root;
  syncEpt(vcpu.vm);
  return vcpu;
}

/** Loads an address space: HOST_CR3 of a VM, or the core's own. */
export function enterSpace(root: u64): void {
  const mine = virt();
  if (mine.root == root) return;
  mine.root = root;
  writeCr3(root);
}

/** Leaves the VM's address space: nothing of it is on this CPU afterwards. */
export function leaveSpace(vcpu: Vcpu): void {
  takeOut(vcpu);
  release(vcpu);
  toCore();
}

/** Loads the address space of a VM, whose arena is there only in it; toCore() leaves it. Between turns only. */
export function toSpace(slot: VmSlot): void {
  virt().root = slot.hostCr3;
  writeCr3(slot.hostCr3);
}

export function toCore(): void {
  enterSpace(coreRoot());
}

/** The vCPU will not run again. With the last one the VM has ended. */
function endTask(task: Task, vcpu: Vcpu): void {
  const slot = slotAt(task.vm);
  if (vcpu.vm.stopReason != StopReason.NONE && slot.stopReason == StopReason.NONE) noteReason(slot, vcpu.vm);
  armTask(task, u64.MAX_VALUE);
  leaveSpace(vcpu);
  retire(task, slot);
}

function noteReason(slot: VmSlot, vm: Vm): void {
  slot.stopReason = vm.stopReason;
  slot.stopCode = vm.stopCode;
}

/** The task is over; the boot CPU sees to the VM when its last one is. */
export function retire(task: Task, slot: VmSlot): void {
  const last = atomic.sub<u32>(changetype<usize>(slot) + offsetof<VmSlot>("liveTasks"), 1) == 1;
  moveState(task, TaskState.RUNNING, TaskState.ENDED);
  if (!last) return;
  setState(slot, SlotState.ENDED);
  noteEnded(1);
  tellCpu(0, HostWork.REAP);
}

// ---- The loop

let accounting: bool = false; // written at boot

/** Boot only: every round trip is counted and timed (vm/account). */
export function keepAccounts(): void {
  accounting = true;
}

/** A turn begins with a look, whatever is pending: a wake-up may be stale, and then the vCPU still sleeps. */
function loop(vcpu: Vcpu, task: Task): u32 {
  const mine = virt();
  const first = attend(vcpu, task, true);
  if (first != Turn.GO_ON) return first;
  if (!accounting) {
    while (true) {
      const failure = enter(vcpu);
      if (failure != 0) return entryFailed(vcpu, failure);
      dispatch(vcpu);
      if (!isAsked(vcpu, mine)) continue;
      const turn = attendBriefly(vcpu, task, mine);
      if (turn != Turn.GO_ON) return turn;
    }
  }
  while (true) {
    vcpu.entryTsc = rdtsc();
    const failure = enter(vcpu);
    if (failure != 0) return entryFailed(vcpu, failure);
    countExit(vcpu);
    dispatch(vcpu);
    if (!isAsked(vcpu, mine)) continue;
    const turn = attendBriefly(vcpu, task, mine);
    if (turn != Turn.GO_ON) return turn;
  }
  return Turn.ENDED;
}

/**
 * Something is to be done before the next entry. Other CPUs set bits here at any time. Plain loads: each is made anew after an
 * entry, and what comes a moment too late for this look makes the guest exit by the IPI that follows it.
 */
function isAsked(vcpu: Vcpu, mine: Virt): bool {
  return (load<u64>(changetype<usize>(vcpu), offsetof<Vcpu>("pending")) | <u64>mine.work) != 0;
}
if (offsetof<Vcpu>("timerMoved") != offsetof<Vcpu>("pending") + 4) ERROR("run: the words tested before an entry");

function entryFailed(vcpu: Vcpu, failure: u32): u32 {
  reportEntryFailure(vcpu, failure);
  stopVm(vcpu.vm, StopReason.ENTRY_FAILED, failure);
  return Turn.ENDED;
}

/** What waits most often: a timer, or an interrupt or event for the guest. With anything else, attend(). */
function attendBriefly(vcpu: Vcpu, task: Task, mine: Virt): u32 {
  const pending = vcpu.pending;
  const due = mine.work;
  if ((pending & ~BRIEF) != 0 || (due & ~(<u32>HostWork.TIMERS)) != 0) return attend(vcpu, task, false);
  if ((due | vcpu.timerMoved | (pending & Pending.TIMER)) != 0) {
    keepTime(vcpu, task, due != 0);
    if (mine.work != 0) return attend(vcpu, task, false); // a timer of somebody else
  }
  if ((vcpu.pending & DELIVERY) != 0) deliver(vcpu);
  return Turn.GO_ON;
}

/** A timer is due, or the vCPU's deadline moved. `due`: HostWork.TIMERS is set. */
function keepTime(vcpu: Vcpu, task: Task, due: bool): void {
  const now = rdtsc();
  if (due) {
    atomic.and<u32>(changetype<usize>(virt()) + offsetof<Virt>("work"), ~(<u32>HostWork.TIMERS));
    if (takeOwnTimer(task, now) || takeTimers(changetype<usize>(task))) vcpu.timerMoved = 1;
  }
  const asked = vcpu.timerMoved != 0 || (vcpu.pending & Pending.TIMER) != 0;
  const moved = asked && timers(vcpu, task, now);
  if (moved || due) boundStay(vcpu, now);
}

/**
 * Something waits, or a turn begins (`first`): the CPU's work, then what is pending for the vCPU, then delivery.
 * @repeats each round has taken all work bits; they come by interrupts, which are off, or by one write of another CPU each
 */
function attend(vcpu: Vcpu, task: Task, first: bool): u32 {
  if (first) vcpu.boundFor = 0;
  let turn = round(vcpu, task);
  // Work makes work: an expired timer ends the slice, a device's interrupt wakes another vCPU. All of it counts before this entry.
  while (turn == Turn.GO_ON && hasWork()) turn = round(vcpu, task);
  if (turn != Turn.GO_ON) return turn;
  boundStay(vcpu, rdtsc());
  if (vcpu.state != VcpuState.RUNNABLE) {
    if (!wakes(vcpu)) return stayAsleep(vcpu);
    deliver(vcpu); // also what was put aside while it slept
  } else if ((pendingOf(vcpu) & DELIVERY) != 0) deliver(vcpu);
  return Turn.GO_ON;
}

/** Takes this CPU's work and does it, and what is pending for the vCPU but for delivery. */
function round(vcpu: Vcpu, task: Task): u32 {
  let turn: u32 = Turn.GO_ON;
  const work = takeWork();
  if (work != 0) turn = hostWork(vcpu, task, work);
  const pending = pendingOf(vcpu);
  if (turn == Turn.ENDED || (pending & (Pending.STOP | Pending.RESET)) != 0) return Turn.ENDED;
  if ((pending & SERVED) != 0) serve(vcpu, pending);
  if ((pending & Pending.TIMER) != 0 || vcpu.timerMoved != 0 || task.timerDue != 0) timers(vcpu, task, rdtsc());
  return turn;
}

/** What others asked of the vCPU, but for time and interrupts. */
function serve(vcpu: Vcpu, pending: u32): void {
  if ((pending & (Pending.INIT | Pending.SIPI)) != 0) startUp(vcpu, pending);
  if ((pending & Pending.FLUSH) != 0) flush(vcpu);
  if ((pending & Pending.DEVICE) != 0) devices(vcpu);
  if ((pending & Pending.WHERE) != 0) where(vcpu);
}

function pendingOf(vcpu: Vcpu): u32 {
  return atomic.load<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("pending"));
}

function hasWork(): bool {
  return atomic.load<u32>(changetype<usize>(virt()) + offsetof<Virt>("work")) != 0;
}

/** The operator asks what the vCPU is doing. */
function where(vcpu: Vcpu): void {
  clearPending(vcpu, Pending.WHERE);
  report(vcpu, vcpu.state == VcpuState.RUNNABLE ? "is here" : "sleeps here");
}

/**
 * The guest comes back by the host's next deadline, even if the host's timer interrupt should not get through to it. Only
 * time in the guest counts, so a bound for the same deadline holds until it ran out.
 */
function boundStay(vcpu: Vcpu, now: u64): void {
  const deadline = timer.nextDeadline();
  if (deadline == vcpu.boundFor || !hasPreemptionTimer(vcpu)) return;
  vcpu.boundFor = deadline;
  const left = deadline > now ? deadline - now : 0;
  setPreemptionTimer(vcpu.overstayed != 0 ? min(left, fromNanoseconds(SHORT_STAY_NANOSECONDS)) : left);
}

function hostWork(vcpu: Vcpu, task: Task, work: u32): u32 {
  if ((work & HostWork.KICKS) != 0) drainKicks(vcpu.vm, vcpu);
  if ((work & HostWork.TIMERS) != 0 && takeTimers(changetype<usize>(task))) vcpu.timerMoved = 1;
  const slot = slotAt(task.vm);
  if (slot.stopping) return Turn.ENDED;
  if (slot.paused) return Turn.ASLEEP;
  if ((work & (HostWork.RESCHEDULE | HostWork.YIELD | HostWork.REAP)) != 0) return Turn.PREEMPTED;
  if ((work & HostWork.WOKEN) != 0 && considerWoken(task, rdtsc())) return Turn.PREEMPTED;
  return Turn.GO_ON;
}

function flush(vcpu: Vcpu): void {
  clearPending(vcpu, Pending.FLUSH);
  syncEpt(vcpu.vm);
}

/** The operator typed something. */
function devices(vcpu: Vcpu): void {
  clearPending(vcpu, Pending.DEVICE);
  lockDevices(vcpu.vm);
  pumpInput(vcpu.vm);
  unlockDevices(vcpu.vm);
}

/** Fires what is due and sets the host's timer for what comes next. False if it was set so already; else boundStay() is to follow. */
function timers(vcpu: Vcpu, task: Task, now: u64): bool {
  const devices = (vcpu.pending & Pending.TIMER) != 0;
  if (devices) clearPending(vcpu, Pending.TIMER);
  vcpu.timerMoved = 0;
  task.timerDue = 0;
  const next = serveTimers(vcpu, now, devices);
  vcpu.armedFor = next;
  return armTask(task, next);
}

function startUp(vcpu: Vcpu, pending: u32): void {
  if ((pending & Pending.INIT) != 0) {
    clearPending(vcpu, Pending.INIT);
    initVcpu(vcpu);
  }
  if ((pending & Pending.SIPI) == 0) return;
  clearPending(vcpu, Pending.SIPI);
  if (vcpu.state == VcpuState.WAIT_SIPI) startVcpu(vcpu);
}

/**
 * An event, NMI or interrupt ends HLT; only a start-up IPI ends the wait for one. What waits for an interrupt
 * is not pending any more: only a new request wakes. The bits fall before the look, so that none gets lost.
 */
function wakes(vcpu: Vcpu): bool {
  clearPending(vcpu, Pending.INTERRUPT | Pending.CONTROLS | Pending.SLEEP);
  if (vcpu.state != VcpuState.HALTED) return false;
  const interrupt = interruptsEnabled() && hasInterrupt(vcpu);
  if (vcpu.event == 0 && vcpu.nmisPending == 0 && !interrupt) return false;
  vcpu.state = VcpuState.RUNNABLE;
  return true;
}

function interruptsEnabled(): bool {
  return (readRflags() & RFLAGS_IF) != 0;
}

function stayAsleep(vcpu: Vcpu): u32 {
  vcpu.deaf = vcpu.state == VcpuState.WAIT_SIPI || !interruptsEnabled() ? 1 : 0;
  if (!vcpu.deaf || !allDeaf(vcpu.vm) || hasNmiSource(vcpu.vm)) return Turn.ASLEEP;
  stopVm(vcpu.vm, StopReason.HALTED, 0);
  return Turn.ENDED;
}

/** No vCPU runs, and none would hear an interrupt: the guest has ended itself with CLI; HLT. */
function allDeaf(vm: Vm): bool {
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const other = vcpuOf(vm, i);
    const pending = pendingOf(other);
    if (other.state == VcpuState.RUNNABLE || other.deaf == 0 || (pending & ~Pending.TIMER) != 0) return false;
  }
  return true;
}
