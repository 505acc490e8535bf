import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { Machine } from "../../fake/machine.ts";
import type { Mapping } from "../../fake/paging.ts";
import { exhaustTables, MIB, memory, Owner, Status, WINDOW } from "./fixture.ts";

const PAGE = 4096n;
const LARGE = 0x20_0000n;
const LINEAR_END = 0x880_0000n;
const GUARDS = 0x8010_8421;

function inWindow(page: Mapping, base: bigint, bytes: bigint): boolean {
  return page.va >= base && page.va < base + bytes;
}

const isTable = (p: Mapping) => inWindow(p, WINDOW.table, 0x1000_0000_0000n);
const isDevice = (p: Mapping) => inWindow(p, WINDOW.device, 0x3f00_0000_0000n);
const isGuest = (p: Mapping) => inWindow(p, WINDOW.guest, 0x3000_0000_0000n);

/** A machine on its final tables with VM 0's arena and memory: two large pages and a small one. */
async function withVm() {
  const m = await memory({ enter: true });
  const k = m.kernel;
  const arena = k.allocRun(Owner.VM, 21);
  const root = k.createRoot(0, arena);
  const ram = k.allocRun(Owner.VM, 21);
  const small = k.allocRun(Owner.VM, 12);
  expect(k.mapGuest(root, 0n, ram, 21)).toBe(Status.OK);
  expect(k.mapGuest(root, LARGE, small, 12)).toBe(Status.OK);
  return { m, k, arena, root, ram, small };
}

test("the final tables hold W^X, and nothing of the boot tables' wide windows", async () => {
  const m = await memory({ enter: true });
  const pages = m.mappings();
  expect(pages.filter((p) => p.writable && p.executable)).toEqual([]);
  expect(pages.filter((p) => p.user)).toEqual([]);
  expect(pages.filter(isDevice)).toEqual([]);
  expect(pages.filter(isGuest)).toEqual([]);
  for (const page of pages.filter(isTable)) {
    expect(page.va - WINDOW.table).toBe(BigInt(page.pa));
    expect([Owner.TABLE, Owner.FREE]).toContain(m.kernel.ownerOf(BigInt(page.pa)));
    expect(m.kernel.isInPool(BigInt(page.pa))).toBe(1);
  }
});

test("executable pages are the image's text and nothing else", async () => {
  const m = await memory({ enter: true });
  const text = m.mappings().filter((p) => p.executable);
  expect(text[0].va).toBe(WINDOW.image + BigInt(m.image.start));
  expect(text).toHaveLength((m.image.rodata - m.image.start) / 4096);
});

test("linear memory is where it says, and no page below 64 KiB or of a missing CPU or VM is mapped", async () => {
  const m = await memory({ enter: true });
  const linear = m.mappings().filter((p) => p.va < 0x1_0000_0000n);
  const shared = linear.filter((p) => p.va < 0x40_0000n);
  expect(shared[0].va).toBe(0x1_0000n);
  expect(shared[0].pa).toBe(m.image.linear);
  expect(shared).toHaveLength((0x40_0000 - 0x1_0000) / 4096);
  expect(linear.slice(shared.length).map((p) => p.va)).toEqual([0x40_0000n, 0x40_1000n, 0x40_2000n, 0x40_3000n]);
});

test("every stack has a guard below and above", async () => {
  const m = await memory({ enter: true, cpus: 3 });
  expect(m.kernel.mapCpu(1)).toBe(Status.OK);
  expect(m.kernel.mapCpu(2)).toBe(Status.OK);
  const stacks = m.mappings().filter((p) => p.va >= WINDOW.stacks);
  const expected: bigint[] = [];
  for (let page = 0; page < 96; page++)
    if (!((GUARDS >>> (page % 32)) & 1)) expected.push(WINDOW.stacks + BigInt(page) * PAGE);
  expect(stacks.map((p) => p.va)).toEqual(expected);
  expect(new Set(stacks.map((p) => p.pa)).size).toBe(stacks.length);
});

test("a VM's root adds its arena and its memory to the core's, and nothing more", async () => {
  const { m, arena, root, ram, small } = await withVm();
  const core = m.mappings(m.kernel.coreRoot());
  const known = new Set(core.map((p) => `${p.va} ${p.pa} ${p.bits} ${p.writable}`));
  const added = m.mappings(root).filter((p) => !known.has(`${p.va} ${p.pa} ${p.bits} ${p.writable}`));
  expect(added.map((p) => [p.va, BigInt(p.pa), p.bits, p.global])).toEqual([
    [0x80_0000n, arena, 21, false],
    [WINDOW.guest, ram, 21, false],
    [WINDOW.guest + LARGE, small, 12, false],
  ]);
  expect(m.mappings(root)).toHaveLength(core.length + added.length);
  expect(added.some((p) => p.executable)).toBe(false);
});

