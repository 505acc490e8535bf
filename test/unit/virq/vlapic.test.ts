// The guest's local APIC, register by register, in both modes.

import fc from "fast-check";
import { expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { ARENA, type Fixture, vmFixture } from "../vdev/fixture.ts";

const SVR = 0xf0;
const ICR = 0x300;
const ICR_HIGH = 0x310;
const LVT_TIMER = 0x320;
const LVT_LINT0 = 0x350;
const LVT_ERROR = 0x370;
const TMICT = 0x380;
const TMCCT = 0x390;
const TDCR = 0x3e0;
const ESR = 0x280;
const PERIODIC = 1 << 17;
const TSC_DEADLINE = 2 << 17;
const MASKED = 1 << 16;
const EN = 0x800n;
const EXTD = 0x400n;
const BASE = 0xfee00000n;
const PENDING = { NMI: 2, INTERRUPT: 4, INIT: 0x10, SIPI: 0x20 };

async function apic(vcpus = 1, options = {}) {
  const f = await vmFixture({ vcpus, ...options });
  for (const v of f.lapic) write(f, v, SVR, 0x1ff);
  return f;
}

const write = (f: Fixture, v: number, reg: number, value: number) => f.k.mmioWrite(v, reg, 4, value >>> 0);
const read = (f: Fixture, v: number, reg: number): number => f.k.mmioRead(v, reg, 4);

/** Takes the next vector as deliver.ts would; -1 if none goes in. */
function take(f: Fixture, v: number): number {
  f.k.sync(v);
  const vector = f.k.nextVector(v) | 0;
  if (vector >= 0) f.k.acknowledge(v, vector);
  return vector;
}

function x2apic(f: Fixture, v: number): void {
  expect(f.k.writeApicBase(v, BASE | EN | EXTD)).toBe(1);
}

const rdmsr = (f: Fixture, v: number, msr: number): bigint | null =>
  f.k.msrRead(v, msr) ? struct(f.m, "kernel/virq/vlapic.ts", "Vlapic", v).msrValue : null;
const wrmsr = (f: Fixture, v: number, msr: number, value: bigint): boolean => f.k.msrWrite(v, msr, value) === 1;

test("after power-up the registers have the manual's values", async () => {
  const f = await vmFixture({ vcpus: 2 });
  const [, v] = f.lapic;
  expect(read(f, v, 0x20)).toBe(1 << 24);
  expect(read(f, v, 0x30)).toBe(0x50014);
  expect(read(f, v, SVR)).toBe(0xff);
  expect(read(f, v, 0xe0)).toBe(0xffffffff);
  for (let reg = LVT_TIMER; reg <= LVT_ERROR; reg += 16) expect(read(f, v, reg)).toBe(MASKED);
  for (const reg of [0x80, 0xa0, 0xd0, ESR, ICR, TMICT, TMCCT, TDCR]) expect(read(f, v, reg)).toBe(0);
  expect(f.vcpu[0].apicBase).toBe(BASE | EN | 0x100n);
  expect(f.vcpu[1].apicBase).toBe(BASE | EN);
});

test("only one vector of a class is in service, and a higher class interrupts it", async () => {
  const f = await apic();
  const [v] = f.lapic;
  for (const vector of [0x31, 0x35, 0x52]) f.k.accept(v, vector, 0);
  expect(take(f, v)).toBe(0x52);
  expect(take(f, v)).toBe(-1);
  write(f, v, 0xb0, 0);
  expect(take(f, v)).toBe(0x35);
  f.k.accept(v, 0x41, 0);
  expect(take(f, v)).toBe(0x41);
  write(f, v, 0xb0, 0);
  expect(take(f, v)).toBe(-1); // 31H is of the class in service
  write(f, v, 0xb0, 0);
  expect(take(f, v)).toBe(0x31);
});

test("every vector from 16 on goes through IRR and ISR; below 16 it is an error", async () => {
  const f = await apic();
  const [v] = f.lapic;
  for (let vector = 16; vector < 256; vector++) {
    expect(f.k.accept(v, vector, 0)).toBe(1);
    f.k.sync(v);
    expect(read(f, v, 0x200 + (vector >> 5) * 16)).toBe((1 << (vector & 31)) >>> 0);
    expect(take(f, v)).toBe(vector);
    expect(read(f, v, 0x100 + (vector >> 5) * 16)).toBe((1 << (vector & 31)) >>> 0);
    expect(read(f, v, 0x200 + (vector >> 5) * 16)).toBe(0);
    write(f, v, 0xb0, 0);
  }
  for (let vector = 0; vector < 16; vector++) expect(f.k.accept(v, vector, 0)).toBe(0);
  write(f, v, ESR, 0);
  expect(read(f, v, ESR)).toBe(1 << 6);
});

test("TPR holds back its class and those below; PPR is the higher of TPR and ISR", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, 0x80, 0x45);
  expect(read(f, v, 0xa0)).toBe(0x45);
  f.k.accept(v, 0x4f, 0);
  expect(take(f, v)).toBe(-1);
  expect(f.k.tprThreshold(v)).toBe(4);
  f.vcpu[0].pending = 0;
  f.k.writeCr8(v, 3n);
  expect(f.vcpu[0].pending & PENDING.INTERRUPT).toBe(PENDING.INTERRUPT);
  expect(f.k.readCr8(v)).toBe(3n);
  expect(take(f, v)).toBe(0x4f);
  expect(read(f, v, 0xa0)).toBe(0x40);
  write(f, v, 0x80, 0x4a);
  expect(read(f, v, 0xa0)).toBe(0x4a);
  expect(f.k.tprThreshold(v)).toBe(0);
});

