import { expect, test } from "vitest";
import { exhaustTables, GIB, MIB, memory, Owner, POOL, Status } from "./fixture.ts";

const PAGE = 4096n;

test("memory belongs to whom the boot says, page by page", async () => {
  const { kernel: k, image } = await memory();
  expect(k.ownerOf(0n)).toBe(Owner.FIRMWARE);
  expect(k.ownerOf(0xf_ffffn)).toBe(Owner.FIRMWARE);
  expect(k.ownerOf(BigInt(image.start))).toBe(Owner.CORE);
  expect(k.ownerOf(BigInt(image.end) - 1n)).toBe(Owner.CORE);
  expect(k.ownerOf(BigInt(image.end))).toBe(Owner.FREE);
  expect(k.ownerOf(POOL)).toBe(Owner.TABLE);
  expect(k.ownerOf(64n * BigInt(MIB))).toBe(Owner.ABSENT);
  expect(k.ownerOf(1n << 60n)).toBe(Owner.ABSENT);
});

test("runs come aligned, belong to who asked, and go back", async () => {
  const { kernel: k } = await memory({ end: 3 * GIB });
  const before = k.freeBytes();
  for (const [bits, owner] of [
    [12, Owner.CORE],
    [21, Owner.VM],
    [30, Owner.VM + 1],
  ]) {
    const run = k.allocRun(owner, bits);
    expect(run).not.toBe(0n);
    expect(run % (1n << BigInt(bits))).toBe(0n);
    expect(k.isOwned(run, 1n << BigInt(bits), owner)).toBe(1);
    expect(k.freeRun(run, bits, owner)).toBe(Status.OK);
  }
  expect(k.freeBytes()).toBe(before);
});

test("a second free is refused, and so is a stranger's", async () => {
  const { kernel: k } = await memory();
  const run = k.allocRun(Owner.VM, 21);
  const after = k.freeBytes();
  expect(k.freeRun(run, 21, Owner.VM + 1)).toBe(Status.WRONG_OWNER);
  expect(k.freeRun(run, 12, Owner.TABLE)).toBe(Status.WRONG_OWNER);
  expect(k.freeBytes()).toBe(after);
  expect(k.freeRun(run, 21, Owner.VM)).toBe(Status.OK);
  expect(k.freeRun(run, 21, Owner.VM)).toBe(Status.WRONG_OWNER);
});

test("arguments that make no sense are refused", async () => {
  const { kernel: k } = await memory();
  const run = k.allocRun(Owner.VM, 21);
  expect(k.freeRun(run + PAGE, 21, Owner.VM)).toBe(Status.BAD_ADDRESS);
  expect(k.freeRun(run, 13, Owner.VM)).toBe(Status.BAD_ARGUMENT);
  expect(k.freeRun(run, 21, Owner.FREE)).toBe(Status.BAD_ARGUMENT);
  expect(k.freeRun(1n << 50n, 12, Owner.VM)).toBe(Status.BAD_ADDRESS);
  expect(k.allocRun(Owner.VM, 13)).toBe(0n);
  expect(k.allocRun(Owner.TABLE, 21)).toBe(0n);
  expect(k.isOwned(1n << 63n, 1n << 63n, Owner.ABSENT)).toBe(0);
  expect(k.passRange(run, 1n << 62n, Owner.VM, Owner.FREE)).toBe(Status.BAD_ADDRESS);
  expect(k.passRange(run, PAGE, Owner.VM, Owner.TABLE)).toBe(Status.WRONG_OWNER);
});

test("part of a run can go back; the rest stays, and free parts grow together again", async () => {
  const { kernel: k } = await memory();
  const before = k.freeBytes();
  const run = k.allocRun(Owner.VM, 21);
  expect(k.freeRun(run + 7n * PAGE, 12, Owner.VM)).toBe(Status.OK);
  expect(k.ownerOf(run + 6n * PAGE)).toBe(Owner.VM);
  expect(k.ownerOf(run + 7n * PAGE)).toBe(Owner.FREE);
  expect(k.freeRun(run, 21, Owner.VM)).toBe(Status.WRONG_OWNER);
  expect(k.passRange(run, 7n * PAGE, Owner.VM, Owner.FREE)).toBe(Status.OK);
  expect(k.passRange(run + 8n * PAGE, 504n * PAGE, Owner.VM, Owner.FREE)).toBe(Status.OK);
  expect(k.freeBytes()).toBe(before);
  expect(k.pieceAt(run)).toBe(2);
});

