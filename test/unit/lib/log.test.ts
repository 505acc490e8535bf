// The log ring: whole lines, in order, from several CPUs, with nothing unprintable in them.

import fc from "fast-check";
import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

const ENTRIES = ["test/unit/lib/log.as.ts"];
const BUFFER = 0x30_0000; // linear memory that the module does not use

async function fresh(cpus = 1) {
  const m = await machine({ entries: ENTRIES, cpus });
  return { m, k: m.kernel };
}

test("a line holds area, text, decimal and hexadecimal numbers", async () => {
  const { m, k } = await fresh();
  k.hello(0n);
  k.hello(1234567890123456789n);
  k.hello(0xffff_ffff_ffff_ffffn);
  expect(logLines(m)).toEqual([
    "test: n=0 h=0x0",
    "test: n=1234567890123456789 h=0x112210f47de98115",
    "test: n=18446744073709551615 h=0xffffffffffffffff",
  ]);
});

test("numbers print as JavaScript prints them", async () => {
  const { m, k } = await fresh();
  fc.assert(
    fc.property(fc.bigInt(0n, 0xffff_ffff_ffff_ffffn), (n) => {
      k.hello(n);
      return logLines(m).at(-1) === `test: n=${n} h=0x${n.toString(16)}`;
    }),
    { numRuns: 100 },
  );
});

test("sizes take the largest unit that divides them", async () => {
  const { m, k } = await fresh();
  for (const n of [0n, 1n, 1023n, 1024n, 640n * 1024n, 512n << 20n, 3n << 30n, 16n << 40n, (1n << 20n) + 1n])
    k.sized(n);
  expect(logLines(m).map((l) => l.slice(6))).toEqual([
    "0 bytes",
    "1 bytes",
    "1023 bytes",
    "1 KiB",
    "640 KiB",
    "512 MiB",
    "3 GiB",
    "16 TiB",
    "1048577 bytes",
  ]);
});

test("decPadded fills from the left and never cuts", async () => {
  const { m, k } = await fresh();
  k.padded(42n, 6);
  k.padded(1234567n, 6);
  expect(logLines(m)).toEqual(["test: 000042", "test: 1234567"]);
});

test("a line that is too long is cut and says so; control characters do not get through", async () => {
  const { m, k } = await fresh();
  new Uint8Array(m.memory.buffer, BUFFER, 4096).fill(0x41);
  k.raw(BUFFER, 4096);
  m.view.setUint32(BUFFER, 0x1b0a0d07);
  k.raw(BUFFER, 4);
  const [long, control] = logLines(m);
  expect(long).toHaveLength(232);
  expect(long.endsWith("AAA...")).toBe(true);
  expect(control).toBe("raw: ....");
});

test("debug lines are recorded only after setRecordLevel", async () => {
  const { m, k } = await fresh();
  k.quiet();
  expect(k.lineCount()).toBe(0);
  k.loud();
  expect(logLines(m)).toEqual(["test: recorded"]);
});

test("a line that a fault interrupts is committed as far as it got", async () => {
  const { m, k } = await fresh();
  k.openOnly();
  k.hello(7n);
  expect(logLines(m)).toEqual(["test: interrupted", "test: n=7 h=0x7"]);
});

test("lines that two CPUs build at the same time do not mix, and carry their CPU", async () => {
  const { m, k } = await fresh(2);
  m.view.setUint32(Number(m.percpu(0)) + 4, 0, true);
  m.view.setUint32(Number(m.percpu(1)) + 4, 1, true);
  k.openOnly();
  m.on(1, () => k.hello(1n));
  k.hello(2n);
  expect(logLines(m)).toEqual(["test: n=1 h=0x1", "test: interrupted", "test: n=2 h=0x2"]);
  k.read(0);
  expect(m.view.getUint32(k.recordAt() + 12, true)).toBe(1);
});

test("the ring keeps the last 1024 lines and says that older ones are lost", async () => {
  const { k } = await fresh();
  for (let i = 0; i < 1500; i++) k.hello(BigInt(i));
  expect(k.lineCount()).toBe(1500);
  expect(k.oldestLine()).toBe(476);
  expect(k.read(475)).toBe(2); // LOST
  expect(k.read(476)).toBe(0);
  expect(k.read(1499)).toBe(0);
  expect(k.read(1500)).toBe(1); // NOT_YET
});

test("a memory dump shows the ring by its signature", async () => {
  const { m, k } = await fresh();
  k.hello(5n);
  const dump = Buffer.from(m.memory.buffer);
  const at = dump.indexOf("BASALTLG");
  expect(at).toBeGreaterThan(0);
  const slots = dump.readUInt32LE(at + 8);
  const bytes = dump.readUInt32LE(at + 12);
  expect([slots, bytes, dump.readUInt32LE(at + 16)]).toEqual([1024, 256, 1]);
  const length = dump.readUInt32LE(at + 64 + 16);
  expect(dump.toString("latin1", at + 64 + 24, at + 64 + 24 + length)).toBe("test: n=5 h=0x5");
});