test("software disable masks the LVT for good and keeps what was requested", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, LVT_TIMER, 0x40);
  f.k.accept(v, 0x61, 0);
  f.k.sync(v);
  write(f, v, SVR, 0xff);
  expect(read(f, v, LVT_TIMER)).toBe(MASKED | 0x40);
  write(f, v, LVT_TIMER, 0x40);
  expect(read(f, v, LVT_TIMER)).toBe(MASKED | 0x40);
  expect(f.k.accept(v, 0x62, 0)).toBe(0);
  expect(take(f, v)).toBe(-1);
  write(f, v, SVR, 0x1ff);
  expect(read(f, v, LVT_TIMER)).toBe(MASKED | 0x40);
  expect(take(f, v)).toBe(0x61);
});

test("ESR shows errors only after it was written, and the error interrupt comes once until then", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, LVT_ERROR, 0xe0);
  write(f, v, ICR, 0x0000_0005 | (1 << 18)); // fixed, vector 5, self
  expect(read(f, v, ESR)).toBe(0);
  expect(take(f, v)).toBe(0xe0);
  write(f, v, 0xb0, 0);
  read(f, v, 0x3f0); // a reserved register
  expect(take(f, v)).toBe(-1);
  write(f, v, ESR, 0);
  expect(read(f, v, ESR)).toBe((1 << 5) | (1 << 7));
  write(f, v, ESR, 0);
  expect(read(f, v, ESR)).toBe(0);
});

test("an illegal vector in the error entry itself does not come back for ever", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, LVT_ERROR, 0x03);
  write(f, v, ICR, 0x05 | (1 << 18));
  expect(take(f, v)).toBe(-1);
});

test("narrow reads see their part of a register, other shapes zero; only whole writes count", async () => {
  const f = await apic();
  const [v] = f.lapic;
  expect(f.k.mmioRead(v, 0x30, 1)).toBe(0x14);
  expect(f.k.mmioRead(v, 0x32, 1)).toBe(0x05);
  expect(f.k.mmioRead(v, 0x30, 2)).toBe(0x14);
  expect(f.k.mmioRead(v, 0x34, 4)).toBe(0);
  expect(f.k.mmioRead(v, 0x32, 4)).toBe(0);
  f.k.mmioWrite(v, 0x80, 1, 0x55);
  f.k.mmioWrite(v, 0x84, 4, 0x55);
  expect(read(f, v, 0x80)).toBe(0);
});

// ---- Interprocessor interrupts

/** Which of the VM's APICs have `vector` requested. */
function receivers(f: Fixture, vector: number): number[] {
  return f.lapic.flatMap((v, i) => {
    f.k.sync(v);
    return f.k.testVector(v, 0x200, vector) ? [i] : [];
  });
}

test("ICR shorthands reach self, all, and all but self", async () => {
  const f = await apic(4);
  write(f, f.lapic[1], ICR, 0x41 | (1 << 18));
  expect(receivers(f, 0x41)).toEqual([1]);
  write(f, f.lapic[1], ICR, 0x42 | (2 << 18));
  expect(receivers(f, 0x42)).toEqual([0, 1, 2, 3]);
  write(f, f.lapic[1], ICR, 0x43 | (3 << 18));
  expect(receivers(f, 0x43)).toEqual([0, 2, 3]);
});

