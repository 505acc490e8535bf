// Fault reports: the walk finds the return addresses that the tables describe, and reads nothing but
// stacks and tables whatever the frame holds.

import fc from "fast-check";
import { expect, test } from "vitest";
import { FRAMES_OFFSET, TRAPS_OFFSET } from "../../fake/image.ts";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import { type Machine, machine } from "../../fake/machine.ts";

const IMAGE_BASE = 0xffff_ffff_8000_0000n;
const STACK = 0xffff_ffff_c001_5000n; // CPU 0's main stack, 40 KiB
const STACK_END = STACK + 0xa000n;
const OUT = 0x30_0000;
const FRAME = 0x30_1000;
const UNKNOWN = 0xffff_ffffn;

async function fresh(): Promise<Machine> {
  const m = await machine({
    entries: ["kernel/cpu/trap.ts"],
    memory: [
      [0, 512 << 20],
      [0x4000_0000, 0x4_0000],
    ],
  });
  // A table has one entry for each function; unused room repeats the last.
  return m;
}

/** Functions as [offset in text, frame bytes], ascending. */
function frames(m: Machine, functions: [number, bigint][]): void {
  table(m, FRAMES_OFFSET, functions);
}
function traps(m: Machine, sites: [number, bigint][]): void {
  table(m, TRAPS_OFFSET, sites);
}
function table(m: Machine, offset: number, rows: [number, bigint][]): void {
  const at = m.image.rodata + offset;
  for (let i = 0; i < 0x800 / 8; i++) {
    const [start, high] = rows[i] ?? [0xffff_ffff, UNKNOWN];
    m.ram.write64(at + 8 * i, BigInt(start) | (high << 32n));
  }
}
const text = (m: Machine, offset: number) => IMAGE_BASE + BigInt(m.image.start + offset);
const poke = (m: Machine, va: bigint, value: bigint) => m.ram.write64(Number(va - IMAGE_BASE), value);

function walk(m: Machine, rip: bigint, rsp: bigint): bigint[] {
  const count = m.kernel.walk(rip, rsp, OUT);
  return Array.from({ length: count }, (_, i) => m.view.getBigUint64(OUT + 8 * i, true));
}

test("the walk follows frame sizes from function to function and ends where nothing is known", async () => {
  const m = await fresh();
  frames(m, [
    [0x1000, 0n],
    [0x1100, 0x18n],
    [0x1200, 0x40n],
    [0x2000, UNKNOWN],
  ]);
  const rsp = STACK_END - 0x200n;
  for (let va = rsp; va < STACK_END; va += 8n) poke(m, va, 0xdeadn);
  poke(m, rsp + 0x18n, text(m, 0x1210)); // return address of the function at 1100H
  poke(m, rsp + 0x20n + 0x40n, text(m, 0x1050)); // of the one at 1200H
  poke(m, rsp + 0x68n, text(m, 0x2004)); // of the one at 1000H: NASM code
  expect(walk(m, text(m, 0x1120), rsp)).toEqual([text(m, 0x1120), text(m, 0x120f), text(m, 0x104f), text(m, 0x2003)]);
});

test("a NASM routine is a leaf: its return address is at RSP or close above", async () => {
  const m = await fresh();
  frames(m, [
    [0x1000, 8n],
    [0x2000, UNKNOWN],
  ]);
  const rsp = STACK_END - 0x100n;
  for (let va = rsp; va < STACK_END; va += 8n) poke(m, va, 0n);
  poke(m, rsp + 16n, text(m, 0x1234));
  expect(walk(m, text(m, 0x2010), rsp)).toEqual([text(m, 0x2010), text(m, 0x1233)]);
});

test("a jump into nowhere shows where it came from", async () => {
  const m = await fresh();
  frames(m, [[0x1000, 8n]]);
  const rsp = STACK_END - 0x100n;
  for (let va = rsp; va < STACK_END; va += 8n) poke(m, va, 0n);
  poke(m, rsp, text(m, 0x1010));
  expect(walk(m, 0x40_0000n, rsp)).toEqual([0x40_0000n, text(m, 0x100f)]);
});

test("stack overflow: RSP stands in the guard page, and the walk finds the stack above", async () => {
  const m = await fresh();
  frames(m, [[0x1000, 0x100n]]);
  for (let va = STACK; va < STACK + 0x400n; va += 8n) poke(m, va, 0n);
  poke(m, STACK + 0xf8n, text(m, 0x1010));
  expect(walk(m, text(m, 0x1010), STACK - 8n)).toEqual([text(m, 0x1010), text(m, 0x100f)]);
});