test("two VMs see nothing of each other", async () => {
  const { m, k, root, ram } = await withVm();
  const other = k.createRoot(1, k.allocRun(Owner.VM + 1, 21));
  expect(k.mapGuest(other, 0n, ram, 21)).toBe(Status.WRONG_OWNER);
  const mine = new Set(
    m
      .mappings(root)
      .filter((p) => isGuest(p) || (p.va >= 0x80_0000n && p.va < LINEAR_END))
      .map((p) => p.pa),
  );
  for (const page of m.mappings(other)) expect(mine.has(page.pa)).toBe(false);
});

test("a frame of the core, a table or a free frame never becomes guest memory", async () => {
  const { m, k, root } = await withVm();
  const table = k.allocFrame(Owner.TABLE);
  for (const pa of [BigInt(m.image.start), table, 0x200_0000n, 0x8000n, 0xfee0_0000n, 1n << 51n]) {
    expect(k.mapGuest(root, 0x4000_0000n, pa, 12)).toBe(Status.WRONG_OWNER);
  }
  expect(k.mapGuest(0n, 0n, 0n, 12)).toBe(Status.NOT_FOUND);
  expect(k.mapGuest(0x1234_5000n, 0n, 0n, 12)).toBe(Status.NOT_FOUND);
  expect(k.mapGuest(root, 0x3000_0000_0000n, k.allocRun(Owner.VM, 12), 12)).toBe(Status.BAD_ADDRESS);
  expect(k.createRoot(0, k.allocRun(Owner.VM, 21))).toBe(0n); // has one
  expect(k.createRoot(1, k.allocRun(Owner.VM, 21))).toBe(0n); // the arena is VM 0's
  expect(k.createRoot(64, 0n)).toBe(0n);
});

test("guest memory is reached through the VM's root only, and stays reachable until INVLPG or a new CR3", async () => {
  const { m, k, root, ram } = await withVm();
  m.current.writeCr3(root);
  expect(m.translate(WINDOW.guest + 5n, "write")).toBe(Number(ram) + 5);
  expect(k.unmapGuest(root, 0n, 12)).toBe(Status.NOT_FOUND);
  expect(k.unmapGuest(root, 0n, 21)).toBe(Status.OK);
  expect(() => m.translate(WINDOW.guest)).toThrow("not present");
  m.translate(WINDOW.guest + LARGE);
  m.current.writeCr3(k.coreRoot());
  expect(() => m.translate(WINDOW.guest + LARGE)).toThrow("not present");
});

test("destroying a root gives every table back", async () => {
  const m = await memory({ enter: true });
  const k = m.kernel;
  const before = k.ownedBytes(Owner.TABLE);
  const arena = k.allocRun(Owner.VM, 21);
  for (let round = 0; round < 3; round++) {
    const root = k.createRoot(0, arena);
    const page = k.allocRun(Owner.VM, 12);
    for (const gpa of [0n, 0x4000_0000n, 0x2fff_ffff_f000n]) expect(k.mapGuest(root, gpa, page, 12)).toBe(Status.OK);
    k.destroyRoot(root);
    k.freeRun(page, 12, Owner.VM);
  }
  k.freeRun(arena, 21, Owner.VM);
  expect(k.ownedBytes(Owner.TABLE)).toBe(before);
  k.destroyRoot(0n);
  k.destroyRoot(0x7777_7000n);
});

