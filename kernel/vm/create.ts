// A VM is built in steps, each of which can be taken back: frames for its arena, its host root, memory,
// EPT, vCPUs with their VMCS, and the platform. Everything it will need is allocated here; what it had is
// all returned when it is destroyed. Runs on the boot CPU, outside of any turn.

import { MAX_VMS } from "../config";
import { ARENA_BYTES } from "../config";
import { physBits, Feature, has } from "../cpu/feature";
import { rdtsc } from "../cpu/insn";
import { Mitigation, mitigations } from "../cpu/mitigation";
import { buildCpuid, cr4Allowed } from "../exit/cpuidtable";
import { updateApicLeaf } from "../exit/cpuid";
import { DECODE_BYTES } from "../exit/access";
import { forgetInstructions, RECENT_BYTES } from "../exit/recent";
import { followApicMode } from "../exit/apicmode";
import { MISC_ENABLE_RESET } from "../exit/msrcpu";
import { FIXED_MTRRS, MC_BANKS, VARIABLE_MTRRS } from "../exit/msrpolicy";
import { Status } from "../lib/status";
import { allocRun, freeRun, Owner } from "../mm/frame";
import { GuestPaging } from "../mm/gva";
import { SLOT_BYTES } from "../mm/guestmem";
import { WalkMemo } from "../mm/walkmemo";
import { createRoot, destroyRoot } from "../mm/hostmap";
import { dropEvent } from "../vcpu/event";
import { EXIT_REASONS } from "../vcpu/exit";
import { Vcpu, VcpuState } from "../vcpu/vcpu";
import { arenaAlloc, arenaPaOf, MAX_SLOTS, MAX_VCPUS, NAME_BYTES, Vm, vcpuOf, vmAt, VmState } from "../vcpu/vm";
import {
  createVcpu,
  destroyBitmaps,
  destroyVcpu,
  forgetVm,
  hostMicrocode,
  loadVmcs,
  initSpeculation,
  resetVcpu,
  setSpecCtrl,
  xsaveBytes,
} from "../vendor";
import { createPlatform, resetPlatform } from "../vdev/platform";
import { setState, slotAt, slotName, SlotState, takeNumber, VmSlot } from "./directory";
import { createMemory, destroyMemory, scrubStep } from "./memory";
import { enterSpace, toCore } from "./run";

const TWO_MIB_LOG2: u32 = 21;
const MTRR_DEF_TYPE: u64 = 0x806; // enabled, write-back
const PAGE: usize = 4096;

/** What a VM is to be. In shared memory. */
@unmanaged
export class VmPlan {
  memoryBytes: u64; // a multiple of 2 MiB
  name: usize;
  nameBytes: u32;
  vcpuCount: u32;
  without: u32; // Without bits
  testPorts: u32;
  /** Largest EPT leaf: 12, 21 or 30; 0: the largest that the processor has. */
  pageLog2: u32;
  /** 1: EPT leaves on first touch. */
  lazyMap: u32;
}

/**
 * Builds a VM; this CPU is in its address space afterwards, so that a loader can fill it. Returns its
 * number, or MAX_VMS with nothing left behind; `why` in createFailure().
 */
export function createVm(plan: VmPlan): u32 {
  const number = takeNumber();
  if (number == MAX_VMS) return number;
  const status = build(number, plan);
  if (status == Status.OK) return number;
  destroyVm(number);
  lastFailure(status);
  return MAX_VMS;
}

const FAILURE: usize = memory.data(4, 4);
function lastFailure(status: Status): void {
  store<u32>(FAILURE, status);
}
/** Why the last createVm() failed. */
export function createFailure(): Status {
  return <Status>load<u32>(FAILURE);
}

