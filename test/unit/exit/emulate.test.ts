// Instructions with a device operand, executed by the core and by this machine's own processor: the same
// registers, flags and memory. The exit says "device"; the operand lies in memory, as when another vCPU has
// changed the page tables since, so that reads and writes of every size can be compared.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EXIT, F, guest, type Vcpu } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { enterLong } from "./mode.ts";

const DATA = 0x30_0000;
const CODE = 0x31_0000;
const BYTES = 64;
const DEVICE = 0xd000_0000n;
const STATUS = 0x8d5n; // OF SF ZF AF PF CF
const DF = 0x400n;
/** Encodings of the registers in the order of the reference's lines: all but RSP. */
const ORDER = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const SIGFPE = 8;

const folder = mkdtempSync(join(tmpdir(), "basalt-native-"));
beforeAll(() => {
  const source = join(dirname(fileURLToPath(import.meta.url)), "native.c");
  execFileSync("gcc", ["-O1", "-no-pie", "-o", join(folder, "native"), source]);
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Case {
  code: number[];
  flags: bigint;
  /** By encoding; RSP is not touched. */
  regs: bigint[];
  data: Uint8Array;
}

interface Result {
  signal: number;
  flags: bigint;
  regs: bigint[];
  data: string;
}

const hex = (bytes: Iterable<number>) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

function native(cases: Case[]): Result[] {
  const lines = cases.map(
    (c) =>
      `${hex(c.code)} ${c.flags.toString(16)} ${ORDER.map((r) => c.regs[r].toString(16)).join(" ")} ${hex(c.data)}`,
  );
  const output = execFileSync(join(folder, "native"), { input: `${lines.join("\n")}\n`, encoding: "utf8" });
  return output
    .trim()
    .split("\n")
    .map((line) => {
      const [signal, flags, ...rest] = line.split(" ");
      const regs: bigint[] = Array(16).fill(0n);
      for (const [i, r] of ORDER.entries()) regs[r] = BigInt(`0x${rest[i]}`);
      return { signal: Number(signal), flags: BigInt(`0x${flags}`), regs, data: rest[15] };
    });
}

/** An access to a device: the processor names its address, not the operand's. */
function deviceExit(): GuestExit {
  return { reason: EXIT.EPT_VIOLATION, qualification: 0x183n, gpa: DEVICE, gva: DEVICE };
}

function load(cpu: Vcpu, c: Case): void {
  for (const r of ORDER) cpu.set(r, c.regs[r]);
  cpu.write(F.GUEST_RFLAGS, c.flags | 2n);
  cpu.write(F.GUEST_RIP, CODE);
  cpu.poke(CODE, [...c.code, 0x90, 0x90]);
  cpu.poke(DATA, c.data);
}

let seed = 0x1234_5678;
function random(limit: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % limit;
}
const EDGES = [0n, 1n, 0x7fn, 0x80n, 0x7fffn, 0xffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 63n, (1n << 64n) - 1n];
function value(): bigint {
  if (random(3) === 0) return EDGES[random(EDGES.length)];
  return (BigInt(random(2 ** 31)) << 33n) ^ (BigInt(random(2 ** 31)) << 11n) ^ BigInt(random(2 ** 31));
}

/** Opcode bytes with the bits of ModRM.reg that choose the operation, or -1 for any register; bytes of immediate. */
interface Shape {
  op: number[];
  reg?: number;
  imm?: "b" | "z";
  /** Only as a byte operation. */
  byte?: boolean;
  lock?: boolean;
}

// biome-ignore format: a table
const SHAPES: Shape[] = [
  ...[0, 1, 2, 3, 4, 5, 6, 7].flatMap((n): Shape[] => [
    { op: [8 * n], byte: true, lock: n < 7 }, { op: [8 * n + 1], lock: n < 7 }, { op: [8 * n + 2], byte: true }, { op: [8 * n + 3] },
    { op: [0x80], reg: n, imm: "b", byte: true, lock: n < 7 }, { op: [0x81], reg: n, imm: "z", lock: n < 7 }, { op: [0x83], reg: n, imm: "b", lock: n < 7 },
    { op: [0xc0], reg: n, imm: "b", byte: true }, { op: [0xc1], reg: n, imm: "b" }, { op: [0xd0], reg: n, byte: true },
    { op: [0xd1], reg: n }, { op: [0xd2], reg: n, byte: true }, { op: [0xd3], reg: n },
  ]),
  { op: [0x84], byte: true }, { op: [0x85] }, { op: [0x86], byte: true, lock: true }, { op: [0x87], lock: true },
  { op: [0x88], byte: true }, { op: [0x89] }, { op: [0x8a], byte: true }, { op: [0x8b] }, { op: [0x63] },
  { op: [0xc6], reg: 0, imm: "b", byte: true }, { op: [0xc7], reg: 0, imm: "z" }, { op: [0x69], imm: "z" }, { op: [0x6b], imm: "b" },
  { op: [0xf6], reg: 0, imm: "b", byte: true }, { op: [0xf7], reg: 0, imm: "z" },
  ...[2, 3].flatMap((n): Shape[] => [{ op: [0xf6], reg: n, byte: true, lock: true }, { op: [0xf7], reg: n, lock: true }]),
  ...[4, 5, 6, 7].flatMap((n): Shape[] => [{ op: [0xf6], reg: n, byte: true }, { op: [0xf7], reg: n }]),
  ...[0, 1].flatMap((n): Shape[] => [{ op: [0xfe], reg: n, byte: true, lock: true }, { op: [0xff], reg: n, lock: true }]),
  { op: [0x0f, 0xa3] }, { op: [0x0f, 0xab], lock: true }, { op: [0x0f, 0xb3], lock: true }, { op: [0x0f, 0xbb], lock: true },
  ...[4, 5, 6, 7].map((n): Shape => ({ op: [0x0f, 0xba], reg: n, imm: "b", lock: n > 4 })),
  { op: [0x0f, 0xa4], imm: "b" }, { op: [0x0f, 0xa5] }, { op: [0x0f, 0xac], imm: "b" }, { op: [0x0f, 0xad] }, { op: [0x0f, 0xaf] },
  { op: [0x0f, 0xb0], byte: true, lock: true }, { op: [0x0f, 0xb1], lock: true }, { op: [0x0f, 0xc0], byte: true, lock: true },
  { op: [0x0f, 0xc1], lock: true }, { op: [0x0f, 0xc7], reg: 1, lock: true },
  { op: [0x0f, 0xb6] }, { op: [0x0f, 0xb7] }, { op: [0x0f, 0xbe] }, { op: [0x0f, 0xbf] }, { op: [0x0f, 0xbc] }, { op: [0x0f, 0xbd] },
  ...Array.from({ length: 16 }, (_, n): Shape => ({ op: [0x0f, 0x90 + n], byte: true, reg: 0 })),
  ...Array.from({ length: 16 }, (_, n): Shape => ({ op: [0x0f, 0x40 + n] })),
  { op: [0x0f, 0x1f], reg: 0 }, { op: [0x0f, 0x38, 0xf0] }, { op: [0x0f, 0x38, 0xf1] },
];

const RBX = 3;

/** One instruction of `shape` whose operand is [RBX + displacement] or [RBX + RSI * scale], in DATA. */
function make(shape: Shape): Case {
  const regs = Array.from({ length: 16 }, value);
  const sixteen = random(4) === 0 && !shape.byte;
  const wide = !sixteen && random(2) === 0 && !shape.byte && shape.op[1] !== 0xc7;
  const offset = 16 + random(24);
  regs[RBX] = BigInt(DATA + offset);
  let reg = shape.reg ?? random(16);
  if (shape.reg === undefined && (reg & 7) === 4) reg = 8 + random(8); // RSP is the reference's own, AH..BH have a test of their own
  if (shape.reg === undefined && reg === RBX) reg = 9;
  const bitString = shape.op[0] === 0x0f && [0xa3, 0xab, 0xb3, 0xbb].includes(shape.op[1]);
  if (bitString) regs[reg] = BigInt.asUintN(64, BigInt(random(128) - 64));
  const form = random(3);
  const rm = form === 2 ? [0x04, 0x33 | (random(4) << 6)] : form === 1 ? [0x43, random(16) - 8] : [0x03];
  if (form === 2) {
    const scale = rm[1] >> 6;
    regs[6] = BigInt.asUintN(64, BigInt((random(8) - 4) >> scale));
    if (shape.reg === undefined && reg === 6) reg = 10;
  }
  if (bitString) regs[reg] = BigInt.asUintN(64, BigInt(random(128) - 64));
  const rex = 0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0);
  const immediate = shape.imm === "b" ? 1 : shape.imm === "z" ? (sixteen ? 2 : 4) : 0;
  const code = [
    ...(shape.lock && random(2) ? [0xf0] : []),
    ...(sixteen ? [0x66] : []),
    rex,
    ...shape.op,
    rm[0] | ((reg & 7) << 3),
    ...rm.slice(1).map((b) => b & 0xff),
    ...Array.from({ length: immediate }, () => random(256)),
  ];
  const data = Uint8Array.from({ length: BYTES }, () => (random(4) === 0 ? 0 : random(256)));
  return { code, flags: BigInt(random(0x1000)) & STATUS, regs, data };
}

/** Flags that the manual leaves undefined after this instruction. */
function undefinedFlags(c: Case): bigint {
  const at = c.code.findIndex((b) => (b & 0xf0) === 0x40);
  const [op, next] = c.code.slice(at + 1);
  const reg = (c.code[at + 2] >> 3) & 7;
  const two = op === 0x0f;
  if (two && [0xa3, 0xab, 0xb3, 0xbb, 0xba].includes(next)) return 0x894n; // OF SF AF PF
  if (two && [0xbc, 0xbd].includes(next)) return 0x895n; // all but ZF
  if (two && [0xa4, 0xa5, 0xac, 0xad].includes(next)) return STATUS; // with large counts of 16 bits
  if (two && next === 0xaf) return 0xd4n;
  if (op === 0x69 || op === 0x6b) return 0xd4n; // SF ZF AF PF
  if ((op === 0xf6 || op === 0xf7) && reg >= 6) return STATUS;
  if ((op === 0xf6 || op === 0xf7) && reg >= 4) return 0xd4n;
  if ([0x84, 0x85].includes(op) || ((op === 0xf6 || op === 0xf7) && reg <= 1)) return 0x10n;
  if ([0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3].includes(op)) return 0x811n; // OF, AF, and CF beyond the size
  if (op < 0x40 && [0x08, 0x20, 0x30].includes(op & 0x38)) return 0x10n;
  if ([0x80, 0x81, 0x83].includes(op) && [1, 4, 6].includes(reg)) return 0x10n;
  return 0n;
}

/** BSF and BSR of zero, and SHLD and SHRD of 16 bits by more than 16, leave the destination undefined. */
function undefinedResult(c: Case): boolean {
  const at = c.code.findIndex((b) => (b & 0xf0) === 0x40);
  const [op, next] = c.code.slice(at + 1);
  return op === 0x0f && [0xa4, 0xa5, 0xac, 0xad].includes(next) && c.code.includes(0x66);
}

test("every instruction form does what this machine's processor does", async () => {
  const cases = Array.from({ length: 6 }, () => SHAPES.map(make)).flat();
  const wanted = native(cases);
  let compared = 0;
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [i, c] of cases.entries()) {
      const want = wanted[i];
      const name = hex(c.code);
      load(cpu, c);
      yield deviceExit();
      if (want.signal === SIGFPE) {
        expect([name, cpu.injected?.vector]).toEqual([name, 0]);
        continue;
      }
      if (want.signal !== 0) throw new Error(`${name}: signal ${want.signal} here`);
      expect([name, cpu.injected, cpu.rip]).toEqual([name, null, BigInt(CODE + c.code.length)]);
      if (undefinedResult(c)) continue;
      compared++;
      const mask = STATUS & ~undefinedFlags(c);
      expect([name, cpu.read(F.GUEST_RFLAGS) & mask]).toEqual([name, want.flags & mask]);
      expect([name, ORDER.map((r) => cpu.get(r).toString(16))]).toEqual([
        name,
        ORDER.map((r) => want.regs[r].toString(16)),
      ]);
      const data = Array.from({ length: BYTES }, (_, at) => Number(cpu.peek(DATA + at, 1)));
      expect([name, hex(data)]).toEqual([name, want.data]);
    }
  });
  expect(compared).toBeGreaterThan(cases.length / 2);
});