test("physical, flat logical and cluster logical destinations", async () => {
  const f = await apic(4);
  const send = (destination: number, low: number) => {
    write(f, f.lapic[0], ICR_HIGH, destination << 24);
    write(f, f.lapic[0], ICR, low);
  };
  send(2, 0x40);
  expect(receivers(f, 0x40)).toEqual([2]);
  send(0xff, 0x41);
  expect(receivers(f, 0x41)).toEqual([0, 1, 2, 3]);
  send(9, 0x42);
  expect(receivers(f, 0x42)).toEqual([]);
  f.lapic.forEach((v, i) => {
    write(f, v, 0xd0, (1 << i) << 24);
  });
  send(0b1010, 0x50 | 0x800);
  expect(receivers(f, 0x50)).toEqual([1, 3]);
  f.lapic.forEach((v, i) => {
    write(f, v, 0xe0, 0x0fffffff);
    write(f, v, 0xd0, (((i >> 1) << 4) | (1 << (i & 1))) << 24);
  });
  expect(read(f, f.lapic[0], 0xe0)).toBe(0x0fffffff);
  send(0x12, 0x51 | 0x800);
  expect(receivers(f, 0x51)).toEqual([3]);
  send(0x13, 0x52 | 0x800);
  expect(receivers(f, 0x52)).toEqual([2, 3]);
  send(0xff, 0x53 | 0x800);
  expect(receivers(f, 0x53)).toEqual([0, 1, 2, 3]);
});

test("lowest priority goes to the one with the lowest processor priority", async () => {
  const f = await apic(3);
  write(f, f.lapic[0], 0x80, 0x60);
  write(f, f.lapic[1], 0x80, 0x20);
  write(f, f.lapic[2], 0x80, 0x50);
  write(f, f.lapic[0], ICR_HIGH, 0xff << 24);
  write(f, f.lapic[0], ICR, 0x71 | 0x100);
  expect(receivers(f, 0x71)).toEqual([1]);
});

test("an IPI to a set of APIC IDs reaches those that are in it and exist", async () => {
  const f = await apic(3);
  const send = (low: bigint, high: bigint, first: number, icr: number) =>
    f.k.sendIpiToSet(ARENA, low, high, first, icr);
  expect([send(0b101n, 0n, 0, 0x81), receivers(f, 0x81)]).toEqual([2, [0, 2]]);
  expect([send(0b11n, 0n, 1, 0x82), receivers(f, 0x82)]).toEqual([2, [1, 2]]);
  expect([send(1n, 0n, 1, 0x83), send(1n, 0n, 1, 0x83)]).toEqual([1, 0]); // merges with one that waits
  const everyone = (1n << 64n) - 1n;
  expect(send(everyone, everyone, 0, 0x84)).toBe(3);
  expect(send(everyone, everyone, 3, 0x85)).toBe(0);
  expect(send(everyone, everyone, 0xffff_ffff, 0x85)).toBe(0);
  expect(send(0n, everyone, 0, 0x85)).toBe(0);
  for (const icr of [0x0f, 0x645, 0x545, 0x145]) expect(send(everyone, 0n, 0, icr)).toBe(0);
  expect([send(2n, 0n, 0, 0x400), f.vcpu[1].nmisPending]).toEqual([1, 1]);
});

test("NMI, INIT and start-up IPIs become requests of the vCPU; INIT de-assert is nothing", async () => {
  const f = await apic(2);
  const to1 = (low: number) => {
    write(f, f.lapic[0], ICR_HIGH, 1 << 24);
    write(f, f.lapic[0], ICR, low);
  };
  to1(0x400);
  expect(f.vcpu[1].pending).toBe(PENDING.NMI);
  expect(f.vcpu[1].nmisPending).toBe(1);
  to1(0x0_8500); // INIT, level, de-assert
  expect(f.vcpu[1].pending & PENDING.INIT).toBe(0);
  to1(0x0_c500);
  expect(f.vcpu[1].pending & PENDING.INIT).toBe(PENDING.INIT);
  to1(0x0_4699);
  expect(f.vcpu[1].pending & PENDING.SIPI).toBe(PENDING.SIPI);
  expect(f.vcpu[1].sipiVector).toBe(0x99);
  to1(0x0_4611);
  expect(f.vcpu[1].sipiVector).toBe(0x99);
  expect(f.vm.kicks).toBe(2);
  expect(f.vcpu[0].pending).toBe(0);
});

