// Random sequences on the frame allocator against a list of who holds what.

import fc from "fast-check";
import { expect, test } from "vitest";
import { MIB, memory, Owner, Status } from "../unit/mm/fixture.ts";

type Op =
  | { kind: "alloc"; bits: number; vm: number }
  | { kind: "free"; which: number; bits: number; wrong: boolean }
  | { kind: "pass"; which: number; first: number; pages: number };

const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ kind: fc.constant("alloc" as const), bits: fc.constantFrom(12, 12, 21), vm: fc.nat(3) }),
  fc.record({
    kind: fc.constant("free" as const),
    which: fc.nat(),
    bits: fc.constantFrom(12, 21),
    wrong: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("pass" as const),
    which: fc.nat(),
    first: fc.nat(511),
    pages: fc.integer({ min: 1, max: 512 }),
  }),
);

test("no frame has two owners, none is lost, and what is refused changes nothing", async () => {
  const shared = await memory({ end: 40 * MIB });
  fc.assert(
    fc.property(fc.array(op, { minLength: 1, maxLength: 120 }), (ops) => {
      const k = shared.kernel;
      const before = k.freeBytes();
      const holder = new Map<bigint, number>(); // frame number -> owner
      const runs: { pa: bigint; bits: number; owner: number }[] = [];
      const framesOf = (r: { pa: bigint; bits: number }) =>
        Array.from({ length: 1 << (r.bits - 12) }, (_, i) => (r.pa >> 12n) + BigInt(i));
      for (const o of ops) {
        if (o.kind === "alloc") {
          const owner = Owner.VM + o.vm;
          const pa = k.allocRun(owner, o.bits);
          if (pa === 0n) continue;
          const run = { pa, bits: o.bits, owner };
          for (const frame of framesOf(run)) {
            expect(holder.has(frame)).toBe(false);
            holder.set(frame, owner);
          }
          runs.push(run);
        } else if (runs.length === 0) {
        } else if (o.kind === "free") {
          const run = runs[o.which % runs.length];
          const part = { pa: o.bits <= run.bits ? run.pa : run.pa & ~0x1f_ffffn, bits: o.bits };
          const owner = o.wrong ? run.owner + 1 : run.owner;
          const allowed = framesOf(part).every((f) => holder.get(f) === owner);
          const free = k.freeBytes();
          const status = k.freeRun(part.pa, part.bits, owner);
          expect(status).toBe(allowed ? Status.OK : Status.WRONG_OWNER);
          if (allowed) for (const f of framesOf(part)) holder.delete(f);
          else expect(k.freeBytes()).toBe(free);
        } else {
          const run = runs[o.which % runs.length];
          const pages = Math.min(o.pages, 512 - o.first);
          const first = (run.pa >> 12n) + BigInt(o.first);
          const frames = Array.from({ length: pages }, (_, i) => first + BigInt(i));
          const allowed = frames.every((f) => holder.get(f) === run.owner);
          const status = k.passRange(first << 12n, BigInt(pages) << 12n, run.owner, Owner.VM + 5);
          expect(status).toBe(allowed ? Status.OK : Status.WRONG_OWNER);
          if (allowed) for (const f of frames) holder.set(f, Owner.VM + 5);
        }
      }
      const bytes = new Map<number, bigint>();
      for (const owner of holder.values()) bytes.set(owner, (bytes.get(owner) ?? 0n) + 4096n);
      for (let vm = Owner.VM; vm < Owner.VM + 6; vm++) expect(k.ownedBytes(vm)).toBe(bytes.get(vm) ?? 0n);
      for (const [frame, owner] of holder) {
        expect(k.ownerOf(frame << 12n)).toBe(owner);
        expect(k.freeRun(frame << 12n, 12, owner)).toBe(Status.OK);
      }
      expect(k.freeBytes()).toBe(before);
    }),
    { numRuns: 60 },
  );
});

test("after everything went back, the same large runs can be taken again", async () => {
  const { kernel: k } = await memory({ end: 64 * MIB });
  const takeAll = () => {
    const runs: bigint[] = [];
    for (let run = k.allocRun(Owner.VM, 21); run !== 0n; run = k.allocRun(Owner.VM, 21)) runs.push(run);
    for (const run of runs) k.freeRun(run, 21, Owner.VM);
    return runs.length;
  };
  const before = takeAll();
  const frames = Array.from({ length: 9000 }, () => k.allocFrame(Owner.CORE) as bigint);
  frames.sort((a, b) => Number((a * 7919n) % 65537n) - Number((b * 7919n) % 65537n));
  for (const frame of frames) expect(k.freeRun(frame, 12, Owner.CORE)).toBe(Status.OK);
  expect(takeAll()).toBe(before);
});
