// Events into the guest: injection at entry, the event whose delivery an exit interrupted, NMI blocking
// and interrupt windows. Intel SDM Vol. 3, "Event Injection", "Information for VM Exits That Occur
// During Event Delivery" and "VM-Exit Handler: NMI".

import { vmread, vmwrite, writeCr2 } from "../cpu/insn";
import { clearPending, EventBit, EventPayload, EventType, FAULTS, Pending, requeue, Vector } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { Blocking, Proc } from "./control";
import { debugTrap } from "./debug";
import { Field } from "./field";
import { setControls } from "./paging";
import { PENDING_BS } from "./register";
import { CR0_PE, RFLAGS_IF, RFLAGS_RF, RFLAGS_TF } from "../cpu/registerbits";

const NMI_EVENT: u32 = EventBit.VALID | (EventType.NMI << EventBit.TYPE_SHIFT) | Vector.NMI;
const SHADOW: u32 = Blocking.STI | Blocking.MOV_SS;
const DEBUGCTL_BTF: u64 = 2;
/** Bit 12 of an interruption information: an IRET that unblocked NMIs was interrupted. */
const NMI_UNBLOCKED: u32 = 1 << 12;

/**
 * Puts what waits in the vCPU's event slot, else an NMI, into the VMCS for the next entry. True: the
 * entry has its event, interrupts must wait.
 */
export function injectEvents(vcpu: Vcpu): bool {
  if (vcpu.nmisPending > 1) holdOneNmi(vcpu);
  if (vcpu.event) {
    injectEvent(vcpu);
    if (vcpu.nmisPending) requestNmiWindow(vcpu, true); // right behind it
    return true;
  }
  return vcpu.nmisPending != 0 && injectNmi(vcpu);
}

/** While one NMI is served the processor holds one more; what else arrives meanwhile is lost. */
function holdOneNmi(vcpu: Vcpu): void {
  if (!servesNmi(vcpu)) return;
  atomic.cmpxchg<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("nmisPending"), 2, 1);
}

function injectEvent(vcpu: Vcpu): void {
  let event = vcpu.event;
  const type = (event & EventBit.TYPE_MASK) >> EventBit.TYPE_SHIFT;
  if (type == EventType.EXCEPTION) prepareException(vcpu, event & 0xff);
  else if (type == EventType.NMI)
    startNmi(vcpu); // its first delivery set blocking
  else if (type >= <u32>EventType.SOFTWARE_INTERRUPT) vmwrite(Field.ENTRY_INSTRUCTION_LENGTH, vcpu.eventLength);
  if ((event & EventBit.HAS_ERROR) != 0) {
    if (realMode()) event &= ~EventBit.HAS_ERROR;
    else vmwrite(Field.ENTRY_EXCEPTION_ERROR_CODE, vcpu.eventError);
  }
  vmwrite(Field.ENTRY_INTERRUPTION_INFO, event);
  vcpu.event = 0;
  clearPending(vcpu, Pending.EVENT);
}

/** Registers that accompany a hardware exception. */
function prepareException(vcpu: Vcpu, vector: u32): void {
  if (vcpu.eventPayload == EventPayload.CR2) writeCr2(vcpu.eventCr2);
  else if (vcpu.eventPayload == EventPayload.DR6) debugTrap(vcpu, vcpu.eventDr6);
  vcpu.eventPayload = EventPayload.NONE;
  const flags = vmread(Field.GUEST_RFLAGS);
  if (((FAULTS >> vector) & 1) != 0) vmwrite(Field.GUEST_RFLAGS, flags | RFLAGS_RF);
  matchSingleStep(flags);
}

/**
 * VM entry demands that, under an interrupt shadow, a pending single step is recorded exactly if TF is
 * set (and BTF clear). Intel SDM Vol. 3, "Checks on Guest Non-Register State".
 */