test("a disabled APIC takes INIT and start-up, nothing else", async () => {
  const f = await apic(2);
  f.k.writeApicBase(f.lapic[1], BASE);
  f.vcpu[1].pending = 0;
  write(f, f.lapic[0], ICR, 0x41 | (3 << 18));
  write(f, f.lapic[0], ICR, 0x400 | (3 << 18));
  expect(f.vcpu[1].pending).toBe(0);
  write(f, f.lapic[0], ICR, 0x4500 | (3 << 18));
  expect(f.vcpu[1].pending).toBe(PENDING.INIT);
});

test("INIT resets the registers and keeps base, mode and ID", async () => {
  const f = await apic(2);
  const v = f.lapic[1];
  x2apic(f, v);
  wrmsr(f, v, 0x80f, 0x1ffn);
  wrmsr(f, v, 0x808, 0x50n);
  f.k.onInit(v);
  expect(rdmsr(f, v, 0x808)).toBe(0n);
  expect(rdmsr(f, v, 0x80f)).toBe(0xffn);
  expect(rdmsr(f, v, 0x802)).toBe(1n);
});

// ---- x2APIC

test("x2APIC: which MSRs exist, and which way they can be accessed", async () => {
  const f = await apic();
  const [v] = f.lapic;
  expect(rdmsr(f, v, 0x803)).toBe(null);
  expect(wrmsr(f, v, 0x808, 0n)).toBe(false);
  x2apic(f, v);
  const readable = new Set([0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828, 0x830, 0x838, 0x839, 0x83e]);
  for (let msr = 0x810; msr < 0x828; msr++) readable.add(msr);
  for (let msr = 0x832; msr <= 0x837; msr++) readable.add(msr);
  const writable = new Set([0x808, 0x80b, 0x80f, 0x828, 0x830, 0x838, 0x83e]);
  for (let msr = 0x832; msr <= 0x837; msr++) writable.add(msr);
  for (let msr = 0x800; msr < 0x900; msr++) {
    expect(rdmsr(f, v, msr) !== null, `RDMSR ${msr.toString(16)}`).toBe(readable.has(msr));
    if (msr !== 0x83f) expect(wrmsr(f, v, msr, 0n), `WRMSR ${msr.toString(16)}`).toBe(writable.has(msr));
  }
  expect(wrmsr(f, v, 0x83f, 0x20n)).toBe(true);
});

test("x2APIC: reserved bits fault, one by one", async () => {
  const f = await apic();
  const [v] = f.lapic;
  x2apic(f, v);
  const allowed: Record<number, bigint> = {
    2056: 0xffn,
    2059: 0n,
    2063: 0x3ffn,
    2088: 0n,
    2096: 0xffffffff_000cdfffn,
    2098: 0x750ffn,
    2099: 0x157ffn,
    2100: 0x157ffn,
    2101: 0x1f7ffn,
    2102: 0x1f7ffn,
    2103: 0x150ffn,
    2104: 0xffffffffn,
    2110: 0xbn,
    2111: 0xffn,
  };
  for (const [msr, bits] of Object.entries(allowed)) {
    for (let bit = 0n; bit < 64n; bit++) {
      const ok = ((bits >> bit) & 1n) === 1n;
      expect(wrmsr(f, v, Number(msr), 1n << bit), `${Number(msr).toString(16)} bit ${bit}`).toBe(ok);
    }
  }
});

test("x2APIC: 32-bit destinations, the derived logical ID, self IPI", async () => {
  const f = await apic(16);
  for (const v of f.lapic) {
    x2apic(f, v);
    wrmsr(f, v, 0x80f, 0x1ffn);
  }
  expect(rdmsr(f, f.lapic[5], 0x802)).toBe(5n);
  expect(rdmsr(f, f.lapic[5], 0x80d)).toBe(1n << 5n);
  wrmsr(f, f.lapic[0], 0x830, (7n << 32n) | 0x40n);
  expect(receivers(f, 0x40)).toEqual([7]);
  wrmsr(f, f.lapic[0], 0x830, (0xffn << 32n) | 0x41n); // no broadcast in 32 bits
  expect(receivers(f, 0x41)).toEqual([]);
  wrmsr(f, f.lapic[0], 0x830, (0xffffffffn << 32n) | 0x42n);
  expect(receivers(f, 0x42).length).toBe(16);
  wrmsr(f, f.lapic[0], 0x830, (0x0000_0a00n << 32n) | 0x843n);
  expect(receivers(f, 0x43)).toEqual([9, 11]);
  wrmsr(f, f.lapic[0], 0x830, (0x0001_0001n << 32n) | 0x844n);
  expect(receivers(f, 0x44)).toEqual([]);
  wrmsr(f, f.lapic[3], 0x83f, 0x45n);
  expect(receivers(f, 0x45)).toEqual([3]);
  expect(rdmsr(f, f.lapic[0], 0x830)).toBe((0x0001_0001n << 32n) | 0x844n);
});

