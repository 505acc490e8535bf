// Memory types from the MTRRs of typical and of odd firmware.

import { expect, test } from "vitest";
import { type Machine, machine } from "../../fake/machine.ts";
import { generic } from "../../fake/profiles/generic.ts";
import { withCpuid } from "../../fake/profiles/profile.ts";

const [UC, WC, WT, WP, WB, MIXED] = [0, 1, 4, 5, 6, 0xff];
const GIB = 1n << 30n;
const MASK = (bytes: bigint) => ((1n << 46n) - bytes) | 0x800n;

interface Mtrrs {
  def: bigint;
  ranges?: [base: bigint, bytes: bigint, type: number][];
  fixed?: Record<number, bigint>;
}

async function detected(mtrrs: Mtrrs, profile = generic): Promise<Machine> {
  const m = await machine({ entries: ["kernel/mm/memtype.ts", "kernel/cpu/feature.ts"], profile });
  m.kernel.detectFeatures(0x30000);
  const cells = m.current.cells;
  cells.set(0x2ff, mtrrs.def);
  for (const [i, [base, bytes, type]] of (mtrrs.ranges ?? []).entries()) {
    cells.set(0x200 + 2 * i, base | BigInt(type));
    cells.set(0x201 + 2 * i, MASK(bytes));
  }
  for (const [msr, value] of Object.entries(mtrrs.fixed ?? {})) cells.set(Number(msr), value);
  m.kernel.detectMemoryTypes();
  return m;
}

test("write-back memory with an uncacheable hole below 4 GiB, as most firmware sets it", async () => {
  const m = await detected({
    def: 0xc06n,
    ranges: [[3n * GIB, GIB, UC]],
    fixed: { 592: 0x0606060606060606n, 600: 0x0606060606060606n, 601: 0n },
  });
  expect(m.kernel.typeOf(0x1000n)).toBe(WB);
  expect(m.kernel.typeOf(0xa0000n)).toBe(UC); // the screen
  expect(m.kernel.typeOf(0xfee00000n)).toBe(UC);
  expect(m.kernel.typeOf(4n * GIB)).toBe(WB);
  expect(m.kernel.uniformType(2n * GIB, 30)).toBe(WB);
  expect(m.kernel.uniformType(3n * GIB, 30)).toBe(UC);
  expect(m.kernel.uniformType(0n, 30)).toBe(MIXED);
  expect(m.kernel.uniformType(0n, 21)).toBe(MIXED);
  expect(m.kernel.uniformType(0x200000n, 21)).toBe(WB);
  expect(m.kernel.uniformType(0xa0000n, 12)).toBe(UC);
});

test("uncacheable by default with write-back ranges; a range that ends inside a page makes it mixed", async () => {
  const m = await detected({
    def: 0x800n,
    ranges: [
      [0n, 2n * GIB, WB],
      [2n * GIB, 1n << 20n, WT],
    ],
  });
  expect(m.kernel.typeOf(5n)).toBe(WB); // fixed ranges are not enabled
  expect(m.kernel.typeOf(2n * GIB)).toBe(WT);
  expect(m.kernel.typeOf(2n * GIB + (1n << 20n))).toBe(UC);
  expect(m.kernel.uniformType(2n * GIB, 21)).toBe(MIXED);
  expect(m.kernel.uniformType(2n * GIB, 12)).toBe(WT);
  expect(m.kernel.uniformType(GIB, 30)).toBe(WB);
});

test("where ranges overlap, UC wins, WT beats WB, and what is undefined is UC", async () => {
  const at = (n: bigint) => n * GIB;
  const m = await detected({
    def: 0x806n,
    ranges: [
      [at(1n), GIB, WB],
      [at(1n), GIB, UC],
      [at(2n), GIB, WB],
      [at(2n), GIB, WT],
      [at(3n), GIB, WC],
      [at(3n), GIB, WB],
      [at(5n), GIB, WP],
      [at(5n), GIB, WP],
    ],
  });
  expect([1n, 2n, 3n, 5n].map((n) => m.kernel.typeOf(at(n)))).toEqual([UC, WT, UC, WP]);
});

test("MTRRs that are switched off make all memory uncacheable; a processor without them is taken as write-back", async () => {
  expect((await detected({ def: 0x006n })).kernel.typeOf(GIB)).toBe(UC);
  const without = withCpuid(generic, { 1: { edx: (generic.cpuid["1"] as number[])[3] & ~(1 << 12) } });
  expect((await detected({ def: 0xc00n }, without)).kernel.typeOf(GIB)).toBe(WB);
});
