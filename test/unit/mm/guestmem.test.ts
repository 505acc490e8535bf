// Guest-physical memory: slots, their ends, and copies across them.

import { beforeEach, describe, expect, test } from "vitest";
import { type Machine, machine } from "../../fake/machine.ts";
import { Status } from "./fixture.ts";

const MIB = 1024 * 1024;
const BASE = 64 * MIB; // where the guest's memory stands in the machine's
const RAM = 0x30_0000; // a GuestRam
const SLOTS = 0x30_0100;
const BUFFER = 0x30_1000;
const ROM = 1;

// Two adjacent slots of RAM, a hole, ROM, and RAM at the end of the address space.
const LAST = 0xffff_ffff_ffff_f000n;
// biome-ignore format: a table
const LAYOUT: [gpa: bigint, bytes: bigint, kind: number][] = [
  [0n, 0x10_0000n, 0], [0x10_0000n, 0x1000n, 0], [0x20_0000n, 0x2000n, ROM], [LAST, 0x1000n, 0],
];

let m: Machine;

beforeEach(async () => {
  m = await machine({ entries: ["kernel/mm/guestmem.ts"], guestBase: BASE, memory: 128 * MIB, poison: 0 });
  const words = [0n, 0x10_0000n, 0x10_3000n];
  for (const [i, word] of words.entries()) m.view.setBigUint64(RAM + 8 * i, word, true);
  m.view.setUint32(RAM + 24, SLOTS, true);
  m.view.setUint32(RAM + 28, LAYOUT.length, true);
  for (const [i, [gpa, bytes, kind]] of LAYOUT.entries()) {
    m.view.setBigUint64(SLOTS + 24 * i, gpa, true);
    m.view.setBigUint64(SLOTS + 24 * i + 8, bytes, true);
    m.view.setUint32(SLOTS + 24 * i + 16, kind, true);
  }
});

const byteAt = (gpa: number) => Number(m.ram.read(BASE + gpa, 1));

describe("what is there", () => {
  // biome-ignore format: a table
  test.each<[gpa: bigint, bytes: bigint, writable: bigint]>([
    [0n, 0x10_0000n, 0x10_0000n],
    [0xf_ffffn, 1n, 1n],
    [0x10_0000n, 0x1000n, 0x1000n],
    [0x10_0fffn, 1n, 1n],
    [0x10_1000n, 0n, 0n],
    [0x1f_ffffn, 0n, 0n],
    [0x20_0000n, 0x2000n, 0n],
    [0x20_1fffn, 1n, 0n],
    [0x20_2000n, 0n, 0n],
    [LAST, 0x1000n, 0x1000n],
    [0xffff_ffff_ffff_ffffn, 1n, 1n],
    [LAST - 1n, 0n, 0n],
  ])("at %x: %i bytes, of them %i to be written", (gpa, bytes, writable) => {
    expect([m.kernel.bytesAt(RAM, gpa), m.kernel.writableBytesAt(RAM, gpa)]).toEqual([bytes, writable]);
  });

  test("the kind of a slot; where there is none, RAM", () => {
    expect([0n, 0x20_0000n, 0x30_0000n].map((gpa) => m.kernel.slotKindAt(RAM, gpa))).toEqual([0, ROM, 0]);
  });
});

describe("loads, stores and exchanges", () => {
  const VALUE = 0x8877_6655_4433_2211n;
  test.each([1, 2, 4, 8])("of %i bytes touch those alone", (bytes) => {
    const own = BigInt.asUintN(8 * bytes, VALUE);
    m.ram.write64(BASE + 0x1000, ~0n & 0xffff_ffff_ffff_ffffn);
    m.kernel.storeGuest(0x1000n, bytes, VALUE);
    const kept = (0xffff_ffff_ffff_ffffn >> BigInt(8 * bytes)) << BigInt(8 * bytes);
    expect(m.ram.read64(BASE + 0x1000)).toBe(own | (bytes === 8 ? 0n : kept));
    expect(m.kernel.loadGuest(0x1000n, bytes)).toBe(own);
  });

  test.each([1, 2, 4, 8])("a locked exchange of %i bytes needs what was expected", (bytes) => {
    const mask = (1n << BigInt(8 * bytes)) - 1n;
    m.kernel.storeGuest(0x2000n, bytes, 0x80n);
    expect(m.kernel.casGuest(0x2000n, bytes, 0x81n, VALUE)).toBe(0x80n);
    expect(m.kernel.loadGuest(0x2000n, bytes)).toBe(0x80n);
    expect(m.kernel.casGuest(0x2000n, bytes, 0x80n, VALUE)).toBe(0x80n);
    expect(m.kernel.loadGuest(0x2000n, bytes)).toBe(VALUE & mask);
    expect(m.kernel.loadGuest(0x2000n + BigInt(bytes), 1)).toBe(0n);
  });
});