test("IA32_APIC_BASE: allowed and forbidden transitions", async () => {
  const f = await apic();
  const [v] = f.lapic;
  const set = (value: bigint) => f.k.writeApicBase(v, value) === 1;
  expect(set(BASE | EXTD)).toBe(false);
  for (const bit of [0n, 1n, 7n, 9n, 39n, 63n]) expect(set(BASE | EN | (1n << bit))).toBe(false);
  expect(set(BASE | EN | EXTD)).toBe(true);
  expect(set(BASE | EN)).toBe(false);
  expect(set(BASE)).toBe(true);
  expect(set(BASE | EN | EXTD)).toBe(false);
  expect(set(BASE | EN)).toBe(true);
  expect(read(f, v, SVR)).toBe(0xff);
  expect(read(f, v, 0x20)).toBe(0);
  expect(set(0x1_0000_0000n | EN)).toBe(true);
  expect(f.k.mmioBase(v)).toBe(0x1_0000_0000n);
  expect(set(0x1_0000_0000n | EN | EXTD)).toBe(true);
  for (const gpa of [0n, 0xfffn, 0x1_0000_0000n, 0xf_ffff_ffff_ffffn])
    expect(BigInt.asUintN(64, gpa - f.k.mmioBase(v))).toBeGreaterThanOrEqual(4096n);
});

// ---- Timer. The fake machine's TSC runs at 2 GHz, and so does the APIC timer.

const shifts: [number, number][] = [
  [0, 1],
  [1, 2],
  [2, 3],
  [3, 4],
  [8, 5],
  [9, 6],
  [10, 7],
  [11, 0],
];

test.each(shifts)("one-shot timer with divide value %i counts at 1 / 2^%i of the TSC", async (tdcr, shift) => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, tdcr);
  write(f, v, LVT_TIMER, 0x40);
  write(f, v, TMICT, 1000);
  const ticks = 1000 << shift;
  expect(Number(f.deadline(f.at[0])) - f.m.clock.ticks).toBe(ticks);
  f.pass((ticks / 2 / 4) * 1);
  expect(read(f, v, TMCCT)).toBe(750);
  f.pass(ticks / 2 + 1);
  expect(read(f, v, TMCCT)).toBe(0);
  expect(take(f, v)).toBe(0x40);
  write(f, v, 0xb0, 0);
  f.pass(1e6);
  expect(take(f, v)).toBe(-1);
});

test("initial counts of 0 and 1", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, 11);
  write(f, v, LVT_TIMER, 0x40);
  write(f, v, TMICT, 1);
  f.pass(1);
  expect(take(f, v)).toBe(0x40);
  write(f, v, 0xb0, 0);
  write(f, v, TMICT, 100);
  write(f, v, TMICT, 0);
  f.pass(1e6);
  expect(take(f, v)).toBe(-1);
  write(f, v, LVT_TIMER, PERIODIC | 0x41);
  write(f, v, TMICT, 1);
  f.pass(10);
  expect(take(f, v)).toBe(0x41);
  write(f, v, TMICT, 0);
  expect(f.deadline(f.at[0])).toBe(0xffffffffffffffffn);
});

test("the periodic timer keeps its grid, and missed periods merge into one", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, 11);
  write(f, v, LVT_TIMER, PERIODIC | 0x40);
  write(f, v, TMICT, 20_000);
  const start = f.m.clock.ticks;
  for (let i = 1; i <= 3; i++) {
    f.pass(10_000);
    expect(take(f, v)).toBe(0x40);
    write(f, v, 0xb0, 0);
  }
  f.m.clock.ticks = start + 20_000 * 10 + 500;
  f.expire(f.at[0]);
  expect(take(f, v)).toBe(0x40);
  write(f, v, 0xb0, 0);
  expect(take(f, v)).toBe(-1);
  expect(Number(f.deadline(f.at[0]))).toBe(start + 20_000 * 11);
});

