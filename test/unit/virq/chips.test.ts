// The guest's 8259 pair, I/O APIC and 8254.

import { expect, test } from "vitest";
import { ARENA, type Fixture, vmFixture } from "../vdev/fixture.ts";

const out = (f: Fixture, port: number, value: number, bytes = 1) => f.k.portWrite(f.at[0], port, bytes, value >>> 0);
const inp = (f: Fixture, port: number, bytes = 1): number => f.k.portRead(f.at[0], port, bytes);
const irq = (f: Fixture, line: number, level: boolean) => f.k.setIrq(ARENA, line, level ? 1 : 0);
/** A rising edge on a line that stays high, as edge-triggered devices leave it. */
const edge = (f: Fixture, line: number) => {
  irq(f, line, false);
  irq(f, line, true);
};

/** The pair as an operating system sets it up: vectors 20H and 28H. */
async function pic(icw4 = 1, options = {}) {
  const f = await vmFixture(options);
  for (const [base, vector, wire] of [
    [0x20, 0x20, 4],
    [0xa0, 0x28, 2],
  ]) {
    out(f, base, 0x11);
    out(f, base + 1, vector);
    out(f, base + 1, wire);
    out(f, base + 1, icw4);
    out(f, base + 1, 0);
  }
  return f;
}

const pending = (f: Fixture) => f.k.picOutput(ARENA) === 1;
const ack = (f: Fixture): number => f.k.acknowledgePic(ARENA);

test("8259: fixed priorities, nesting, non-specific EOI", async () => {
  const f = await pic();
  edge(f, 5);
  edge(f, 3);
  expect(ack(f)).toBe(0x23);
  expect(pending(f)).toBe(false);
  edge(f, 1);
  expect(pending(f)).toBe(true);
  expect(ack(f)).toBe(0x21);
  out(f, 0x20, 0x20);
  expect(pending(f)).toBe(false);
  out(f, 0x20, 0x20);
  expect(ack(f)).toBe(0x25);
});

test("8259: the slave's inputs rank between 1 and 3, and need both EOIs", async () => {
  const f = await pic();
  edge(f, 3);
  edge(f, 10);
  expect(ack(f)).toBe(0x2a);
  expect(pending(f)).toBe(false);
  edge(f, 8);
  expect(pending(f)).toBe(false); // the master has input 2 in service and is not specially nested
  out(f, 0xa0, 0x20);
  out(f, 0x20, 0x20);
  expect(ack(f)).toBe(0x28);
  out(f, 0xa0, 0x20);
  out(f, 0x20, 0x20);
  expect(ack(f)).toBe(0x23);
});

test("8259: special fully nested mode lets a higher slave input through", async () => {
  const f = await pic(0x11);
  edge(f, 10);
  ack(f);
  edge(f, 8);
  expect(pending(f)).toBe(true);
  expect(ack(f)).toBe(0x28);
});

test("8259: a masked input waits in IRR; edges while masked are kept, IRR and ISR can be read", async () => {
  const f = await pic();
  out(f, 0x21, 0xff);
  edge(f, 4);
  expect(pending(f)).toBe(false);
  out(f, 0x20, 0x0a);
  expect(inp(f, 0x20)).toBe(0x10);
  expect(inp(f, 0x21)).toBe(0xff);
  out(f, 0x21, 0xef);
  expect(ack(f)).toBe(0x24);
  out(f, 0x20, 0x0b);
  expect(inp(f, 0x20)).toBe(0x10);
});

test("8259: an edge whose line falls before the INTA is a spurious IRQ 7", async () => {
  const f = await pic();
  irq(f, 4, true);
  irq(f, 4, false);
  expect(pending(f)).toBe(false);
  expect(ack(f)).toBe(0x27);
});

test("8259: a level-triggered request that goes away is a spurious IRQ 7 or 15", async () => {
  const f = await pic();
  out(f, 0x4d0, 0xff);
  out(f, 0x4d1, 0xff);
  expect(inp(f, 0x4d0)).toBe(0xf8);
  expect(inp(f, 0x4d1)).toBe(0xde);
  irq(f, 5, true);
  irq(f, 5, false);
  expect(pending(f)).toBe(false);
  expect(ack(f)).toBe(0x27);
  out(f, 0x20, 0x0b);
  expect(inp(f, 0x20)).toBe(0);
  irq(f, 11, true);
  expect(ack(f)).toBe(0x2b);
  expect(pending(f)).toBe(false);
  out(f, 0xa0, 0x20);
  out(f, 0x20, 0x20);
  expect(ack(f)).toBe(0x2b); // the line is still high
});

