// The console: what is in the log reaches the sinks that the command line names, once and in order.

import { expect, test } from "vitest";
import { FakeUart } from "../../fake/devices/uart.ts";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

const TEXT = 0x30_0000;
const [ERROR, WARN, INFO, DEBUG] = [0, 1, 2, 3];

async function fresh(commandLine = "", cpus = 1, byteTicks = 50) {
  const m = await machine({ entries: ["test/unit/drivers/console.as.ts"], cpus });
  const [com1, com2] = [new FakeUart(m.clock, { byteTicks }), new FakeUart(m.clock)];
  m.ports.attach(0x3f8, 8, com1);
  m.ports.attach(0x2f8, 8, com2);
  let e9 = "";
  m.ports.attach(0xe9, 1, {
    read: () => 0xe9,
    write: (_o, _b, value) => {
      e9 += String.fromCharCode(value);
    },
  });
  new Uint8Array(m.memory.buffer, TEXT, commandLine.length).set(Buffer.from(commandLine));
  m.kernel.parse(TEXT, commandLine.length);
  m.kernel.open();
  const lines = (uart: FakeUart) => {
    m.clock.advance(1_000_000);
    return uart.text.split("\r\n").slice(0, -1);
  };
  return { m, k: m.kernel, com1, com2, lines, e9: () => e9 };
}

test("without console= the log goes to COM1 at 115200, with level names for what is not information", async () => {
  const { k, com1, lines } = await fresh();
  for (const level of [ERROR, WARN, INFO, DEBUG]) k.say(level, level);
  k.drain();
  expect(com1.divisor).toBe(1);
  expect(lines(com1)).toEqual([
    "[    0.000000 0] ERROR test: line 0",
    "[    0.000000 0] WARN test: line 1",
    "[    0.000000 0] test: line 2",
  ]);
});

test("time stamps are the moment of the line, in seconds since the counter's zero", async () => {
  const { m, k, com1, lines } = await fresh();
  k.setKhz(1_000_000n);
  m.clock.ticks = 12_345_678_900;
  k.say(INFO, 1);
  m.clock.ticks += 5_000_000_000;
  k.drain();
  expect(lines(com1)).toEqual(["[   12.345678 0] test: line 1"]);
});

test.each([
  ["error", 1],
  ["warn", 2],
  ["info", 3],
  ["debug", 4],
])("loglevel=%s shows %i of the four levels", async (level, shown) => {
  const { k, com1, lines } = await fresh(`loglevel=${level}`);
  for (const l of [ERROR, WARN, INFO, DEBUG]) k.say(l, l);
  k.drain();
  expect(lines(com1)).toHaveLength(shown);
});

test("console= may be given several times, with ports, names and baud rates", async () => {
  const { k, com1, com2, lines, e9 } = await fresh("console=0x2f8,9600 console=e9");
  k.say(INFO, 7);
  k.drain();
  expect(com2.divisor).toBe(12);
  expect(lines(com2)).toEqual(["[    0.000000 0] test: line 7"]);
  expect(e9()).toBe("[    0.000000 0] test: line 7\r\n");
  expect(com1.sent).toEqual([]);
});

test("console=off keeps the log in its ring", async () => {
  const { m, k, com1, e9 } = await fresh("console=off");
  k.say(INFO, 7);
  k.drain();
  m.clock.advance(100_000);
  expect([com1.text, e9()]).toEqual(["", ""]);
  expect(logLines(m)).toEqual(["test: line 7"]);
});

test.each(["com9", "com3", "0x", "0x3f8,", "0x3f8,fast", "mmio:", "mmio:0xg", "com1,9600,2", ""])(
  "console=%s that is not there or not understood gets a line with its text",
  async (value) => {
    const { m } = await fresh(`console=${value}`);
    const expected = `console: console=${value} is not there or not understood`;
    if (!value.startsWith("mmio")) expect(logLines(m)).toEqual([expected]);
    else expect(logLines(m)).toEqual([]); // openMapped() says it, once memory can be mapped
  },
);

test("a line is printed once, whichever CPU drains", async () => {
  const { m, k, com1, lines } = await fresh("", 2);
  m.view.setUint32(Number(m.percpu(1)) + 4, 1, true);
  k.say(INFO, 1);
  m.on(1, () => k.say(INFO, 2));
  m.on(1, () => k.drain());
  k.drain();
  k.say(INFO, 3);
  k.drain();
  expect(lines(com1)).toEqual([
    "[    0.000000 0] test: line 1",
    "[    0.000000 1] test: line 2",
    "[    0.000000 0] test: line 3",
  ]);
});

test("lines that were overwritten before anybody drained are counted", async () => {
  const { k } = await fresh("console=off");
  for (let i = 0; i < 1100; i++) k.say(INFO, i);
  k.drain();
  expect(k.lostLines()).toBe(76);
});

test("the place of lost lines says how many they were", async () => {
  const { k, com1, lines } = await fresh();
  k.say(INFO, 1);
  k.drain();
  for (let i = 2; i < 1102; i++) k.say(INFO, i);
  k.drain();
  const all = lines(com1);
  expect(all.slice(0, 3)).toEqual([
    "[    0.000000 0] test: line 1",
    "console: 76 lines are lost here",
    "[    0.000000 0] test: line 78",
  ]);
  expect([all.length, all.at(-1)]).toEqual([1026, "[    0.000000 0] test: line 1101"]);
});

test("a line whose CPU trapped in the middle holds the others up only for a while, and not at the end", async () => {
  const { m, k, com1, lines } = await fresh();
  const unfinished = () => {
    k.say(INFO, 1);
    // The slot's sequence becomes odd again: written, not committed.
    const ring = Buffer.from(m.memory.buffer, 0, 0x40_0000).indexOf("BASALTLG");
    const count = m.view.getUint32(ring + 16, true);
    const slot = ring + 64 + 256 * (count - 1);
    m.view.setUint32(slot, m.view.getUint32(slot, true) - 1, true);
  };
  unfinished();
  k.say(INFO, 2);
  k.drain();
  expect(lines(com1)).toEqual([]);
  for (let i = 0; i < 5; i++) k.drain();
  expect(lines(com1)).toEqual(["[    0.000000 0] test: line 2"]);
  unfinished();
  k.say(INFO, 3);
  k.drainLast();
  expect(com1.text).toContain("line 3\r\n"); // flushed: nothing is left in the transmitter
});

test("the operator's echo never lands in the middle of a line of the log", async () => {
  const { m, k, com1, lines } = await fresh("", 1, 3000);
  k.say(INFO, 1);
  k.say(INFO, 2);
  expect(k.drainSome()).toBe(1); // the FIFO is full before the first line is out
  m.view.setUint16(TEXT, 0x2121, true);
  k.writeEcho(TEXT, 2);
  expect(lines(com1)).toEqual(["[    0.000000 0] test: line 1"]);
  k.drain();
  expect(lines(com1)).toEqual(["[    0.000000 0] test: line 1", "!![    0.000000 0] test: line 2"]);
});
