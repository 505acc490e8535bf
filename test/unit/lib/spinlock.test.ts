import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

const ENTRIES = ["kernel/lib/spinlock.ts", "test/unit/lib/lib.as.ts"];

async function locks(cpus = 2) {
  const m = await machine({ entries: ENTRIES, cpus, callLimit: 100_000 });
  const k = m.kernel;
  return { m, k, a: k.lockAt(0), b: k.lockAt(1), c: k.lockAt(2) };
}

test("a lock names the CPU that holds it, and nobody else gets it", async () => {
  const { m, k, a } = await locks();
  m.on(1, () => k.lock(a));
  expect(m.view.getUint32(a, true)).toBe(2);
  expect(k.tryLock(a)).toBe(0);
  expect(k.isHeld(a)).toBe(0);
  m.on(1, () => k.unlock(a));
  expect(k.tryLock(a)).toBe(1);
  expect(() => m.on(1, () => k.lock(a))).toThrow("endless");
});

test("taking a lock twice, and giving back another CPU's, are our bugs", async () => {
  const { m, k, a } = await locks();
  k.lock(a);
  expect(() => k.lock(a)).toThrow("unreachable");
  expect(() => m.on(1, () => k.unlock(a))).toThrow("unreachable");
  expect(logLines(m).filter((line) => line.startsWith("panic: spinlock"))).toHaveLength(2);
});

test("after a trap, every lock that was held whole is given back", async () => {
  const { m, k, a, b, c } = await locks();
  for (const l of [a, b, c]) k.lock(l);
  k.unlock(b);
  expect(k.dropHeld()).toBe(0);
  for (const l of [a, b, c]) expect(m.on(1, () => k.tryLock(l))).toBe(1);
});

test("a lock whose data is half-changed stays taken, and is named", async () => {
  const { m, k, a, b, c } = await locks();
  for (const l of [a, b, c]) k.lock(l);
  k.breaks(b);
  expect(k.dropHeld()).toBe(b);
  expect(m.on(1, () => [a, b, c].map((l) => k.tryLock(l)))).toEqual([0, 0, 1]);
  k.mended(b);
  expect(k.dropHeld()).toBe(0);
});

test("more locks at once than a CPU can note are refused loudly", async () => {
  const { k } = await locks();
  for (let i = 0; i < 15; i++) k.lock(k.lockAt(i));
  expect(() => k.lock(k.lockAt(15))).toThrow("unreachable");
});