test("a masked timer counts and does not interrupt", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, 11);
  write(f, v, LVT_TIMER, MASKED | 0x40);
  write(f, v, TMICT, 2000);
  f.pass(500);
  expect(read(f, v, TMCCT)).toBe(1000);
  f.pass(1000);
  expect(read(f, v, TMCCT)).toBe(0);
  expect(take(f, v)).toBe(-1);
});

test("changing between one-shot and periodic keeps a running count and wakes no finished one", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, 11);
  write(f, v, LVT_TIMER, 0x40);
  write(f, v, TMICT, 2000);
  f.pass(2000);
  write(f, v, LVT_TIMER, PERIODIC | 0x40);
  expect(read(f, v, TMCCT)).toBe(0);
  write(f, v, TMICT, 20_000);
  f.pass(15_000); // one and a half periods
  expect(read(f, v, TMCCT)).toBe(10_000);
  write(f, v, LVT_TIMER, 0x40);
  expect(read(f, v, TMCCT)).toBe(10_000);
  f.pass(6_000);
  expect(read(f, v, TMCCT)).toBe(0);
});

test("a new divide value goes on with what is left of the count", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, TDCR, 11);
  write(f, v, LVT_TIMER, 0x40);
  write(f, v, TMICT, 2000);
  f.pass(500);
  write(f, v, TDCR, 0);
  expect(read(f, v, TMCCT)).toBe(1000);
  expect(Number(f.deadline(f.at[0])) - f.m.clock.ticks).toBe(2000);
});

test("TSC deadline: guest time, past deadlines, disarming, reading back", async () => {
  const offset = -500_000n;
  const f = await apic(1, { tscOffset: offset });
  const [v] = f.lapic;
  const now = () => BigInt(f.m.clock.ticks);
  f.k.writeTscDeadline(v, 5n, now()); // not in deadline mode: ignored
  expect(f.deadline(f.at[0])).toBe(0xffffffffffffffffn);
  write(f, v, LVT_TIMER, TSC_DEADLINE | 0x40);
  const deadline = now() + offset + 4000n;
  f.k.writeTscDeadline(v, deadline, now());
  expect(f.k.readTscDeadline(v)).toBe(deadline);
  expect(f.deadline(f.at[0])).toBe(now() + 4000n);
  f.pass(1999);
  expect(take(f, v)).toBe(-1);
  f.pass(2);
  expect(take(f, v)).toBe(0x40);
  write(f, v, 0xb0, 0);
  expect(f.k.readTscDeadline(v)).toBe(0n);
  f.k.writeTscDeadline(v, 1n, now());
  f.pass(0);
  expect(take(f, v)).toBe(0x40);
  write(f, v, 0xb0, 0);
  f.k.writeTscDeadline(v, 0xffffffffffffffffn, now());
  expect(f.deadline(f.at[0])).toBeGreaterThan(1n << 63n);
  f.k.writeTscDeadline(v, 0n, now());
  expect(f.deadline(f.at[0])).toBe(0xffffffffffffffffn);
  write(f, v, TMICT, 100);
  expect(read(f, v, TMCCT)).toBe(0);
  f.k.writeTscDeadline(v, now() + 100_000n, now());
  write(f, v, LVT_TIMER, 0x40);
  expect(f.k.readTscDeadline(v)).toBe(0n);
  expect(f.deadline(f.at[0])).toBe(0xffffffffffffffffn);
});

// ---- LINT pins

test("LINT0 in ExtINT mode lets the 8259 through; a disabled APIC is a wire", async () => {
  const f = await apic();
  const [v] = f.lapic;
  expect(f.k.acceptsExtInt(v)).toBe(0);
  write(f, v, LVT_LINT0, 0x700);
  expect(f.k.acceptsExtInt(v)).toBe(1);
  write(f, v, LVT_LINT0, MASKED | 0x700);
  expect(f.k.acceptsExtInt(v)).toBe(0);
  f.k.writeApicBase(v, BASE);
  expect(f.k.acceptsExtInt(v)).toBe(1);
});

