// The tasks of a CPU: how many it takes, and that each is woken.

import { beforeEach, expect, test } from "vitest";
import { type Kernel, type Machine, machine } from "../../fake/machine.ts";

const MONITOR_KEY = 1n << 32n;
const TSC_KHZ = 2_000_000n;

let m: Machine;
let k: Kernel;

beforeEach(async () => {
  m = await machine({ entries: ["test/unit/vm/schedule.as.ts"], cpus: 2, ticks: { intrinsic: 0 } });
  k = m.kernel;
  k.setKhz(TSC_KHZ);
  for (const cpu of [0, 1]) k.bringUp(cpu);
});

test("a CPU takes only as many tasks as can have a timer each, beside its own, and each is woken in time", async () => {
  const most = k.roomFor(1n);
  for (let i = 0; i < most; i++) {
    expect([i, k.roomFor(1n), k.chooseCpu(1n, 100)]).toEqual([i, most - i, 0]);
    k.add(i, 0);
  }
  expect([k.roomFor(1n), k.tasksOn(0), k.tasksOn(1)]).toEqual([0, most, 0]);
  const start = BigInt(m.clock.ticks);
  for (let i = 0; i < most; i++) k.wait(i, start + BigInt(1_000_000 + i));
  expect(k.arm(0xffff_fffen, start + 900_000n)).toBe(0); // the chores'
  expect(k.arm(MONITOR_KEY, start + 800_000n)).toBe(0);
  k.slice(start - 4_000_000n + 700_000n); // of 2 ms
  expect(k.nextDeadline()).toBe(start + 700_000n);
  m.clock.ticks = Number(start) + 1_000_000 + most;
  k.take();
  for (let i = 0; i < most; i++) expect([i, k.isDue(i)]).toEqual([i, 1]);
});

test("a full CPU is passed over; where a task has ended there is room again", async () => {
  const most = k.roomFor(1n);
  for (let i = 0; i < most; i++) k.add(i, 0);
  expect([k.roomFor(0n), k.roomFor(3n), k.chooseCpu(0n, 100), k.chooseCpu(3n, 100)]).toEqual([most, most, 1, 1]);
  k.end(7);
  expect([k.roomFor(1n), k.roomFor(0n), k.chooseCpu(1n, 100)]).toEqual([1, most + 1, 0]);
});

test("a guest pinned to no CPU that is there goes to the boot CPU, as long as that has room", async () => {
  const most = k.roomFor(1n);
  expect(k.roomFor(1n << 40n)).toBe(most);
  for (let i = 0; i < most; i++) k.add(i, 0);
  expect(k.roomFor(1n << 40n)).toBe(0);
});
