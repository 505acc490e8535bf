import { expect, test } from "vitest";
import { type MachineOptions, machine } from "../../fake/machine.ts";

const ENTRIES = ["kernel/cpu/control.ts", "kernel/cpu/feature.ts", "kernel/cpu/percpu.ts"];
const BIT = {
  DE: 3,
  PAE: 5,
  MCE: 6,
  PGE: 7,
  OSFXSR: 9,
  OSXMMEXCPT: 10,
  UMIP: 11,
  VMXE: 13,
  OSXSAVE: 18,
  SMEP: 20,
  SMAP: 21,
};

async function controls(options: MachineOptions = {}) {
  const m = await machine({ entries: ENTRIES, ...options });
  m.kernel.detectFeatures(m.kernel.scratch());
  m.kernel.setControls();
  return m;
}

function mask(...bits: number[]): bigint {
  return bits.reduce((all, bit) => all | (1n << BigInt(bit)), 0n);
}

test("every protection that the processor has is on", async () => {
  const m = await controls();
  const { DE, PAE, MCE, PGE, OSFXSR, OSXMMEXCPT, UMIP, OSXSAVE, SMEP, SMAP } = BIT;
  expect(m.current.cr4).toBe(mask(DE, PAE, MCE, PGE, OSFXSR, OSXMMEXCPT, UMIP, OSXSAVE, SMEP, SMAP));
  expect(m.current.cr0).toBe(0x8001_0033n); // PG WP NE ET MP PE
  expect(m.current.xcr0).toBe(1n);
  expect(m.current.rdmsr(0x277)).toBe(0x0007_0501_0007_0406n);
});

test("a bit of CR4 that the processor lacks stays clear", async () => {
  const m = await controls({ cpuid: { "7.0": { ebx: 0, ecx: 0 }, 1: { ecx: 0 } } });
  expect(m.current.cr4 & mask(BIT.SMEP, BIT.SMAP, BIT.UMIP, BIT.OSXSAVE)).toBe(0n);
  expect(m.counts.xsetbv).toBe(0);
});

test("VMXE survives, translations of the boot tables do not", async () => {
  const m = await machine({ entries: ENTRIES, paging: "boot" });
  m.kernel.detectFeatures(m.kernel.scratch());
  m.current.writeCr4(m.current.cr4 | mask(BIT.VMXE));
  m.translate(0xffff_b000_0000_0000n);
  m.kernel.setControls();
  expect(m.current.cr4 & mask(BIT.VMXE)).not.toBe(0n);
  expect(m.current.tlb.size).toBe(0);
});
