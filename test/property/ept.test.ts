// Extended page tables under random changes, against a plain map from page to frame and rights.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Machine } from "../fake/machine.ts";
import { exhaustTables, GIB, memory, Owner, Status } from "../unit/mm/fixture.ts";

const PAGE = 0x1000n;
const PAGES = 2048; // 8 MiB of guest-physical space
const RUN = 0x80_0000n; // 8 MiB of the VM's frames lie here
const RUN_PAGES = 2048;
const VM = 0;
const LIMIT = 1n << 48n;
const EXTRA = ["kernel/mm/ept.ts", "kernel/mm/memtype.ts"];

async function start(more: Parameters<typeof memory>[0] = {}): Promise<Machine> {
  const m = await memory({
    enter: true,
    extraEntries: EXTRA,
    more: [[RUN, RUN + BigInt(RUN_PAGES) * PAGE, Owner.VM + VM]],
    ...more,
  });
  m.kernel.detectMemoryTypes();
  return m;
}

interface Page {
  hpa: bigint;
  rights: number;
}

/** What the tables say of each of the first `pages`, and the size of the leaf there. */
function contents(m: Machine, root: bigint, pages: number): Map<number, Page> {
  const k = m.kernel;
  const map = new Map<number, Page>();
  const scratch = k.scratch();
  for (let i = 0; i < pages; i++) {
    const leaf: bigint = k.walkEpt(root, BigInt(i) * PAGE, scratch);
    if (leaf === 0n) continue;
    map.set(i, { hpa: k.translateEpt(root, BigInt(i) * PAGE, scratch), rights: Number(leaf & 7n) });
  }
  return map;
}

function levelAt(m: Machine, root: bigint, gpa: bigint): number {
  const scratch = m.kernel.scratch();
  m.kernel.walkEpt(root, gpa, scratch);
  return m.view.getUint32(scratch + 16, true);
}

/** Bytes of tables that are in use. */
function tables(m: Machine): bigint {
  return m.kernel.ownedBytes(Owner.TABLE);
}

const change = fc.record({
  kind: fc.constantFrom("map", "map", "unmap", "protect", "touch", "untouch"),
  first: fc.oneof(fc.integer({ min: 0, max: PAGES - 1 }), fc.constantFrom(0, 512, 1024, 1536)),
  count: fc.oneof(fc.integer({ min: 1, max: 700 }), fc.constantFrom(512, 1024)),
  frame: fc.oneof(fc.integer({ min: 0, max: RUN_PAGES - 1 }), fc.constantFrom(0, 512, 1024)),
  rights: fc.constantFrom(1, 3, 5, 7),
});

test("random maps, unmaps, protects and first touches agree with a plain map, and no table is lost", async () => {
  const m = await start();
  const k = m.kernel;
  k.allocFrame(Owner.TABLE); // spares and pools settle
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), fc.constantFrom(12, 21, 30), (changes, limit) => {
      const before = tables(m);
      const root: bigint = k.createEpt();
      const model = new Map<number, Page>();
      for (const c of changes) {
        const count = Math.min(c.count, PAGES - c.first, RUN_PAGES - c.frame);
        const gpa = BigInt(c.first) * PAGE;
        const bytes = BigInt(count) * PAGE;
        const hpa = RUN + BigInt(c.frame) * PAGE;
        const pages = Array.from({ length: count }, (_, i) => c.first + i);
        if (c.kind === "map") {
          const blocked = pages.some((p) => model.has(p));
          const status = k.mapEpt(VM, root, gpa, hpa, bytes, c.rights, limit);
          expect(status === Status.OK).toBe(!blocked);
          if (blocked) {
            // What was there stays, but the part of the range that was mapped before the clash is empty again.
            expect(status).toBe(Status.BUSY);
          } else {
            for (const [i, p] of pages.entries()) model.set(p, { hpa: hpa + BigInt(i) * PAGE, rights: c.rights });
          }
        } else if (c.kind === "unmap") {
          expect(k.unmapEpt(root, gpa, bytes)).toBe(Status.OK);
          for (const p of pages) model.delete(p);
        } else if (c.kind === "protect") {
          expect(k.protectEpt(root, gpa, bytes, c.rights)).toBe(Status.OK);
          for (const p of pages) {
            const page = model.get(p);
            if (page) model.set(p, { ...page, rights: c.rights });
          }
        } else if (c.kind === "untouch") {
          const small = levelAt(m, root, gpa) === 1;
          k.untouchEpt(root, gpa);
          if (small) model.delete(c.first);
        } else {
          const status = k.touchEpt(root, gpa, hpa, c.rights);
          if (status === Status.OK && !model.has(c.first)) model.set(c.first, { hpa, rights: c.rights });
          if (status !== Status.OK) expect(status).toBe(Status.NOT_FOUND);
        }
        expect(contents(m, root, PAGES)).toEqual(model);
      }
      k.destroyEpt(root);
      expect(tables(m)).toBe(before);
    }),
    { numRuns: 60 },
  );
});

