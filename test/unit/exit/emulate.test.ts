// Instructions with a device operand, executed by the core and by this machine's own processor: the same
// registers, flags and memory. The exit says "device"; the operand lies in memory, as when another vCPU has
// changed the page tables since, so that reads and writes of every size can be compared.

import { expect, test } from "vitest";
import { EXIT, F, guest, type Vcpu } from "../../fake/guest.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import { westmere } from "../../fake/profiles/processors.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { enterLong } from "./mode.ts";
import {
  AREA_BYTES,
  BYTES,
  type Case,
  CODE,
  DATA,
  hex,
  nativeRunner,
  ORDER,
  processorHas,
  random,
  value,
} from "./native.ts";

const DEVICE = 0xd000_0000n;
const STATUS = 0x8d5n; // OF SF ZF AF PF CF
const DF = 0x400n;
const SIGFPE = 8;
const SIGSEGV = 11;

const native = nativeRunner();

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

/** Opcode bytes with the bits of ModRM.reg that choose the operation, or -1 for any register; bytes of immediate. */
interface Shape {
  op: number[];
  reg?: number;
  imm?: "b" | "z";
  /** Stands before REX. */
  prefix?: number;
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
  ...(processorHas("popcnt", "abm", "bmi1") ? [0xb8, 0xbc, 0xbd].map((op): Shape => ({ op: [0x0f, op], prefix: 0xf3 })) : []),
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
    ...(shape.prefix ? [shape.prefix] : []),
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
  if (two && [0xbc, 0xbd].includes(next)) return c.code.slice(0, at).includes(0xf3) ? 0x894n : 0x895n; // all but ZF, and CF of the counts
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

// ---- Vector moves

const XCR0_AVX = 7n;
const CR4_OSFXSR_OSXSAVE = 0x4_0200n;
const CR4_SHADOW = 0x6006;

/** The guest may use SSE and AVX. */
function* enableVectors(cpu: Vcpu, xcr0 = XCR0_AVX): Generator<GuestExit, void, void> {
  enterLong(cpu);
  cpu.write(F.GUEST_CR4, cpu.read(F.GUEST_CR4) | CR4_OSFXSR_OSXSAVE);
  cpu.write(CR4_SHADOW, cpu.read(CR4_SHADOW) | CR4_OSFXSR_OSXSAVE);
  cpu.set(0, xcr0);
  cpu.set(1, 0);
  cpu.set(2, 0);
  yield { reason: EXIT.XSETBV, length: 3 };
  expect(cpu.injected).toBe(null);
}

/** An XSAVE area with random vector registers and an x87 stack whose top is at `top`. */
function randomArea(top: number): Uint8Array {
  const area = Uint8Array.from({ length: AREA_BYTES }, (_, i) => (i >= 512 && i < 576 ? 0 : random(256)));
  const view = new DataView(area.buffer);
  view.setUint16(0, 0x37f, true);
  view.setUint16(2, top << 11, true);
  area[4] = random(256);
  area.fill(0, 5, 24);
  view.setUint32(24, 0x1f80, true);
  view.setUint32(28, 0, true);
  for (let i = 0; i < 8; i++) area.fill(0, 42 + 16 * i, 48 + 16 * i);
  area.fill(0, 416, 512);
  area[512] = 7;
  return area;
}

/** Opcode, mandatory prefix, and whether it has VEX forms of 128 and 256 bits and one with W. */
interface VectorShape {
  op: number[];
  prefix?: number;
  vex?: (16 | 32)[];
  wide?: boolean;
  merges?: boolean;
}

const both: (16 | 32)[] = [16, 32];
// biome-ignore format: a table
const VECTORS: VectorShape[] = [
  ...[0x10, 0x11, 0x28, 0x29].flatMap((op): VectorShape[] => [{ op: [op], vex: both }, { op: [op], prefix: 0x66, vex: both }]),
  ...[0x10, 0x11].flatMap((op): VectorShape[] => [{ op: [op], prefix: 0xf3, vex: both }, { op: [op], prefix: 0xf2, vex: both }]),
  ...[0x12, 0x16].flatMap((op): VectorShape[] => [{ op: [op], vex: [16], merges: true }, { op: [op], prefix: 0x66, vex: [16], merges: true }]),
  ...[0x13, 0x17].flatMap((op): VectorShape[] => [{ op: [op], vex: [16] }, { op: [op], prefix: 0x66, vex: [16] }]),
  { op: [0x2b], vex: both }, { op: [0x2b], prefix: 0x66, vex: both },
  ...[0x6e, 0x7e].flatMap((op): VectorShape[] => [{ op: [op], wide: true }, { op: [op], prefix: 0x66, vex: [16], wide: true }]),
  { op: [0x7e], prefix: 0xf3, vex: [16] }, { op: [0xd6], prefix: 0x66, vex: [16] },
  ...[0x6f, 0x7f].flatMap((op): VectorShape[] => [{ op: [op] }, { op: [op], prefix: 0x66, vex: both }, { op: [op], prefix: 0xf3, vex: both }]),
  { op: [0xe7] }, { op: [0xe7], prefix: 0x66, vex: both }, { op: [0xf0], prefix: 0xf2, vex: both },
  { op: [0x38, 0x2a], prefix: 0x66, vex: [16] },
];

/** `shape` at [RBX], aligned or not; as legacy encoding, or with a VEX prefix for vectors of `vex` bytes. */
function makeVector(shape: VectorShape, vex: 0 | 16 | 32, wide: boolean): Case {
  const regs = Array.from({ length: 16 }, value);
  regs[3] = BigInt(DATA + (random(3) ? 32 * random(2) : random(33)));
  const isMmx = !shape.prefix && !vex && [0x6e, 0x7e, 0x6f, 0x7f, 0xe7].includes(shape.op[0]);
  const reg = random(isMmx ? 8 : 16);
  const modRm = 0x03 | ((reg & 7) << 3);
  const rex = 0x40 | (wide ? 8 : 0) | (reg & 8 ? 4 : 0);
  const code = vex
    ? [
        0xc4,
        (reg & 8 ? 0x60 : 0xe0) | shape.op.length,
        (wide ? 0x80 : 0) |
          ((shape.merges ? ~random(16) & 15 : 15) << 3) |
          (vex === 32 ? 4 : 0) |
          [undefined, 0x66, 0xf3, 0xf2].indexOf(shape.prefix),
        shape.op.at(-1) as number,
        modRm,
      ]
    : [...(shape.prefix ? [shape.prefix] : []), ...(rex !== 0x40 ? [rex] : []), 0x0f, ...shape.op, modRm];
  const data = Uint8Array.from({ length: BYTES }, () => random(256));
  return { code, flags: BigInt(random(0x1000)) & STATUS, regs, data, area: randomArea(random(8)) };
}

/** What of an area is compared: no pointers of x87 instructions, no header. */
function compared(area: Uint8Array): string {
  const copy = Uint8Array.from(area.subarray(0, AREA_BYTES));
  copy.fill(0, 5, 24);
  copy.fill(0, 28, 32); // MXCSR_MASK
  copy.fill(0, 416, 576);
  return hex(copy);
}

test.skipIf(!processorHas("avx", "xsave"))("vector moves do what this machine's processor does", async () => {
  const cases = Array.from({ length: 12 }, () =>
    VECTORS.flatMap((shape) =>
      ([0, ...(shape.vex ?? [])] as const).flatMap((vex) =>
        (shape.wide ? [false, true] : [false]).map((wide) => makeVector(shape, vex, wide)),
      ),
    ),
  ).flat();
  const wanted = native(cases);
  const signals = new Map<number, number>();
  await guest(function* (cpu) {
    yield* enableVectors(cpu);
    const { fpu } = cpu.m.cpus[0];
    for (const [i, c] of cases.entries()) {
      const want = wanted[i];
      const name = hex(c.code);
      load(cpu, c);
      fpu.set(c.area as Uint8Array);
      yield deviceExit();
      signals.set(want.signal, (signals.get(want.signal) ?? 0) + 1);
      const data = Array.from({ length: BYTES }, (_, at) => Number(cpu.peek(DATA + at, 1)));
      if (want.signal === SIGSEGV) {
        expect([name, cpu.injected?.vector, cpu.rip, hex(data)]).toEqual([name, 13, BigInt(CODE), hex(c.data)]);
        expect([name, compared(fpu)]).toEqual([name, compared(c.area as Uint8Array)]);
        continue;
      }
      expect([name, want.signal, cpu.injected, cpu.rip]).toEqual([name, 0, null, BigInt(CODE + c.code.length)]);
      expect([name, hex(data)]).toEqual([name, want.data]);
      expect([name, compared(fpu)]).toEqual([name, compared(want.area)]);
    }
  });
  expect([...signals.keys()].sort()).toEqual([0, SIGSEGV]);
});

test("a VEX load clears the register up to 512 bits where the processor has so many", async () => {
  await guest(
    function* (cpu) {
      yield* enableVectors(cpu, 0xe7n);
      const { fpu, profile: own } = cpu.m.cpus[0];
      const at = (own.cpuid["d.6"] as number[])[1];
      const high = (register: number) => hex(fpu.subarray(at + 32 * register, at + 32 * register + 32));
      fpu.fill(0x5a);
      for (const [code, left] of [
        [[0x0f, 0x10, 0x0b], "5a".repeat(32)], // movups xmm1, [rbx]
        [[0xc5, 0xf8, 0x10, 0x0b], "00".repeat(32)], // vmovups xmm1, [rbx]
      ] as const) {
        load(cpu, {
          code: [...code],
          flags: 0n,
          regs: Array(16).fill(BigInt(DATA)),
          data: new Uint8Array(BYTES).fill(7),
        });
        yield deviceExit();
        expect(cpu.rip).toBe(BigInt(CODE + code.length));
        expect(hex(fpu.subarray(176, 192))).toBe("07".repeat(16));
        expect(high(1)).toBe(left);
        expect(high(2)).toBe("5a".repeat(32));
      }
    },
    { profile: bochs("corei7_skylake_x") },
  );
});

test("what the guest's control registers forbid is #UD or #NM, before the device is asked", async () => {
  const sse = [0x0f, 0x11, 0x03]; // movups [rbx], xmm0
  const avx = [0xc5, 0xf8, 0x11, 0x03];
  const mmx = [0x0f, 0x7f, 0x03];
  const [EM, TS] = [4n, 8n];
  const CR0_SHADOW = 0x6004;
  // biome-ignore format: a table
  const rows: [number[], bigint, bigint, bigint, number | undefined][] = [
    // code, CR0 bits, CR4 bits that go, XCR0, vector
    [sse, 0n, 0n, 7n, undefined], [sse, EM, 0n, 7n, 6], [sse, TS, 0n, 7n, 7], [sse, EM | TS, 0n, 7n, 6], [sse, 0n, 0x200n, 7n, 6],
    [sse, 0n, 0n, 1n, undefined], [avx, 0n, 0n, 7n, undefined], [avx, EM, 0n, 7n, undefined], [avx, TS, 0n, 7n, 7],
    [avx, 0n, 0x4_0000n, 7n, 6], [avx, 0n, 0n, 3n, 6], [mmx, 0n, 0x200n, 7n, undefined], [mmx, EM, 0n, 7n, 6], [mmx, TS, 0n, 7n, 7],
  ];
  for (const [code, cr0, cr4, xcr0, vector] of rows) {
    await guest(function* (cpu) {
      yield* enableVectors(cpu, xcr0);
      for (const field of [F.GUEST_CR0, CR0_SHADOW]) cpu.write(field, cpu.read(field) | cr0);
      for (const field of [F.GUEST_CR4, CR4_SHADOW]) cpu.write(field, cpu.read(field) & ~cr4);
      load(cpu, { code, flags: 0n, regs: Array(16).fill(BigInt(DATA)), data: new Uint8Array(BYTES) });
      yield deviceExit();
      expect([hex(code), cr0, cr4, xcr0, cpu.injected?.vector]).toEqual([hex(code), cr0, cr4, xcr0, vector]);
      expect(cpu.m.cpus[0].xcr0).toBe(xcr0);
    });
  }
});

test("an MMX move with an x87 exception pending is #MF", async () => {
  await guest(function* (cpu) {
    yield* enableVectors(cpu);
    cpu.m.cpus[0].fpu[2] = 0x80;
    load(cpu, { code: [0x0f, 0x6f, 0x03], flags: 0n, regs: Array(16).fill(BigInt(DATA)), data: new Uint8Array(BYTES) });
    yield deviceExit();
    expect([cpu.injected?.vector, cpu.rip]).toEqual([16, BigInt(CODE)]);
  });
});

test("on a processor without XSAVE vector registers go through FXSAVE", async () => {
  await guest(
    function* (cpu) {
      enterLong(cpu);
      cpu.write(F.GUEST_CR4, cpu.read(F.GUEST_CR4) | 0x200n);
      cpu.write(CR4_SHADOW, cpu.read(CR4_SHADOW) | 0x200n);
      const { fpu } = cpu.m.cpus[0];
      const data = Uint8Array.from({ length: BYTES }, (_, i) => i);
      load(cpu, { code: [0x0f, 0x10, 0x13], flags: 0n, regs: Array(16).fill(BigInt(DATA)), data });
      yield deviceExit();
      expect([cpu.injected, cpu.rip]).toEqual([null, BigInt(CODE + 3)]);
      expect(hex(fpu.subarray(192, 208))).toBe(hex(data.subarray(0, 16)));
    },
    { profile: westmere },
  );
});

// ---- The stack

test("PUSH, POP, LEAVE and ENTER do what this machine's processor does", async () => {
  const forms: number[][] = [
    [0x50],
    [0x53],
    [0x54],
    [0x41, 0x57],
    [0x66, 0x50],
    [0x68, 1, 2, 3, 0x84],
    [0x66, 0x68, 1, 0x82],
    [0x6a, 0x85],
    [0x66, 0x6a, 0x85],
    [0xff, 0x33],
    [0x66, 0xff, 0x33],
    [0xff, 0xf0],
    [0xff, 0x74, 0x24, 0x08],
    [0x58],
    [0x5c],
    [0x41, 0x5f],
    [0x66, 0x58],
    [0x8f, 0x03],
    [0x66, 0x8f, 0x03],
    [0x8f, 0x44, 0x24, 0xf0],
    [0x8f, 0xc0],
    [0xc9],
    [0x66, 0xc9],
    [0xc8, 0x10, 0, 0],
    [0xc8, 3, 0, 0],
    [0x66, 0xc8, 8, 0, 0],
  ];
  const RSP = 14; // the reference's code takes RSP from R14 and leaves it in R12
  const cases = Array.from({ length: 8 }, () =>
    forms.map((form): Case => {
      const regs = Array.from({ length: 16 }, value);
      regs[3] = BigInt(DATA + random(24));
      regs[5] = BigInt(DATA + 24 + random(24));
      regs[RSP] = BigInt(DATA + 24 + random(16));
      const code = [0x4c, 0x89, 0xf4, ...form, 0x49, 0x89, 0xe4];
      return {
        code,
        flags: BigInt(random(0x1000)) & STATUS,
        regs,
        data: Uint8Array.from({ length: BYTES }, () => random(256)),
      };
    }),
  ).flat();
  const wanted = native(cases);
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [i, c] of cases.entries()) {
      const form = c.code.slice(3, -3);
      const name = hex(form);
      load(cpu, { ...c, code: form });
      cpu.set(4, c.regs[RSP]);
      yield deviceExit();
      expect([name, wanted[i].signal, cpu.injected, cpu.rip]).toEqual([name, 0, null, BigInt(CODE + form.length)]);
      const regs = ORDER.map((r) => cpu.get(r === 12 ? 4 : r).toString(16));
      expect([name, regs]).toEqual([name, ORDER.map((r) => wanted[i].regs[r].toString(16))]);
      const data = Array.from({ length: BYTES }, (_, at) => Number(cpu.peek(DATA + at, 1)));
      expect([name, hex(data)]).toEqual([name, wanted[i].data]);
    }
  });
});
