// The MSRs that a simulated CPU models beyond constants: what a write must satisfy and what it changes.
// Everything else is as the profile says, and read-only. Intel SDM Vol. 4; Vol. 3 for the reserved bits.

import type { Cpu } from "./cpu.ts";
import { GeneralProtection, hex } from "./faults.ts";
import { isCanonical } from "./paging.ts";

export interface MsrModel {
  read(cpu: Cpu): bigint;
  write(cpu: Cpu, value: bigint): void;
}

const EFER_LMA = 1n << 10n;

/** A plain cell; `check` refuses values that the processor refuses. */
function cell(reset: bigint, check: (value: bigint, cpu: Cpu) => boolean = () => true): (msr: number) => MsrModel {
  return (msr) => ({
    read: (cpu) => cpu.cells.get(msr) ?? cpu.profile.msrs[msr.toString(16)] ?? reset,
    write(cpu, value) {
      if (!check(value, cpu)) throw new GeneralProtection(`WRMSR ${hex(msr)} = ${hex(value)}`);
      cpu.cells.set(msr, value);
    },
  });
}

const canonical = (value: bigint) => isCanonical(value);
const memoryType = (value: bigint) => [0n, 1n, 4n, 5n, 6n].includes(value);

function patIsValid(value: bigint): boolean {
  for (let i = 0n; i < 64n; i += 8n) {
    const type = (value >> i) & 0xffn;
    if (!memoryType(type) && type !== 7n) return false;
  }
  return true;
}

const physical = (cpu: Cpu, value: bigint) => value >> BigInt(cpu.physBits) === 0n;

const MODELS: [msrs: number[], make: (msr: number) => MsrModel][] = [
  [
    [0x10],
    () => ({
      read: (c) => c.tsc,
      write: (c, v) => {
        c.tscOffset = v - BigInt(Math.floor(c.machine.clock.ticks));
      },
    }),
  ],
  [[0x1b], () => ({ read: (c) => c.lapic.base, write: (c, v) => c.lapic.writeBase(v) })],
  // IA32_FEATURE_CONTROL: once locked, it stays.
  [[0x3a], cell(0n, (v, c) => !(c.rdmsr(0x3a) & 1n) && v >> 21n === 0n)],
  [[0x3b], cell(0n)], // IA32_TSC_ADJUST
  [[0x48], cell(0n, (v) => v >> 11n === 0n)], // IA32_SPEC_CTRL
  [[0x49, 0x10b], () => ({ read: fail, write: () => undefined })], // IA32_PRED_CMD, IA32_FLUSH_CMD: write only
  [[0x9b], cell(0n)],
  [[0x122], cell(0n)], // IA32_TSX_CTRL
  [[0x174], cell(0n)],
  [[0x175, 0x176], cell(0n, canonical)],
  [[0x17a], cell(0n)],
  [[0x1a0], cell(1n)], // IA32_MISC_ENABLE
  [[0x1d9], cell(0n)], // IA32_DEBUGCTL
  [[0x277], cell(0x0007_0406_0007_0406n, patIsValid)],
  [[0x2ff], cell(0n, (v) => memoryType(v & 0xffn) && (v & ~0xcffn) === 0n)], // IA32_MTRR_DEF_TYPE
  [
    [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f],
    cell(0x0606_0606_0606_0606n, patIsValid),
  ],
  [range(0x200, 10, 2), cell(0n, (v, c) => memoryType(v & 0xffn) && physical(c, v))], // IA32_MTRR_PHYSBASEn
  [range(0x201, 10, 2), cell(0n, (v, c) => physical(c, v))], // IA32_MTRR_PHYSMASKn
  [
    [0x6e0],
    () => ({
      read: (c) => c.lapic.tscDeadline,
      write: (c, v) => {
        c.lapic.tscDeadline = v;
      },
    }),
  ],
  [range(0x800, 0x100, 1), (msr) => ({ read: (c) => c.lapic.readMsr(msr), write: (c, v) => c.lapic.writeMsr(msr, v) })],
  [[0xda0], cell(0n)], // IA32_XSS
  [[0xc0000080], () => ({ read: (c) => c.efer, write: writeEfer })],
  [[0xc0000081, 0xc0000084], cell(0n)],
  [[0xc0000082, 0xc0000083], cell(0n, canonical)],
  [[0xc0000100], cell(0n, canonical)],
  [
    [0xc0000101],
    () => ({
      read: (c) => c.gsBase,
      write: (c, v) => {
        if (!isCanonical(v)) throw new GeneralProtection("GS base");
        c.gsBase = v;
      },
    }),
  ],
  [[0xc0000102], cell(0n, canonical)],
  [[0xc0000103], cell(0n, (v) => v >> 32n === 0n)], // IA32_TSC_AUX
];

function fail(): never {
  throw new GeneralProtection("RDMSR of a write-only MSR");
}

function writeEfer(cpu: Cpu, value: bigint): void {
  if (value & ~(0xd01n | EFER_LMA)) throw new GeneralProtection(`IA32_EFER = ${hex(value)}`);
  if ((value ^ cpu.efer) & 0x100n && cpu.cr0 >> 31n)
    throw new GeneralProtection("IA32_EFER.LME changed with paging on");
  const nxChanged = (value ^ cpu.efer) & 0x800n;
  cpu.efer = (value & ~EFER_LMA) | (cpu.efer & EFER_LMA);
  if (nxChanged) cpu.tlb.flushAll();
}

function range(first: number, count: number, step: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i * step);
}

const byNumber = new Map<number, MsrModel>();
for (const [msrs, make] of MODELS) for (const msr of msrs) byNumber.set(msr, make(msr));

/** The model of `msr` if it is more than a constant of the profile. */
export function msrModel(msr: number): MsrModel | undefined {
  return byNumber.get(msr);
}
