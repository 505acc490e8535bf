// What is pending for a guest. An event has the format that VMX's interruption information and SVM's
// EVENTINJ share. Exceptions raised by the core and events whose delivery an exit interrupted wait in
// one slot of the Vcpu, because a processor has one: a second exception merges with the first by the
// double-fault rules. Interrupts wait in the virtual APIC and PIC (virq/), never here.

import { HostWork, Virt, virt } from "./current";
import { Vcpu } from "./vcpu";
import { StopReason, Vm, vcpuOf } from "./vm";

/** Bits of Vcpu.pending. Zero means: enter at once. */
export const enum Pending {
  EVENT = 0x01, // Vcpu.event is to be injected
  NMI = 0x02, // Vcpu.nmisPending > 0
  INTERRUPT = 0x04, // the APIC or PIC may have an interrupt: virq/deliver looks
  TIMER = 0x08, // a virtual timer may have expired: virq/vtimer looks
  INIT = 0x10,
  SIPI = 0x20,
  STOP = 0x40, // the VM is to stop
  PAUSE = 0x80, // the VM is to pause
  FLUSH = 0x100, // translations of the VM's EPT must be invalidated before entry
  RESCHEDULE = 0x200, // the slice is over
  CONTROLS = 0x400, // virq/ changed something that the VMCS mirrors (TPR threshold, EOI bitmap)
  DEVICE = 0x800, // a backend's ring has something to drain
  RESET = 0x1000, // the VM starts over
  SLEEP = 0x2000, // HLT was executed
  WHERE = 0x4000, // the operator asks for a report
}

/** Event: vector in bits 7:0, type in bits 10:8, bit 11: has an error code, bit 31: valid. */
export const enum EventBit {
  TYPE_SHIFT = 8,
  TYPE_MASK = 0x700,
  HAS_ERROR = 0x800,
  VALID = 0x80000000,
}

export const enum EventType {
  INTERRUPT = 0,
  NMI = 2,
  EXCEPTION = 3, // hardware exception
  SOFTWARE_INTERRUPT = 4, // INT n
  PRIVILEGED_EXCEPTION = 5, // INT1
  SOFTWARE_EXCEPTION = 6, // INT3, INTO
}

export const enum Vector {
  DE = 0,
  DB = 1,
  NMI = 2,
  BP = 3,
  OF = 4,
  BR = 5,
  UD = 6,
  NM = 7,
  DF = 8,
  TS = 10,
  NP = 11,
  SS = 12,
  GP = 13,
  PF = 14,
  MF = 16,
  AC = 17,
  MC = 18,
  XM = 19,
  VE = 20,
  CP = 21,
}

/** What accompanies the event in the slot and must reach a register when it is injected. */
export const enum EventPayload {
  NONE = 0,
  CR2 = 1,
  DR6 = 2,
}

/** Bit n: exception n pushes an error code. */
const HAS_ERROR_CODE: u32 = 0x0022_7d00; // 8, 10..14, 17, 21
/** Bit n: exception n is contributory: #DE, #TS, #NP, #SS, #GP (and #CP). */
const CONTRIBUTORY: u32 = 0x0020_3c01;
/** Bit n: a fault, whose saved RFLAGS have RF set. #DB may be either and is not here. */
export const FAULTS: u32 = 0x003b_7ee1; // all but DB, NMI, BP, OF, DF, MC

export function hasErrorCode(vector: u32): bool {
  return vector < 32 && ((HAS_ERROR_CODE >> vector) & 1) != 0;
}

/**
 * Raises exception `vector` in the guest; `error` counts only where the vector has an error code. If
 * an exception waits already, they become #DF, or a shutdown: see merge. Intel SDM Vol. 3, "Interrupt
 * 8—Double Fault Exception (#DF)".
 */
export function queueException(vcpu: Vcpu, vector: u32, error: u32): void {
  const old = vcpu.event;
  if (old != 0 && merge(vcpu, old, vector)) return;
  setEvent(vcpu, vector | (EventType.EXCEPTION << EventBit.TYPE_SHIFT), error);
}

/** #PF with its linear address. */
export function queuePageFault(vcpu: Vcpu, gva: u64, error: u32): void {
  queueException(vcpu, Vector.PF, error);
  if ((vcpu.event & 0xff) != Vector.PF) return;
  vcpu.eventPayload = EventPayload.CR2;
  vcpu.eventCr2 = gva;
}

/** #DB; `dr6` has the bits that DR6 gains (B0..B3, BD, BS, BT). */
export function queueDebug(vcpu: Vcpu, dr6: u64): void {
  queueException(vcpu, Vector.DB, 0);
  if ((vcpu.event & 0xff) != Vector.DB) return;
  vcpu.eventPayload = EventPayload.DR6;
  vcpu.eventDr6 = dr6;
}

