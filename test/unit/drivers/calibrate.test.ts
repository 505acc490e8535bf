// The TSC's frequency: what CPUID claims is believed only as far as a clock confirms it, and whatever
// clock there is gives the same answer.

import { expect, test } from "vitest";
import { FakeHpet, FakePit, FakePmTimer } from "../../fake/devices/clocks.ts";
import { logLines } from "../../fake/log.ts";
import { type Board, type BoardOptions, board } from "./board.ts";

const HPET = 0xfed0_0000;
const NO_CLAIM = { 21: { eax: 0, ebx: 0, ecx: 0, edx: 0 }, 22: { eax: 0, ebx: 0, ecx: 0, edx: 0 } };
const claim = (mhz: number) => ({
  0: { eax: 0x16 },
  21: { eax: 1, ebx: mhz, ecx: 1_000_000, edx: 0 },
  22: { eax: mhz, ebx: 0, ecx: 0, edx: 0 },
});

interface Clocks {
  hpet?: FakeHpet | ((b: Board) => FakeHpet);
  pm?: number;
  pit?: boolean;
}

async function calibrated(clocks: Clocks, options: BoardOptions = {}) {
  const b = await board({ cpuid: NO_CLAIM, ...options });
  if (clocks.hpet) {
    b.m.ram.addDevice(HPET, 0x1000, typeof clocks.hpet === "function" ? clocks.hpet(b) : clocks.hpet);
    b.platform.hpetBase = BigInt(HPET);
  }
  let pm: FakePmTimer | null = null;
  if (clocks.pm) {
    pm = new FakePmTimer(b.m, clocks.pm);
    b.m.ports.attach(0x608, 4, pm);
    Object.assign(b.platform, { pmTimerSpace: 1, pmTimerAddress: 0x608n, pmTimerBits: clocks.pm });
  }
  if (clocks.pit !== undefined) {
    const pit = new FakePit(b.m, clocks.pit);
    b.m.ports.attach(0x40, 4, pit);
    b.m.ports.attach(0x61, 1, pit.gate);
  }
  return { ...b, pm };
}

const near = (khz: bigint, expected: number, share = 500) => Math.abs(Number(khz) - expected) < expected / share;

test.each<[string, Clocks]>([
  ["the HPET", { hpet: (b) => new FakeHpet(b.m) }],
  ["the PM timer", { pm: 24 }],
  ["the PM timer", { pm: 32 }],
  ["the 8254", { pit: true }],
])("%s gives the frequency", async (name, clocks) => {
  const { m, k } = await calibrated(clocks);
  expect(k.calibrate()).toBe(0);
  expect(near(k.tscKhz(), m.clock.tscKhz)).toBe(true);
  expect(logLines(m).at(-1)).toContain(`from ${name}`);
});

test("the PM timer may wrap around in the middle", async () => {
  const { m, k } = await calibrated({ pm: 24 });
  // 24 bits at 3.58 MHz: the next wrap is 5 ms away.
  m.clock.ticks = Math.floor((2 ** 24 / 3_579_545 - 0.005) * m.clock.tscKhz * 1000);
  expect(k.calibrate()).toBe(0);
  expect(near(k.tscKhz(), m.clock.tscKhz)).toBe(true);
});

test("a system-management interrupt in one of the tries does no harm", async () => {
  const { m, k, pm } = await calibrated({ pm: 24 });
  (pm as FakePmTimer).smi = { after: 40, ticks: m.clock.tscKhz * 4 };
  expect(k.calibrate()).toBe(0);
  expect(near(k.tscKhz(), m.clock.tscKhz)).toBe(true);
});

test("an HPET that stands still, or has an impossible period, is passed over", async () => {
  for (const make of [
    (b: Board) => new FakeHpet(b.m, 0),
    (b: Board) => new FakeHpet(b.m, 2_000_000_000),
    (b: Board) => Object.assign(new FakeHpet(b.m), { write: () => undefined }),
  ]) {
    const { m, k } = await calibrated({ hpet: make, pm: 24 });
    expect(k.calibrate()).toBe(0);
    expect(logLines(m).at(-1)).toContain("from the PM timer");
  }
});

test("a claim that the clock confirms is taken exactly", async () => {
  const { m, k } = await calibrated({ pm: 24 }, { cpuid: claim(2000) });
  k.calibrate();
  expect(k.tscKhz()).toBe(2_000_000n);
  expect(logLines(m).at(-1)).toContain("from CPUID confirmed by the PM timer");
});

test("a claim that the clock does not confirm is not believed, and a line says so", async () => {
  const { m, k } = await calibrated({ pm: 24 }, { cpuid: claim(3500) });
  k.calibrate();
  expect(near(k.tscKhz(), m.clock.tscKhz)).toBe(true);
  expect(logLines(m)[0]).toBe("time: CPUID claims 3500000 kHz, which the PM timer does not confirm");
});

test("without any clock a claim is taken; without a claim too, there is a guess and an error", async () => {
  const claimed = await calibrated({ pit: false }, { cpuid: claim(2400) });
  expect(claimed.k.calibrate()).toBe(0);
  expect(claimed.k.tscKhz()).toBe(2_400_000n);
  const none = await calibrated({});
  expect(none.k.calibrate()).toBe(5);
  expect(none.k.tscKhz()).toBe(1_000_000n);
  expect(logLines(none.m).at(-1)).toBe("time: no clock tells the TSC's frequency: taking it for 1 GHz");
});