test("string instructions with every prefix, size and direction do what this machine's processor does", async () => {
  const cases: Case[] = [];
  for (const op of [0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf])
    for (const prefix of [[], [0xf3], [0xf2]])
      for (const size of [[], [0x66], [0x48]])
        for (const direction of [0n, DF])
          for (const narrow of [[], [0x67]]) {
            const regs = Array.from({ length: 16 }, value);
            regs[1] = BigInt(random(4));
            regs[6] = BigInt(DATA + 24 + random(4));
            regs[7] = BigInt(DATA + 28 + random(4));
            if (random(2)) regs[0] = 0n;
            const data = Uint8Array.from({ length: BYTES }, () => (random(2) ? 0 : random(256)));
            cases.push({
              code: [...narrow, ...prefix, ...size, op],
              flags: direction | (BigInt(random(0x1000)) & STATUS),
              regs,
              data,
            });
          }
  const wanted = native(cases);
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [i, c] of cases.entries()) {
      const name = hex(c.code);
      load(cpu, c);
      yield deviceExit();
      expect([name, wanted[i].signal, cpu.injected]).toEqual([name, 0, null]);
      expect([name, cpu.rip]).toEqual([name, BigInt(CODE + c.code.length)]);
      const regs = ORDER.map((r) => cpu.get(r).toString(16));
      expect([name, regs]).toEqual([name, ORDER.map((r) => wanted[i].regs[r].toString(16))]);
      expect([name, cpu.read(F.GUEST_RFLAGS) & (STATUS | DF)]).toEqual([name, wanted[i].flags & (STATUS | DF)]);
      const data = Array.from({ length: BYTES }, (_, at) => Number(cpu.peek(DATA + at, 1)));
      expect([name, hex(data)]).toEqual([name, wanted[i].data]);
    }
  });
});