/**
 * One NMI to deliver and one held behind it; a third is lost, as on hardware. Also from other CPUs of the same VM.
 * @repeats until nobody changed the count meanwhile: at most once for each vCPU that sends an NMI at this moment
 */
export function queueNmi(vcpu: Vcpu): void {
  const at = changetype<usize>(vcpu) + offsetof<Vcpu>("nmisPending");
  let had = atomic.load<u32>(at);
  while (had < 2) {
    const found = atomic.cmpxchg<u32>(at, had, had + 1);
    if (found == had) break;
    had = found; // another CPU was faster: theirs and ours both count
  }
  request(vcpu, Pending.NMI);
}

/** Puts an event back whose delivery an exit interrupted. `length`: instruction length of a software event. */
export function requeue(vcpu: Vcpu, event: u32, error: u32, length: u32): void {
  vcpu.event = event | EventBit.VALID;
  vcpu.eventError = error;
  vcpu.eventLength = length;
  vcpu.eventPayload = EventPayload.NONE;
  setPending(vcpu, Pending.EVENT);
}

/** Forgets the event in the slot (task switch, INIT, reset). */
export function dropEvent(vcpu: Vcpu): void {
  vcpu.event = 0;
  clearPending(vcpu, Pending.EVENT);
}

/** Sets bits of `pending` from the vCPU's own CPU. */
export function setPending(vcpu: Vcpu, bits: u32): void {
  atomic.or<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("pending"), bits);
}

export function clearPending(vcpu: Vcpu, bits: u32): void {
  atomic.and<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("pending"), ~bits);
}

/**
 * Sets bits of `pending` from anywhere in the same VM and asks for that vCPU's attention: the run
 * loop of the calling CPU drains Vm.kicks after the handler, and sends the IPI or wakes the vCPU.
 */
export function request(vcpu: Vcpu, bits: u32): void {
  atomic.or<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("pending"), bits);
  const mine = virt();
  if (mine.current == changetype<usize>(vcpu)) return; // it looks by itself before it enters again
  atomic.or<u32>(changetype<usize>(vcpu.vm) + offsetof<Vm>("kicks"), 1 << vcpu.index);
  atomic.or<u32>(changetype<usize>(mine) + offsetof<Virt>("work"), HostWork.KICKS);
}

/** Ends the VM: every vCPU leaves the guest and its run loop stops. The first reason counts. */
export function stopVm(vm: Vm, reason: u32, code: u32): void {
  const at = changetype<usize>(vm) + offsetof<Vm>("stopReason");
  if (atomic.cmpxchg<u32>(at, StopReason.NONE, reason) == StopReason.NONE) vm.stopCode = code;
  requestAll(vm, Pending.STOP);
}

/** request() to every vCPU of the VM. */
export function requestAll(vm: Vm, bits: u32): void {
  for (let i: u32 = 0; i < vm.vcpuCount; i++) request(vcpuOf(vm, i), bits);
}

function setEvent(vcpu: Vcpu, event: u32, error: u32): void {
  const withError = hasErrorCode(event & 0xff);
  vcpu.event = event | EventBit.VALID | (withError ? EventBit.HAS_ERROR : 0);
  vcpu.eventError = withError ? error : 0;
  vcpu.eventLength = 0;
  vcpu.eventPayload = EventPayload.NONE;
  setPending(vcpu, Pending.EVENT);
}

/** A second exception while `old` waits. True if it was dealt with; false: `old` gives way to it. */
function merge(vcpu: Vcpu, old: u32, vector: u32): bool {
  if ((old & EventBit.TYPE_MASK) >> EventBit.TYPE_SHIFT != EventType.EXCEPTION) return false;
  const first = old & 0xff;
  if (first == Vector.DF) {
    dropEvent(vcpu);
    stopVm(vcpu.vm, StopReason.TRIPLE_FAULT, 0);
    return true;
  }
  if (!makesDoubleFault(first, vector)) return false;
  setEvent(vcpu, Vector.DF | (EventType.EXCEPTION << EventBit.TYPE_SHIFT), 0);
  return true;
}

/** Table "Conditions for Generating a Double Fault". */
export function makesDoubleFault(first: u32, second: u32): bool {
  const secondContributory = second < 32 && ((CONTRIBUTORY >> second) & 1) != 0;
  if (first == Vector.PF) return secondContributory || second == Vector.PF;
  return first < 32 && ((CONTRIBUTORY >> first) & 1) != 0 && secondContributory;
}