test("a 2 MiB run is one leaf, splits under a change, and merges back", async () => {
  const m = await start();
  const k = m.kernel;
  const root: bigint = k.createEpt();
  expect(k.mapEpt(VM, root, 0x20_0000n, RUN, 0x20_0000n, 7, 30)).toBe(Status.OK);
  expect(levelAt(m, root, 0x20_0000n)).toBe(2);
  const used = tables(m);
  expect(k.protectEpt(root, 0x3f_f000n, PAGE, 5)).toBe(Status.OK);
  expect(tables(m)).toBe(used + 4096n);
  expect(levelAt(m, root, 0x3f_f000n)).toBe(1);
  const scratch = k.scratch();
  expect(k.walkEpt(root, 0x3f_f000n, scratch) & 7n).toBe(5n);
  expect(k.walkEpt(root, 0x3f_e000n, scratch) & 7n).toBe(7n);
  expect(k.protectEpt(root, 0x3f_f000n, PAGE, 7)).toBe(Status.OK);
  expect(levelAt(m, root, 0x3f_f000n)).toBe(2);
  expect(tables(m)).toBe(used);
  expect(k.translateEpt(root, 0x3f_f123n, scratch)).toBe(RUN + 0x1f_f123n);
  expect(k.translateEpt(root, 0x40_0000n, scratch)).toBe(LIMIT);
});

test("a 1 GiB leaf splits twice and merges back", async () => {
  const vm: [bigint, bigint, number] = [BigInt(GIB), BigInt(2 * GIB), Owner.VM + VM];
  const m = await start({ more: [vm] });
  const k = m.kernel;
  const root: bigint = k.createEpt();
  expect(k.mapEpt(VM, root, 0n, BigInt(GIB), BigInt(GIB), 7, 30)).toBe(Status.OK);
  expect(levelAt(m, root, 0x1234_5000n)).toBe(3);
  const used = tables(m);
  expect(k.protectEpt(root, 0x1234_5000n, PAGE, 1)).toBe(Status.OK);
  expect(tables(m)).toBe(used + 2n * 4096n);
  const scratch = k.scratch();
  for (const [gpa, level, rights] of [
    [0x1234_5000n, 1, 1n],
    [0x1234_6000n, 1, 7n],
    [0x1240_0000n, 2, 7n],
    [0x3fff_f000n, 2, 7n],
  ] as const) {
    expect(k.walkEpt(root, gpa, scratch) & 7n).toBe(rights);
    expect(levelAt(m, root, gpa)).toBe(level);
    expect(k.translateEpt(root, gpa, scratch)).toBe(BigInt(GIB) + gpa);
  }
  expect(k.protectEpt(root, 0x1234_5000n, PAGE, 7)).toBe(Status.OK);
  expect(levelAt(m, root, 0x1234_5000n)).toBe(3);
  expect(tables(m)).toBe(used);
});

test("frames of somebody else, unaligned ranges and rights that the processor refuses are refused", async () => {
  const m = await start();
  const k = m.kernel;
  const root: bigint = k.createEpt();
  const other: bigint = k.allocRun(Owner.VM + 1, 21);
  const map = (gpa: bigint, hpa: bigint, bytes = PAGE, access = 7) => k.mapEpt(VM, root, gpa, hpa, bytes, access, 30);
  expect(map(0n, other)).toBe(Status.WRONG_OWNER);
  expect(map(0n, k.allocFrame(Owner.TABLE))).toBe(Status.WRONG_OWNER);
  expect(map(0n, k.allocFrame(Owner.CORE))).toBe(Status.WRONG_OWNER);
  expect(map(0n, BigInt(m.image.start))).toBe(Status.WRONG_OWNER);
  expect(map(0n, RUN + 0x60_0000n, 0x40_0000n)).toBe(Status.WRONG_OWNER); // the end of it is not the VM's
  expect(map(0n, LIMIT - PAGE)).toBe(Status.WRONG_OWNER);
  expect(map(1n, RUN)).toBe(Status.BAD_ADDRESS);
  expect(map(0n, RUN + 8n)).toBe(Status.BAD_ADDRESS);
  expect(map(0n, RUN, 12n)).toBe(Status.BAD_ADDRESS);
  expect(map(LIMIT, RUN)).toBe(Status.BAD_ADDRESS);
  expect(map((1n << 64n) - PAGE, RUN, 2n * PAGE)).toBe(Status.BAD_ADDRESS);
  for (const rights of [0, 2, 6, 8, 15]) expect(map(0n, RUN, PAGE, rights)).toBe(Status.BAD_ARGUMENT);
  expect(contents(m, root, 16).size).toBe(0);
  expect(k.unmapEpt(root, 1n, PAGE)).toBe(Status.BAD_ADDRESS);
  expect(k.unmapEpt(root, LIMIT, PAGE)).toBe(Status.BAD_ADDRESS);
  expect(k.protectEpt(root, 0n, PAGE, 2)).toBe(Status.BAD_ARGUMENT);
});

