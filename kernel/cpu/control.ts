// Control registers: their bits, and what every CPU sets before it runs the core in earnest.
// Intel SDM Vol. 3, "Control Registers", "Extended Feature Enable Register", "Page Attribute Table (PAT)".

import { Feature, has } from "./feature";
import { readCr0, readCr4, wrmsr, writeCr0, writeCr4, xsetbv } from "./insn";
import { Msr } from "./msr";
import {
  CR0_AM,
  CR0_CD,
  CR0_EM,
  CR0_ET,
  CR0_MP,
  CR0_NE,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PGE,
  CR4_VMXE,
  XCR0_X87,
} from "./registerbits";

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