test("whatever RIP and RSP are, the walk reads only this CPU's stacks and the image", async () => {
  const m = await fresh();
  frames(m, [
    [0x1000, 0x18n],
    [0x1800, 0xffff_fff0n],
    [0x2000, UNKNOWN],
  ]);
  for (let va = STACK; va < STACK_END; va += 8n) poke(m, va, text(m, 0x1000 + Number((va * 13n) & 0x1fffn)));
  const anywhere = fc.oneof(
    fc.bigInt(0n, (1n << 64n) - 1n),
    fc.bigInt(STACK - 0x6000n, STACK_END + 0x2000n),
    fc.bigInt(0xffff_ffff_c000_0000n, 0xffff_ffff_c006_0000n),
    fc.bigInt(IMAGE_BASE, IMAGE_BASE + 0x20_0000n),
  );
  const allowed = (pa: number) => (pa >= m.image.start && pa < m.image.end) || (pa >= 0x4000_0000 && pa < 0x4002_0000);
  const read = m.ram.read64.bind(m.ram);
  m.ram.read64 = (pa) => {
    if (!allowed(pa)) throw new Error(`read of ${pa.toString(16)}`);
    return read(pa);
  };
  fc.assert(
    fc.property(anywhere, anywhere, (rip, rsp) => {
      const found = walk(m, rip, rsp);
      expect(found.length).toBeGreaterThanOrEqual(1);
      expect(found.length).toBeLessThanOrEqual(24);
    }),
    { numRuns: 500 },
  );
});

test("an instruction that stands for a Wasm trap has its kind, its neighbours have none", async () => {
  const m = await fresh();
  traps(m, [
    [0x1004, 1n],
    [0x1010, 3n],
    [0x1020, 0n],
  ]);
  expect(m.kernel.trapKind(text(m, 0x1004))).toBe(1);
  expect(m.kernel.trapKind(text(m, 0x1010))).toBe(3);
  expect(m.kernel.trapKind(text(m, 0x1020))).toBe(0);
  for (const other of [0x1003, 0x1005, 0x100f, 0x1011, 0]) expect(m.kernel.trapKind(text(m, other))).toBe(0xff);
  expect(m.kernel.trapKind(0x1004n)).toBe(0xff);
});

test("a report names vector, CPU, error code, address, trap, registers, build and return addresses", async () => {
  const m = await fresh();
  frames(m, [[0x1000, 0n]]);
  traps(m, [[0x1008, 3n]]);
  m.ram.load(m.image.rodata + 0x2000, Buffer.from("00112233445566778899aabbccddeeff", "hex"));
  poke(m, STACK_END - 8n, 0n);
  const frame = struct(m, "kernel/cpu/trapframe.ts", "TrapFrame", FRAME);
  Object.assign(frame, {
    vector: 14n,
    error: 2n,
    cr2: 0x1234n,
    rip: text(m, 0x1008),
    rsp: STACK_END - 8n,
    rax: 0xabcn,
  });
  m.kernel.report(FRAME);
  const lines = logLines(m);
  expect(lines[0]).toBe("fault: #PF page fault on CPU 0, error code 0x2: write to 0x1234: memory access out of bounds");
  expect(lines[1]).toMatch(/^fault: rip ffffffff80101008 rsp ffffffffc001eff8 rflags 0{16} cr2 0{12}1234/);
  expect(lines[2]).toMatch(/^fault: rax 0000000000000abc rcx/);
  expect(lines.slice(6)).toEqual(["fault: build 00112233445566778899aabbccddeeff", "fault: at 0xffffffff80101008"]);
});

test("a fault in a guard page is called a stack overflow", async () => {
  const m = await fresh();
  const frame = struct(m, "kernel/cpu/trapframe.ts", "TrapFrame", FRAME);
  for (const [cr2, what] of [
    [STACK - 8n, "stack overflow at"],
    [STACK_END, "stack overflow at"],
    [STACK, "read of"],
    [0xffff_ffff_c000_5ff8n, "stack overflow at"],
  ] as const) {
    Object.assign(frame, { vector: 14n, error: 0n, cr2, rip: 0n, rsp: 0n });
    m.kernel.report(FRAME);
    expect(logLines(m).find((l) => l.includes(`0x${cr2.toString(16)}`))).toContain(what);
  }
});

test("NMIs are noted with their place and reported later, once", async () => {
  const m = await fresh();
  frames(m, [[0x1000, 8n]]);
  const frame = struct(m, "kernel/cpu/trapframe.ts", "TrapFrame", FRAME);
  Object.assign(frame, { vector: 2n, rip: text(m, 0x1044), rsp: STACK_END - 0x20n });
  poke(m, STACK_END - 0x18n, 0n);
  m.kernel.noteNmi(FRAME);
  expect(logLines(m)).toEqual([]);
  m.kernel.reportNoted();
  m.kernel.reportNoted();
  expect(logLines(m)[0]).toBe("fault: NMI on CPU 0");
  expect(logLines(m).at(-1)).toBe("fault: at 0xffffffff80101044");
  expect(logLines(m)).toHaveLength(3);
});
