// The guest's bus, UART, clock, power management, keyboard controller, PCI and test ports.

import { expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { ARENA, type Fixture, TSC_KHZ, vmFixture } from "./fixture.ts";

const out = (f: Fixture, port: number, value: number, bytes = 1) => f.k.portWrite(f.at[0], port, bytes, value >>> 0);
const inp = (f: Fixture, port: number, bytes = 1): number => f.k.portRead(f.at[0], port, bytes);
const STOP = 0x40;
const RESET = 0x1000;

/** Level of the 8259's request for `irq`, by its IRR. */
function requested(f: Fixture, irq: number): boolean {
  const base = irq < 8 ? 0x20 : 0xa0;
  out(f, base, 0x0a);
  return ((inp(f, base) >> (irq & 7)) & 1) === 1;
}

// ---- Bus

test("ports that nobody claims read all ones in any width, and are counted", async () => {
  const f = await vmFixture();
  expect(inp(f, 0x1234)).toBe(0xff);
  expect(inp(f, 0x1234, 2)).toBe(0xffff);
  expect(inp(f, 0x1234, 4)).toBe(0xffffffff);
  expect(inp(f, 0xffff, 4)).toBe(0xffffffff);
  out(f, 0x1234, 1);
  expect(Number(f.vm.unknownPorts)).toBeGreaterThanOrEqual(5);
});

test("a wide access to byte-wide devices is one access a byte", async () => {
  const f = await vmFixture();
  out(f, 0x70, 0x3f70, 2); // index 70H, then data
  out(f, 0x70, 0x70);
  expect(inp(f, 0x71)).toBe(0x3f);
  expect(inp(f, 0x3fe, 4) & 0xffff0000).toBe(0xffff0000 | 0); // 400H.. is nobody's
});

test("addresses that nobody claims read all ones; the test memory only exists with the test ports", async () => {
  const f = await vmFixture();
  expect(f.k.busRead(f.at[0], 0xfed00000n, 4)).toBe(0xffffffffn);
  expect(f.k.busRead(f.at[0], 0xfed00000n, 8)).toBe(0xffffffffffffffffn);
  expect(f.k.busRead(f.at[0], 0xff000000n, 1)).toBe(0xffn);
  const g = await vmFixture({ testPorts: true });
  g.k.busWrite(g.at[0], 0xff000010n, 8, 0x1122334455667788n);
  expect(g.k.busRead(g.at[0], 0xff000010n, 8)).toBe(0x1122334455667788n);
  expect(g.k.busRead(g.at[0], 0xff000012n, 2)).toBe(0x5566n);
  g.k.busWrite(g.at[0], 0xff00fffen, 4, 0xffffffffn);
  expect(g.k.busRead(g.at[0], 0xff00fffen, 4)).toBe(0xffffn);
});

test("the bus finds the local APIC where IA32_APIC_BASE says", async () => {
  const f = await vmFixture();
  expect(f.k.busRead(f.at[0], 0xfee00030n, 4)).toBe(0x50014n);
  expect(f.k.isMmio(f.at[0], 0xfee00fffn)).toBe(1);
  expect(f.k.isMmio(f.at[0], 0xfee01000n)).toBe(0);
  f.k.writeApicBase(f.lapic[0], 0xfed00000n | 0x800n);
  expect(f.k.busRead(f.at[0], 0xfed00030n, 4)).toBe(0x50014n);
  expect(f.k.busRead(f.at[0], 0xfee00030n, 4)).toBe(0xffffffffn);
});

// ---- UART

const print = (f: Fixture, text: string) => {
  for (const c of Buffer.from(text)) out(f, 0x3f8, c);
};

test("what the guest prints comes out as lines with its name", async () => {
  const f = await vmFixture();
  print(f, "hello\r\nworld\n");
  expect(f.lines()).toEqual(["guest: test| hello", "guest: test| world"]);
});

test("an unfinished line follows after a rest; a long one is cut", async () => {
  const f = await vmFixture();
  print(f, "login: ");
  expect(f.lines()).toEqual([]);
  f.pass(60e6);
  expect(f.lines()).toEqual(["guest: test| login: "]);
  print(f, `${"x".repeat(200)}\n`);
  expect(f.lines()).toEqual([`guest: test| ${"x".repeat(160)}`, `guest: test| ${"x".repeat(40)}`]);
});

test("a guest that prints faster than the host gives the CPU away and rests, the longer the more lines wait", async () => {
  const f = await vmFixture();
  const virt = struct(f.m, "kernel/vcpu/current.ts", "Virt", f.k.virt());
  const YIELD = 16;
  const printed = f.k.lineCount();
  while (f.k.lineCount() - printed < 500) print(f, "x\n"); // nothing drains the log here
  expect([Number(virt.rest), Number(virt.work) & YIELD]).toEqual([0, 0]);
  while (f.k.lineCount() - printed < 520) print(f, "x\n");
  expect([Number(virt.rest), Number(virt.work) & YIELD]).toEqual([8 * TSC_KHZ, YIELD]);
  while (f.k.lineCount() - printed < 640) print(f, "x\n");
  expect(Number(virt.rest)).toBeGreaterThan(3 * 8 * TSC_KHZ);
});

/** Bytes from the operator. */
function type(f: Fixture, text: string): void {
  for (const c of Buffer.from(text)) f.k.pushByte(f.vm.input, c);
  f.k.pumpInput(ARENA);
}

test("the UART looks like a 16550A to a driver that probes it", async () => {
  const f = await vmFixture();
  out(f, 0x3ff, 0xa5);
  expect(inp(f, 0x3ff)).toBe(0xa5);
  out(f, 0x3fb, 0x80);
  out(f, 0x3f8, 1);
  out(f, 0x3f9, 0);
  expect(inp(f, 0x3f8)).toBe(1);
  out(f, 0x3fb, 3);
  expect(inp(f, 0x3fb)).toBe(3);
  expect(inp(f, 0x3fa)).toBe(1);
  out(f, 0x3fa, 1);
  expect(inp(f, 0x3fa)).toBe(0xc1);
  expect(inp(f, 0x3fd)).toBe(0x60);
  out(f, 0x3fc, 0x1a); // loopback, RTS, OUT2
  expect(inp(f, 0x3fe) & 0xf0).toBe(0x90);
  out(f, 0x3f8, 0x42);
  expect(inp(f, 0x3fd) & 1).toBe(1);
  expect(inp(f, 0x3f8)).toBe(0x42);
  out(f, 0x3fc, 0);
  expect(inp(f, 0x3fe) & 0xf0).toBe(0xb0);
  expect(f.lines()).toEqual([]);
});

test("transmitter-empty interrupts: on enabling, after each byte, and gone when IIR showed them", async () => {
  const f = await vmFixture();
  expect(requested(f, 4)).toBe(false);
  out(f, 0x3f9, 2);
  expect(requested(f, 4)).toBe(true);
  expect(inp(f, 0x3fa)).toBe(2);
  expect(inp(f, 0x3fa)).toBe(1);
  out(f, 0x3f8, 0x41);
  expect(inp(f, 0x3fa)).toBe(2);
  out(f, 0x3f9, 0);
  out(f, 0x3f9, 2);
  expect(inp(f, 0x3fa)).toBe(2);
});

test("received bytes wait in the FIFO, interrupt at the trigger level or as timed out, and none is lost", async () => {
  const f = await vmFixture();
  out(f, 0x3fa, 0x87); // FIFOs on and cleared, trigger at 8
  out(f, 0x3f9, 1);
  type(f, "abc");
  expect(requested(f, 4)).toBe(true);
  expect(inp(f, 0x3fa)).toBe(0xcc);
  type(f, "defghijklmnopqrstuvwxyz");
  expect(inp(f, 0x3fa)).toBe(0xc4);
  let text = "";
  while (inp(f, 0x3fd) & 1) text += String.fromCharCode(inp(f, 0x3f8));
  expect(text).toBe("abcdefghijklmnopqrstuvwxyz");
  expect(inp(f, 0x3fa)).toBe(0xc1);
  expect(inp(f, 0x3f8)).toBe(0);
});

test("a full FIFO in loopback reports an overrun once", async () => {
  const f = await vmFixture();
  out(f, 0x3fa, 0x07);
  out(f, 0x3fc, 0x10);
  out(f, 0x3f9, 4);
  for (let i = 0; i < 17; i++) out(f, 0x3f8, i);
  expect(inp(f, 0x3fa)).toBe(0xc6);
  expect(inp(f, 0x3fd) & 3).toBe(3);
  expect(inp(f, 0x3fd) & 3).toBe(1);
  for (let i = 0; i < 16; i++) expect(inp(f, 0x3f8)).toBe(i);
});

// ---- Clock

const cmos = (f: Fixture, index: number): number => {
  out(f, 0x70, index);
  return inp(f, 0x71);
};
const setCmos = (f: Fixture, index: number, value: number) => {
  out(f, 0x70, index);
  out(f, 0x71, value);
};
const bcd = (n: number) => ((n / 10) << 4) | (n % 10);

/** The date and time registers, decoded from BCD in 24-hour mode. */
function readClock(f: Fixture): Date {
  const part = (i: number) => (cmos(f, i) >> 4) * 10 + (cmos(f, i) & 15);
  return new Date(Date.UTC(part(0x32) * 100 + part(9), part(8) - 1, part(7), part(4), part(2), part(0)));
}

test.each([1, 951782399, 951782400, 1709164800, 1735689599, 1735689600, 4102444799, 4107542399])(
  "the clock shows %i seconds since 1970 as that date",
  async (seconds) => {
    const f = await vmFixture();
    f.k.setTimeOfDay(BigInt(seconds), BigInt(f.m.clock.ticks));
    const date = new Date(seconds * 1000);
    expect(readClock(f)).toEqual(date);
    expect(cmos(f, 6)).toBe(date.getUTCDay() + 1);
  },
);

test("dates and days since 1970 convert both ways for four centuries", async () => {
  const f = await vmFixture();
  for (let day = 0; day < 146097; day += 17) {
    const date = new Date(day * 86400e3);
    const packed = (date.getUTCFullYear() << 16) | ((date.getUTCMonth() + 1) << 8) | date.getUTCDate();
    expect(f.k.dateFromDays(day)).toBe(packed);
    expect(f.k.daysFromDate(date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate())).toBe(day);
  }
});

test("binary and 12-hour mode change how the time is shown", async () => {
  const f = await vmFixture();
  f.k.setTimeOfDay(BigInt(Date.UTC(2031, 10, 23, 15, 45, 12) / 1000), BigInt(f.m.clock.ticks));
  setCmos(f, 0x0b, 0x06);
  expect([cmos(f, 4), cmos(f, 2), cmos(f, 0), cmos(f, 9)]).toEqual([15, 45, 12, 31]);
  setCmos(f, 0x0b, 0x00);
  expect(cmos(f, 4)).toBe(0x83);
  setCmos(f, 0x0b, 0x04);
  expect(cmos(f, 4)).toBe(0x83);
  f.k.setTimeOfDay(BigInt(Date.UTC(2031, 10, 23, 0, 5, 0) / 1000), BigInt(f.m.clock.ticks));
  expect(cmos(f, 4)).toBe(12);
});

test("setting the clock with SET held, and it runs on from there", async () => {
  const f = await vmFixture();
  setCmos(f, 0x0b, 0x82);
  for (const [i, n] of [
    [0x32, 20],
    [9, 42],
    [8, 2],
    [7, 28],
    [4, 23],
    [2, 59],
    [0, 58],
  ]) {
    setCmos(f, i, bcd(n));
  }
  f.pass(5e9);
  expect(readClock(f)).toEqual(new Date(Date.UTC(2042, 1, 28, 23, 59, 58)));
  setCmos(f, 0x0b, 0x02);
  f.pass(3e9);
  expect(readClock(f)).toEqual(new Date(Date.UTC(2042, 2, 1, 0, 0, 1)));
});

test("UIP rises before the second ends", async () => {
  const f = await vmFixture();
  f.k.setTimeOfDay(1_000_000_000n, BigInt(f.m.clock.ticks));
  expect(cmos(f, 10) & 0x80).toBe(0);
  f.pass(0.997e9);
  expect(cmos(f, 10) & 0x80).toBe(0);
  f.pass(0.0015e9);
  expect(cmos(f, 10) & 0x80).toBe(0x80);
  f.pass(0.002e9);
  expect(cmos(f, 10) & 0x80).toBe(0);
});

test("the update interrupt comes each second and stays until register C is read", async () => {
  const f = await vmFixture();
  cmos(f, 12);
  setCmos(f, 0x0b, 0x12);
  f.pass(1.01e9);
  expect(requested(f, 8)).toBe(true);
  expect(cmos(f, 12) & 0x90).toBe(0x90);
  expect(cmos(f, 12)).toBe(0);
  let count = 0;
  for (let i = 0; i < 100; i++) {
    f.pass(0.1e9);
    if (cmos(f, 12) & 0x10) count++;
  }
  expect(count).toBe(10);
});

test("periodic interrupts at 1024 Hz", async () => {
  const f = await vmFixture();
  setCmos(f, 0x0b, 0x42);
  let count = 0;
  for (let i = 0; i < 4000; i++) {
    f.pass(0.25e6);
    if (cmos(f, 12) & 0x40) count++;
  }
  expect(count).toBeGreaterThanOrEqual(1023);
  expect(count).toBeLessThanOrEqual(1025);
});

test("alarms: an exact time, and don't-care fields", async () => {
  const f = await vmFixture();
  f.k.setTimeOfDay(BigInt(Date.UTC(2030, 5, 1, 10, 59, 55) / 1000), BigInt(f.m.clock.ticks));
  cmos(f, 12);
  setCmos(f, 5, bcd(11));
  setCmos(f, 3, bcd(0));
  setCmos(f, 1, bcd(3));
  setCmos(f, 0x0b, 0x22);
  f.pass(7.9e9);
  expect(cmos(f, 12) & 0xa0).toBe(0);
  f.pass(0.2e9);
  expect(cmos(f, 12) & 0xa0).toBe(0xa0);
  setCmos(f, 5, 0xff);
  setCmos(f, 3, 0xc0);
  f.pass(59.8e9);
  expect(cmos(f, 12) & 0x20).toBe(0);
  f.pass(0.3e9);
  expect(cmos(f, 12) & 0xa0).toBe(0xa0);
});

test("CMOS memory tells the guest's RAM and keeps what it is given", async () => {
  const f = await vmFixture({ memory: 64 * 1024 * 1024 });
  expect(cmos(f, 0x15) | (cmos(f, 0x16) << 8)).toBe(640);
  expect(cmos(f, 0x30) | (cmos(f, 0x31) << 8)).toBe(63 * 1024);
  expect(cmos(f, 0x34) | (cmos(f, 0x35) << 8)).toBe((48 * 1024) / 64);
  setCmos(f, 0x0f, 0x0a);
  expect(cmos(f, 0x0f)).toBe(0x0a);
  expect(cmos(f, 0x0d)).toBe(0x80);
  setCmos(f, 0x0d, 0);
  expect(cmos(f, 0x0d)).toBe(0x80);
});

// ---- Power, reset

test("the PM timer runs at 3.579545 MHz over 32 bits", async () => {
  const f = await vmFixture();
  const before = inp(f, 0x608, 4);
  f.pass(1e9);
  expect((inp(f, 0x608, 4) - before) >>> 0).toBeGreaterThanOrEqual(3579544);
  expect((inp(f, 0x608, 4) - before) >>> 0).toBeLessThanOrEqual(3579546);
  expect(inp(f, 0x608) | (inp(f, 0x609) << 8)).toBe(inp(f, 0x608, 2));
  f.m.clock.ticks += TSC_KHZ * 1000 * 1200; // past 2^32 PM ticks
  expect(inp(f, 0x608, 4)).toBe(Math.floor((f.m.clock.ticks * 3579545) / (TSC_KHZ * 1000)) % 2 ** 32);
});

test("S5 powers off; another sleep type and SLP_TYP without SLP_EN do not", async () => {
  const f = await vmFixture({ vcpus: 2 });
  expect(inp(f, 0x604, 2) & 1).toBe(1);
  out(f, 0x604, 5 << 10, 2);
  out(f, 0x604, (1 << 13) | (3 << 10), 2);
  expect(f.vm.stopReason).toBe(0);
  out(f, 0x604, (1 << 13) | (5 << 10), 2);
  expect(f.vm.stopReason).toBe(1);
  expect(f.vcpu[0].pending & STOP).toBe(STOP);
  expect(f.vcpu[1].pending & STOP).toBe(STOP);
});

test("the power button raises the SCI when enabled, and writing one clears it", async () => {
  const f = await vmFixture();
  out(f, 0x4d1, 2);
  f.k.pressPowerButton(ARENA);
  expect(inp(f, 0x600, 2)).toBe(0x100);
  expect(requested(f, 9)).toBe(false);
  out(f, 0x602, 0x100, 2);
  expect(requested(f, 9)).toBe(true);
  out(f, 0x600, 0x100, 2);
  expect(inp(f, 0x600, 2)).toBe(0);
  expect(requested(f, 9)).toBe(false);
});

test.each([
  [
    "CF9H",
    (f: Fixture) => {
      out(f, 0xcf9, 2);
      out(f, 0xcf9, 6);
    },
  ],
  ["the keyboard controller", (f: Fixture) => out(f, 0x64, 0xfe)],
  [
    "the keyboard controller's output port",
    (f: Fixture) => {
      out(f, 0x64, 0xd1);
      out(f, 0x60, 0xfe);
    },
  ],
  ["port 92H", (f: Fixture) => out(f, 0x92, 1)],
])("%s resets the VM", async (_name, act) => {
  const f = await vmFixture();
  expect(f.vcpu[0].pending & RESET).toBe(0);
  act(f);
  expect(f.vcpu[0].pending & RESET).toBe(RESET);
  expect(f.vm.stopReason).toBe(2);
});

test("the keyboard controller passes its self-test, has A20 open and no devices", async () => {
  const f = await vmFixture();
  const ask = (command: number) => {
    out(f, 0x64, command);
    expect(inp(f, 0x64) & 1).toBe(1);
    return inp(f, 0x60);
  };
  expect(ask(0xaa)).toBe(0x55);
  expect(ask(0xab)).toBe(0x00);
  expect(ask(0xa9)).toBe(0x01);
  expect(ask(0xd0) & 3).toBe(3);
  out(f, 0x64, 0x60);
  out(f, 0x60, 0x47);
  expect(ask(0x20)).toBe(0x47);
  expect(inp(f, 0x64) & 1).toBe(0);
  expect(inp(f, 0x92)).toBe(2);
});

// ---- PCI

test("PCI: the host bridge answers, every other device is absent, CF8H only as a whole", async () => {
  const f = await vmFixture();
  const config = (bus: number, device: number, fn: number, reg: number, bytes = 4): number => {
    out(f, 0xcf8, 0x80000000 | (bus << 16) | (device << 11) | (fn << 8) | (reg & 0xfc), 4);
    return inp(f, 0xcfc + (reg & 3), bytes);
  };
  expect(config(0, 0, 0, 0)).toBe(0x29c08086);
  expect(config(0, 0, 0, 0, 2)).toBe(0x8086);
  expect(config(0, 0, 0, 2, 2)).toBe(0x29c0);
  expect(config(0, 0, 0, 0x0a, 2)).toBe(0x0600);
  expect(config(0, 0, 0, 0x0e, 1)).toBe(0);
  for (let device = 0; device < 32; device++) {
    for (let fn = 0; fn < 8; fn++) if (device || fn) expect(config(0, device, fn, 0)).toBe(0xffffffff);
  }
  expect(config(1, 0, 0, 0)).toBe(0xffffffff);
  expect(config(0, 0, 0, 3, 2)).toBe(0xffff); // leaves the register
  out(f, 0xcfc, 0, 4);
  expect(config(0, 0, 0, 0)).toBe(0x29c08086);
  out(f, 0xcf8, 0x80000000, 4);
  expect(inp(f, 0xcf8, 4)).toBe(0x80000000);
  out(f, 0xcfb, 0x00);
  expect(inp(f, 0xcf8, 4)).toBe(0x80000000);
  out(f, 0xcf8, 0, 4);
  expect(inp(f, 0xcfc, 4)).toBe(0xffffffff);
});

test("PCI: memory-mapped configuration space shows the same functions, with no extended capabilities", async () => {
  const f = await vmFixture();
  const at = (device: number, fn: number, reg: number) => 0xc0000000n + BigInt((device << 15) | (fn << 12) | reg);
  expect(f.k.busRead(f.at[0], at(0, 0, 0), 4)).toBe(0x29c08086n);
  expect(f.k.busRead(f.at[0], at(0, 0, 2), 2)).toBe(0x29c0n);
  expect(f.k.busRead(f.at[0], at(0, 0, 0x0b), 1)).toBe(6n);
  expect(f.k.busRead(f.at[0], at(0, 0, 0x100), 4)).toBe(0n);
  expect(f.k.busRead(f.at[0], at(0, 1, 0), 4)).toBe(0xffffffffn);
  expect(f.k.busRead(f.at[0], at(31, 7, 0xffc), 4)).toBe(0xffffffffn);
  expect(f.k.busRead(f.at[0], 0xc0100000n, 4)).toBe(0xffffffffn);
  f.k.busWrite(f.at[0], at(0, 0, 0), 4, 0n);
  expect(f.k.busRead(f.at[0], at(0, 0, 0), 4)).toBe(0x29c08086n);
});

// ---- Test ports

test("test ports: exit code, the word Shutdown, characters, scratch bytes, lines", async () => {
  const f = await vmFixture({ testPorts: true });
  out(f, 0xe0, 0x12345678, 4);
  expect(inp(f, 0xe1, 2)).toBe(0x3456);
  out(f, 0xe2, 0xab);
  expect(inp(f, 0xe0, 4)).toBe(0x12ab5678);
  for (const c of Buffer.from("hi\n")) out(f, 0xe9, c);
  expect(f.lines()).toEqual(["guest: test| hi"]);
  out(f, 0x2005, 1);
  expect(requested(f, 5)).toBe(true);
  out(f, 0xf4, 42, 4);
  expect([f.vm.stopReason, f.vm.stopCode]).toEqual([1, 42]);
  const g = await vmFixture({ testPorts: true });
  for (const c of Buffer.from("ShShutdow")) out(g, 0x8900, c);
  expect(g.vm.stopReason).toBe(0);
  out(g, 0x8900, "n".charCodeAt(0));
  expect(g.vm.stopReason).toBe(1);
});

test("firmware configuration tells the signature, the RAM and the number of vCPUs, byte by byte", async () => {
  const f = await vmFixture({ testPorts: true, vcpus: 3 });
  const item = (index: number, bytes: number) => {
    out(f, 0x510, index, 2);
    return Array.from({ length: bytes }, () => inp(f, 0x511)).reduceRight((value, byte) => value * 256 + byte, 0);
  };
  expect(item(0, 4)).toBe(Buffer.from("QEMU").readUInt32LE());
  expect(item(1, 4)).toBe(1);
  expect(item(3, 8)).toBe(Number(f.vm.memoryBytes));
  expect([item(5, 2), item(15, 2)]).toEqual([3, 3]);
  expect([item(4, 2), item(0xffff, 4), item(0x8005, 2)]).toEqual([0, 0, 0]); // nothing else is there
  out(f, 0x510, 5, 2);
  expect(Array.from({ length: 300 }, () => inp(f, 0x511)).reduce((a, b) => a + b)).toBe(3); // zeros behind its end
  out(f, 0x511, 9);
  expect(item(5, 1)).toBe(3);
  expect([inp(f, 0x510, 2), inp(f, 0x511, 2), inp(f, 0x511, 4)]).toEqual([0xffff, 0xffff, 0xffffffff]);
});

test("without test ports none of them exists", async () => {
  const f = await vmFixture();
  for (const port of [0xe9, 0xf4, 0x8900, 0xe0, 0x2000, 0x510, 0x511]) expect(inp(f, port)).toBe(0xff);
  out(f, 0xf4, 1);
  expect(f.vm.stopReason).toBe(0);
});

// ---- Paravirtual clock

test("the clock structure gives nanoseconds since the VM's creation from the guest's TSC", async () => {
  const f = await vmFixture({ vcpus: 2, tscOffset: -900_000n });
  const clock = (i: number, gpa: bigint) => f.k.writeClockMsr(f.at[i], 0x4b564d01, gpa | 1n);
  f.pass(5e6);
  const writtenAt = f.m.clock.ticks;
  expect(clock(0, 0x5000n)).toBe(1);
  f.pass(3e6);
  expect(clock(1, 0x5040n)).toBe(1);
  const base = 64 * 1024 * 1024;
  const time = (gpa: number) => {
    const u32 = (o: number) => Number(f.m.ram.read64(base + gpa + o) & 0xffffffffn);
    expect(u32(0) % 2).toBe(0);
    expect((u32(28) >> 8) & 1).toBe(1);
    const shift = (u32(28) << 24) >> 24;
    const delta = BigInt(f.m.clock.ticks) - 900_000n - f.m.ram.read64(base + gpa + 8);
    const scaled = shift < 0 ? delta >> BigInt(-shift) : delta << BigInt(shift);
    return f.m.ram.read64(base + gpa + 16) + ((scaled * BigInt(u32(24))) >> 32n);
  };
  expect(f.m.ram.read64(base + 0x5008)).toBe(BigInt(writtenAt) - 900_000n);
  for (let i = 0; i < 5; i++) {
    f.pass(777e6);
    const ns = ((BigInt(f.m.clock.ticks) - f.vm.createdTsc) * 1_000_000n) / BigInt(TSC_KHZ);
    for (const gpa of [0x5000, 0x5040]) {
      expect(time(gpa) - ns).toBeGreaterThanOrEqual(-3n);
      expect(time(gpa) - ns).toBeLessThanOrEqual(3n);
    }
  }
  expect(f.k.readClockMsr(f.at[0], 0x4b564d01)).toBe(0x5001n);
});

test("scale factors of the clock for rates from 1 MHz to 10 GHz", async () => {
  const f = await vmFixture();
  for (const hz of [1_000_000, 4_000_000, 50_000_000, 999_999_999, 1_000_000_000, 2_100_000_000, 3_500_000_000, 1e10]) {
    const shift = f.k.shiftFor(BigInt(hz)) | 0;
    const mul = BigInt(f.k.multiplierFor(BigInt(hz), shift));
    const second = BigInt(hz);
    const scaled = shift < 0 ? second >> BigInt(-shift) : second << BigInt(shift);
    expect(Math.abs(Number((scaled * mul) >> 32n) - 1e9)).toBeLessThanOrEqual(2);
  }
});

test("clock MSRs outside of RAM or unaligned are refused", async () => {
  const f = await vmFixture();
  for (const gpa of [64n * 1024n * 1024n, 64n * 1024n * 1024n - 16n, 0x5002n, 0xffff_ffff_ffff_fff0n]) {
    expect(f.k.writeClockMsr(f.at[0], 0x4b564d01, gpa | 1n)).toBe(0);
  }
  expect(f.k.writeClockMsr(f.at[0], 0x4b564d00, 64n * 1024n * 1024n)).toBe(0);
  expect(f.k.writeClockMsr(f.at[0], 0x4b564d01, 0n)).toBe(1);
});

test("the wall clock is the time of the VM's creation", async () => {
  const f = await vmFixture();
  f.k.setTimeOfDay(1_700_000_000n, f.vm.createdTsc);
  f.pass(2.5e9);
  expect(f.k.writeClockMsr(f.at[0], 0x4b564d00, 0x6000n)).toBe(1);
  const base = 64 * 1024 * 1024 + 0x6000;
  expect(f.m.ram.read64(base) & 1n).toBe(0n);
  expect(f.m.ram.read64(base) >> 32n).toBe(1_700_000_000n);
  expect(f.m.ram.read64(base + 8) & 0xffffffffn).toBe(0n);
});

test("a reset brings every device back to power-up", async () => {
  const f = await vmFixture({ vcpus: 2 });
  out(f, 0x21, 0x00);
  out(f, 0x3ff, 0x55);
  out(f, 0x43, 0x34);
  out(f, 0x40, 0x10);
  out(f, 0x40, 0x10);
  f.k.writeApicBase(f.lapic[1], 0xfee00c00n);
  f.k.resetPlatform(ARENA);
  expect(inp(f, 0x3ff)).toBe(0);
  expect(f.deadline(f.at[0])).toBe(0xffffffffffffffffn);
  expect(f.vcpu[1].apicBase).toBe(0xfee00800n);
  expect(f.vcpu[0].apicBase).toBe(0xfee00900n);
  expect(struct(f.m, "kernel/virq/vlapic.ts", "Vlapic", f.lapic[0]).timerDeadline).toBe(0n);
});
