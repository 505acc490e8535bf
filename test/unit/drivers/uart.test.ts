// The UART: found or not, never waited for without end, every byte in order.

import { expect, test } from "vitest";
import { FakeUart, type UartOptions } from "../../fake/devices/uart.ts";
import { struct } from "../../fake/layout.ts";
import { machine } from "../../fake/machine.ts";

const NONE = 0xffff_ffff;
const TEXT = 0x30_0000;

async function fresh(options: UartOptions | null = {}) {
  const m = await machine({ entries: ["drivers/uart.ts"] });
  const device = options ? new FakeUart(m.clock, options) : null;
  if (device) m.ports.attach(0x3f8, 8, device);
  const send = (text: string) => {
    m.memory.buffer.byteLength;
    new Uint8Array(m.memory.buffer, TEXT, text.length).set(Buffer.from(text, "latin1"));
    m.kernel.putBytes(m.kernel.uartAt(0), TEXT, text.length);
  };
  const state = () => struct(m, "drivers/uart.ts", "Uart", m.kernel.uartAt(0));
  const received = () => {
    let text = "";
    for (let byte = m.kernel.get(m.kernel.uartAt(0)); byte !== NONE; byte = m.kernel.get(m.kernel.uartAt(0)))
      text += String.fromCharCode(byte);
    return text;
  };
  return { m, k: m.kernel, device: device as FakeUart, send, state, received };
}

test("a port without a UART is not taken for one, at once", async () => {
  const { m, k } = await fresh(null);
  expect(k.open(0x3f8n, 0, 0, 115200)).toBe(NONE);
  expect(m.counts.in8).toBeLessThan(10);
});

test("a UART without a scratch register is refused rather than guessed at", async () => {
  const { k } = await fresh({ model: "8250" });
  expect(k.open(0x3f8n, 0, 0, 115200)).toBe(NONE);
});

test.each([
  ["16550", 16],
  ["16450", 1],
] as const)("a %s is set to 8N1 at the baud asked for, and its FIFO of %i is used", async (model, depth) => {
  const { k, device, state } = await fresh({ model });
  expect(k.open(0x3f8n, 0, 0, 9600)).toBe(0);
  expect(device.divisor).toBe(12);
  expect(device.lineControl).toBe(3);
  expect(device.modemControl).toBe(0x0b);
  expect(state()).toMatchObject({ fifoBytes: depth, irq: 4 });
});

test("baud 0 leaves the divisor as firmware set it", async () => {
  const { k, device } = await fresh();
  device.divisor = 3;
  k.open(0x3f8n, 0, 0, 0);
  expect(device.divisor).toBe(3);
});

test.each(["16550", "16450"] as const)(
  "every byte arrives in order on a slow wire, and flush waits for the last (%s)",
  async (model) => {
    const { m, k, device, send } = await fresh({ model, byteTicks: 2000 });
    k.open(0x3f8n, 0, 0, 115200);
    const text = Array.from({ length: 300 }, (_, i) => String.fromCharCode(0x20 + (i % 90))).join("");
    send(text);
    k.flush(k.uartAt(0));
    expect(device.text).toBe(text);
    expect(device.overruns).toBe(0);
    expect(m.clock.ticks).toBeGreaterThan(300 * 2000);
  },
);

test("a transmitter that stands still is given up once, not at every byte", async () => {
  const { m, k, send, state } = await fresh({ byteTicks: Number.POSITIVE_INFINITY });
  k.open(0x3f8n, 0, 0, 115200);
  send("x".repeat(17));
  expect(state().isDead).toBe(1);
  const before = m.counts.in8;
  send("y".repeat(1000));
  k.flush(k.uartAt(0));
  expect(m.counts.in8).toBe(before);
  expect(state().dropped).toBe(1001);
});

test("received bytes come out of the ring in order; what does not fit is dropped and counted", async () => {
  const { k, device, state, received } = await fresh();
  k.open(0x3f8n, 0, 0, 115200);
  device.type("hello");
  k.receive(k.uartAt(0));
  expect(received()).toBe("hello");
  const long = Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join("");
  device.type(long);
  k.receive(k.uartAt(0));
  device.type("lost");
  k.receive(k.uartAt(0));
  expect(received()).toBe(long);
  expect(state().dropped).toBe(4);
  device.type("again");
  k.receive(k.uartAt(0));
  expect(received()).toBe("again");
});

test("input raises the interrupt only after enableInput", async () => {
  let interrupts = 0;
  const { k, device } = await fresh({ onInterrupt: () => interrupts++ });
  k.open(0x3f8n, 0, 0, 115200);
  device.type("a");
  expect(interrupts).toBe(0);
  k.enableInput(k.uartAt(0));
  device.type("b");
  expect(interrupts).toBe(1);
});

test("isReady says whether a byte can leave without waiting", async () => {
  const { m, k, send } = await fresh({ byteTicks: 100_000 });
  k.open(0x3f8n, 0, 0, 115200);
  expect(k.isReady(k.uartAt(0))).toBe(1);
  send("0123456789abcdef");
  expect(k.isReady(k.uartAt(0))).toBe(0);
  m.clock.advance(16 * 100_000);
  expect(k.isReady(k.uartAt(0))).toBe(1);
});

test("a device that vanishes does not hold receive up", async () => {
  const { m, k } = await fresh();
  k.open(0x3f8n, 0, 0, 115200);
  m.ports.detach(0x3f8);
  m.ports.attach(0x3f8, 8, { read: (r) => (r === 5 ? 0x61 : 0), write: () => undefined });
  const before = m.counts.in8;
  k.receive(k.uartAt(0));
  expect(m.counts.in8 - before).toBeLessThan(600);
});

test("at most four UARTs are opened", async () => {
  const { m, k } = await fresh();
  for (let i = 1; i < 6; i++) m.ports.attach(0x1000 * i, 8, new FakeUart(m.clock));
  expect(k.open(0x3f8n, 0, 0, 0)).toBe(0);
  const opened = [1, 2, 3, 4, 5].map((i) => k.open(BigInt(0x1000 * i), 0, 0, 0));
  expect(opened).toEqual([1, 2, 3, NONE, NONE]);
});
