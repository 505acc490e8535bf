// The guests of this machine: created from the boot modules when it has come up or the operator asks, reported and
// returned when they end. The boot CPU does it all, between turns; when the last guest has ended, the machine has.

import * as power from "../../drivers/power";
import { MAX_CPUS, MAX_VMS } from "../config";
import { pause, rdtsc } from "../cpu/insn";
import { cpuCount, isOnline } from "../cpu/percpu";
import { toNanoseconds } from "../cpu/tsc";
import * as cmdline from "../lib/cmdline";
import * as log from "../lib/log";
import { Status } from "../lib/status";
import { mapFirmware } from "../mm/hostmap";
import { configAt, GuestConfig, guestModuleAt } from "../guest/config";
import { countComplaints, countGuests, describeGuests } from "../guest/describe";
import { enterGuest } from "../guest/entry";
import { loadGuest, reportGuest, startsInRealMode, wantsTestPorts } from "../guest/load";
import { buildMsrPolicy } from "../exit/msrpolicy";
import { HostWork, Virt, virt, virtAt } from "../vcpu/current";
import { Pending, setPending } from "../vcpu/event";
import { VcpuState } from "../vcpu/vcpu";
import { StopReason, Vm, vcpuOf, vmAt, VmState, Without } from "../vcpu/vm";
import { beginAccount, reportAccount } from "../vm/account";
import { isSharedBroken } from "../vm/contain";
import { createFailure, createVm, destroyVm, resetVm, scrubSome, VmPlan } from "../vm/create";
import { endedCount, noteEnded, setState, slotAt, slotName, SlotState, VmSlot } from "../vm/directory";
import { here, tellCpu } from "../vm/kick";
import { askedBytes, askedName, forgetRequest } from "../vm/request";
import { enterSpace, keepAccounts, toCore, toSpace } from "../vm/run";
import { addTask, chooseCpu, roomFor } from "../vm/schedule";
import { stateOf, Task, taskAt, taskOf, TaskState } from "../vm/task";
import { abandonCurrent, enableCpu, probe, readHostFeatures, release } from "../vendor";
import { beginMaking, endMaking, guestInMaking, nextUntried } from "./making";

const PLAN: usize = memory.data(48, 8);
if (offsetof<VmPlan>() > 48) ERROR("guests: size of the plan");

/** +0 u32 guests that were started and have not ended; +4 u32 guests that did not end well. [boot CPU only] */
const tally: usize = memory.data(8, 4);

/** The boot CPU, when the machine has come up: VMX everywhere, then each guest. */
export function startGuests(): void {
  const lack = probe();
  if (lack.length) {
    log.error("vmx", lack);
    return;
  }
  readHostFeatures();
  buildMsrPolicy();
  if (cmdline.is(cmdline.Option.ACCOUNT, "on")) keepAccounts();
  virt().root = 0;
  toCore();
  if (!enableHere()) return;
  enableOthers();
  describeGuests();
  store<u32>(tally, countComplaints(), 4); // a guest that is left out did not end well
  startRest();
}

/** Starts the guests that were not tried yet: all, or those behind one at which the core trapped. */
export function startRest(): void {
  const count = countGuests();
  for (let index = nextUntried(count); index < count; index = nextUntried(count)) make(index);
  if ((count | countComplaints()) != 0 && load<u32>(tally) == 0) finish();
}

function make(index: u32): void {
  beginMaking(index);
  startGuest(index);
  endMaking();
}

/** The operator wants a guest of the configuration again. While the memory of the one before is returned, the request waits. */
function startAsked(): void {
  if (askedBytes() == 0) return;
  const index = findConfig(askedName(), askedBytes());
  const state: u32 = index == countGuests() ? <u32>SlotState.FREE : stateOfGuest(index);
  if (state == SlotState.ENDED) return;
  forgetRequest();
  if (index == countGuests()) log.warn("guest", "no boot module describes a guest of this name");
  else if (state != SlotState.FREE) log.warn("guest", "it has not ended");
  else make(index);
}

