// Interrupt controllers: local APIC modes, I/O APIC routes with overrides, the masked 8259, and the
// way of a byte from the wire to its ring.

import { expect, test } from "vitest";
import { FakeIoapic } from "../../fake/devices/ioapic.ts";
import { FakeUart } from "../../fake/devices/uart.ts";
import { logLines } from "../../fake/log.ts";
import { type BoardOptions, board } from "./board.ts";

const IOAPIC = 0xfec0_0000;

async function withIoapic(options: BoardOptions = {}) {
  const b = await board(options);
  const ioapic = new FakeIoapic(b.m);
  b.m.ram.addDevice(IOAPIC, 0x1000, ioapic);
  b.k.addIoapic(0, BigInt(IOAPIC), 0);
  return { ...b, ioapic };
}

test("x2APIC is used where the processor has it", async () => {
  const { m, k } = await board();
  expect(k.startLapic()).toBe(0);
  expect(k.isX2apic()).toBe(1);
  expect(m.current.lapic.x2apic).toBe(true);
  expect(k.lapicRead(0xf0)).toBe(0x1ff);
});

test("apic=xapic keeps the memory-mapped registers", async () => {
  const { m, k } = await board({ commandLine: "apic=xapic" });
  k.startLapic();
  expect(m.current.lapic.x2apic).toBe(false);
  expect(k.lapicRead(0xf0)).toBe(0x1ff);
  expect(logLines(m).at(-1)).toBe("lapic: xAPIC at 0xfee00000, version 0x15, boot CPU has ID 0");
});

test("x2APIC that firmware left on is taken over, and left if it may be", async () => {
  const taken = await board();
  taken.m.current.lapic.writeBase(0xfee0_0d00n);
  taken.k.startLapic();
  expect(taken.k.isX2apic()).toBe(1);
  const left = await board({ commandLine: "apic=xapic" });
  left.m.current.lapic.writeBase(0xfee0_0d00n);
  left.k.startLapic();
  expect(left.k.isX2apic()).toBe(0);
  expect(left.m.current.lapic.x2apic).toBe(false);
});

test("x2APIC that firmware has locked on stays on, whatever the command line says", async () => {
  const { m, k } = await board({ commandLine: "apic=xapic", msrs: { 266: 1n << 21n, 189: 1n } });
  m.current.lapic.writeBase(0xfee0_0d00n);
  k.startLapic();
  expect(k.isX2apic()).toBe(1);
  expect(logLines(m)[0]).toBe("lapic: firmware has locked x2APIC on: apic=xapic is ignored");
});

test("every local source is masked but the NMI pins that the firmware names", async () => {
  const { k, m } = await board();
  k.addNmi(0xffff_ffff, 1, 0);
  k.startLapic();
  const lvt = (register: number) => m.current.lapic.read(register);
  expect(lvt(0x350) & 0x1_0000).toBe(0x1_0000); // LINT0
  expect(lvt(0x360)).toBe(0x400); // LINT1: NMI
  expect(lvt(0x320) & 0x1_0000).toBe(0x1_0000);
  expect(lvt(0x370)).toBe(0xfe);
});

test("interrupts that firmware left in service are ended", async () => {
  const { m, k } = await board();
  for (const vector of [0x31, 0x55, 0xe0]) m.current.lapic.isr[vector] = 1;
  k.startLapic();
  expect(m.current.lapic.isr.indexOf(1)).toBe(-1);
});

test("the timer uses the TSC deadline where it is, else the one-shot counter, as timer= may ask", async () => {
  const deadline = await board();
  deadline.k.startLapic();
  deadline.k.setKhz(2_000_000n);
  deadline.k.chooseTimer();
  expect(deadline.k.timerMode()).toBe(2);
  for (const options of [{ commandLine: "timer=oneshot" }, { cpuid: { 1: { ecx: 1 << 21 } } }] as BoardOptions[]) {
    const { m, k } = await board(options);
    k.startLapic();
    k.setKhz(BigInt(m.clock.tscKhz));
    k.chooseTimer();
    expect(k.timerMode()).toBe(1);
    const due = m.clock.ticks + 1_000_000;
    k.arm(5n, BigInt(due));
    while (m.current.lapic.pending() < 0) m.clock.skip();
    expect(m.current.lapic.pending()).toBe(0xfa);
    expect(Math.abs(m.clock.ticks - due)).toBeLessThan(20_000); // 16 * 20 ticks a count, and the calibration's error
  }
});