function build(number: u32, plan: VmPlan): Status {
  const slot = slotAt(number);
  slot.stopReason = 0;
  slot.stopCode = 0;
  slot.stopping = 0;
  slot.paused = 0;
  slot.trapKind = 0;
  slot.liveTasks = 0;
  slot.scrubbed = 0;
  slot.reported = 0;
  slot.hostCr3 = 0;
  slot.arenaPa = allocRun(Owner.VM_FIRST + number, TWO_MIB_LOG2);
  if (!slot.arenaPa) return Status.NO_MEMORY;
  slot.hostCr3 = createRoot(number, slot.arenaPa);
  if (!slot.hostCr3) return Status.NO_MEMORY;
  slot.nameBytes = min(plan.nameBytes, NAME_BYTES);
  memory.copy(slotName(slot), plan.name, slot.nameBytes);
  enterSpace(slot.hostCr3);
  memory.fill(changetype<usize>(vmAt(number)), 0, ARENA_BYTES);
  const vm = vmAt(number);
  fillVm(vm, number, plan);
  let status = createMemory(vm, plan.memoryBytes);
  for (let i: u32 = 0; !status && i < plan.vcpuCount; i++) status = createCpu(vm, i);
  if (!status) status = createPlatform(vm, physBits(), plan.testPorts != 0);
  for (let i: u32 = 0; !status && i < plan.vcpuCount; i++) status = finishCpu(vm, i);
  return status;
}

function fillVm(vm: Vm, number: u32, plan: VmPlan): void {
  const slot = slotAt(number);
  vm.number = number;
  vm.state = VmState.CREATED;
  vm.arenaUsed = (<u32>offsetof<Vm>() + 63) & ~63;
  vm.arenaPa = slot.arenaPa;
  vm.hostCr3 = slot.hostCr3;
  vm.name = arenaAlloc(vm, NAME_BYTES, 8);
  vm.nameBytes = slot.nameBytes;
  memory.copy(vm.name, slotName(slot), slot.nameBytes);
  vm.vcpuCount = plan.vcpuCount;
  vm.vcpus = arenaAlloc(vm, <usize>MAX_VCPUS * sizeof<usize>(), 8);
  vm.slots = arenaAlloc(vm, <usize>MAX_SLOTS * SLOT_BYTES, 8);
  vm.without = plan.without;
  vm.lazyMap = plan.lazyMap;
  vm.pageLog2 = leafLimit(plan.pageLog2);
  slot.generation += 1;
  forgetVm(vm.number);
  vm.flushGeneration = slot.generation;
  vm.createdTsc = rdtsc();
  vm.tscOffset = 0 - vm.createdTsc;
}

/** The iTLB multihit erratum allows no large executable leaf: then all are small. */
function leafLimit(asked: u32): u32 {
  if ((mitigations() & Mitigation.SPLIT_EXECUTABLE) != 0) return 12;
  return asked ? asked : 30;
}

// ---- vCPUs

/** Memory of vCPU `index`, and its CPUID. */
function createCpu(vm: Vm, index: u32): Status {
  const at = arenaAlloc(vm, offsetof<Vcpu>(), 64);
  if (!at) return Status.NO_MEMORY;
  store<usize>(vm.vcpus + <usize>index * sizeof<usize>(), at);
  const vcpu = changetype<Vcpu>(at);
  vcpu.vm = vm;
  vcpu.index = index;
  vcpu.apicId = index;
  vcpu.vpid = vm.number * MAX_VCPUS + index + 1;
  vcpu.state = index ? VcpuState.WAIT_SIPI : VcpuState.RUNNABLE;
  vcpu.deaf = index ? 1 : 0;
  initSpeculation(vcpu);
  vcpu.scratch = arenaAlloc(vm, PAGE, PAGE);
  vcpu.virtualApic = arenaAlloc(vm, PAGE, PAGE);
  vcpu.decode = arenaAlloc(vm, DECODE_BYTES, 16);
  vcpu.paging = arenaAlloc(vm, offsetof<GuestPaging>(), 8);
  vcpu.codeMemo = arenaAlloc(vm, offsetof<WalkMemo>("value4") + 8, 8);
  vcpu.recent = arenaAlloc(vm, RECENT_BYTES, 16);
  vcpu.xsaveArea = arenaAlloc(vm, xsaveBytes(), 64);
  vcpu.mtrrs = arenaAlloc(vm, (FIXED_MTRRS + 2 * VARIABLE_MTRRS) << 3, 8);
  vcpu.mcBanks = arenaAlloc(vm, (MC_BANKS * 4) << 3, 8);
  vcpu.exitCounts = arenaAlloc(vm, EXIT_REASONS << 3, 8);
  if (!vcpu.exitCounts || !vcpu.mcBanks || !vcpu.xsaveArea || !vcpu.paging || !vcpu.codeMemo) return Status.NO_MEMORY;
  if (!vcpu.recent) return Status.NO_MEMORY;
  forgetInstructions(vcpu);
  vcpu.virtualApicPa = arenaPaOf(vm, vcpu.virtualApic);
  return buildCpuid(vcpu);
}