/** The guest of that name; countGuests() if there is none. */
function findConfig(name: usize, bytes: u32): u32 {
  let index: u32 = 0;
  for (; index < countGuests(); index++) {
    const config = configAt(index);
    if (config.nameBytes == bytes && memory.compare(config.name, name, bytes) == 0) break;
  }
  return index;
}

/** State of the slot that guest `index` has; FREE if it has none. */
function stateOfGuest(index: u32): u32 {
  for (let number: u32 = 0; number < MAX_VMS; number++) {
    const state = atomic.load<u32>(changetype<usize>(slotAt(number)));
    if (state != SlotState.FREE && slotAt(number).config == index) return state;
  }
  return SlotState.FREE;
}

/**
 * The core trapped while it made a guest: that one is refused, and what it had taken stays taken. False: shared
 * data is half-changed. On a clean stack; startRest() follows.
 */
export function refuseTrapped(): bool {
  const making = guestInMaking();
  endMaking();
  if (isSharedBroken()) return false;
  virt().resident = 0;
  abandonCurrent();
  toCore();
  refuse(configAt(making), "the core trapped while it made it");
  return true;
}

/** VMX operation on this CPU; a CPU that cannot runs no guests. */
export function enableHere(): bool {
  atomic.and<u32>(changetype<usize>(virt()) + offsetof<Virt>("work"), ~(<u32>HostWork.ENABLE));
  const status = enableCpu();
  if (status) {
    log.begin(log.Level.ERROR, "vmx");
    log.str("CPU ");
    log.dec(here());
    log.str(
      status == Status.UNSUPPORTED
        ? " differs from the boot CPU, or firmware locked VMX off: it runs no guests"
        : " cannot enter VMX operation",
    );
    log.end();
    return false;
  }
  toCore();
  atomic.store<u32>(changetype<usize>(virt()) + offsetof<Virt>("ready"), 1);
  return true;
}

/** The other CPUs enter VMX operation one after the other: each looks at HostWork.ENABLE in its idle loop. */
function enableOthers(): void {
  for (let i: u32 = 1; i < cpuCount(); i++) {
    if (!isOnline(i)) continue;
    tellCpu(i, HostWork.ENABLE);
    const since = rdtsc();
    while (atomic.load<u32>(changetype<usize>(virtAt(i)) + offsetof<Virt>("ready")) == 0) {
      if (rdtsc() - since > PATIENCE_TICKS) break;
      pause();
    }
  }
}

/** Creates, loads and starts guest `index` of the configuration. One line says why, if that cannot be. */
function startGuest(index: u32): void {
  const config = configAt(index);
  if (roomFor(config.pinMask) < config.cpus) {
    refuse(config, "the CPUs that it may run on have too many vCPUs already");
    return;
  }
  if (mapFiles(config)) {
    refuse(config, "its files cannot be mapped");
    return;
  }
  const number = createVm(planFor(config));
  if (number == MAX_VMS) {
    refuse(config, createFailure() == Status.NO_MEMORY ? "not enough memory" : "it cannot be created");
    return;
  }
  const vm = vmAt(number);
  if (!loadInto(vm, config)) {
    toCore();
    destroyVm(number);
    fail();
    return;
  }
  reportGuest(vm, config);
  slotAt(number).config = index;
  endMaking(); // from here on other CPUs may run it
  start(vm, config);
}

function loadInto(vm: Vm, config: GuestConfig): bool {
  if (loadGuest(vm, config)) return false; // it has said why
  if (startsInRealMode(vm) && !vcpuOf(vm, 0).unrestricted) {
    refuse(config, "it starts in real mode, which needs the processor feature unrestricted guest");
    return false;
  }
  enterGuest(vm);
  return true;
}

/** Boot modules are read through the device window. */
function mapFiles(config: GuestConfig): Status {
  let status = mapFirmware(config.pa, config.bytes);
  for (let i: u32 = 0; !status && i < config.moduleCount; i++) {
    const module = guestModuleAt(config, i);
    status = mapFirmware(module.pa, module.bytes);
  }
  return status;
}

