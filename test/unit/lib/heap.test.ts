import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

const SHARED_END = 0x40_0000;

test("shared memory is zero, aligned, disjoint, and ends where CPU blocks begin", async () => {
  const m = await machine({ entries: ["kernel/lib/heap.ts", "kernel/lib/log.ts"] });
  const first = m.kernel.sharedAlloc(100, 64);
  const second = m.kernel.sharedAlloc(8, 4096);
  expect(first % 64).toBe(0);
  expect(second % 4096).toBe(0);
  expect(second).toBeGreaterThanOrEqual(first + 100);
  expect(new Uint8Array(m.memory.buffer, first, 100).every((byte) => byte === 0)).toBe(true);
  const left = m.kernel.sharedLeft();
  expect(m.kernel.sharedAlloc(left, 1) + left).toBe(SHARED_END);
  for (const bytes of [1, 0xffff_ffff]) expect(() => m.kernel.sharedAlloc(bytes, 1)).toThrow("unreachable");
  expect(logLines(m)[0]).toBe("panic: heap: the shared part of linear memory is full");
});