/** The VMCS, once the local APIC exists. */
function finishCpu(vm: Vm, index: u32): Status {
  const vcpu = changetype<Vcpu>(load<usize>(vm.vcpus + <usize>index * sizeof<usize>()));
  const p = changetype<GuestPaging>(vcpu.paging);
  p.physBits = physBits();
  p.gigabytePages = has(Feature.PDPE1GB) ? 1 : 0;
  vcpu.cr4Allowed = cr4Allowed(vcpu);
  vcpu.identityRoot = vm.identityRoot;
  const status = createVcpu(vcpu);
  if (status) return status;
  resetState(vcpu);
  return Status.OK;
}

/** What a reset gives a vCPU beside its registers. */
function resetState(vcpu: Vcpu): void {
  vcpu.miscEnable = MISC_ENABLE_RESET;
  vcpu.mtrrDefType = MTRR_DEF_TYPE;
  vcpu.biosSignature = hostMicrocode();
  // The area's init state: FCW and MXCSR; XSTATE_BV is 0.
  store<u16>(vcpu.xsaveArea, 0x37f);
  store<u32>(vcpu.xsaveArea, 0x1f80, 24);
  updateApicLeaf(vcpu, true);
  followApicMode(vcpu);
}

/** A VM that ended starts over: its memory is scrubbed already; vCPUs and devices are as after power-up. In its space. */
export function resetVm(vm: Vm): void {
  const slot = slotAt(vm.number);
  slot.stopReason = 0;
  slot.stopCode = 0;
  slot.stopping = 0;
  slot.scrubbed = 0;
  slot.reported = 0;
  vm.stopReason = 0;
  vm.stopCode = 0;
  vm.kicks = 0;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) resetCpu(vcpuOf(vm, i));
  resetPlatform(vm);
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    loadVmcs(vcpuOf(vm, i));
    followApicMode(vcpuOf(vm, i));
  }
}

function resetCpu(vcpu: Vcpu): void {
  dropEvent(vcpu);
  vcpu.pending = 0;
  vcpu.nmisPending = 0;
  vcpu.tscAdjust = 0;
  setSpecCtrl(vcpu, 0);
  vcpu.state = vcpu.index ? VcpuState.WAIT_SIPI : VcpuState.RUNNABLE;
  vcpu.deaf = vcpu.index ? 1 : 0;
  memory.fill(vcpu.xsaveArea, 0, xsaveBytes());
  memory.fill(vcpu.mtrrs, 0, (FIXED_MTRRS + 2 * VARIABLE_MTRRS) << 3);
  memory.fill(vcpu.mcBanks, 0, (MC_BANKS * 4) << 3);
  buildCpuid(vcpu);
  resetVcpu(vcpu);
  resetState(vcpu);
}

// ---- The end

/** Returns everything that VM `number` has. None of its tasks is in a CPU's list any more, or runs. */
export function destroyVm(number: u32): void {
  const slot = slotAt(number);
  const owner = Owner.VM_FIRST + number;
  if (slot.hostCr3) {
    enterSpace(slot.hostCr3);
    const vm = vmAt(number);
    if (vm.vcpus) destroyCpus(vm);
    scrubAll(vm, slot);
    destroyMemory(vm);
    toCore();
    destroyRoot(slot.hostCr3);
    slot.hostCr3 = 0;
  }
  if (slot.arenaPa) freeRun(slot.arenaPa, TWO_MIB_LOG2, owner);
  slot.arenaPa = 0;
  setState(slot, SlotState.FREE);
}

/** What scrubSome() has left. */
function scrubAll(vm: Vm, slot: VmSlot): void {
  while (true) {
    const done = scrubStep(vm, slot.scrubbed);
    if (done == slot.scrubbed) return;
    slot.scrubbed = done;
  }
}

/** Scrubs a piece of an ended VM, between turns of others; false if nothing is left. */
export function scrubSome(number: u32): bool {
  const slot = slotAt(number);
  enterSpace(slot.hostCr3);
  const done = scrubStep(vmAt(number), slot.scrubbed);
  const more = done != slot.scrubbed;
  slot.scrubbed = done;
  toCore();
  return more;
}

function destroyCpus(vm: Vm): void {
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const at = load<usize>(vm.vcpus + <usize>i * sizeof<usize>());
    if (at) destroyVcpu(changetype<Vcpu>(at));
  }
  destroyBitmaps(vm);
}
