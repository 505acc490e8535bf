import fc from "fast-check";
import { expect, test } from "vitest";
import { machine } from "../../fake/machine.ts";

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const m = await machine({ entries: ["kernel/lib/bits.ts", "kernel/lib/bitmap.ts", "test/unit/lib/lib.as.ts"] });
const k = m.kernel;

test("alignment rounds to powers of two", () => {
  fc.assert(
    fc.property(u64, fc.integer({ min: 0, max: 40 }), (value, shift) => {
      const unit = 1n << BigInt(shift);
      expect(k.alignDown(value, unit)).toBe(value - (value % unit));
      expect(k.alignUp(value, unit)).toBe(BigInt.asUintN(64, ((value + unit - 1n) / unit) * unit));
      expect(k.isAligned(value, unit)).toBe(value % unit === 0n ? 1 : 0);
    }),
  );
});

test("fitsBelow is right at both ends of the space", () => {
  fc.assert(
    fc.property(u64, u64, u64, (base, bytes, limit) => {
      expect(k.fitsBelow(base, bytes, limit)).toBe(base + bytes <= limit ? 1 : 0);
    }),
  );
  expect(k.fitsBelow((1n << 64n) - 1n, 2n, 10n)).toBe(0);
});

test("masks of 0 to 64 bits", () => {
  for (let n = 0; n <= 65; n++) expect(k.lowMask(n)).toBe((1n << BigInt(Math.min(n, 64))) - 1n);
});

test("a bitmap is a set", () => {
  const at = k.map;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(299), fc.boolean())), fc.integer({ min: 1, max: 300 }), (changes, limit) => {
      for (let i = 0; i < 40; i += 8) m.view.setBigUint64(at + i, 0n, true);
      const model = new Set<number>();
      for (const [bit, on] of changes) {
        if (on) model.add(bit);
        else model.delete(bit);
        if (on) k.setBit(at, bit);
        else k.clearBit(at, bit);
      }
      for (let i = 0; i < 300; i++) expect(k.testBit(at, i)).toBe(model.has(i) ? 1 : 0);
      const first = [...model].filter((bit) => bit < limit).sort((x, y) => x - y)[0];
      expect(k.firstSet(at, limit) | 0).toBe(first ?? -1);
    }),
    { numRuns: 30 },
  );
});
