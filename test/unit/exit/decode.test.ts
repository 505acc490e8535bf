// The decoder against an independent disassembler, on random instructions in all three code sizes.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { type Machine, machine } from "../../fake/machine.ts";

const FILE = "kernel/exit/decode.ts";
const SLOT = 48; // bytes between instructions in the blob: 15 of code, NOPs to come back into step
const INSN = 0x30000; // scratch in linear memory
const BYTES = 0x31000;
const OK = 0;
const TRUNCATED = 1;
const TOO_LONG = 2;
const INVALID = 3;
const UNKNOWN = 4;

let m: Machine;
// biome-ignore lint/suspicious/noExplicitAny: exports of the Wasm
let kernel: any;

beforeAll(async () => {
  m = await machine({ entries: [FILE] });
  kernel = m.kernel;
});

function bytesToMemory(code: number[]): void {
  const view = new Uint8Array((m as unknown as { memory: WebAssembly.Memory }).memory.buffer);
  view.set(code, BYTES);
}

// biome-ignore lint/suspicious/noExplicitAny: fields by name
function decode(code: number[], mode: number): { result: number; insn: any } {
  bytesToMemory(code);
  const result = kernel.decode(INSN, BYTES, code.length, mode);
  return { result, insn: struct(m, FILE, "Insn", INSN) };
}

/** xorshift32: the same instructions in every run. */
function random(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

const PREFIXES = [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65];
const ONE = [0x63, 0x69, 0x6b, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8f];
const MORE = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xc0, 0xc1, 0xc6];
const STACK = [0x50, 0x57, 0x58, 0x5f, 0x68, 0x6a, 0x8e, 0xc2, 0xc3, 0xc4, 0xc5, 0xc8, 0xc9, 0xe8];
const LAST = [0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff];
const OPCODES = [...ONE, ...MORE, ...STACK, ...LAST];

function randomInstruction(next: () => number, mode: number): number[] {
  const code: number[] = [];
  for (let i = next() % 3; i > 0; i--) code.push(PREFIXES[next() % PREFIXES.length]);
  if (mode === 8 && next() % 2) code.push(0x40 | (next() & 15));
  const pick = next() % 4;
  if (pick === 0) code.push(0x0f, next() & 255);
  else if (pick === 1) code.push(next() & 0x3f);
  else code.push(OPCODES[next() % OPCODES.length]);
  while (code.length < 15) code.push(next() & 255);
  return code.slice(0, 15);
}

interface Line {
  bytes: number;
  text: string;
}

