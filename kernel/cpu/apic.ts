// The processor's own interrupt controller, as registers: xAPIC (memory-mapped) or x2APIC (MSRs),
// whichever is on. Here because panics, TLB shootdowns and kicks send IPIs from low layers;
// drivers/lapic.ts decides the mode and sets the vectors up.
// Intel SDM Vol. 3, "Advanced Programmable Interrupt Controller (APIC)".

import { cpuid, deviceload32, devicestore32, mfence, pause, rdmsr, rdmsrSafe, wrmsr } from "./insn";

export const IA32_APIC_BASE: u32 = 0x1b;
export const IA32_TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_MSR_BASE: u32 = 0x800;

/** Bits of IA32_APIC_BASE. */
export const APIC_BASE_BSP: u64 = 1 << 8;
export const APIC_BASE_EXTD: u64 = 1 << 10;
export const APIC_BASE_EN: u64 = 1 << 11;
export const APIC_BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/** Register offsets of the xAPIC; an x2APIC MSR is 800H + offset / 16. */
export const enum Reg {
  ID = 0x020,
  VERSION = 0x030,
  TPR = 0x080,
  EOI = 0x0b0,
  LDR = 0x0d0,
  DFR = 0x0e0, // xAPIC only
  SVR = 0x0f0,
  ISR = 0x100, // 8 registers, 10H apart
  TMR = 0x180,
  IRR = 0x200,
  ESR = 0x280,
  LVT_CMCI = 0x2f0,
  ICR_LOW = 0x300, // x2APIC: one 64-bit register
  ICR_HIGH = 0x310, // xAPIC only
  LVT_TIMER = 0x320,
  LVT_THERMAL = 0x330,
  LVT_PMI = 0x340,
  LVT_LINT0 = 0x350,
  LVT_LINT1 = 0x360,
  LVT_ERROR = 0x370,
  INITIAL_COUNT = 0x380,
  CURRENT_COUNT = 0x390,
  DIVIDE = 0x3e0,
  SELF_IPI = 0x3f0, // x2APIC only
}

/** Fields of the interrupt command register. */
export const enum Icr {
  FIXED = 0x00000,
  NMI = 0x00400,
  INIT = 0x00500,
  STARTUP = 0x00600,
  PENDING = 0x01000, // xAPIC: delivery status
  ASSERT = 0x04000,
  LEVEL = 0x08000,
  ALL_BUT_SELF = 0xc0000,
}

/** Delivery status clears within microseconds; a machine that needs more than this many polls is broken. */
const ICR_POLLS: u32 = 100_000;

let base: u64 = 0; // written at boot: physical address of the xAPIC page
let isX2: bool = false; // written at boot

/** Says where the registers are. Boot only; every CPU runs in the same mode. */
export function setMode(x2apic: bool, basePa: u64): void {
  isX2 = x2apic;
  base = basePa;
}

export function isX2apic(): bool {
  return isX2;
}

/** IA32_APIC_BASE of this CPU. */
export function readBase(): u64 {
  return rdmsr(IA32_APIC_BASE);
}

/** #GP on a transition that the manual does not allow. Intel SDM Vol. 3, "x2APIC State Transitions". */
export function writeBase(value: u64): void {
  wrmsr(IA32_APIC_BASE, value);
}

const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
const XAPIC_DISABLE: u64 = 1 << 21; // of IA32_ARCH_CAPABILITIES: the status MSR is there
const IA32_XAPIC_DISABLE_STATUS: u32 = 0xbd;

/** Whether firmware has locked x2APIC mode on. `scratch`: 8 bytes. */
export function isX2apicLocked(scratch: usize): bool {
  if (!rdmsrSafe(IA32_ARCH_CAPABILITIES, scratch)) return false;
  if (!(load<u64>(scratch) & XAPIC_DISABLE)) return false;
  return rdmsrSafe(IA32_XAPIC_DISABLE_STATUS, scratch) != 0 && (load<u64>(scratch) & 1) != 0;
}

/** Whether setMode() has run: before that there is no IPI. */
export function isReady(): bool {
  return isX2 || base != 0;
}

export function read(register: Reg): u32 {
  if (isX2) return <u32>rdmsr(X2APIC_MSR_BASE + (<u32>register >> 4));
  return deviceload32(base + <u64>register);
}

export function write(register: Reg, value: u32): void {
  if (isX2) wrmsr(X2APIC_MSR_BASE + (<u32>register >> 4), value);
  else devicestore32(base + <u64>register, value);
}

export function eoi(): void {
  write(Reg.EOI, 0);
}

/** Orders earlier register writes before what follows: MFENCE for the memory-mapped registers. */
export function fence(): void {
  if (!isX2) mfence();
}

/** This CPU's APIC ID as the controller knows it. */
export function ownId(): u32 {
  return isX2 ? read(Reg.ID) : read(Reg.ID) >> 24;
}

/** This CPU's initial APIC ID by CPUID: leaf 0BH if it is there, else leaf 1. `scratch`: 16 bytes. */
export function idByCpuid(scratch: usize): u32 {
  cpuid(0, 0, scratch);
  if (load<u32>(scratch) >= 0xb) {
    cpuid(0xb, 0, scratch);
    if (load<u32>(scratch, 4) != 0) return load<u32>(scratch, 12);
  }
  cpuid(1, 0, scratch);
  return load<u32>(scratch, 4) >> 24;
}

/** Sends an IPI: `command` is Icr bits and a vector; `destination` an APIC ID. Ignored before setMode(). */
export function send(command: u32, destination: u32): void {
  if (!isReady()) return;
  if (isX2) {
    // WRMSR to the x2APIC does not order earlier stores: what the target is to see must be out first.
    mfence();
    wrmsr(X2APIC_MSR_BASE + (<u32>Reg.ICR_LOW >> 4), ((<u64>destination) << 32) | command);
    return;
  }
  waitIdle();
  devicestore32(base + <u64>Reg.ICR_HIGH, destination << 24);
  devicestore32(base + <u64>Reg.ICR_LOW, command);
}

/** Sends a fixed interrupt to one CPU. */
export function sendFixed(vector: u32, destination: u32): void {
  send(<u32>Icr.FIXED | <u32>Icr.ASSERT | vector, destination);
}

/** Sends an NMI to one CPU. */
export function sendNmi(destination: u32): void {
  send(<u32>Icr.NMI | <u32>Icr.ASSERT, destination);
}

/** Sends an NMI to every other CPU: how a fatal fault stops the machine. */
export function sendNmiToOthers(): void {
  send(<u32>Icr.NMI | <u32>Icr.ASSERT | <u32>Icr.ALL_BUT_SELF, 0);
}

export function sendInit(destination: u32): void {
  send(<u32>Icr.INIT | <u32>Icr.ASSERT | <u32>Icr.LEVEL, destination);
}

/** Starts a CPU that got an INIT at physical `page` * 4096. */
export function sendStartup(page: u32, destination: u32): void {
  send(<u32>Icr.STARTUP | <u32>Icr.ASSERT | page, destination);
}

/**
 * Until the last interrupt has left.
 * @repeats at most ICR_POLLS times
 */
function waitIdle(): void {
  for (let i: u32 = 0; i < ICR_POLLS; i++) {
    if (!(deviceload32(base + <u64>Reg.ICR_LOW) & <u32>Icr.PENDING)) return;
    pause();
  }
}
