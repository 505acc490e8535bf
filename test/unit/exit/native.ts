// This machine's own processor as the reference for instructions that the core executes.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";

export const DATA = 0x30_0000;
export const CODE = 0x31_0000;
/** Of DATA that are compared. */
export const BYTES = 64;
/** Of an XSAVE area with x87, SSE and AVX. */
export const AREA_BYTES = 832;
/** Encodings of the registers in the order of the reference's lines: all but RSP. */
export const ORDER = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

export interface Case {
  code: number[];
  flags: bigint;
  /** By encoding; RSP is not touched. */
  regs: bigint[];
  data: Uint8Array;
  /** XSAVE area, with which vector registers are loaded. */
  area?: Uint8Array;
}

export interface Result {
  signal: number;
  flags: bigint;
  regs: bigint[];
  data: string;
  area: Buffer;
}

export const hex = (bytes: Iterable<number>) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

/** Builds the reference for the tests of the calling file; the result executes cases with it. */
export function nativeRunner(): (cases: Case[]) => Result[] {
  const folder = mkdtempSync(join(tmpdir(), "basalt-native-"));
  beforeAll(() => {
    const source = join(dirname(fileURLToPath(import.meta.url)), "native.c");
    execFileSync("gcc", ["-O1", "-no-pie", "-o", join(folder, "native"), source]);
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  return (cases) => {
    const input = `${cases.map(lineOf).join("\n")}\n`;
    const output = execFileSync(join(folder, "native"), { input, encoding: "utf8", maxBuffer: 1 << 28 });
    return output.split("\n").slice(0, cases.length).map(resultOf);
  };
}

function lineOf(c: Case): string {
  const regs = ORDER.map((r) => c.regs[r].toString(16)).join(" ");
  return `${hex(c.code)} ${c.flags.toString(16)} ${regs} ${hex(c.data)} ${c.area ? hex(c.area) : "-"}`;
}

function resultOf(line: string): Result {
  const [signal, flags, ...rest] = line.split(" ");
  const regs: bigint[] = Array(16).fill(0n);
  for (const [i, r] of ORDER.entries()) regs[r] = BigInt(`0x${rest[i]}`);
  return {
    signal: Number(signal),
    flags: BigInt(`0x${flags}`),
    regs,
    data: rest[15],
    area: Buffer.from(rest[16] ?? "", "hex"),
  };
}

/** Does this processor have what the instructions of a test need, by the system's names? */
export function processorHas(...names: string[]): boolean {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
  return names.every((name) => flags.includes(name));
}

let seed = 0x1234_5678;
/** xorshift32: the same in every run. */
export function random(limit: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % limit;
}

const EDGES = [0n, 1n, 0x7fn, 0x80n, 0x7fffn, 0xffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 63n, (1n << 64n) - 1n];

/** A value for a register: every third one at an edge. */
export function value(): bigint {
  if (random(3) === 0) return EDGES[random(EDGES.length)];
  return (BigInt(random(2 ** 31)) << 33n) ^ (BigInt(random(2 ** 31)) << 11n) ^ BigInt(random(2 ** 31));
}
