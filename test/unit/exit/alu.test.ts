// Results and flags against the processor that the tests run on, for every operation, size and flag.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Machine, machine } from "../../fake/machine.ts";

const ALU = 0x30000;
const OUT = 0x30020;
const folder = mkdtempSync(join(tmpdir(), "basalt-alu-"));
let m: Machine;
// biome-ignore lint/suspicious/noExplicitAny: exports of the Wasm
let kernel: any;

beforeAll(async () => {
  const source = join(dirname(fileURLToPath(import.meta.url)), "alu.c");
  execFileSync("gcc", ["-O1", "-o", join(folder, "alu"), source]);
  m = await machine({ entries: ["kernel/exit/alu.ts"] });
  kernel = m.kernel;
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Case {
  operation: number;
  size: number;
  a: bigint;
  b: bigint;
  flags: bigint;
  count: number;
}

const NAMES = "add or adc sbb and sub xor cmp inc dec neg rol ror rcl rcr shl shr sal sar mul imul shld shrd".split(
  " ",
);
const EDGES = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 63n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

let state = 0x9e3779b97f4a7c15n;
function next(): bigint {
  state ^= (state << 13n) & ((1n << 64n) - 1n);
  state ^= state >> 7n;
  state ^= (state << 17n) & ((1n << 64n) - 1n);
  return state;
}
function value(size: number): bigint {
  const v = next() % 3n === 0n ? EDGES[Number(next() % BigInt(EDGES.length))] : next();
  return BigInt.asUintN(size * 8, v);
}

function cases(): Case[] {
  const all: Case[] = [];
  for (let operation = 0; operation < NAMES.length; operation++)
    for (const size of [1, 2, 4, 8])
      for (let i = 0; i < 150; i++) {
        if (operation >= 21 && size === 1) continue; // SHLD and SHRD have no byte form
        const count = operation >= 21 && size === 2 ? Number(next() % 16n) : Number(next() % 256n);
        all.push({ operation, size, a: value(size), b: value(size), flags: next() & 0x8d5n, count });
      }
  return all;
}

function ours(c: Case): { result: bigint; high: bigint; flags: bigint } {
  m.view.setBigUint64(ALU, c.flags | 0x202n, true);
  m.view.setBigUint64(ALU + 8, 0n, true);
  const result = compute(c);
  return {
    result: BigInt(result),
    high: m.view.getBigUint64(ALU + 8, true),
    flags: m.view.getBigUint64(ALU, true) & 0x8d5n,
  };
}

function compute(c: Case): bigint {
  if (c.operation < 8) return kernel.arithmetic(ALU, c.operation, c.a, c.b, c.size);
  if (c.operation === 8) return kernel.increment(ALU, c.a, c.size);
  if (c.operation === 9) return kernel.decrement(ALU, c.a, c.size);
  if (c.operation === 10) return kernel.negate(ALU, c.a, c.size);
  if (c.operation < 19) return kernel.shift(ALU, c.operation - 11, c.a, c.count, c.size);
  if (c.operation === 19) return kernel.multiply(ALU, c.a, c.b, c.size);
  if (c.operation === 20) return kernel.multiplySigned(ALU, c.a, c.b, c.size);
  return kernel.doubleShift(ALU, c.operation === 21, c.a, c.b, c.count, c.size);
}

/** Flags that the manual defines for this case; the rest is not compared. */
function defined(c: Case): bigint {
  const masked = c.count & (c.size === 8 ? 63 : 31);
  if (c.operation >= 11 && c.operation <= 14) return masked === 1 ? 0x8d5n : 0x0d5n; // rotates: OF for one bit only
  if (c.operation >= 15 && c.operation <= 18 && masked !== 0) {
    const carry = masked <= c.size * 8 ? 1n : 0n;
    return 0x0c4n | carry | (masked === 1 ? 0x800n : 0n); // shifts: AF undefined, CF beyond the operand too
  }
  if (c.operation === 19 || c.operation === 20) return 0x801n; // products: CF and OF only
  if (c.operation >= 21 && masked !== 0) return masked === 1 ? 0x8c5n : 0x0c5n;
  if ([1, 4, 6].includes(c.operation)) return 0x8c5n; // logic: AF undefined
  return 0x8d5n;
}

test("every operation gives the processor's result and flags", () => {
  const all = cases();
  const input = all.map(
    (c) =>
      `${c.operation} ${c.size} ${c.a.toString(16)} ${c.b.toString(16)} ${c.flags.toString(16)} ${c.count.toString(16)}`,
  );
  const lines = execFileSync(join(folder, "alu"), {
    input: `${input.join("\n")}\n`,
    encoding: "utf8",
    maxBuffer: 1 << 26,
  })
    .trim()
    .split("\n");
  expect(lines.length).toBe(all.length);
  for (const [i, c] of all.entries()) {
    const [result, high, flags] = lines[i].split(" ").map((x) => BigInt(`0x${x}`));
    const got = ours(c);
    const what = `${NAMES[c.operation]} size ${c.size} a=${c.a.toString(16)} b=${c.b.toString(16)} flags=${c.flags.toString(16)} count=${c.count}`;
    expect(got.result.toString(16), what).toBe(c.operation === 7 ? c.a.toString(16) : result.toString(16));
    if (c.operation === 19 || c.operation === 20) expect(got.high.toString(16), what).toBe(high.toString(16));
    expect((got.flags & defined(c)).toString(16), what).toBe((flags & defined(c)).toString(16));
  }
});

test("signed division refuses what does not fit and rounds towards zero", () => {
  for (const size of [1, 2, 4, 8]) {
    const bits = size * 8;
    for (let i = 0; i < 300; i++) {
      const divisor = value(size);
      const dividend = BigInt.asIntN(
        bits * 2,
        i % 2 ? next() * next() : BigInt.asIntN(bits, next()) * BigInt.asIntN(bits, divisor) + (next() % 3n),
      );
      const low = BigInt.asUintN(bits, dividend);
      const high = BigInt.asUintN(bits, dividend >> BigInt(bits));
      const d = BigInt.asIntN(bits, divisor);
      const quotient = d === 0n ? null : dividend / d;
      const fits = quotient !== null && BigInt.asIntN(bits, quotient) === quotient;
      const done = kernel.divideSigned(ALU, high, low, divisor, size, OUT);
      expect(Boolean(done), `${dividend} / ${d} in ${bits} bits`).toBe(fits);
      if (!fits || quotient === null) continue;
      expect(BigInt.asIntN(bits, m.view.getBigUint64(OUT, true))).toBe(quotient);
      expect(BigInt.asIntN(bits, m.view.getBigUint64(ALU + 8, true))).toBe(dividend % d);
    }
  }
});

test("conditions follow their flags", () => {
  const of = 0x800n;
  const [cf, pf, zf, sf] = [1n, 4n, 0x40n, 0x80n];
  const truth: [number, (f: bigint) => boolean][] = [
    [0, (f) => (f & of) !== 0n],
    [2, (f) => (f & cf) !== 0n],
    [4, (f) => (f & zf) !== 0n],
    [6, (f) => (f & (cf | zf)) !== 0n],
    [8, (f) => (f & sf) !== 0n],
    [10, (f) => (f & pf) !== 0n],
    [12, (f) => ((f & sf) !== 0n) !== ((f & of) !== 0n)],
    [14, (f) => (f & zf) !== 0n || ((f & sf) !== 0n) !== ((f & of) !== 0n)],
  ];
  for (let flags = 0n; flags < 0x1000n; flags++) {
    if ((flags & ~0x8d5n) !== 0n) continue;
    for (const [code, holds] of truth) {
      expect(Boolean(kernel.condition(flags, code))).toBe(holds(flags));
      expect(Boolean(kernel.condition(flags, code + 1))).toBe(!holds(flags));
    }
  }
});