describe("copies", () => {
  const pattern = (n: number) => Uint8Array.from({ length: n }, (_, i) => i + 1);
  const buffer = (n: number) => [...new Uint8Array(m.memory.buffer, BUFFER, n)];

  test("cross from one slot into the next, in both directions", () => {
    new Uint8Array(m.memory.buffer).set(pattern(16), BUFFER);
    expect(m.kernel.copyToGuest(RAM, 0xf_fff8n, BUFFER, 16)).toBe(Status.OK);
    expect([0xf_fff7, 0xf_fff8, 0xf_ffff, 0x10_0000, 0x10_0007, 0x10_0008].map(byteAt)).toEqual([0, 1, 8, 9, 16, 0]);
    new Uint8Array(m.memory.buffer).fill(0, BUFFER, BUFFER + 17);
    expect(m.kernel.copyFromGuest(RAM, BUFFER, 0xf_fff8n, 16)).toBe(Status.OK);
    expect(buffer(17)).toEqual([...pattern(16), 0]);
  });

  // biome-ignore format: a table
  test.each<[string, bigint, number, number, number]>([
    ["up to a hole", 0x10_0ff8n, 16, Status.BAD_ADDRESS, Status.BAD_ADDRESS],
    ["in a hole", 0x18_0000n, 1, Status.BAD_ADDRESS, Status.BAD_ADDRESS],
    ["from ROM, but not to it", 0x20_0000n, 8, Status.OK, Status.BAD_ADDRESS],
    ["of nothing, anywhere", 0x18_0000n, 0, Status.OK, Status.OK],
  ])("%s", (_name, gpa, bytes, from, to) => {
    m.ram.write(BASE + 0x20_0000, 4, 0x0403_0201n);
    expect(m.kernel.copyFromGuest(RAM, BUFFER, gpa, bytes)).toBe(from);
    expect(m.kernel.copyToGuest(RAM, gpa, BUFFER + 0x100, bytes)).toBe(to);
    expect(byteAt(0x20_0000)).toBe(1);
  });

  test("of a boot module fit one slot, ROM too, or nothing is written", () => {
    m.ram.load(0x200_0000, pattern(32));
    expect(m.kernel.copyModuleToGuest(RAM, 0x20_1ff0n, 0x200_0000n, 16n)).toBe(Status.OK);
    expect([0x20_1ff0, 0x20_1fff].map(byteAt)).toEqual([1, 16]);
    expect(m.kernel.copyModuleToGuest(RAM, 0xf_fff0n, 0x200_0000n, 17n)).toBe(Status.BAD_ADDRESS);
    expect(byteAt(0xf_fff0)).toBe(0);
    expect(m.kernel.copyModuleToGuest(RAM, 0x18_0000n, 0x200_0000n, 0n)).toBe(Status.OK);
  });

  test("fills fit one slot, or nothing is written", () => {
    expect(m.kernel.fillGuest(RAM, 0x1000n, 0x5a, 3n)).toBe(Status.OK);
    expect([0xfff, 0x1000, 0x1002, 0x1003].map(byteAt)).toEqual([0, 0x5a, 0x5a, 0]);
    expect(m.kernel.fillGuest(RAM, 0x10_0000n, 0x5a, 0x1001n)).toBe(Status.BAD_ADDRESS);
    expect(byteAt(0x10_0000)).toBe(0);
    expect(m.kernel.fillGuest(RAM, 0x18_0000n, 0x5a, 0n)).toBe(Status.OK);
  });
});