test("device registers are uncached, firmware is read-only, RAM is neither", async () => {
  const m = await memory({ enter: true, more: [[0x300_0000n, 0x300_2000n, Owner.FIRMWARE]] });
  const k = m.kernel;
  expect(k.mapDevice(0xfec0_0000n, PAGE)).toBe(Status.OK);
  expect(k.mapDevice(0xfec0_0000n, PAGE)).toBe(Status.OK);
  expect(k.mapFirmware(0x300_0ff0n, 0x20n)).toBe(Status.OK);
  expect(k.mapFramebuffer(0xe000_0000n, 0x30_0000n)).toBe(Status.OK);
  const found = m.mappings().filter(isDevice);
  expect(found.map((p) => [p.va - WINDOW.device, p.bits, p.writable, p.patIndex])).toEqual([
    [0x300_0000n, 12, false, 0],
    [0x300_1000n, 12, false, 0],
    [0xe000_0000n, 21, true, 4],
    ...Array.from({ length: 256 }, (_, i) => [0xe020_0000n + BigInt(i) * PAGE, 12, true, 4]),
    [0xfec0_0000n, 12, true, 3],
  ]);
  expect(k.mapDevice(0x200_0000n, PAGE)).toBe(Status.WRONG_OWNER);
  expect(k.mapFirmware(0x200_0000n, PAGE)).toBe(Status.WRONG_OWNER);
  expect(k.mapDevice(0x300_0000n, PAGE)).toBe(Status.WRONG_OWNER);
  expect(k.mapFirmware(BigInt(m.image.start), PAGE)).toBe(Status.WRONG_OWNER);
  expect(k.mapFirmware(0xe000_0000n, PAGE)).toBe(Status.BUSY);
  expect(k.mapDevice(0xfec0_0800n, PAGE)).toBe(Status.BAD_ADDRESS);
  expect(k.mapDevice(0x3eff_ffff_f000n, 2n * PAGE)).toBe(Status.BAD_ADDRESS);
  expect(k.mapFirmware((1n << 64n) - 8n, 16n)).toBe(Status.BAD_ADDRESS);
});

test("a device that is mapped later is seen in every VM's root", async () => {
  const { m, k, root } = await withVm();
  expect(k.mapDevice(0x12_3400_0000n, PAGE)).toBe(Status.OK);
  expect(
    m
      .mappings(root)
      .filter(isDevice)
      .map((p) => p.pa),
  ).toEqual([0x12_3400_0000]);
});

/** Everything that a failed call must leave as it was. */
function state(m: Machine, roots: bigint[]) {
  const hash = createHash("sha256");
  for (const root of [m.kernel.coreRoot() as bigint, ...roots]) {
    for (const p of m.mappings(root)) hash.update(`${p.va} ${p.pa} ${p.bits} ${p.writable}\n`);
  }
  return {
    pages: hash.digest("hex"),
    free: m.kernel.freeBytes() as bigint,
    core: m.kernel.ownedBytes(Owner.CORE) as bigint,
  };
}

test("out of table frames at any step, a call fails whole", async () => {
  const m = await memory({ end: 16 * MIB + 4 * MIB, enter: true });
  const k = m.kernel;
  const arena = k.allocRun(Owner.VM, 21);
  const attempts: [string, () => unknown, unknown][] = [
    ["createRoot", () => k.createRoot(0, arena), 0n],
    ["mapDevice", () => k.mapDevice(0x55_5550_0000n, 3n * LARGE + PAGE), Status.NO_MEMORY],
    ["createBringUpRoot", () => k.createBringUpRoot(0x9_0000n), 0n],
    ["mapCpu", () => k.mapCpu(70), Status.NO_MEMORY],
  ];
  const frames = exhaustTables(m);
  for (const [name, attempt, failure] of attempts) {
    let given = 0;
    for (; given < 12; given++) {
      const before = state(m, []);
      if (attempt() !== failure) break;
      expect(state(m, []), `${name} with ${given} frames`).toEqual(before);
      k.freeRun(frames.pop(), 12, Owner.TABLE);
    }
    expect(given, name).toBeGreaterThan(0);
    expect(given, name).toBeLessThan(12);
    frames.push(...exhaustTables(m));
  }
});

test("a run is opened for scrubbing on the core's root, by its owner only", async () => {
  const { m, k, ram, root } = await withVm();
  const at = k.openRun(ram, 21, Owner.VM);
  expect(m.translate(WINDOW.guest + at, "write")).toBe(Number(ram));
  k.closeRun(at, 21);
  expect(() => m.translate(WINDOW.guest + at)).toThrow("not present");
  expect(k.openRun(ram, 21, Owner.VM + 1)).toBe(0x3000_0000_0000n);
  m.current.writeCr3(root);
  expect(k.openRun(ram, 21, Owner.VM)).toBe(0x3000_0000_0000n);
});

test("the bring-up root maps the start page at its own address and the image, nothing else", async () => {
  const m = await memory({ enter: true });
  const root = m.kernel.createBringUpRoot(0x9_0000n);
  const low = m.mappings(root).filter((p) => p.va < WINDOW.image);
  expect(low.map((p) => [p.va, p.pa, p.writable, p.executable, p.global])).toEqual([
    [0x9_0000n, 0x9_0000, false, true, false],
  ]);
  const before = m.kernel.ownedBytes(Owner.TABLE);
  m.kernel.destroyBringUpRoot(root);
  expect(before - m.kernel.ownedBytes(Owner.TABLE)).toBe(4n * PAGE);
});
