// One round trip, and what the processor recorded about its end, decoded into the neutral record.
// Intel SDM Vol. 3, "VM-Exit Information Fields" and "Exit Qualification".

import { vmenter, vmread } from "../cpu/insn";
import { PortAccess } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { Field } from "./field";

export const enum Entry {
  EXITED = 0, // vcpu.exitReason says why
  INVALID = 1, // VMfailInvalid: no current VMCS
  REFUSED = 2, // VMfailValid: a control or host field; the instruction error says which kind
  GUEST_STATE = 3, // exitReason 33, 34 or 41 with ENTRY_FAILED: found by exit/dispatch
}

/** The failure of an entry whose exit reason has ENTRY_FAILED. */
export const GUEST_STATE_REFUSED: u32 = Entry.GUEST_STATE;

/**
 * Runs the guest until its next exit. The vCPU is loaded and everything pending was delivered. exitReason
 * keeps bit 31 of EXIT_REASON (ENTRY_FAILED), so that only an exit without a handler needs to look at it;
 * no other bit above 15 can be set for a guest of ours.
 */
export function enter(vcpu: Vcpu): u32 {
  const failed = vmenter(changetype<usize>(vcpu));
  if (failed != 0) return failed;
  vcpu.exitReason = <u32>vmread(Field.EXIT_REASON);
  return 0;
}

export function readQualification(): u64 {
  return vmread(Field.EXIT_QUALIFICATION);
}

/** Length in bytes of the instruction that exited. */
export function readInstructionLength(): u32 {
  return <u32>vmread(Field.EXIT_INSTRUCTION_LENGTH);
}

/** VM-exit instruction information: operands of string I/O, descriptor-table and VMX instructions. */
export function readInstructionInfo(): u32 {
  return <u32>vmread(Field.EXIT_INSTRUCTION_INFO);
}

/** Interruption information of an exception, NMI or acknowledged interrupt. */
export function readInterruptionInfo(): u32 {
  return <u32>vmread(Field.EXIT_INTERRUPTION_INFO);
}

export function readInterruptionError(): u32 {
  return <u32>vmread(Field.EXIT_INTERRUPTION_ERROR_CODE);
}

/** Port instruction: exitAccess (PortAccess); returns the port. */
export function decodePort(vcpu: Vcpu): u32 {
  const q = <u32>vmread(Field.EXIT_QUALIFICATION);
  vcpu.exitAccess = (q & (PortAccess.IN | PortAccess.STRING | PortAccess.REP)) | ((q & 7) + 1);
  return q >> 16;
}

/** Memory access that the EPT refused: exitAccess (Access), exitGpa, exitGva. */
export function decodeEpt(vcpu: Vcpu): void {
  const q = vmread(Field.EXIT_QUALIFICATION);
  vcpu.exitQualification = q;
  vcpu.exitAccess = <u32>q & 0x187;
  vcpu.exitGpa = vmread(Field.GUEST_PHYSICAL_ADDRESS);
  vcpu.exitGva = vmread(Field.GUEST_LINEAR_ADDRESS);
}

export function readGuestPhysical(): u64 {
  return vmread(Field.GUEST_PHYSICAL_ADDRESS);
}

/** CR access: bits 3:0 register, 5:4 CrAccess, 11:8 general register, 31:16 LMSW's operand. */
export function readCrQualification(): u32 {
  return <u32>vmread(Field.EXIT_QUALIFICATION);
}