export function matchSingleStep(flags: u64): void {
  if ((<u32>vmread(Field.GUEST_INTERRUPTIBILITY) & SHADOW) == 0) return;
  const stepping = (flags & RFLAGS_TF) != 0 && (vmread(Field.GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0;
  const pending = vmread(Field.GUEST_PENDING_DEBUG);
  const wanted = stepping ? pending | PENDING_BS : pending & ~PENDING_BS;
  if (wanted != pending) vmwrite(Field.GUEST_PENDING_DEBUG, wanted);
}

/** An NMI goes in unless NMIs are blocked or a shadow lasts; then the processor tells when the window opens. */
function injectNmi(vcpu: Vcpu): bool {
  if (servesNmi(vcpu) || (<u32>vmread(Field.GUEST_INTERRUPTIBILITY) & SHADOW) != 0) {
    requestNmiWindow(vcpu, true);
    return false;
  }
  startNmi(vcpu);
  atomic.sub<u32>(changetype<usize>(vcpu) + offsetof<Vcpu>("nmisPending"), 1);
  vmwrite(Field.ENTRY_INTERRUPTION_INFO, NMI_EVENT);
  if (vcpu.nmisPending) requestNmiWindow(vcpu, true);
  else clearPending(vcpu, Pending.NMI);
  return true;
}

/** NMI blocking begins with an NMI that was injected and nothing else: what some processor claims without is not believed. */
function servesNmi(vcpu: Vcpu): bool {
  const blocked = (<u32>vmread(Field.GUEST_INTERRUPTIBILITY) & <u32>Blocking.NMI) != 0;
  if (!blocked) vcpu.nmiServed = 0;
  return blocked && vcpu.nmiServed != 0;
}

/** An NMI is injected: that sets the blocking, and needs it clear. */
function startNmi(vcpu: Vcpu): void {
  setNmiBlocking(false);
  vcpu.nmiServed = 1;
}

/** The vCPU comes to a CPU: an emulator's blocking that leaked from another vCPU must not go on. */
export function restoreNmi(vcpu: Vcpu): void {
  if (!servesNmi(vcpu)) setNmiBlocking(false);
}

/** RFLAGS.IF, no shadow, and no event in this entry's slot yet. */
export function canTakeInterrupt(vcpu: Vcpu): bool {
  return (
    (vmread(Field.GUEST_RFLAGS) & RFLAGS_IF) != 0 &&
    (<u32>vmread(Field.GUEST_INTERRUPTIBILITY) & SHADOW) == 0 &&
    (<u32>vmread(Field.ENTRY_INTERRUPTION_INFO) & <u32>EventBit.VALID) == 0
  );
}

export function injectInterrupt(vcpu: Vcpu, vector: u32): void {
  vmwrite(Field.ENTRY_INTERRUPTION_INFO, EventBit.VALID | vector);
}

/** An exit as soon as the guest could take an interrupt. */
export function requestInterruptWindow(vcpu: Vcpu, on: bool): void {
  setControls(vcpu, on ? vcpu.procControls | Proc.INTERRUPT_WINDOW : vcpu.procControls & ~Proc.INTERRUPT_WINDOW);
}

/** An exit as soon as the guest could take an NMI; while the NMI waits here, `pending` does not show it. */
export function requestNmiWindow(vcpu: Vcpu, on: bool): void {
  if (on) clearPending(vcpu, Pending.NMI);
  setControls(vcpu, on ? vcpu.procControls | Proc.NMI_WINDOW : vcpu.procControls & ~Proc.NMI_WINDOW);
}

/**
 * Takes back the event whose delivery this exit interrupted, so that the next entry delivers it again.
 * For reasons that can come during delivery: exceptions, EPT, APIC access, task switch, PML, SPP.
 */
export function recoverEvent(vcpu: Vcpu): void {
  const info = <u32>vmread(Field.IDT_VECTORING_INFO);
  if ((info & EventBit.VALID) != 0) takeBack(vcpu, info);
}

function takeBack(vcpu: Vcpu, info: u32): void {
  const type = (info & EventBit.TYPE_MASK) >> EventBit.TYPE_SHIFT;
  const length: u32 = type >= <u32>EventType.SOFTWARE_INTERRUPT ? <u32>vmread(Field.EXIT_INSTRUCTION_LENGTH) : 0;
  const error: u32 = (info & EventBit.HAS_ERROR) != 0 ? <u32>vmread(Field.IDT_VECTORING_ERROR_CODE) : 0;
  requeue(vcpu, info & (EventBit.VALID | EventBit.HAS_ERROR | EventBit.TYPE_MASK | 0xff), error, length);
}

/**
 * An IRET ended NMI blocking and then faulted: NMIs stay blocked until it succeeds. `info`: the exit's
 * interruption information, or qualification for EPT violations, both with bit 12. Not when the exit was
 * during event delivery, nor for a double fault. Intel SDM Vol. 3, "Resuming Guest Software after Handling an Exception".
 */
export function restoreNmiBlocking(info: u32): void {
  if ((info & NMI_UNBLOCKED) == 0) return;
  if ((<u32>vmread(Field.IDT_VECTORING_INFO) & <u32>EventBit.VALID) != 0) return;
  setNmiBlocking(true);
}

/**
 * INT1 exits with RIP on itself although it traps: it is stepped over, and with it the shadow of the instruction
 * before and the single step that MOV SS had put off, which the processor drops when it delivers the #DB.
 */
export function skipIcebp(): void {
  vmwrite(Field.GUEST_RIP, vmread(Field.GUEST_RIP) + vmread(Field.EXIT_INSTRUCTION_LENGTH));
  const blocking = <u32>vmread(Field.GUEST_INTERRUPTIBILITY);
  if ((blocking & SHADOW) == 0) return;
  vmwrite(Field.GUEST_INTERRUPTIBILITY, blocking & ~SHADOW);
  vmwrite(Field.GUEST_PENDING_DEBUG, 0);
}

/** MOV to SS was executed on the guest's behalf: interrupts and debug traps wait for the next instruction. */
export function blockByMovSs(): void {
  vmwrite(Field.GUEST_INTERRUPTIBILITY, vmread(Field.GUEST_INTERRUPTIBILITY) | Blocking.MOV_SS);
}

export function setNmiBlocking(on: bool): void {
  const blocking = <u32>vmread(Field.GUEST_INTERRUPTIBILITY);
  const wanted = on ? blocking | Blocking.NMI : blocking & ~Blocking.NMI;
  if (wanted != blocking) vmwrite(Field.GUEST_INTERRUPTIBILITY, wanted);
}

/** Real mode (CR0.PE = 0) pushes no error codes, and VM entry refuses them. */
function realMode(): bool {
  return (vmread(Field.GUEST_CR0) & CR0_PE) == 0;
}