test("a clash in the middle of a range takes back what was mapped before it", async () => {
  const m = await start();
  const k = m.kernel;
  const root: bigint = k.createEpt();
  expect(k.mapEpt(VM, root, 0x5000n, RUN + 0x10_0000n, PAGE, 1, 12)).toBe(Status.OK);
  expect(k.mapEpt(VM, root, 0x1000n, RUN, 0x8000n, 7, 12)).toBe(Status.BUSY);
  expect([...contents(m, root, 16)]).toEqual([[5, { hpa: RUN + 0x10_0000n, rights: 1 }]]);
});

/** Runs `act` with 0, 1, 2, ... free table frames until it succeeds; each failure must leave what `say` reads. */
function withFewFrames(m: Machine, act: () => number, say: () => unknown): number {
  const taken = exhaustTables(m);
  for (let given = 0; given < 40; given++) {
    const before = say();
    const used = tables(m);
    if (act() === Status.OK) return given;
    expect(say()).toEqual(before);
    expect(tables(m)).toBe(used);
    expect(m.kernel.freeRun(taken.pop() as bigint, 12, Owner.TABLE)).toBe(Status.OK);
  }
  throw new Error("never enough frames");
}

test("a map, an unmap and a protect that run out of frames at any step leave the tables as they were", async () => {
  const vm: [bigint, bigint, number] = [BigInt(GIB), BigInt(2 * GIB), Owner.VM + VM];
  for (const operation of ["map", "unmap", "protect"] as const) {
    const m = await start({ more: [vm] });
    const k = m.kernel;
    const root: bigint = k.createEpt();
    const gib = BigInt(GIB);
    const scratch = k.scratch();
    if (operation !== "map") expect(k.mapEpt(VM, root, 0n, gib, gib, 7, 30)).toBe(Status.OK);
    const say = () =>
      [0n, 0x1000n, 0x20_0000n, 0x1234_5000n, 0x3fff_f000n].map((gpa) => k.walkEpt(root, gpa, scratch) as bigint);
    const needed = withFewFrames(
      m,
      () => {
        if (operation === "map") return k.mapEpt(VM, root, 0x1000n, gib + 0x1000n, 0x40_0000n, 7, 12);
        if (operation === "unmap") return k.unmapEpt(root, 0x1234_5000n, 0x80_0000n);
        return k.protectEpt(root, 0x1234_5000n, 0x80_0000n, 1);
      },
      say,
    );
    expect(needed).toBeGreaterThan(1);
  }
});

test("a first touch takes reserved tables, allocates nothing and keeps what is there", async () => {
  const m = await start();
  const k = m.kernel;
  const root: bigint = k.createEpt();
  expect(k.touchEpt(root, 0x5000n, RUN, 7)).toBe(Status.NOT_FOUND);
  expect(k.reserveEpt(root, 0n, 0x40_0000n)).toBe(Status.OK);
  const used = tables(m);
  expect(k.touchEpt(root, 0x5000n, RUN + 0x123n, 7)).toBe(Status.OK);
  expect(k.touchEpt(root, 0x5000n, RUN + 0x2000n, 7)).toBe(Status.OK);
  expect(tables(m)).toBe(used);
  expect([...contents(m, root, 1024)]).toEqual([[5, { hpa: RUN, rights: 7 }]]);
  k.untouchEpt(root, 0x5000n);
  expect(contents(m, root, 1024).size).toBe(0);
  expect(tables(m)).toBe(used);
  expect(k.touchEpt(root, 0x5000n, RUN + 0x3000n, 7)).toBe(Status.OK);
});

test("the EPT pointer has write-back tables of four levels", async () => {
  const m = await start();
  expect(m.kernel.eptPointer(0x1234_5000n, false)).toBe(0x1234_5000n | 6n | (3n << 3n));
  expect(m.kernel.eptPointer(0x1234_5000n, true)).toBe(0x1234_5000n | 6n | (3n << 3n) | 0x40n);
});