test("8259: automatic EOI, rotation, specific EOI and priority", async () => {
  const f = await pic(3);
  edge(f, 2 + 1);
  expect(ack(f)).toBe(0x23);
  edge(f, 7);
  expect(ack(f)).toBe(0x27);
  out(f, 0x20, 0x80); // rotate in automatic EOI mode
  edge(f, 0);
  edge(f, 1);
  expect(ack(f)).toBe(0x20);
  edge(f, 0);
  expect(ack(f)).toBe(0x21);
  const g = await pic();
  out(g, 0x20, 0xc3); // input 3 is the lowest now
  edge(g, 3);
  edge(g, 4);
  expect(ack(g)).toBe(0x24);
  out(g, 0x20, 0xe4); // rotate on specific EOI of 4
  edge(g, 4);
  expect(ack(g)).toBe(0x23);
  out(g, 0x20, 0x63);
  out(g, 0x20, 0x0b);
  expect(inp(g, 0x20)).toBe(0);
});

test("8259: special mask mode lets lower inputs through while a masked one is in service", async () => {
  const f = await pic();
  edge(f, 1);
  ack(f);
  edge(f, 6);
  expect(pending(f)).toBe(false);
  out(f, 0x21, 0x02);
  out(f, 0x20, 0x68);
  expect(pending(f)).toBe(true);
  expect(ack(f)).toBe(0x26);
  out(f, 0x20, 0x48);
});

test("8259: polling acknowledges", async () => {
  const f = await pic();
  out(f, 0x20, 0x0c);
  expect(inp(f, 0x20)).toBe(0);
  edge(f, 6);
  out(f, 0x20, 0x0c);
  expect(inp(f, 0x20)).toBe(0x86);
  out(f, 0x20, 0x0b);
  expect(inp(f, 0x20)).toBe(0x40);
});

test("8259: its output wakes vCPU 0", async () => {
  const f = await pic(1, { vcpus: 2 });
  f.vcpu[0].pending = 0;
  edge(f, 4);
  expect(f.vcpu[0].pending).toBe(4);
  expect(f.vcpu[1].pending).toBe(0);
});

// ---- I/O APIC

const IOAPIC = 0xfec00000n;
function ioWrite(f: Fixture, index: number, value: number): void {
  f.k.busWrite(f.at[0], IOAPIC, 4, BigInt(index));
  f.k.busWrite(f.at[0], IOAPIC + 16n, 4, BigInt(value >>> 0));
}
function ioRead(f: Fixture, index: number): number {
  f.k.busWrite(f.at[0], IOAPIC, 4, BigInt(index));
  return Number(f.k.busRead(f.at[0], IOAPIC + 16n, 4));
}
const redirect = (f: Fixture, pin: number, low: number, destination = 0) => {
  ioWrite(f, 0x11 + 2 * pin, destination << 24);
  ioWrite(f, 0x10 + 2 * pin, low);
};
const LEVEL = 0x8000;
const MASK = 0x10000;
const REMOTE_IRR = 0x4000;

async function ioapic(vcpus = 1) {
  const f = await vmFixture({ vcpus });
  for (const v of f.lapic) f.k.mmioWrite(v, 0xf0, 4, 0x1ff);
  return f;
}

function take(f: Fixture, i = 0): number {
  f.k.sync(f.lapic[i]);
  const vector = f.k.nextVector(f.lapic[i]) | 0;
  if (vector >= 0) f.k.acknowledge(f.lapic[i], vector);
  return vector;
}
const eoi = (f: Fixture, i = 0) => f.k.mmioWrite(f.lapic[i], 0xb0, 4, 0);

test("I/O APIC: registers, and what can be written of them", async () => {
  const f = await ioapic();
  expect(ioRead(f, 1)).toBe(0x170011);
  ioWrite(f, 0, 0xffffffff);
  expect(ioRead(f, 0)).toBe(0x0f000000);
  ioWrite(f, 1, 0);
  expect(ioRead(f, 1)).toBe(0x170011);
  expect(ioRead(f, 0x10)).toBe(MASK);
  redirect(f, 23, 0xffffffff, 0xff);
  expect(ioRead(f, 0x10 + 46)).toBe(0x1afff);
  expect(ioRead(f, 0x10 + 47)).toBe(0xff000000);
  expect(ioRead(f, 0x40)).toBe(0);
});

test("I/O APIC: edges fire once each, also while the last is in service; masked edges are lost", async () => {
  const f = await ioapic();
  redirect(f, 10, 0x55);
  edge(f, 10);
  expect(take(f)).toBe(0x55);
  edge(f, 10);
  expect(take(f)).toBe(-1);
  eoi(f);
  expect(take(f)).toBe(0x55);
  eoi(f);
  expect(take(f)).toBe(-1);
  redirect(f, 10, MASK | 0x55);
  edge(f, 10);
  redirect(f, 10, 0x55);
  expect(take(f)).toBe(-1);
});

