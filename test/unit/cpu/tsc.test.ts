// The clock: ticks to nanoseconds and back for every frequency a processor can have.

import fc from "fast-check";
import { expect, test } from "vitest";
import { machine } from "../../fake/machine.ts";

const ENTRIES = ["kernel/cpu/tsc.ts"];
const M64 = (1n << 64n) - 1n;
const SCRATCH = 0x30_0000;

test("ticks become nanoseconds and nanoseconds ticks, to one unit, at any frequency and without overflow", async () => {
  const { kernel: k } = await machine({ entries: ENTRIES });
  fc.assert(
    fc.property(fc.bigInt(1_000n, 1_000_000_000n), fc.bigInt(0n, M64), (khz, value) => {
      expect(k.setKhz(khz)).toBe(0);
      const ns = (value * 1_000_000n) / khz;
      if (ns <= M64) {
        const got = k.toNanoseconds(value) as bigint;
        // The multiplier has 64 significant bits: the error is below one part in 2^63.
        expect(ns - got <= (ns >> 62n) + 1n && got <= ns).toBe(true);
      }
      const ticks = (value * khz) / 1_000_000n;
      if (ticks <= M64) {
        const got = k.fromNanoseconds(value) as bigint;
        expect(ticks - got <= (ticks >> 62n) + 1n && got <= ticks).toBe(true);
      }
    }),
    { numRuns: 1000 },
  );
});

test("frequencies that no processor has are refused and leave the clock as it was", async () => {
  const { kernel: k } = await machine({ entries: ENTRIES });
  expect(k.setKhz(2_000_000n)).toBe(0);
  for (const khz of [0n, 999n, 1_000_000_001n, M64]) expect(k.setKhz(khz)).toBe(3);
  expect(k.tscKhz()).toBe(2_000_000n);
  expect(k.toNanoseconds(2_000n)).toBe(1_000n);
});

test("before calibration nothing has lasted any time", async () => {
  const { kernel: k } = await machine({ entries: ENTRIES });
  expect(k.toNanoseconds(123456n)).toBe(0n);
});

test("leaf 15H with a crystal gives the exact frequency; without one it claims nothing", async () => {
  const with15 = (ecx: number) => ({
    0: { eax: 0x16 },
    21: { eax: 2, ebx: 292, ecx, edx: 0 },
    22: { eax: 3500, ebx: 0, ecx: 0, edx: 0 },
  });
  const exact = await machine({ entries: ENTRIES, cpuid: with15(24_000_000) });
  expect(exact.kernel.claimedKhz(SCRATCH)).toBe(3_504_000n);
  expect(exact.kernel.nominalKhz(SCRATCH)).toBe(3_500_000n);
  const none = await machine({ entries: ENTRIES, cpuid: with15(0) });
  expect(none.kernel.claimedKhz(SCRATCH)).toBe(0n);
  const absurd = await machine({
    entries: ENTRIES,
    cpuid: { 0: { eax: 0x15 }, 21: { eax: 1, ebx: 0xffff_ffff, ecx: 0xffff_ffff, edx: 0 } },
  });
  expect(absurd.kernel.claimedKhz(SCRATCH)).toBe(0n);
});

test("a CPU whose counter lags behind another's is found out, by how much", async () => {
  const m = await machine({ entries: ENTRIES, cpus: 2 });
  m.kernel.measureWarp(10);
  expect(m.kernel.warpTicks()).toBe(0n);
  m.clock.ticks += 5_000;
  m.kernel.measureWarp(1);
  m.clock.ticks -= 5_000;
  m.on(1, () => m.kernel.measureWarp(1));
  const warp = Number(m.kernel.warpTicks());
  expect(warp).toBeGreaterThan(4_900);
  expect(warp).toBeLessThanOrEqual(5_000);
});

test("delay spins for its time and counts it as waited", async () => {
  const m = await machine({ entries: ENTRIES });
  m.kernel.setKhz(1_000_000n);
  const before = m.clock.ticks;
  m.kernel.delay(100n);
  expect(m.clock.ticks - before).toBeGreaterThanOrEqual(100_000);
  expect(m.clock.ticks - before).toBeLessThan(101_000);
  expect(Number(m.kernel.waitedTicks())).toBeGreaterThanOrEqual(100_000);
});