/** What objdump makes of the instruction at the start of each slot. */
function disassemble(instructions: number[][], mode: number): Line[] {
  const folder = mkdtempSync(join(tmpdir(), "basalt-decode-"));
  try {
    const blob = Buffer.alloc(instructions.length * SLOT, 0x90);
    for (const [i, code] of instructions.entries()) blob.set(code, i * SLOT);
    writeFileSync(join(folder, "code.bin"), blob);
    const machineName = mode === 8 ? "i386:x86-64" : mode === 4 ? "i386" : "i8086";
    const args = [
      "-D",
      "-b",
      "binary",
      "-m",
      machineName,
      "-M",
      "intel,intel64",
      "-z",
      "--no-show-raw-insn",
      join(folder, "code.bin"),
    ];
    const out = execFileSync("objdump", args, { encoding: "utf8", maxBuffer: 1 << 28 });
    const starts = new Map<number, string>();
    for (const line of out.split("\n")) {
      const match = /^\s*([0-9a-f]+):\s*(.*)$/.exec(line);
      if (match) starts.set(Number.parseInt(match[1], 16), match[2].trim());
    }
    const addresses = [...starts.keys()].sort((a, b) => a - b);
    const nextOf = new Map(addresses.map((a, i) => [a, addresses[i + 1] ?? a]));
    return instructions.map((_, i) => {
      const at = i * SLOT;
      const text = starts.get(at);
      return text === undefined
        ? { bytes: 0, text: "(out of step)" }
        : { bytes: (nextOf.get(at) as number) - at, text };
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const SIZES: Record<string, number> = {
  BYTE: 1,
  WORD: 2,
  DWORD: 4,
  FWORD: 6,
  QWORD: 8,
  TBYTE: 10,
  XMMWORD: 16,
  YMMWORD: 32,
};
const R64 = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"];

function registerName(index: number, bytes: number): string {
  if (index >= 8) return `r${index}${bytes === 4 ? "d" : ""}`;
  return bytes === 8 ? R64[index] : bytes === 4 ? `e${R64[index].slice(1)}` : R64[index].slice(1);
}

/** The address of our record in objdump's Intel notation. */
// biome-ignore lint/suspicious/noExplicitAny: fields by name
function addressText(insn: any): string {
  const terms: string[] = [];
  if (insn.base === 16) terms.push(insn.addressBytes === 4 ? "eip" : "rip");
  else if (insn.base !== 255) terms.push(registerName(insn.base, insn.addressBytes));
  if (insn.index !== 255) {
    const name = registerName(insn.index, insn.addressBytes);
    terms.push(insn.addressBytes === 2 ? name : `${name}*${1 << insn.scaleLog2}`);
  }
  return terms.join("+");
}

/** objdump's address: registers, and the displacement as a number. */
function parseAddress(text: string): { registers: string; displacement: bigint; size: number } | null {
  const match = /(?:(\w+) PTR )?(?:([c-gs]s):)?(?:\[([^\]]*)\]|(0x[0-9a-f]+))/.exec(text);
  if (!match) return null;
  const inside = match[3] ?? match[4];
  const registers: string[] = [];
  let displacement = 0n;
  for (const term of inside.match(/[+-]?[^+-]+/g) ?? []) {
    const sign = term.startsWith("-") ? -1n : 1n;
    const body = term.replace(/^[+-]/, "");
    if (/^0x/.test(body)) displacement += sign * BigInt(body);
    else if (!/^[er]iz/.test(body)) registers.push(body);
  }
  return { registers: registers.join("+"), displacement, size: SIZES[match[1] ?? ""] ?? 0 };
}

for (const mode of [8, 4, 2]) {
  test(`length, operand size and address agree with objdump in ${mode * 8}-bit code`, () => {
    const next = random(0xba5a17 + mode);
    const instructions = Array.from({ length: 9000 }, () => randomInstruction(next, mode));
    const lines = disassemble(instructions, mode);
    const kinds = new Set<number>();
    let compared = 0;
    for (const [i, code] of instructions.entries()) {
      const { result, insn } = decode(code, mode);
      if (result !== OK || lines[i].text.includes("(bad)") || lines[i].bytes === 0) continue;
      const hex = code.map((b) => b.toString(16).padStart(2, "0")).join(" ");
      const what = `${hex}: ${lines[i].text}`;
      // objdump prints a prefix that does not belong to the instruction as an instruction of its own.
      if (/^(data16|addr32|addr16|rex|repz|repnz|[c-gs]s)(\.\w+)?$/.test(lines[i].text.split(/\s/)[0])) continue;
      expect(insn.length, what).toBe(lines[i].bytes);
      compared++;
      kinds.add(insn.kind);
      const address = parseAddress(lines[i].text);
      if ((insn.flags & 0x10000000) === 0 || !address || (insn.flags & 0x80000) !== 0) continue;
      if (insn.kind !== 35 && address.size !== 0) expect(insn.memoryBytes, what).toBe(address.size);
      const flipped = addressText(insn).split("+").sort().join("+");
      expect(address.registers.split("+").sort().join("+"), what).toBe(flipped);
      const width = BigInt(insn.addressBytes * 8);
      if (insn.base !== 16)
        expect(BigInt.asUintN(Number(width), address.displacement), what).toBe(
          BigInt.asUintN(Number(width), BigInt(insn.displacement)),
        );
      const segment = /([c-gs]s):/.exec(lines[i].text)?.[1];
      if (segment && mode !== 8) expect(SEGMENTS[insn.segment], what).toBe(segment);
    }
    expect(compared).toBeGreaterThan(1500);
    expect(kinds.size).toBeGreaterThan(30);
  });
}

test("an instruction that the bytes do not hold whole is TRUNCATED, and at 15 bytes TOO_LONG", () => {
  const whole = [0x48, 0x81, 0x84, 0xc8, 1, 2, 3, 4, 5, 6, 7, 8]; // add qword [rax+rcx*8+0x4030201], 0x8070605
  for (let n = 0; n < whole.length; n++) expect(decode(whole.slice(0, n), 8).result).toBe(TRUNCATED);
  expect(decode(whole, 8).result).toBe(OK);
  expect(decode([...Array(14).fill(0x66), 0x8b], 8).result).toBe(TOO_LONG);
});

test("LOCK is refused where the manual makes it #UD", () => {
  expect(decode([0xf0, 0x8b, 0x03], 8).result).toBe(INVALID); // mov eax, [rbx]
  expect(decode([0xf0, 0x3b, 0x03], 8).result).toBe(INVALID); // cmp eax, [rbx]
  expect(decode([0xf0, 0x03, 0x03], 8).result).toBe(INVALID); // add eax, [rbx]
  expect(decode([0xf0, 0x01, 0x03], 8).result).toBe(OK); // add [rbx], eax
  expect(decode([0xf0, 0x87, 0x03], 8).result).toBe(OK); // xchg [rbx], eax
});

test("what no device register sees is UNKNOWN: arithmetic on vectors, x87, CRC32, far CALL, LES", () => {
  for (const code of [
    [0x0f, 0x58, 0x03], // addps xmm0, [rbx]
    [0xc5, 0xfc, 0x58, 0x03], // vaddps ymm0, ymm0, [rbx]
    [0xc4, 0xe2, 0x7d, 0x18, 0x03], // vbroadcastss ymm0, [rbx]
    [0xd9, 0x03], // fld dword [rbx]
    [0xf2, 0x0f, 0x38, 0xf1, 0x03],
    [0xff, 0x1b],
  ])
    expect(decode(code, 8).result, code.join()).toBe(UNKNOWN);
  expect(decode([0xc4, 0x03], 4).result).toBe(UNKNOWN); // les eax, [ebx]
  expect(decode([0xc5, 0x03], 2).result).toBe(UNKNOWN); // lds ax, [bp+di]
});

test("a VEX prefix allows no legacy prefix but segments and 67H, no REX, and no register that the move does not use", () => {
  const load = [0xc5, 0xf8, 0x10, 0x03]; // vmovups xmm0, [rbx]
  expect(decode(load, 8)).toMatchObject({ result: OK, insn: { vex: 16, memoryBytes: 16, length: 4 } });
  expect(decode([0xc5, 0xfc, 0x28, 0x03], 8)).toMatchObject({ result: OK, insn: { memoryBytes: 32, aligned: 1 } });
  expect(decode([0x64, 0x67, ...load], 8).result).toBe(OK);
  for (const prefix of [0x66, 0xf2, 0xf3, 0xf0, 0x48]) expect(decode([prefix, ...load], 8).result).toBe(INVALID);
  expect(decode([0xc5, 0xf0, 0x10, 0x03], 8).result).toBe(INVALID); // vvvv names xmm1
  expect(decode([0xc5, 0xf0, 0x12, 0x03], 8)).toMatchObject({ result: OK, insn: { vvvv: 1 } }); // vmovlps merges it
  expect(decode([0xc5, 0xfc, 0x12, 0x03], 8).result).toBe(INVALID); // of 256 bits there is none
  expect(decode([0xc5, 0xfe, 0x10, 0x03], 8)).toMatchObject({ result: OK, insn: { memoryBytes: 4 } }); // vmovss
  expect(decode([0xc5, 0xf8, 0x6f, 0x03], 8).result).toBe(INVALID); // MMX has no VEX form
  for (let n = 1; n < load.length; n++) expect(decode(load.slice(0, n), 8).result).toBe(TRUNCATED);
  expect(decode(load, 4)).toMatchObject({ result: OK, insn: { vex: 16 } });
});

test("AH..BH are named without REX and SPL..DIL with it", () => {
  expect(decode([0x88, 0x23], 8).insn.flags & 0x4000000).not.toBe(0); // mov [rbx], ah
  expect(decode([0x40, 0x88, 0x23], 8).insn.flags & 0x4000000).toBe(0); // mov [rbx], spl
});