test("ISA interrupts follow the overrides in number, polarity and trigger", async () => {
  const { k, ioapic } = await withIoapic();
  k.addOverride(0, 2, 0);
  k.addOverride(9, 20, 0xf);
  k.addOverride(5, 5, 0x5);
  k.startIoapics();
  expect(k.routeIsa(0, 0x30, 0)).toBe(0);
  expect(k.routeIsa(9, 0x31, 3)).toBe(0);
  expect(k.routeIsa(5, 0x32, 0)).toBe(0);
  expect(k.routeIsa(4, 0x33, 0)).toBe(0);
  expect(ioapic.route(2)).toEqual({ vector: 0x30, masked: false, level: false, low: false, destination: 0 });
  expect(ioapic.route(20)).toEqual({ vector: 0x31, masked: false, level: true, low: true, destination: 3 });
  expect(ioapic.route(5)).toMatchObject({ vector: 0x32, level: false, low: false });
  expect(ioapic.route(4)).toMatchObject({ vector: 0x33, level: false, low: false });
  expect(ioapic.route(0).masked).toBe(true);
  k.mask(20);
  expect(ioapic.route(20).masked).toBe(true);
});

test("an input that no I/O APIC has, and an APIC ID that does not fit, are refused", async () => {
  const { k } = await withIoapic();
  k.startIoapics();
  expect(k.route(24, 0x30, 0, 0)).toBe(5);
  expect(k.route(3, 0x30, 255, 0)).toBe(7);
});

test("an I/O APIC that does not answer is not used", async () => {
  const b = await board();
  b.k.addIoapic(0, BigInt(IOAPIC), 0);
  b.k.startIoapics();
  expect(b.k.routeIsa(4, 0x30, 0)).toBe(5);
  expect(logLines(b.m)).toEqual(["ioapic: nothing answers at 0xfec00000"]);
});

test("the 8259 pair is moved away from the exceptions and masked", async () => {
  const { m, k } = await board();
  const written: Record<number, number[]> = { 32: [], 33: [], 160: [], 161: [] };
  for (const base of [0x20, 0xa0]) {
    m.ports.attach(base, 2, { read: () => 0, write: (offset, _b, value) => written[base + offset].push(value) });
  }
  k.disablePic();
  expect(written).toEqual({ 32: [0x11], 33: [0x20, 4, 1, 0xff], 160: [0x11], 161: [0x28, 2, 1, 0xff] });
});

test("a byte on the wire becomes an interrupt, a byte in the ring, and a note for the idle loop", async () => {
  const { m, k, ioapic } = await withIoapic();
  const uart = new FakeUart(m.clock, { onInterrupt: () => ioapic.raise(4) });
  m.ports.attach(0x3f8, 8, uart);
  k.startLapic();
  k.startIoapics();
  expect(k.openUart()).toBe(0);
  expect(k.startUart(0)).toBe(0);
  expect(k.takeAttention()).toBe(0);
  uart.type("ok");
  m.current.interruptsEnabled = true;
  m.takePending();
  expect([k.getByte(), k.getByte(), k.getByte()]).toEqual([0x6f, 0x6b, 0xffff_ffff]);
  expect(k.takeAttention()).toBe(1);
  expect(k.takeAttention()).toBe(0);
  expect(k.countOf(ioapic.route(4).vector)).toBe(1n);
  expect(m.current.lapic.isr.indexOf(1)).toBe(-1);
});

test("spurious interrupts get no EOI, which would end another one", async () => {
  const { m, k } = await board();
  k.startLapic();
  m.current.lapic.isr[0x40] = 1;
  for (const vector of [0xff, 0x27, 0x2f]) k.onInterrupt(vector);
  expect(m.current.lapic.isr[0x40]).toBe(1);
  k.onInterrupt(0xf8);
  expect(m.current.lapic.isr[0x40]).toBe(0);
});