function planFor(config: GuestConfig): VmPlan {
  const plan = changetype<VmPlan>(PLAN);
  plan.memoryBytes = config.memoryBytes;
  plan.name = config.name;
  plan.nameBytes = config.nameBytes;
  plan.vcpuCount = config.cpus;
  plan.without = config.without | withoutByOptions();
  plan.testPorts = wantsTestPorts(config) ? 1 : 0;
  plan.lazyMap = cmdline.is(cmdline.Option.EPTPAGE, "4k") ? 1 : 0;
  plan.pageLog2 = plan.lazyMap ? 12 : cmdline.is(cmdline.Option.EPTPAGE, "2m") ? 21 : 0;
  return plan;
}

/** What the host's command line switches off for all guests. */
function withoutByOptions(): u32 {
  let bits: u32 = 0;
  if (cmdline.is(cmdline.Option.APICV, "off"))
    bits |= Without.APIC_REGISTERS | Without.APIC_ACCESS | Without.TPR_SHADOW;
  if (cmdline.is(cmdline.Option.VPID, "off")) bits |= Without.VPID;
  if (cmdline.is(cmdline.Option.UNRESTRICTED, "off")) bits |= Without.UNRESTRICTED_GUEST;
  return bits;
}

/** A task for each vCPU, on the CPU that has the least to do; the VMCS is given up here so that it can be loaded there. */
function start(vm: Vm, config: GuestConfig): void {
  const slot = slotAt(vm.number);
  beginAccount(vm);
  vm.state = VmState.RUNNING;
  slot.firstTask = taskOf(vm.number, 0).number;
  slot.taskCount = vm.vcpuCount;
  slot.liveTasks = vm.vcpuCount;
  slot.startedTsc = rdtsc();
  setState(slot, SlotState.LIVE);
  store<u32>(tally, load<u32>(tally) + 1);
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const vcpu = vcpuOf(vm, i);
    setPending(vcpu, Pending.TIMER | Pending.INTERRUPT);
    const task = prepareTask(vm.number, i, config);
    vcpu.task = changetype<usize>(task);
    task.vcpu = changetype<usize>(vcpu);
    release(vcpu);
    task.state = vcpu.state == VcpuState.RUNNABLE ? TaskState.READY : TaskState.BLOCKED;
    addTask(task);
    tellCpu(task.cpu, HostWork.WOKEN);
  }
  toCore();
}

function prepareTask(vm: u32, index: u32, config: GuestConfig): Task {
  const task = taskOf(vm, index);
  const number = task.number;
  memory.fill(changetype<usize>(task), 0, offsetof<Task>());
  task.number = number;
  task.vm = vm;
  task.index = index;
  task.weight = config.weight ? config.weight : 100;
  task.cap = config.cap;
  const cpu = chooseCpu(config.pinMask, task.weight);
  task.cpu = cpu == MAX_CPUS ? 0 : cpu;
  return task;
}

// ---- The end of a guest

/** The boot CPU, between turns: makes what the operator asked for, returns what ended. True: there is more to do. */
export function seeToGuests(): bool {
  startAsked();
  return reapGuests();
}

/** VMs that ended are reported and returned, a step at a time. */
function reapGuests(): bool {
  if (endedCount() == 0) return false;
  reportEnded();
  for (let number: u32 = 0; number < MAX_VMS; number++) {
    const slot = slotAt(number);
    if (atomic.load<u32>(changetype<usize>(slot)) != SlotState.ENDED) continue;
    if (scrubSome(number) || !tasksGone(slot)) return true;
    noteEnded(-1);
    const again = slot.stopReason == StopReason.RESET && configAt(slot.config).restart == RESTART_ON;
    if (again && restart(number)) continue;
    if (!endedWell(slot)) fail();
    toCore();
    destroyVm(number);
    store<u32>(tally, load<u32>(tally) - 1);
  }
  if (load<u32>(tally) == 0) finish();
  return false;
}

