// RDMSR and WRMSR: each MSR that a guest has, what it takes and what it refuses, and no other.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import { processors } from "../../fake/profiles/processors.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { enterLong, GUEST_EFER } from "./mode.ts";

const GP = 13;
const ALL = (1n << 64n) - 1n;
const NOT_CANONICAL = 0x8000_0000_0000n;

/** The value, or null for #GP. */
function* read(cpu: Vcpu, msr: number): Generator<GuestExit, bigint | null, void> {
  cpu.set(R.RCX, msr);
  cpu.set(R.RAX, ALL);
  cpu.set(R.RDX, ALL);
  const rip = cpu.rip;
  yield instruction(EXIT.RDMSR, 2);
  if (cpu.injected) {
    expect([cpu.injected.vector, cpu.injected.error, cpu.rip]).toEqual([GP, 0, rip]);
    return null;
  }
  expect([cpu.rip, cpu.get(R.RAX) >> 32n, cpu.get(R.RDX) >> 32n]).toEqual([rip + 2n, 0n, 0n]);
  return (cpu.get(R.RDX) << 32n) | cpu.get(R.RAX);
}

/** False for #GP. */
function* write(cpu: Vcpu, msr: number, value: bigint): Generator<GuestExit, boolean, void> {
  const rip = cpu.rip;
  yield wrmsr(cpu, msr, value);
  if (cpu.injected) expect([cpu.injected.vector, cpu.injected.error, cpu.rip]).toEqual([GP, 0, rip]);
  else expect(cpu.rip).toBe(rip + 2n);
  return cpu.injected === null;
}

/** MSR; values that are taken and read back as they are (or as the second of a pair); values that take #GP. */
type Row = [name: string, msr: number, taken: (bigint | [bigint, bigint])[], refused: bigint[]];

// biome-ignore format: a table
const ROWS: Row[] = [
  ["IA32_PLATFORM_ID", 0x17, [], [0n]],
  ["EBL_CR_POWERON", 0x2a, [[1n, 0n]], []],
  ["IA32_FEATURE_CONTROL", 0x3a, [], [0n, 1n, 5n]],
  ["IA32_TSC_ADJUST", 0x3b, [0x1234n, ALL, 0n], []],
  ["IA32_BIOS_SIGN_ID", 0x8b, [[0n, 0x28n << 32n]], []], // the host's
  ["MSR_PLATFORM_INFO", 0xce, [], [0n]],
  ["IA32_MTRRCAP", 0xfe, [], [0n]],
  ["IA32_SYSENTER_CS", 0x174, [0x10n, 0xffffn], []],
  ["IA32_SYSENTER_ESP", 0x175, [0x7fff_ffff_ffffn, 0xffff_8000_0000_0000n], [NOT_CANONICAL]],
  ["IA32_SYSENTER_EIP", 0x176, [0x1000n, 0xffff_ffff_8000_0000n], [NOT_CANONICAL, 1n << 63n]],
  ["IA32_MCG_CAP", 0x179, [], [0n]],
  ["IA32_MCG_STATUS", 0x17a, [0n], [4n]],
  ["IA32_DEBUGCTL", 0x1d9, [2n, 0n, [3n, 2n]], [0x40n, 0x80n, 1n << 20n]],
  ["IA32_MTRR_PHYSBASE0", 0x200, [0n, 0x8000_0006n], [0x2n, 0x3n, 0x7n, 0x106n, 1n << 60n]],
  ["IA32_MTRR_PHYSMASK0", 0x201, [0n, 0xf_8000_0800n], [1n, 0x400n, 1n << 60n]],
  ["IA32_MTRR_PHYSMASK7", 0x20f, [0n, 0x800n], [0x7ffn]],
  ["IA32_MTRR_FIX64K_00000", 0x250, [0x0606_0606_0606_0606n, 0x0504_0100_0606_0000n], [0x0206n, 0x07n << 56n]],
  ["IA32_MTRR_FIX16K_A0000", 0x259, [0n, 0x0101_0101_0101_0101n], [0x03n]],
  ["IA32_MTRR_FIX4K_F8000", 0x26f, [0x0606_0606_0606_0606n, 0n], [0x0800n]],
  ["IA32_PAT", 0x277, [0x0007_0406_0007_0406n, 0x0007_0106_0007_0406n], [0x2n, 0x3n << 32n, 0x8n << 56n]],
  ["IA32_MTRR_DEF_TYPE", 0x2ff, [0xc06n, 0x800n, 0n], [0x2n, 0x1000n, 1n << 63n]],
  ["IA32_MC0_CTL", 0x400, [0n, ALL], [1n]],
  ["IA32_MC0_STATUS", 0x401, [0n], [1n]],
  ["IA32_MC3_ADDR", 0x40e, [0x1234n, 0n], []],
  ["IA32_EFER", 0xc000_0080, [[0x501n, 0x501n], [0xd01n, 0xd01n], [0xd00n, 0xd00n]], [0x1n, 0xc00n, 0x1d00n, 0xd02n, 1n << 63n]],
  ["IA32_STAR", 0xc000_0081, [0x0013_0008_0000_0000n, 0n], []],
  ["IA32_LSTAR", 0xc000_0082, [0xffff_ffff_8100_0000n], [NOT_CANONICAL]],
  ["IA32_CSTAR", 0xc000_0083, [0x1000n], [NOT_CANONICAL]],
  ["IA32_FMASK", 0xc000_0084, [0x4_7700n], []],
  ["IA32_FS_BASE", 0xc000_0100, [0x7fff_0000_0000n, 0n], [NOT_CANONICAL]],
  ["IA32_GS_BASE", 0xc000_0101, [0xffff_8880_0000_0000n, 0n], [NOT_CANONICAL]],
  ["IA32_KERNEL_GS_BASE", 0xc000_0102, [0xffff_8880_0000_0000n, 0n], [NOT_CANONICAL]],
  ["IA32_TSC_AUX", 0xc000_0103, [0n, 0xffff_ffffn], [1n << 32n]],
];

