// Each CPU's timer queue against a plain model, and the hardware that it programs.

import fc from "fast-check";
import { expect, test } from "vitest";
import { machine } from "../../fake/machine.ts";

const ENTRIES = ["test/unit/cpu/timer.as.ts"];
const NEVER = (1n << 64n) - 1n;

test("timers expire in the order of their deadlines, whatever was armed, moved and cancelled before", async () => {
  const operation = fc.record({
    what: fc.constantFrom("arm", "arm", "cancel", "expire"),
    key: fc.bigInt(1n, 20n),
    delay: fc.integer({ min: 0, max: 2000 }),
  });
  const m = await machine({ entries: ENTRIES });
  const k = m.kernel;
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      for (let key = 1n; key <= 20n; key++) k.cancel(key);
      const model = new Map<bigint, bigint>();
      for (const { what, key, delay } of operations) {
        const deadline = BigInt(m.clock.ticks + delay);
        if (what === "arm") {
          expect(k.arm(key, deadline)).toBe(0);
          model.set(key, deadline);
        } else if (what === "cancel") {
          k.cancel(key);
          model.delete(key);
        } else {
          m.clock.ticks += delay;
          for (let taken = k.takeExpired(); taken !== 0n; taken = k.takeExpired()) {
            const earliest = [...model.values()].reduce((a, b) => (a < b ? a : b));
            expect(model.get(taken)).toBe(earliest);
            expect(earliest).toBeLessThanOrEqual(BigInt(m.clock.ticks));
            model.delete(taken);
          }
        }
        const next = [...model.values()].reduce((a, b) => (a < b ? a : b), NEVER);
        expect(k.nextDeadline()).toBe(next);
      }
    }),
    { numRuns: 200 },
  );
});

test("the earliest timer, once it has expired, can be moved in its place: nothing else is lost, and the hardware follows", async () => {
  const m = await machine({ entries: ENTRIES });
  const k = m.kernel;
  k.deadlineMode();
  const { lapic } = m.current;
  const earliest = (model: Map<bigint, bigint>) => [...model.values()].reduce((a, b) => (a < b ? a : b), NEVER);
  const plan = fc.record({
    delays: fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 5 }), // few, so that many are equal
    pass: fc.integer({ min: 0, max: 6 }),
    again: fc.option(fc.integer({ min: 0, max: 9 })),
  });
  fc.assert(
    fc.property(plan, ({ delays, pass, again }) => {
      for (let key = 1n; key <= 5n; key++) k.cancel(key);
      const start = m.clock.ticks + 10_000;
      const model = new Map(delays.map((delay, i) => [BigInt(i + 1), BigInt(start + delay * 100)]));
      for (const [key, deadline] of model) k.arm(key, deadline);
      m.clock.ticks = start + pass * 100;
      const now = BigInt(m.clock.ticks);
      const first = [...model.keys()].filter((key) => k.isFirstExpired(key, now));
      expect(first).toHaveLength(earliest(model) <= now ? 1 : 0);
      if (first.length === 0) return;
      k.now(); // what the hardware held has fired by now
      for (let vector = lapic.pending(); vector >= 0; vector = lapic.pending()) {
        lapic.acknowledge(vector);
        lapic.write(0xb0, 0);
      }
      expect(model.get(first[0])).toBe(earliest(model));
      if (again === null) {
        k.cancel(first[0]);
        model.delete(first[0]);
      } else {
        model.set(first[0], now + BigInt(again * 100 + 50));
        k.arm(first[0], now + BigInt(again * 100 + 50));
      }
      expect(k.nextDeadline()).toBe(earliest(model));
      // What has passed meanwhile interrupts at once, a deadline to come waits in the hardware.
      k.now();
      if (earliest(model) <= now) expect(lapic.pending()).toBe(0xfa);
      else expect([lapic.tscDeadline, lapic.pending()]).toEqual([model.size ? earliest(model) : 0n, -1]);
    }),
    { numRuns: 300 },
  );
});

test("a full queue refuses one more timer and keeps the others", async () => {
  const { kernel: k } = await machine({ entries: ENTRIES });
  const most = k.most();
  for (let i = 1; i <= most; i++) expect(k.arm(BigInt(i), BigInt(10 ** 9 + i))).toBe(0);
  expect(k.arm(9999n, 1n)).toBe(10); // FULL
  expect(k.arm(5n, 77n)).toBe(0); // moving one that is armed needs no room
  expect(k.nextDeadline()).toBe(77n);
});

test("CPUs have queues of their own", async () => {
  const m = await machine({ entries: ENTRIES, cpus: 2 });
  m.kernel.arm(1n, 5000n);
  expect(m.on(1, () => m.kernel.nextDeadline())).toBe(NEVER);
  m.on(1, () => m.kernel.arm(1n, 10n));
  expect(m.kernel.nextDeadline()).toBe(5000n);
});

test("with the TSC deadline the hardware always holds the earliest deadline", async () => {
  const m = await machine({ entries: ENTRIES });
  const k = m.kernel;
  k.deadlineMode();
  const at = (n: number) => BigInt(m.clock.ticks + n);
  const [far, near] = [at(90_000), at(30_000)];
  k.arm(1n, far);
  expect(m.current.lapic.tscDeadline).toBe(far);
  k.arm(2n, near);
  expect(m.current.lapic.tscDeadline).toBe(near);
  k.cancel(2n);
  expect(m.current.lapic.tscDeadline).toBe(far);
  k.cancel(1n);
  expect(m.current.lapic.tscDeadline).toBe(0n);
});

test("the one-shot counter never runs out late by more than a count, and far deadlines are cut, not wrapped", async () => {
  const m = await machine({ entries: ENTRIES });
  const k = m.kernel;
  k.oneShotMode(1n << 60n); // 16 TSC ticks a count
  const initial = () => m.current.lapic.read(0x380);
  k.arm(1n, BigInt(m.clock.ticks + 16_000));
  expect(initial()).toBeGreaterThanOrEqual(999);
  expect(initial()).toBeLessThanOrEqual(1001);
  k.arm(1n, 1n);
  expect(initial()).toBe(1);
  k.arm(1n, NEVER);
  expect(initial()).toBe(0xffff_ffff);
  k.cancel(1n);
  expect(initial()).toBe(0);
});
