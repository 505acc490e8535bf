// Control registers: their bits, and what every CPU sets before it runs the core in earnest.
// Intel SDM Vol. 3, "Control Registers", "Extended Feature Enable Register", "Page Attribute Table (PAT)".

import { Feature, has } from "./feature";
import { readCr0, readCr4, wrmsr, writeCr0, writeCr4, xsetbv } from "./insn";
import { Msr } from "./msr";

export const CR0_PE: u64 = 1 << 0;
export const CR0_MP: u64 = 1 << 1;
export const CR0_EM: u64 = 1 << 2;
export const CR0_TS: u64 = 1 << 3;
export const CR0_ET: u64 = 1 << 4;
export const CR0_NE: u64 = 1 << 5;
export const CR0_WP: u64 = 1 << 16;
export const CR0_AM: u64 = 1 << 18;
export const CR0_NW: u64 = 1 << 29;
export const CR0_CD: u64 = 1 << 30;
export const CR0_PG: u64 = 1 << 31;

export const CR4_VME: u64 = 1 << 0;
export const CR4_PVI: u64 = 1 << 1;
export const CR4_TSD: u64 = 1 << 2;
export const CR4_DE: u64 = 1 << 3;
export const CR4_PSE: u64 = 1 << 4;
export const CR4_PAE: u64 = 1 << 5;
export const CR4_MCE: u64 = 1 << 6;
export const CR4_PGE: u64 = 1 << 7;
export const CR4_PCE: u64 = 1 << 8;
export const CR4_OSFXSR: u64 = 1 << 9;
export const CR4_OSXMMEXCPT: u64 = 1 << 10;
export const CR4_UMIP: u64 = 1 << 11;
export const CR4_LA57: u64 = 1 << 12;
export const CR4_VMXE: u64 = 1 << 13;
export const CR4_SMXE: u64 = 1 << 14;
export const CR4_FSGSBASE: u64 = 1 << 16;
export const CR4_PCIDE: u64 = 1 << 17;
export const CR4_OSXSAVE: u64 = 1 << 18;
export const CR4_SMEP: u64 = 1 << 20;
export const CR4_SMAP: u64 = 1 << 21;
export const CR4_PKE: u64 = 1 << 22;
export const CR4_CET: u64 = 1 << 23;
export const CR4_PKS: u64 = 1 << 24;

export const EFER_SCE: u64 = 1 << 0;
export const EFER_LME: u64 = 1 << 8;
export const EFER_LMA: u64 = 1 << 10;
export const EFER_NXE: u64 = 1 << 11;

export const RFLAGS_FIXED: u64 = 1 << 1;
export const RFLAGS_TF: u64 = 1 << 8;
export const RFLAGS_IF: u64 = 1 << 9;
export const RFLAGS_NT: u64 = 1 << 14;
export const RFLAGS_RF: u64 = 1 << 16;
export const RFLAGS_VM: u64 = 1 << 17;
export const RFLAGS_AC: u64 = 1 << 18;

export const XCR0_X87: u64 = 1 << 0;
export const XCR0_SSE: u64 = 1 << 1;
export const XCR0_AVX: u64 = 1 << 2;

/**
 * The host's IA32_PAT: entries 0 to 3 as at reset (WB, WT, UC-, UC), then WC, WP, UC-, UC. No mapping
 * that is in use when it is loaded refers to entries 4 and 5.
 */
export const HOST_PAT: u64 = 0x0007_0501_0007_0406;

/** A bit of CR4 and the feature without which it must stay clear. */
const CR4_ENTRIES: u32 = 8;
const cr4Bits: usize = memory.data<u32>([
  Feature.MCE,
  6,
  Feature.PGE,
  7,
  Feature.FXSR,
  9,
  Feature.SSE,
  10,
  Feature.UMIP,
  11,
  Feature.SMEP,
  20,
  Feature.SMAP,
  21,
  Feature.DE,
  3,
]);

/**
 * Whether the host sets CR4.OSXSAVE. Only vCPUs have state that XSAVE keeps, so a processor without VMX does not
 * need it; QEMU refuses the bit on models that have XSAVE and none of its extensions (CPUID leaf 0DH, sub-leaf 1),
 * and its refusal is a loop at MOV to CR4 where a processor would give #GP.
 */
function usesXsave(): bool {
  return has(Feature.XSAVE) && has(Feature.VMX);
}

/** CR4 of the host: everything of the table that all CPUs have. LASS stays 0: linear memory is in the low half. */
export function hostCr4(): u64 {
  let cr4 = usesXsave() ? CR4_PAE | CR4_OSXSAVE : CR4_PAE;
  for (let i: u32 = 0; i < CR4_ENTRIES; i++) {
    const at = cr4Bits + ((<usize>i) << 3);
    if (has(<Feature>load<u32>(at))) cr4 |= (<u64>1) << load<u32>(at, 4);
  }
  return cr4;
}

/** CR0 of the host. TS and EM are clear: the core moves vector state, and never computes with it. */
export const HOST_CR0: u64 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;

/**
 * Sets this CPU's control registers for the core, on its final page tables. Changing CR4.PGE drops all
 * translations, global ones of the boot tables included.
 */
export function setControls(): void {
  writeCr0((readCr0() & ~(CR0_TS | CR0_EM | CR0_CD | CR0_NW | CR0_AM)) | HOST_CR0);
  writeCr4((readCr4() & CR4_VMXE) | (hostCr4() & ~CR4_PGE));
  writeCr4((readCr4() & CR4_VMXE) | hostCr4());
  if (has(Feature.PAT)) wrmsr(Msr.IA32_PAT, HOST_PAT);
  if (usesXsave()) xsetbv(0, XCR0_X87);
}
