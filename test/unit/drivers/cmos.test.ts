// The machine's clock is read in every format, not in the middle of an update, and not believed if it is absurd.

import { expect, test } from "vitest";
import { machine } from "../../fake/machine.ts";

async function clock(registers: Record<number, number>, updates = 0) {
  const m = await machine({ entries: ["drivers/cmos.ts"] });
  let index = 0;
  let updating = updates;
  m.ports.attach(0x70, 2, {
    read: (offset: number) => {
      if (!(offset & 1)) return 0xff;
      if (index === 10) return updating-- > 0 ? 0x80 : 0x26;
      return registers[index] ?? 0;
    },
    write: (offset: number, _bytes: number, value: number | bigint) => {
      if (!(offset & 1)) index = Number(value) & 0x7f;
    },
  });
  return new Date(Number(m.kernel.readClock()) * 1000);
}

test("BCD, binary and 12-hour clocks", async () => {
  const bcd = { 0: 0x58, 2: 0x59, 4: 0x23, 7: 0x29, 8: 0x02, 9: 0x24, 11: 0x02, 50: 0x20 };
  expect(await clock(bcd)).toEqual(new Date("2024-02-29T23:59:58Z"));
  const binary = { 0: 1, 2: 2, 4: 3, 7: 31, 8: 12, 9: 99, 11: 0x06, 50: 20 };
  expect(await clock(binary)).toEqual(new Date("2099-12-31T03:02:01Z"));
  expect(await clock({ ...bcd, 4: 0x92, 11: 0 })).toEqual(new Date("2024-02-29T12:59:58Z"));
  expect(await clock({ ...bcd, 4: 0x12, 11: 0 })).toEqual(new Date("2024-02-29T00:59:58Z"));
  expect(await clock({ ...bcd, 4: 0x81, 11: 0 })).toEqual(new Date("2024-02-29T13:59:58Z"));
});

test("an update is waited for, and a clock that always updates is read all the same", async () => {
  const now = { 0: 0, 2: 0, 4: 0, 7: 1, 8: 1, 9: 0x25, 11: 2 };
  expect(await clock(now, 100)).toEqual(new Date("2025-01-01T00:00:00Z"));
  expect(await clock(now, 1e9)).toEqual(new Date("2025-01-01T00:00:00Z"));
});

test.each([
  { 0: 0x60, 7: 1, 8: 1, 11: 2 },
  { 7: 0, 8: 1, 11: 2 },
  { 7: 1, 8: 0x13, 11: 2 },
  { 4: 0x24, 7: 1, 8: 1, 11: 2 },
])("%o is no time", async (registers) => {
  expect(await clock(registers as unknown as Record<number, number>)).toEqual(new Date(0));
});