test("I/O APIC: a level fires again after EOI as long as it lasts, with remote IRR meanwhile", async () => {
  const f = await ioapic();
  redirect(f, 11, LEVEL | 0x61);
  irq(f, 11, true);
  expect(ioRead(f, 0x10 + 22) & REMOTE_IRR).toBe(REMOTE_IRR);
  expect(take(f)).toBe(0x61);
  irq(f, 11, false);
  irq(f, 11, true);
  expect(take(f)).toBe(-1);
  eoi(f);
  expect(take(f)).toBe(0x61);
  irq(f, 11, false);
  eoi(f);
  expect(ioRead(f, 0x10 + 22) & REMOTE_IRR).toBe(0);
  expect(take(f)).toBe(-1);
});

test("I/O APIC: a level that rose while masked fires when it is opened", async () => {
  const f = await ioapic();
  redirect(f, 11, MASK | LEVEL | 0x61);
  irq(f, 11, true);
  expect(take(f)).toBe(-1);
  redirect(f, 11, LEVEL | 0x61);
  expect(take(f)).toBe(0x61);
});

test("I/O APIC: writing an entry as edge clears a stuck remote IRR", async () => {
  const f = await ioapic();
  redirect(f, 11, LEVEL | 0x61);
  irq(f, 11, true);
  take(f);
  redirect(f, 11, MASK | 0x61);
  expect(ioRead(f, 0x10 + 22) & REMOTE_IRR).toBe(0);
});

test("I/O APIC: two pins with one vector both end with its EOI", async () => {
  const f = await ioapic();
  redirect(f, 10, LEVEL | 0x61);
  redirect(f, 11, LEVEL | 0x61);
  irq(f, 10, true);
  irq(f, 11, true);
  expect(take(f)).toBe(0x61);
  irq(f, 10, false);
  eoi(f);
  expect(take(f)).toBe(0x61);
  irq(f, 11, false);
  eoi(f);
  expect(take(f)).toBe(-1);
});

test("I/O APIC: destinations, NMI mode, the timer on pin 2", async () => {
  const f = await ioapic(3);
  redirect(f, 5, 0x70, 2);
  edge(f, 5);
  expect([take(f, 0), take(f, 1), take(f, 2)]).toEqual([-1, -1, 0x70]);
  f.lapic.forEach((v, i) => {
    f.k.mmioWrite(v, 0xd0, 4, ((1 << i) << 24) >>> 0);
  });
  redirect(f, 5, 0x871, 3);
  edge(f, 5);
  expect([take(f, 0), take(f, 1)]).toEqual([0x71, 0x71]);
  redirect(f, 6, 0x400, 1);
  edge(f, 6);
  expect(f.vcpu[1].nmisPending).toBe(1);
  redirect(f, 2, 0x33, 0);
  eoi(f, 0);
  edge(f, 0);
  expect(take(f, 0)).toBe(0x33);
});

test("MSI: address and data choose vCPU, mode and vector; other addresses are refused", async () => {
  const f = await ioapic(2);
  expect(f.k.sendMsi(ARENA, 0xfee01000n, 0x45)).toBe(1);
  expect(take(f, 1)).toBe(0x45);
  expect(f.k.sendMsi(ARENA, 0xfee07000n, 0x45)).toBe(0);
  expect(f.k.sendMsi(ARENA, 0xfed00000n, 0x45)).toBe(0);
  expect(f.k.sendMsi(ARENA, 0x1_fee00000n, 0x45)).toBe(0);
  f.k.sendMsi(ARENA, 0xfee00000n, 0x400);
  expect(f.vcpu[0].nmisPending).toBe(1);
});

// ---- 8254

const PIT_NS = 1e9 / 1193182;

/** Loads `count` into a channel in `mode`, low byte first. */
function load(f: Fixture, channel: number, mode: number, count: number): void {
  out(f, 0x43, (channel << 6) | 0x30 | (mode << 1));
  out(f, 0x40 + channel, count & 0xff);
  out(f, 0x40 + channel, count >> 8);
}
function latched(f: Fixture, channel: number): number {
  out(f, 0x43, channel << 6);
  return inp(f, 0x40 + channel) | (inp(f, 0x40 + channel) << 8);
}

test("8254: a rate generator counts down and reloads; the latch holds still", async () => {
  const f = await pic();
  load(f, 0, 2, 1000);
  f.pass(250.5 * PIT_NS);
  expect(latched(f, 0)).toBe(750);
  out(f, 0x43, 0x00);
  f.pass(100 * PIT_NS);
  expect(inp(f, 0x40) | (inp(f, 0x40) << 8)).toBe(750);
  f.pass(1000 * PIT_NS);
  expect(latched(f, 0)).toBe(650);
});