test("LINT0 in fixed and NMI mode fires on a rising edge", async () => {
  const f = await apic();
  const [v] = f.lapic;
  write(f, v, LVT_LINT0, 0x55);
  f.k.setLint(v, 0, 1);
  f.k.setLint(v, 0, 1);
  expect(take(f, v)).toBe(0x55);
  write(f, v, 0xb0, 0);
  expect(take(f, v)).toBe(-1);
  f.k.setLint(v, 0, 0);
  write(f, v, LVT_LINT0, 0x400);
  f.k.setLint(v, 0, 1);
  expect(f.vcpu[0].nmisPending).toBe(1);
});

test("posted requests survive any interleaving with the owner's folding", async () => {
  const f = await apic();
  const [v] = f.lapic;
  let seed = 12345;
  const random = (n: number) => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return seed % n;
  };
  const wanted = new Set<number>();
  for (let i = 0; i < 2000; i++) {
    const vector = 16 + random(240);
    f.k.accept(v, vector, random(2));
    wanted.add(vector);
    if (random(3) === 0) {
      const taken = take(f, v);
      if (taken >= 0) {
        expect(wanted.delete(taken)).toBe(true);
        write(f, v, 0xb0, 0);
      }
    }
  }
  for (let taken = take(f, v); taken >= 0; taken = take(f, v)) {
    expect(wanted.delete(taken)).toBe(true);
    write(f, v, 0xb0, 0);
  }
  expect(wanted.size).toBe(0);
});

/** IRR, ISR and TMR as sets, and the manual's rules over them. */
class PlainApic {
  irr = new Set<number>();
  isr = new Set<number>();
  tmr = new Set<number>();
  tpr = 0;
  enabled = true;
  static top(set: Set<number>): number {
    return Math.max(-1, ...set);
  }
  get ppr(): number {
    const serving = Math.max(0, PlainApic.top(this.isr));
    return this.tpr >> 4 >= serving >> 4 ? this.tpr : serving & 0xf0;
  }
  get next(): number {
    const vector = PlainApic.top(this.irr);
    return this.enabled && vector >> 4 > this.ppr >> 4 ? vector : -1;
  }
  get threshold(): number {
    const vector = PlainApic.top(this.irr);
    return vector >= 0 && vector >> 4 <= this.tpr >> 4 ? vector >> 4 : 0;
  }
}

type Step = { what: string; vector: number; level: boolean };

/** One step in both; the model's vectors are at least 16. */
function step(f: Fixture, v: number, plain: PlainApic, { what, vector, level }: Step): void {
  const apic = struct(f.m, "kernel/virq/vlapic.ts", "Vlapic", v);
  const bit = (reg: number, set: boolean) => {
    const at = apic.page + reg + (vector >> 5) * 16;
    const was = f.m.view.getUint32(at, true);
    f.m.view.setUint32(at, set ? was | (1 << (vector & 31)) : was & ~(1 << (vector & 31)), true);
  };
  if (what === "accept" || what === "here") {
    if (what === "here") f.k.acceptHere(v, vector);
    else f.k.accept(v, vector, level ? 1 : 0);
    if (!plain.enabled) return;
    plain.irr.add(vector);
    if (what === "accept" && level) plain.tmr.add(vector);
    else plain.tmr.delete(vector);
  } else if (what === "take") {
    const wanted = plain.next;
    expect(take(f, v)).toBe(wanted);
    if (wanted < 0) return;
    plain.irr.delete(wanted);
    plain.isr.add(wanted);
  } else if (what === "eoi") {
    write(f, v, 0xb0, 0);
    plain.isr.delete(PlainApic.top(plain.isr));
  } else if (what === "tpr") {
    write(f, v, 0x80, vector);
    plain.tpr = vector;
  } else if (what === "enable") {
    write(f, v, SVR, level ? 0x1ff : 0xff);
    plain.enabled = level;
  } else if (what === "init") {
    f.k.onInit(v);
    write(f, v, SVR, 0x1ff);
    Object.assign(plain, new PlainApic());
  } else if (what === "hardware") {
    // The processor delivers for a while: it takes a request, or ends what is in service, in the page alone.
    apic.hardwareDelivery = 1;
    f.k.sync(v);
    f.k.forgetRequests(v);
    bit(0x200, false);
    bit(0x100, level);
    plain.irr.delete(vector);
    if (level) plain.isr.add(vector);
    else plain.isr.delete(vector);
    expect(f.k.nextVector(v) | 0).toBe(plain.next);
    apic.hardwareDelivery = 0;
    f.k.forgetRequests(v);
  }
}

