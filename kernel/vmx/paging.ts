// What a change of the guest's paging mode means for the VMCS: IA-32e mode, PDPTEs, and, without
// unrestricted guest, an identity page table that stands in while the guest has paging off.
// Intel SDM Vol. 3, "Unrestricted Guests" and "PAE Paging".

import { vmread, vmwrite } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { Proc } from "./control";
import { Field } from "./field";
import { CR4_LA57, CR4_PAE, CR4_PCIDE, CR4_PKE, CR4_PSE, CR4_SMAP, CR4_SMEP } from "../cpu/registerbits";

/** CR4 bits that would act on the identity table although the guest has paging off. */
const HIDDEN_WITHOUT_PAGING: u64 = CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PCIDE | CR4_LA57;

/**
 * The guest has paging off now. With unrestricted guest nothing is to do; without it, the identity
 * table (32-bit paging with 4 MiB pages) translates, and CR3 accesses exit.
 */
export function setPagingOff(vcpu: Vcpu): void {
  if (vcpu.cr3Forced) return;
  vcpu.cr3Shadow = vmread(Field.GUEST_CR3);
  vcpu.cr3Forced = 1;
  vcpu.cr4Hidden = HIDDEN_WITHOUT_PAGING;
  vcpu.cr4Fixed |= CR4_PSE;
  vmwrite(Field.GUEST_CR3, vcpu.identityRoot);
  applyCr4(vcpu);
  setControls(vcpu, vcpu.procControls | Proc.CR3_LOAD_EXITING | Proc.CR3_STORE_EXITING);
}

/** The guest switches paging on: its own CR3 and CR4 take over. */
export function setPagingOn(vcpu: Vcpu): void {
  if (!vcpu.cr3Forced) return;
  vcpu.cr3Forced = 0;
  vcpu.cr4Hidden = 0;
  vcpu.cr4Fixed &= ~CR4_PSE;
  vmwrite(Field.GUEST_CR3, vcpu.cr3Shadow);
  applyCr4(vcpu);
  setControls(vcpu, vcpu.procControls & ~(Proc.CR3_LOAD_EXITING | Proc.CR3_STORE_EXITING));
}

function applyCr4(vcpu: Vcpu): void {
  const mask = vmread(Field.CR4_MASK);
  const value = (vmread(Field.CR4_SHADOW) & mask) | (vmread(Field.GUEST_CR4) & ~mask);
  vmwrite(Field.GUEST_CR4, (value | vcpu.cr4Fixed) & ~vcpu.cr4Hidden);
}

/** Writes the primary processor-based controls if they differ. */
export function setControls(vcpu: Vcpu, controls: u32): void {
  if (controls == vcpu.procControls) return;
  vcpu.procControls = controls;
  vmwrite(Field.PROCESSOR_CONTROLS, controls);
}