test("8254: a square wave counts by two and its output can be read back", async () => {
  const f = await pic();
  load(f, 0, 3, 1000);
  f.pass(100.5 * PIT_NS);
  expect(latched(f, 0)).toBe(800);
  out(f, 0x43, 0xe2); // status of channel 0
  expect(inp(f, 0x40)).toBe(0x80 | 0x36);
  f.pass(500 * PIT_NS);
  out(f, 0x43, 0xe2);
  expect(inp(f, 0x40)).toBe(0x36);
  out(f, 0x43, 0xc2); // status, then count
  expect(inp(f, 0x40)).toBe(0x36);
  expect(inp(f, 0x40) | (inp(f, 0x40) << 8)).toBe(800);
});

test("8254: mode 0 on channel 2 raises its output, seen in port 61H, and counts on", async () => {
  const f = await pic();
  out(f, 0x61, 1);
  load(f, 2, 0, 1000);
  expect(inp(f, 0x61) & 0x21).toBe(1);
  f.pass(999 * PIT_NS);
  expect(inp(f, 0x61) & 0x20).toBe(0);
  f.pass(2 * PIT_NS);
  expect(inp(f, 0x61) & 0x20).toBe(0x20);
  f.pass(99.5 * PIT_NS);
  expect(latched(f, 2)).toBe(65536 - 100);
});

test("8254: the gate of channel 2 stops and resumes the count", async () => {
  const f = await pic();
  out(f, 0x61, 0);
  load(f, 2, 0, 1000);
  f.pass(500 * PIT_NS);
  expect(latched(f, 2)).toBe(1000);
  out(f, 0x61, 1);
  f.pass(100.5 * PIT_NS);
  expect(latched(f, 2)).toBe(900);
  out(f, 0x61, 0);
  f.pass(500 * PIT_NS);
  expect(latched(f, 2)).toBe(900);
});

test("8254: the low byte alone, the high byte alone, BCD, and a count of 0", async () => {
  const f = await pic();
  out(f, 0x43, 0x14); // low byte, mode 2
  out(f, 0x40, 200);
  f.pass(50.5 * PIT_NS);
  expect(inp(f, 0x40)).toBe(150);
  out(f, 0x43, 0x24); // high byte
  out(f, 0x40, 2);
  f.pass(257.5 * PIT_NS);
  expect(inp(f, 0x40)).toBe(0); // 255 left
  out(f, 0x43, 0x35); // BCD, mode 2
  out(f, 0x40, 0x00);
  out(f, 0x40, 0x10);
  f.pass(1.5 * PIT_NS);
  out(f, 0x43, 0x00);
  expect(inp(f, 0x40) | (inp(f, 0x40) << 8)).toBe(0x999);
  load(f, 0, 2, 0);
  f.pass(1.5 * PIT_NS);
  expect(latched(f, 0)).toBe(65535);
});

test("8254: channel 0 raises IRQ 0 once in mode 0 and with each period in mode 2", async () => {
  const f = await pic();
  load(f, 0, 0, 1193);
  f.pass(0.9e6);
  expect(pending(f)).toBe(false);
  f.pass(0.2e6);
  expect(ack(f)).toBe(0x20);
  out(f, 0x20, 0x20);
  f.pass(5e6);
  expect(pending(f)).toBe(false);
  load(f, 0, 2, 1193);
  let ticks = 0;
  for (let i = 0; i < 100; i++) {
    f.pass(1e6);
    if (!pending(f)) continue;
    expect(ack(f)).toBe(0x20);
    out(f, 0x20, 0x20);
    ticks++;
  }
  expect(ticks).toBe(100);
});

test("8254: ticks that nobody took are made up for, but not without bound", async () => {
  const f = await pic();
  load(f, 0, 2, 1193);
  f.pass(1.1e6);
  expect(pending(f)).toBe(true);
  f.pass(10e6); // not acknowledged: ten more merge
  let ticks = 0;
  for (let i = 0; i < 40; i++) {
    while (pending(f)) {
      ack(f);
      out(f, 0x20, 0x20);
      ticks++;
    }
    f.pass(0.5e6);
  }
  expect(ticks).toBeGreaterThanOrEqual(30); // 31 periods in all
  expect(ticks).toBeLessThanOrEqual(32);
  f.m.clock.ticks += 2_000_000 * 1000; // a second away
  f.expire(f.at[0]);
  ticks = 0;
  for (let i = 0; i < 40; i++) {
    while (pending(f)) {
      ack(f);
      out(f, 0x20, 0x20);
      ticks++;
    }
    f.pass(0.5e6);
  }
  expect(ticks).toBeLessThanOrEqual(20 + 17);
});
