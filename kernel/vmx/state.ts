// What an exit leaves in the processor because the core never uses it: vector registers, XCR0, SYSCALL
// MSRs, debug registers, CR2. It is exchanged only when another vCPU takes the CPU. With every component
// that XCR0 could enable, so that nothing of one guest is left for the next.

import { fxrstor, fxsave, rdmsr, readCr2, wrmsr, writeCr2, xrstor, xsave, xsetbv } from "../cpu/insn";
import { virt } from "../vcpu/current";
import { Vcpu } from "../vcpu/vcpu";
import { hostXcr0, hasRdtscp } from "./hostfeature";
import { restoreDebug, saveDebug } from "./debug";
import { restoreNmi } from "./event";
import { separate } from "./speculation";

const IA32_STAR: u32 = 0xc000_0081;
const IA32_LSTAR: u32 = 0xc000_0082;
const IA32_CSTAR: u32 = 0xc000_0083;
const IA32_FMASK: u32 = 0xc000_0084;
const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;
const IA32_TSC_AUX: u32 = 0xc000_0103;

/** Brings `vcpu`'s state into the registers; what another vCPU left there is saved first. VMCS current. */
export function bringIn(vcpu: Vcpu): void {
  const mine = virt();
  if (mine.resident == changetype<usize>(vcpu)) return;
  mine.resident = changetype<usize>(vcpu);
  separate(vcpu.vm);
  restoreMsrs(vcpu);
  writeCr2(vcpu.cr2);
  restoreDebug(vcpu);
  restoreNmi(vcpu);
  restoreVector(vcpu);
}

/** Saves what `vcpu` has in the registers; its own address space is loaded. Nothing if it is not resident. */
export function takeOut(vcpu: Vcpu): void {
  const mine = virt();
  if (mine.resident != changetype<usize>(vcpu)) return;
  mine.resident = 0;
  saveVector(vcpu);
  saveDebug(vcpu);
  vcpu.cr2 = readCr2();
  saveMsrs(vcpu);
}

function saveMsrs(vcpu: Vcpu): void {
  vcpu.star = rdmsr(IA32_STAR);
  vcpu.lstar = rdmsr(IA32_LSTAR);
  vcpu.cstar = rdmsr(IA32_CSTAR);
  vcpu.fmask = rdmsr(IA32_FMASK);
  vcpu.kernelGsBase = rdmsr(IA32_KERNEL_GS_BASE);
}

function restoreMsrs(vcpu: Vcpu): void {
  wrmsr(IA32_STAR, vcpu.star);
  wrmsr(IA32_LSTAR, vcpu.lstar);
  wrmsr(IA32_CSTAR, vcpu.cstar);
  wrmsr(IA32_FMASK, vcpu.fmask);
  wrmsr(IA32_KERNEL_GS_BASE, vcpu.kernelGsBase);
  if (hasRdtscp()) wrmsr(IA32_TSC_AUX, vcpu.tscAux);
}

/** XCR0 is widened first: components that the guest has switched off keep their contents too. */
function saveVector(vcpu: Vcpu): void {
  const all = hostXcr0();
  if (!all) {
    fxsave(vcpu.xsaveArea);
    return;
  }
  if (vcpu.xcr0 != all) xsetbv(0, all);
  xsave(vcpu.xsaveArea, all);
}

function restoreVector(vcpu: Vcpu): void {
  const all = hostXcr0();
  if (!all) {
    fxrstor(vcpu.xsaveArea);
    return;
  }
  xsetbv(0, all);
  xrstor(vcpu.xsaveArea, all);
  if (vcpu.xcr0 != all) xsetbv(0, vcpu.xcr0);
}

/**
 * Copies the vector state of the vCPU whose VMCS is current, which goes on using its registers, to its save area; returns
 * where that is. loadVector() loads what the area holds.
 */
export function storeVector(vcpu: Vcpu): usize {
  saveVector(vcpu);
  const all = hostXcr0();
  if (vcpu.xcr0 != all && all != 0) xsetbv(0, vcpu.xcr0);
  return vcpu.xsaveArea;
}

export function loadVector(vcpu: Vcpu): void {
  restoreVector(vcpu);
}

/** XSETBV that the guest executed and the core allowed. */
export function setXcr0(vcpu: Vcpu, value: u64): void {
  vcpu.xcr0 = value;
  xsetbv(0, value);
}
