// PCI: every function that bridges lead to, once; BARs sized without disturbing anyone; lists bounded.

import { expect, test } from "vitest";
import { type FakeFunction, FakePci } from "../../fake/devices/pci.ts";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

async function scan(functions: FakeFunction[]) {
  const m = await machine({ entries: ["test/unit/drivers/pci.as.ts"] });
  const pci = new FakePci(functions);
  pci.attach(m);
  m.kernel.reset();
  m.kernel.start();
  const found = Array.from({ length: Math.min(m.kernel.count(), 256) }, (_, i) => {
    const [address, id, classCode, header, capabilities, bars] = [0, 1, 2, 3, 4, 5].map(
      (w) => m.kernel.field(i, w) as number,
    );
    return { address, id, classCode, header, capabilities, bars };
  });
  const bar = (i: number, n: number) => [
    m.kernel.barBase(m.kernel.functionAt(i), n),
    m.kernel.barBytes(m.kernel.functionAt(i), n),
  ];
  return { m, pci, found, bar };
}

const HOST: FakeFunction = {
  bus: 0,
  device: 0,
  vendor: 0x8086,
  id: 0x1237,
  class: 0x060000,
  bars: [{ base: 0xe000_0000n, bytes: 0x1000_0000n, kind: "memory32" }],
};

test("a machine without PCI has no functions", async () => {
  const m = await machine({ entries: ["test/unit/drivers/pci.as.ts"] });
  m.kernel.reset();
  m.kernel.start();
  expect(m.kernel.count()).toBe(0);
});

test("functions of multi-function devices are found, those of others are not looked for", async () => {
  const { found } = await scan([
    HOST,
    { bus: 0, device: 1, vendor: 0x8086, id: 0x7000, class: 0x060100, multi: true },
    { bus: 0, device: 1, fn: 3, vendor: 0x8086, id: 0x7113, class: 0x068000 },
    { bus: 0, device: 31, vendor: 0x1af4, id: 0x1041, class: 0x020000 },
    { bus: 0, device: 31, fn: 1, vendor: 0x1234, id: 0x1111, class: 0 },
  ]);
  expect(found.map((f) => f.address)).toEqual([0, 8, 0xb, 0xf8]);
  expect(found[1]).toMatchObject({ id: 0x7000_8086, classCode: 0x060100 });
});

test("BARs of every kind have their base and size, and hold what they held before", async () => {
  const bars = [
    { base: 0xfeb0_0000n, bytes: 0x1000n, kind: "memory32" as const },
    { base: 0x12_0000_0000n, bytes: 0x1_0000_0000n, kind: "memory64" as const },
    { base: 0xc040n, bytes: 0x20n, kind: "port" as const },
    { base: 0x8_0000_0000n, bytes: 0x4000n, kind: "memory64" as const },
  ];
  const { pci, found, bar } = await scan([
    HOST,
    { bus: 0, device: 3, vendor: 0x1af4, id: 0x1041, class: 0x020000, bars },
  ]);
  expect(found[1].bars).toBe(0b011011);
  expect(bar(1, 0)).toEqual([0xfeb0_0000n, 0x1000n]);
  expect(bar(1, 1)).toEqual([0x12_0000_0000n, 0x1_0000_0000n]);
  expect(bar(1, 3)).toEqual([0xc040n, 0x20n]);
  expect(bar(1, 4)).toEqual([0x8_0000_0000n, 0x4000n]);
  expect([0, 1, 2, 3, 4, 5].map((n) => pci.bar(0, 3, 0, n))).toEqual([0xfeb0_0000, 4, 0x12, 0xc041, 4, 8]);
  expect(pci.command(0, 3)).toBe(7);
  expect(pci.unsafeBarWrites).toBe(0);
});

test("the host bridge's BARs are left alone", async () => {
  const { pci, found } = await scan([HOST]);
  expect(found[0].bars).toBe(0);
  expect(pci.unsafeBarWrites).toBe(0);
});

test("buses behind bridges are scanned, each once, also when bridges form a circle", async () => {
  const { found } = await scan([
    HOST,
    { bus: 0, device: 2, vendor: 0x8086, id: 1, class: 0x060400, header: 1, secondary: 5 },
    { bus: 0, device: 3, vendor: 0x8086, id: 2, class: 0x060400, header: 1, secondary: 5 },
    { bus: 5, device: 0, vendor: 0x8086, id: 3, class: 0x060400, header: 1, secondary: 0 },
    { bus: 5, device: 1, vendor: 0x8086, id: 4, class: 0x060400, header: 1, secondary: 9 },
    { bus: 9, device: 0, vendor: 0x1af4, id: 5, class: 0x010000 },
  ]);
  expect(found.map((f) => f.id >>> 16)).toEqual([0x1237, 1, 2, 3, 4, 5]);
});

test("capabilities are listed, and a list that runs in a circle ends", async () => {
  const { found, m } = await scan([
    HOST,
    { bus: 0, device: 1, vendor: 1, id: 1, class: 0x020000, capabilities: [0x05, 0x11, 0x10, 0x09] },
    { bus: 0, device: 2, vendor: 1, id: 2, class: 0x020000, capabilities: [0x05, 0x01], loop: true },
  ]);
  expect(found.map((f) => f.capabilities)).toEqual([0, 15, 1]);
  expect(m.clock.ticks).toBeLessThan(2_000_000);
});

test("more functions than there is room for end in one warning", async () => {
  const functions: FakeFunction[] = Array.from({ length: 10 }, (_, i) => ({
    bus: 0,
    device: i,
    vendor: 1,
    id: i,
    class: 0x060400,
    header: 1,
    secondary: i + 1,
  }));
  for (let bus = 1; bus <= 10; bus++) {
    for (let device = 0; device < 32; device++) functions.push({ bus, device, vendor: 1, id: device, class: 0x020000 });
  }
  const { found, m } = await scan(functions);
  expect(found).toHaveLength(256);
  expect(logLines(m)).toEqual(["pci: more than 256 functions: the rest is ignored"]);
});

test("the report has a line for each function", async () => {
  const { m } = await scan([
    HOST,
    {
      bus: 0,
      device: 3,
      vendor: 0x1af4,
      id: 0x1041,
      class: 0x020000,
      capabilities: [0x11],
      bars: [{ base: 0xfeb0_0000n, bytes: 0x1000n, kind: "memory32" }],
    },
  ]);
  m.kernel.report();
  expect(logLines(m)).toEqual([
    "pci: 0000:00:00.0 8086:1237 class 060000",
    "pci: 0000:00:03.0 1af4:1041 class 020000, MSI-X, BAR0 0xfeb00000 4 KiB",
  ]);
});
