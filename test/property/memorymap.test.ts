// Memory maps as bad firmware writes them: overlapping, unsorted, absurd. Whatever the map says, the core
// either comes to own its memory or refuses in one line, and nothing that is not usable is handed out.

import fc from "fast-check";
import { expect, test } from "vitest";
import { logLines } from "../fake/log.ts";
import { machine } from "../fake/machine.ts";
import { INFO, MAGIC1, multiboot1, type Range } from "../unit/drivers/multiboot.ts";

const ENTRIES = [
  "kernel/boot/memory.ts",
  "drivers/bootload.ts",
  "drivers/bootinfo.ts",
  "kernel/mm/frame.ts",
  "kernel/mm/block.ts",
  "kernel/cpu/percpu.ts",
  "kernel/cpu/feature.ts",
];
const MIB = 1024 * 1024;
const USABLE = 1;
const FREE = 1;
const FRAME = 4096n;
const PHYSICAL_BITS = 40;

const cpuid = { 2147483656: { eax: 0x3000 + PHYSICAL_BITS } }; // leaf 80000008H

const address = fc.oneof(
  fc.bigInt({ min: 0n, max: 600n * BigInt(MIB) }),
  fc.bigInt({ min: 0n, max: 1n << 47n }),
  fc.constantFrom(
    0n,
    0x9fc00n,
    0x10_0000n,
    0x20_0000n,
    1n << 32n,
    (1n << 44n) - 4096n,
    (1n << 64n) - 4096n,
    (1n << 64n) - 1n,
  ),
);
const bytes = fc.oneof(
  fc.bigInt({ min: 0n, max: 64n * BigInt(MIB) }),
  fc.bigInt({ min: 0n, max: 1n << 46n }),
  fc.constantFrom(0n, 1n, 4096n, (1n << 64n) - 1n),
);
const range: fc.Arbitrary<Range> = fc.record({ base: address, bytes, type: fc.integer({ min: 0, max: 6 }) });
/** What every machine has, so that most maps can be used. */
const PC: Range[] = [{ base: 0x10_0000n, bytes: 511n * BigInt(MIB), type: USABLE }];

function covers(r: Range, pa: bigint): boolean {
  return pa + FRAME > r.base && pa < r.base + r.bytes;
}

/** Addresses in it that every plausible map is asked for. */
const PROBES = [0x100_0000n, 0x800_0000n, 0x1000_0000n, 0x1f00_0000n];

let checked = 0;

test("memory that the map lists and nothing answers for is passed over", async () => {
  const m = await machine({ entries: ENTRIES, paging: "boot", memory: 512 * MIB, cpuid });
  m.ram.load(INFO, multiboot1({ ranges: [{ base: 0x1fe0_0001n, bytes: 0x3f_ffffn, type: USABLE }] }));
  m.kernel.initBlock(0, 0);
  m.kernel.detectFeatures(m.kernel.scratch());
  expect(m.kernel.readBootInfo(MAGIC1, BigInt(INFO))).toBe(0);
  expect(m.kernel.startMemory()).not.toBe(0);
  expect(logLines(m).join("\n")).toContain("too little memory");
});

test("no frame is handed out that any range of the map denies", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(range, { maxLength: 24 }),
      fc.boolean(),
      fc.array(address, { maxLength: 20 }),
      async (odd, plausible, probes) => {
        const ranges = plausible ? [...odd, ...PC] : odd;
        const m = await machine({ entries: ENTRIES, paging: "boot", memory: 512 * MIB, cpuid, callLimit: 3_000_000 });
        const k = m.kernel;
        m.ram.load(INFO, multiboot1({ ranges }));
        k.initBlock(0, 0);
        k.detectFeatures(k.scratch());
        if (k.readBootInfo(MAGIC1, BigInt(INFO)) !== 0 || k.startMemory() !== 0) {
          expect(logLines(m).length).toBeGreaterThan(0);
          return;
        }
        expect(m.mappings().filter((p) => p.writable && p.executable)).toEqual([]);
        for (const probe of [
          ...PROBES,
          ...probes,
          ...ranges.map((r) => r.base),
          ...ranges.map((r) => r.base + r.bytes),
        ]) {
          const pa = BigInt.asUintN(47, probe) & ~(FRAME - 1n);
          if (k.ownerOf(pa) !== FREE) continue;
          checked++;
          expect(pa >= BigInt(MIB) && pa < 1n << BigInt(PHYSICAL_BITS)).toBe(true);
          expect(ranges.some((r) => r.type === USABLE && covers(r, pa))).toBe(true);
          expect(ranges.some((r) => r.type !== USABLE && r.bytes > 0n && covers(r, pa))).toBe(false);
        }
      },
    ),
    { numRuns: 60 },
  );
  expect(checked).toBeGreaterThan(20);
});
