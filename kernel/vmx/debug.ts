// Debug registers. DR7 is in the VMCS; DR0..DR3 and DR6 are in the registers only while the guest uses
// them. Until then MOV DR exits once, the registers are loaded and the instruction runs again by
// itself, so the processor makes every check. Intel SDM Vol. 3, "Debug Registers".

import {
  readDr0,
  readDr1,
  readDr2,
  readDr3,
  readDr6,
  vmread,
  vmwrite,
  writeDr0,
  writeDr1,
  writeDr2,
  writeDr3,
  writeDr6,
} from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { Proc } from "./control";
import { Field } from "./field";
import { setControls } from "./paging";

const DR7_ENABLES: u64 = 0xff; // L0..G3
const DR7_GD: u64 = 1 << 13;
const DR6_BREAKPOINTS: u64 = 0xf;
const DEBUGCTL_LBR_BTF: u64 = 3;

/** The guest touched a debug register, or has breakpoints: they go into the registers and stop exiting. */
export function loadDebug(vcpu: Vcpu): void {
  if (vcpu.debugLive) return;
  writeDr0(vcpu.dr0);
  writeDr1(vcpu.dr1);
  writeDr2(vcpu.dr2);
  writeDr3(vcpu.dr3);
  writeDr6(vcpu.dr6);
  vcpu.debugLive = 1;
  setControls(vcpu, vcpu.procControls & ~Proc.MOV_DR_EXITING);
}

/** Another vCPU takes the CPU: what the guest left in the registers goes back to its record. */
export function saveDebug(vcpu: Vcpu): void {
  if (!vcpu.debugLive) return;
  vcpu.dr0 = readDr0();
  vcpu.dr1 = readDr1();
  vcpu.dr2 = readDr2();
  vcpu.dr3 = readDr3();
  vcpu.dr6 = readDr6();
  vcpu.debugLive = 0;
}

/** The vCPU comes to a CPU, its VMCS current. */
export function restoreDebug(vcpu: Vcpu): void {
  if ((vmread(Field.GUEST_DR7) & DR7_ENABLES) != 0) loadDebug(vcpu);
  else setControls(vcpu, vcpu.procControls | Proc.MOV_DR_EXITING);
}

export function readGuestDr6(vcpu: Vcpu): u64 {
  return vcpu.debugLive ? readDr6() : vcpu.dr6;
}

export function writeGuestDr6(vcpu: Vcpu, value: u64): void {
  vcpu.dr6 = value;
  if (vcpu.debugLive) writeDr6(value);
}

/** #DB is delivered: DR6 gains `bits`, DR7.GD and IA32_DEBUGCTL.LBR and BTF are cleared. */
export function debugTrap(vcpu: Vcpu, bits: u64): void {
  writeGuestDr6(vcpu, (readGuestDr6(vcpu) & ~DR6_BREAKPOINTS) | bits);
  const dr7 = vmread(Field.GUEST_DR7);
  if ((dr7 & DR7_GD) != 0) vmwrite(Field.GUEST_DR7, dr7 & ~DR7_GD);
  const debugctl = vmread(Field.GUEST_DEBUGCTL);
  if ((debugctl & DEBUGCTL_LBR_BTF) != 0) vmwrite(Field.GUEST_DEBUGCTL, debugctl & ~DEBUGCTL_LBR_BTF);
}