test("what is written reads back, and what is reserved takes #GP and changes nothing", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [name, msr, taken, refused] of ROWS) {
      expect([name, (yield* read(cpu, msr)) !== null]).toEqual([name, true]);
      for (const value of taken) {
        const [give, back] = typeof value === "bigint" ? [value, value] : value;
        expect([name, give, yield* write(cpu, msr, give)]).toEqual([name, give, true]);
        expect([name, give, yield* read(cpu, msr)]).toEqual([name, give, back]);
      }
      const before = yield* read(cpu, msr);
      for (const value of refused) {
        expect([name, value, yield* write(cpu, msr, value)]).toEqual([name, value, false]);
        expect([name, value, yield* read(cpu, msr)]).toEqual([name, value, before]);
      }
    }
    expect(cpu.read(GUEST_EFER)).toBe(0xd00n);
  });
});

test("segment bases, SYSENTER and PAT are the guest's own registers", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [msr, field] of [
      [0xc000_0100, 0x680e],
      [0xc000_0101, 0x6810],
      [0x175, 0x6824],
      [0x176, 0x6826],
    ] as const) {
      expect(yield* write(cpu, msr, 0x7654_3210n)).toBe(true);
      expect(cpu.read(field)).toBe(0x7654_3210n);
    }
    expect(yield* write(cpu, 0x277, 0x0606_0606_0606_0606n)).toBe(true);
    expect(cpu.read(0x2804)).toBe(0x0606_0606_0606_0606n);
  });
});

test("the time-stamp counter: writing it moves IA32_TSC_ADJUST by as much, and the other way round", async () => {
  await guest(function* (cpu) {
    expect(yield* write(cpu, 0x10, 1n << 50n)).toBe(true);
    const now = (yield* read(cpu, 0x10)) as bigint;
    expect(now - (1n << 50n)).toBeLessThan(1_000_000n);
    const adjust = (yield* read(cpu, 0x3b)) as bigint;
    expect(adjust).not.toBe(0n);
    expect(yield* write(cpu, 0x3b, 0n)).toBe(true);
    expect((yield* read(cpu, 0x10)) as bigint).toBeLessThan(1n << 50n);
    expect(BigInt.asIntN(64, ((yield* read(cpu, 0x10)) as bigint) + adjust - (1n << 50n))).toBeLessThan(1_000_000n);
  });
});

test("LME cannot change under paging, nor LMA at all", async () => {
  await guest(function* (cpu) {
    expect(yield* write(cpu, 0xc000_0080, 0x100n)).toBe(true);
    expect(yield* read(cpu, 0xc000_0080)).toBe(0x100n);
    expect(yield* write(cpu, 0xc000_0080, 0x500n)).toBe(true); // LMA is ignored
    expect(yield* read(cpu, 0xc000_0080)).toBe(0x100n);
    expect(yield* write(cpu, 0xc000_0080, 0n)).toBe(true);
  });
});

test("x2APIC registers exist in x2APIC mode only, and all of 800H to 8FFH is refused before", async () => {
  await guest(function* (cpu) {
    for (let msr = 0x800; msr < 0x900; msr++) {
      expect([msr, yield* read(cpu, msr)]).toEqual([msr, null]);
      expect([msr, yield* write(cpu, msr, 0n)]).toEqual([msr, false]);
    }
    expect(yield* write(cpu, 0x1b, 0xfee0_0c00n)).toBe(true);
    expect(yield* read(cpu, 0x802)).toBe(0n);
    expect(yield* read(cpu, 0x803)).toBeGreaterThan(0n);
    expect(yield* write(cpu, 0x80b, 1n)).toBe(false); // EOI takes 0 alone
    expect(yield* write(cpu, 0x80b, 0n)).toBe(true);
    expect(yield* read(cpu, 0x80b)).toBe(null); // write-only
    expect(yield* write(cpu, 0x802, 0n)).toBe(false); // read-only
    expect(yield* read(cpu, 0x80e)).toBe(null); // DFR does not exist
  });
});

const isUnrestricted = (cpu: Vcpu) => (cpu.read(F.PROCESSOR_CONTROLS_2) & 0x80n) !== 0n;

/** MSRs that a guest may at least read, whatever the processor. */
const EVERYWHERE = [
  0x10, 0x1b, 0x3a, 0x3b, 0x8b, 0xfe, 0x174, 0x179, 0x1a0, 0x277, 0x2ff, 0x400, 0xc000_0080, 0xc000_0100,
];

test.each(processors.map((profile) => [profile.name, profile] as const))(
  "%s: every MSR number is answered or refused, and nothing of the host's shows",
  async (_name, profile) => {
    await guest(
      function* (cpu) {
        if (isUnrestricted(cpu)) enterLong(cpu); // else the core goes there with the guest, not behind its back
        const there: number[] = [];
        for (const [first, last] of [
          [0, 0x1000],
          [0xc000_0000, 0xc000_0200],
          [0x4b56_4d00, 0x4b56_4d08],
        ]) {
          for (let msr = first; msr < last; msr++) {
            const value = yield* read(cpu, msr);
            if (value === null) continue;
            there.push(msr);
            // What reads back must be acceptable again, or be read-only: never a fault of the host.
            yield* write(cpu, msr, value);
          }
        }
        expect(EVERYWHERE.filter((msr) => !there.includes(msr))).toEqual([]);
        for (let msr = 0x480; msr <= 0x493; msr++) expect(there).not.toContain(msr); // VMX
      },
      { profile },
    );
  },
);