/** Says of each VM that ended how, before the first is scrubbed: that lasts where others keep the CPU busy. */
function reportEnded(): void {
  for (let number: u32 = 0; number < MAX_VMS; number++) {
    const slot = slotAt(number);
    if (atomic.load<u32>(changetype<usize>(slot)) != SlotState.ENDED || slot.reported) continue;
    slot.reported = 1;
    reportTime(slot);
    reportEnd(number, slot);
  }
}

/** Whether every CPU has taken the VM's tasks out of its list; those that have not are told. */
function tasksGone(slot: VmSlot): bool {
  for (let i: u32 = 0; i < slot.taskCount; i++) {
    const task = taskAt(slot.firstTask + i);
    if (stateOf(task) == <u32>TaskState.FREE) continue;
    tellCpu(task.cpu, HostWork.WOKEN);
    return false;
  }
  return true;
}

/** The guest asked for a reset and may start again, in the VM that it has. */
function restart(number: u32): bool {
  const config = configAt(slotAt(number).config);
  enterSpace(slotAt(number).hostCr3);
  resetVm(vmAt(number));
  if (!loadInto(vmAt(number), config)) return false;
  store<u32>(tally, load<u32>(tally) - 1); // start() counts it again
  start(vmAt(number), config);
  return true;
}

const RESTART_ON: u32 = 1; // Choice.ON
const PATIENCE_TICKS: u64 = 1_000_000_000;

function endedWell(slot: VmSlot): bool {
  const asked =
    slot.stopReason == StopReason.POWER_OFF ||
    slot.stopReason == StopReason.RESET ||
    slot.stopReason == StopReason.HALTED;
  return asked && slot.stopCode == 0;
}

function fail(): void {
  store<u32>(tally + 4, load<u32>(tally + 4) + 1);
}

/** All guests have ended. */
function finish(): void {
  power.finish(load<u32>(tally + 4) ? power.Outcome.FAILURE : power.Outcome.SUCCESS);
}

function refuse(config: GuestConfig, why: string): void {
  log.begin(log.Level.ERROR, "guest");
  log.bytes(config.name, config.nameBytes);
  log.str(" is refused: ");
  log.str(why);
  log.end();
  fail();
}

/** One line a guest: ended how, why, where. */
function reportEnd(number: u32, slot: VmSlot): void {
  log.begin(endedWell(slot) ? log.Level.INFO : log.Level.ERROR, "guest");
  log.bytes(slotName(slot), slot.nameBytes);
  log.str(" ended: ");
  log.str(reasonText(slot.stopReason));
  log.str(", code ");
  log.dec(slot.stopCode);
  log.end();
  if (!cmdline.is(cmdline.Option.ACCOUNT, "on")) return;
  toSpace(slot);
  reportAccount(vmAt(number));
  toCore();
}

/** How much of the machine it had, over all its vCPUs. */
function reportTime(slot: VmSlot): void {
  let ran: u64 = 0;
  for (let i: u32 = 0; i < slot.taskCount; i++) ran += taskAt(slot.firstTask + i).ranTicks;
  log.begin(log.Level.INFO, "guest");
  log.bytes(slotName(slot), slot.nameBytes);
  log.str(" ran ");
  log.dec(toNanoseconds(ran) / 1000);
  log.str(" us of ");
  log.dec(toNanoseconds(rdtsc() - slot.startedTsc) / 1000);
  log.str(" us");
  log.end();
}

function reasonText(reason: u32): string {
  switch (reason) {
    case StopReason.POWER_OFF:
      return "powered off";
    case StopReason.RESET:
      return "asked for a reset";
    case StopReason.TRIPLE_FAULT:
      return "triple fault";
    case StopReason.HALTED:
      return "halted for good";
    case StopReason.ENTRY_FAILED:
      return "VM entry failed";
    case StopReason.UNHANDLED:
      return "stopped at an exit that nothing answers";
    case StopReason.CORE_TRAP:
      return "stopped by a trap in the core";
    case StopReason.DESTROYED:
      return "destroyed by the operator";
    case StopReason.UNSUPPORTED:
      return "needs what this processor lacks";
    default:
      return "for no known reason";
  }
}
