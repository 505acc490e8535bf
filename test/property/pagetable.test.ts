// Random sequences on the host's page tables against a plain list of pages.

import fc from "fast-check";
import { expect, test } from "vitest";
import { memory, Owner, Status } from "../unit/mm/fixture.ts";

const SIZES = [12, 21, 30];
// Few enough that calls meet: two PML4 entries, two PDPT entries, and neighbours below.
const VA = [0n, 1n, 511n, 512n, 513n, 0x3_ffffn, 0x4_0000n, 0x800_0000n].map(
  (page) => 0xffff_9000_0000_0000n + (page << 12n),
);

const op = fc.record({
  kind: fc.constantFrom("map", "map", "unmap", "mapRange", "unmapRange"),
  at: fc.nat(VA.length - 1),
  bits: fc.constantFrom(...SIZES),
  frame: fc.nat(3),
  pages: fc.integer({ min: 1, max: 1100 }),
});

interface Page {
  va: bigint;
  pa: bigint;
  bits: number;
}

test("the tables map exactly what was asked for, and every table that is not needed goes back", async () => {
  const m = await memory({ enter: true });
  const k = m.kernel;
  fc.assert(
    fc.property(fc.array(op, { minLength: 1, maxLength: 40 }), (ops) => {
      const root = k.allocFrame(Owner.TABLE);
      k.zeroFrame(root);
      const tables = k.ownedBytes(Owner.TABLE);
      let model: Page[] = [];
      const overlaps = (p: Page, q: Page) =>
        p.va < q.va + (1n << BigInt(q.bits)) && q.va < p.va + (1n << BigInt(p.bits));
      for (const o of ops) {
        const size = 1n << BigInt(o.bits);
        const va = VA[o.at] & ~(size - 1n);
        const pa = BigInt(o.frame) << 30n;
        if (o.kind === "map") {
          const page = { va, pa, bits: o.bits };
          const blocked = model.some((q) => overlaps(page, q)) || holdsTable(m, root, va, o.bits);
          const status = k.mapPage(root, va, pa, o.bits, 3n);
          expect(status).toBe(blocked ? Status.BUSY : Status.OK);
          if (!blocked) model.push(page);
        } else if (o.kind === "unmap") {
          const found = model.find((q) => q.va === va && q.bits === o.bits);
          const status = k.unmapPage(root, va, o.bits);
          expect(status).toBe(found ? Status.OK : Status.NOT_FOUND);
          model = model.filter((q) => q !== found);
        } else if (o.kind === "mapRange") {
          const before = snapshot(m, root);
          const bytes = BigInt(o.pages) << 12n;
          const status = k.mapRange(root, VA[o.at], pa, bytes, 3n, 30);
          if (status === Status.OK) model.push(...pieces(VA[o.at], pa, bytes));
          else expect(snapshot(m, root)).toEqual(before);
        } else {
          const end = VA[o.at] + (BigInt(o.pages) << 12n);
          // Only whole pages: a large page that reaches beyond the range is not cut.
          if (
            model.some(
              (q) =>
                q.va < end &&
                VA[o.at] < q.va + (1n << BigInt(q.bits)) &&
                (q.va < VA[o.at] || q.va + (1n << BigInt(q.bits)) > end),
            )
          )
            continue;
          k.unmapRange(root, VA[o.at], end - VA[o.at]);
          model = model.filter((q) => q.va < VA[o.at] || q.va >= end);
        }
      }
      expect(snapshot(m, root)).toEqual(model.map(text).sort());
      for (const page of model) k.unmapRange(root, page.va, 1n << BigInt(page.bits));
      for (const va of VA) k.unmapRange(root, va, 4096n);
      expect(k.ownedBytes(Owner.TABLE)).toBe(tables);
      k.freeRun(root, 12, Owner.TABLE);
    }),
    { numRuns: 60 },
  );
});

const text = (p: { va: bigint; pa: bigint | number; bits: number }) => `${p.va.toString(16)} ${p.pa} ${p.bits}`;

type M = Awaited<ReturnType<typeof memory>>;

function snapshot(m: M, root: bigint): string[] {
  return m.mappings(root).map(text).sort();
}

/** Whether a table, possibly an empty one, stands where a page of 2^bits would. */
function holdsTable(m: M, root: bigint, va: bigint, bits: number): boolean {
  let table = Number(root);
  for (let level = 4; ; level--) {
    const entry = m.ram.read64(table + 8 * Number((va >> BigInt(12 + 9 * (level - 1))) & 511n));
    if (!(entry & 1n)) return false;
    if (12 + 9 * (level - 1) === bits) return true;
    if (level < 4 && entry & 0x80n) return false;
    table = Number(entry & 0x000f_ffff_ffff_f000n);
  }
}

function pieces(va: bigint, pa: bigint, bytes: bigint): Page[] {
  const list: Page[] = [];
  for (let done = 0n; done < bytes; ) {
    const bits = [30, 21, 12].find(
      (b) => ((va + done) | (pa + done)) % (1n << BigInt(b)) === 0n && bytes - done >= 1n << BigInt(b),
    ) as number;
    list.push({ va: va + done, pa: pa + done, bits });
    done += 1n << BigInt(bits);
  }
  return list;
}