test("all memory can be taken, to the last frame, and given back", async () => {
  const { kernel: k } = await memory({ end: 32 * MIB });
  const before = k.freeBytes();
  const taken: bigint[] = [];
  for (let run = k.allocFrame(Owner.VM); run !== 0n; run = k.allocFrame(Owner.VM)) taken.push(run);
  expect(new Set(taken).size).toBe(taken.length);
  // What is left are frames of the table pool and spares, which are for tables only.
  expect(k.freeBytes()).toBe(k.poolFrames() * PAGE + BigInt(k.spareCount()) * PAGE);
  for (const run of taken) expect(k.freeRun(run, 12, Owner.VM)).toBe(Status.OK);
  expect(k.freeBytes()).toBe(before);
});

test("TABLE frames come from pools, which grow by 2 MiB until no such run is left", async () => {
  const { kernel: k } = await memory({ end: 24 * MIB });
  const m = { kernel: k } as Awaited<ReturnType<typeof memory>>;
  const frames = exhaustTables(m);
  expect(frames.length).toBeGreaterThan(3 * 512);
  expect(new Set(frames).size).toBe(frames.length);
  for (const frame of frames.slice(0, 600)) expect(k.ownerOf(frame)).toBe(Owner.TABLE);
  for (const frame of frames) expect(k.freeRun(frame, 12, Owner.TABLE)).toBe(Status.OK);
  expect(k.freeRun(frames[0], 12, Owner.TABLE)).toBe(Status.WRONG_OWNER);
});

test("16 TiB in a few pieces costs little, and its far end can be used", async () => {
  const far = 0x0fff_8000_0000n;
  const more: [bigint, bigint, number][] = [[0x1_0000_0000n, far, Owner.FREE]];
  const m = await memory({ end: 3 * GIB, more });
  const calls = Object.values(m.counts).reduce((sum, n) => sum + n, 0);
  expect(calls).toBeLessThan(400_000);
  expect(m.kernel.ownerOf(far - 1n)).toBe(Owner.FREE);
  expect(m.kernel.ownerOf(far)).toBe(Owner.ABSENT);
  const before = Object.values(m.counts).reduce((sum, n) => sum + n, 0);
  expect(m.kernel.allocRun(Owner.VM, 30)).not.toBe(0n);
  expect(Object.values(m.counts).reduce((sum, n) => sum + n, 0) - before).toBeLessThan(100);
});

test("memory above the table window's reach is left out", async () => {
  const m = await memory({ more: [[0x0fff_0000_0000n, 0x7fff_ffff_f000n, Owner.FREE]] });
  expect(m.kernel.ownerOf(0x0fff_bfff_f000n)).toBe(Owner.FREE);
  expect(m.kernel.ownerOf(0x0fff_c000_0000n)).toBe(Owner.ABSENT);
  expect(m.kernel.ownerOf(0x5000_0000_0000n)).toBe(Owner.ABSENT);
});

test("bytes by owner add up to all memory", async () => {
  const { kernel: k } = await memory({ end: 64 * MIB });
  k.allocRun(Owner.VM, 21);
  k.allocFrame(Owner.CORE);
  k.allocFrame(Owner.TABLE);
  let sum = 0n;
  for (let owner = 1; owner < 80; owner++) sum += k.ownedBytes(owner);
  expect(sum).toBe(64n * BigInt(MIB));
});

test("a memory map of very many pieces loses some of them, and nothing else breaks", async () => {
  const more = Array.from({ length: 254 }, (_, i): [bigint, bigint, number] => {
    const base = 0x1_0000_0000n + BigInt(i) * 0x4000_0000n + 0x1_1000n;
    return [base, base + 0x1000_3000n, Owner.FREE];
  });
  const m = await memory({ more: [] });
  const k = m.kernel;
  // The pieces come before finishBoot: a machine of its own.
  const ragged = await memory({ more });
  expect(ragged.kernel.ownerOf(more[0][0])).toBe(Owner.FREE);
  expect(ragged.kernel.ownerOf(more[253][0])).toBe(Owner.ABSENT);
  expect(ragged.kernel.allocFrame(Owner.TABLE)).not.toBe(0n);
  expect(k.freeBytes()).toBeLessThan(ragged.kernel.freeBytes());
});