test("what is requested, served and held back is what the manual's rules say of IRR, ISR, TPR and SVR", async () => {
  const f = await apic();
  const [v] = f.lapic;
  const some = fc.constantFrom(
    "accept",
    "accept",
    "here",
    "take",
    "take",
    "eoi",
    "eoi",
    "tpr",
    "enable",
    "init",
    "hardware",
  );
  const vectors = fc.oneof(fc.integer({ min: 16, max: 255 }), fc.constantFrom(0x30, 0x31, 0x3f, 0x40, 0x5f, 0x60));
  const steps = fc.array(fc.record({ what: some, vector: vectors, level: fc.boolean() }), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (list) => {
      const plain = new PlainApic();
      step(f, v, plain, { what: "init", vector: 16, level: true });
      for (const one of list) {
        f.vcpu[0].pending = 0;
        const before = plain.next;
        step(f, v, plain, one);
        f.k.sync(v);
        expect([one, f.k.nextVector(v) | 0]).toEqual([one, plain.next]);
        expect([one, read(f, v, 0xa0)]).toEqual([one, plain.ppr]);
        expect([one, f.k.tprThreshold(v)]).toEqual([one, plain.threshold]);
        const words = (set: Set<number>) =>
          [0, 1, 2, 3, 4, 5, 6, 7].map(
            (w) => [...set].reduce((a, n) => (n >> 5 === w ? a | (1 << (n & 31)) : a), 0) >>> 0,
          );
        const page = (reg: number) => [0, 1, 2, 3, 4, 5, 6, 7].map((w) => read(f, v, reg + 16 * w));
        expect([one, page(0x200), page(0x100)]).toEqual([one, words(plain.irr), words(plain.isr)]);
        // Whatever lets something in asks for a look before the next entry.
        if (before < 0 && plain.next >= 0 && one.what !== "take" && one.what !== "hardware")
          expect([one, f.vcpu[0].pending & PENDING.INTERRUPT]).toEqual([one, PENDING.INTERRUPT]);
      }
    }),
    { numRuns: 300 },
  );
});

test("whatever moves a deadline asks the run loop to set the host's timer anew", async () => {
  const TIMER = 8;
  const f = await apic(2);
  const [v] = f.lapic;
  const asks = (action: () => void) => {
    f.vcpu[0].pending = 0;
    f.vcpu[0].timerMoved = 0;
    action();
    return (f.vcpu[0].pending & TIMER) !== 0 || f.vcpu[0].timerMoved !== 0;
  };
  write(f, v, TDCR, 11);
  expect(asks(() => write(f, v, TMICT, 1000))).toBe(true);
  expect(asks(() => write(f, v, TDCR, 0))).toBe(true);
  expect(asks(() => write(f, v, TMICT, 0))).toBe(true);
  expect(asks(() => write(f, v, LVT_TIMER, TSC_DEADLINE | 0x40))).toBe(true);
  // While the host waits for something earlier, a deadline behind it changes nothing; one before it, or that it waits for, does.
  const deadline = (ticks: number) => f.k.writeTscDeadline(v, BigInt(f.m.clock.ticks + ticks), BigInt(f.m.clock.ticks));
  f.vcpu[0].armedFor = BigInt(f.m.clock.ticks + 1000);
  expect(asks(() => deadline(5000))).toBe(false);
  expect(asks(() => deadline(9000))).toBe(false);
  expect(asks(() => f.k.writeTscDeadline(v, 0n, BigInt(f.m.clock.ticks)))).toBe(false);
  expect(asks(() => deadline(500))).toBe(true);
  f.vcpu[0].armedFor = BigInt(f.m.clock.ticks + 500);
  expect(asks(() => deadline(9000))).toBe(true);
  f.vcpu[0].armedFor = 0n;
  expect(asks(() => f.k.writeTscDeadline(v, 1n << 62n, BigInt(f.m.clock.ticks)))).toBe(true);
  expect(asks(() => f.k.portWrite(f.at[1], 0x43, 1, 0x34))).toBe(true); // the 8254, from another vCPU
  expect(asks(() => f.k.portWrite(f.at[1], 0x3f8, 1, 0x41))).toBe(true); // an unfinished line
  f.k.portWrite(f.at[1], 0x70, 1, 0x0b);
  expect(asks(() => f.k.portWrite(f.at[1], 0x71, 1, 0x42))).toBe(true); // the clock's periodic interrupt
});
