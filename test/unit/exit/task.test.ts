// Hardware task switches, which VMX leaves to the core. Intel SDM Vol. 3, chapter "Task Management".

import { expect, test } from "vitest";
import { EXIT, F, guest, R, type Vcpu } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import {
  accessField,
  baseField,
  CR0_SHADOW,
  CR4_SHADOW,
  clearCr0,
  enterProtected,
  GDTR,
  limitField,
  Seg,
  selectorField,
  setCr0,
  setSegment,
} from "./mode.ts";

const GDT = 0x20_0000;
const OLD_TSS = 0x20_1000;
const NEW_TSS = 0x20_2000;
const CODE = 0x08;
const DATA = 0x10;
const OLD = 0x18;
const NEW = 0x20;
const LDT = 0x28;
const CODE3 = 0x33;
const DATA3 = 0x3b;
const ABSENT = 0x40;
const SHORT = 0x48;
const CONFORMING = 0x50;
const READ_ONLY = 0x58;

const CALL = 0n;
const IRET = 1n;
const JMP = 2n;
const GATE = 3n;

const NT = 0x4000n;

function descriptor(base: number, limit: number, access: number, flags = 0): bigint {
  const low = BigInt(((base & 0xffff) << 16) >>> 0) | BigInt(limit & 0xffff);
  const high =
    ((base >>> 16) & 0xff) | (access << 8) | (((limit >>> 16) & 15) << 16) | (flags << 20) | (base & 0xff00_0000);
  return (BigInt(high >>> 0) << 32n) | low;
}

/** Access byte of the descriptor at `selector` in the GDT. */
const accessByte = (cpu: Vcpu, selector: number) => Number(cpu.peek(GDT + (selector & ~7) + 5, 1));

/** A guest in the task OLD, with a task NEW of 32 (or 16) bits that is ready to run. */
function setUp(cpu: Vcpu, wide = true): void {
  enterProtected(cpu);
  const put = (selector: number, value: bigint) => cpu.poke(GDT + (selector & ~7), value);
  put(0, 0n);
  put(CODE, descriptor(0, 0xf_ffff, 0x9b, 0xc));
  put(DATA, descriptor(0, 0xf_ffff, 0x92, 0xc)); // not accessed yet
  put(OLD, descriptor(OLD_TSS, 0x67, 0x8b));
  put(NEW, descriptor(NEW_TSS, wide ? 0x67 : 0x2b, wide ? 0x89 : 0x81));
  put(LDT, descriptor(0x20_3000, 0x1f, 0x82));
  put(CODE3, descriptor(0, 0xf_ffff, 0xfb, 0xc));
  put(DATA3, descriptor(0, 0xf_ffff, 0xf3, 0xc));
  put(ABSENT, descriptor(0, 0xf_ffff, 0x13, 0xc));
  put(SHORT, descriptor(NEW_TSS, wide ? 0x66 : 0x2a, wide ? 0x89 : 0x81));
  put(CONFORMING, descriptor(0, 0xf_ffff, 0x9e, 0xc));
  put(READ_ONLY, descriptor(0, 0xf_ffff, 0x90, 0xc));
  cpu.write(GDTR.base, GDT);
  cpu.write(GDTR.limit, 0x5f);
  setSegment(cpu, Seg.TR, OLD, BigInt(OLD_TSS), 0x67, 0x8b);
  setSegment(cpu, Seg.LDTR, 0, 0n, 0, 0x1_0000);
  cpu.poke(OLD_TSS, new Uint8Array(0x68));
  cpu.poke(NEW_TSS, new Uint8Array(0x68));
  cpu.write(F.GUEST_RIP, 0x11_0000);
  cpu.write(F.GUEST_RFLAGS, 0x2n);
  for (const [i, register] of [0, 1, 2, 3, 5, 6, 7].entries()) cpu.set(register, 0x1111_0000 + i);
  cpu.set(4, 0x15_0000);
  if (wide) newTask32(cpu);
  else newTask16(cpu);
}

// biome-ignore format: a table
const FIELDS: [at: number, value: number][] = [
  [0x20, 0x12_3456], [0x24, 0x46], [0x28, 0xa0], [0x2c, 0xa1], [0x30, 0xa2], [0x34, 0xa3], [0x38, 0x16_0000], [0x3c, 0xa5],
  [0x40, 0xa6], [0x44, 0xa7], [0x48, DATA], [0x4c, CODE], [0x50, DATA], [0x54, DATA], [0x58, 0], [0x5c, DATA], [0x60, LDT],
];

function newTask32(cpu: Vcpu): void {
  for (const [at, value] of FIELDS) cpu.poke(NEW_TSS + at, BigInt(value), 4);
}

function newTask16(cpu: Vcpu): void {
  for (const [i, value] of [
    0x3456,
    0x46,
    0xa0,
    0xa1,
    0xa2,
    0xa3,
    0xf000,
    0xa5,
    0xa6,
    0xa7,
    DATA,
    CODE,
    DATA,
    DATA,
    0,
  ].entries())
    cpu.poke(NEW_TSS + 0x0e + 2 * i, BigInt(value), 2);
}

const TR_TYPE = 15n;

function switchTo(selector: number, source: bigint, more: Partial<GuestExit> = {}): GuestExit {
  return { reason: EXIT.TASK_SWITCH, length: 7, qualification: BigInt(selector) | (source << 30n), ...more };
}

test("JMP to a 32-bit task: the old state is saved, all of the new one is loaded", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    cpu.write(0x681a, 0x755n);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    const saved = (at: number) => Number(cpu.peek(OLD_TSS + at, 4));
    expect(saved(0x20)).toBe(0x11_0007); // behind the JMP
    expect([0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c].map(saved)).toEqual([
      0x1111_0000, 0x1111_0001, 0x1111_0002, 0x1111_0003, 0x15_0000, 0x1111_0004,
    ]);
    expect([0x4c, 0x50].map(saved)).toEqual([0x08, 0x10]);
    expect([accessByte(cpu, OLD), accessByte(cpu, NEW)]).toEqual([0x89, 0x8b]);
    expect([cpu.rip, cpu.read(F.GUEST_RFLAGS), cpu.get(4)]).toEqual([0x12_3456n, 0x46n, 0x16_0000n]);
    expect([0, 1, 2, 3, 5, 6, 7].map((r) => cpu.get(r))).toEqual([0xa0n, 0xa1n, 0xa2n, 0xa3n, 0xa5n, 0xa6n, 0xa7n]);
    expect([
      cpu.read(selectorField(Seg.TR)),
      cpu.read(baseField(Seg.TR)),
      cpu.read(accessField(Seg.TR)) & TR_TYPE,
    ]).toEqual([BigInt(NEW), BigInt(NEW_TSS), 11n]);
    expect(cpu.read(selectorField(Seg.LDTR))).toBe(BigInt(LDT));
    expect(cpu.read(accessField(Seg.FS)) & 0x1_0000n).toBe(0x1_0000n); // null
    expect(cpu.read(limitField(Seg.GS))).toBe(0xffff_ffffn);
    expect(accessByte(cpu, DATA) & 1).toBe(1); // accessed
    expect(cpu.read(CR0_SHADOW) & 8n).toBe(8n); // TS
    expect(cpu.read(0x681a)).toBe(0x600n); // local breakpoints off
    expect(cpu.peek(NEW_TSS, 2)).toBe(0n); // no link
  });
});

test("CALL nests: the link, NT, both busy; IRET goes back", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    yield switchTo(NEW, CALL);
    expect(cpu.injected).toBe(null);
    expect(cpu.peek(NEW_TSS, 2)).toBe(BigInt(OLD));
    expect(cpu.read(F.GUEST_RFLAGS) & NT).toBe(NT);
    expect([accessByte(cpu, OLD), accessByte(cpu, NEW)]).toEqual([0x8b, 0x8b]);
    cpu.set(R.RAX, 0x77);
    cpu.poke(OLD_TSS + 0x1c, 0n, 4);
    yield { ...switchTo(OLD, IRET), length: 1 };
    expect(cpu.injected).toBe(null);
    expect(cpu.rip).toBe(0x11_0007n);
    expect(cpu.get(R.RAX)).toBe(0x1111_0000n);
    expect([accessByte(cpu, OLD), accessByte(cpu, NEW)]).toEqual([0x8b, 0x89]);
    expect(cpu.peek(NEW_TSS + 0x24, 4) & NT).toBe(0n); // saved without NT
    expect(cpu.peek(NEW_TSS + 0x28, 4)).toBe(0x77n);
  });
});

test("a 16-bit task loads words, and no FS, GS or CR3", async () => {
  await guest(function* (cpu) {
    setUp(cpu, false);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect([cpu.rip, cpu.get(R.RAX), cpu.get(4)]).toEqual([0x3456n, 0x1111_00a0n, 0x15_f000n]);
    expect(cpu.read(accessField(Seg.GS)) & 0x1_0000n).toBe(0x1_0000n);
    expect(cpu.read(accessField(Seg.TR)) & TR_TYPE).toBe(3n);
    // And back: the old task is saved in 16 bits.
    cpu.poke(GDT + OLD, descriptor(OLD_TSS, 0x67, 0x89));
    cpu.poke(OLD_TSS + 0x48, BigInt(DATA), 4);
    yield switchTo(OLD, JMP);
    expect(cpu.injected).toBe(null);
    expect(cpu.peek(NEW_TSS + 0x0e, 2)).toBe(0x345dn);
    expect(cpu.peek(NEW_TSS + 0x12, 2)).toBe(0xa0n);
  });
});

/** Name, what to change, source, selector, vector and error code; the old task still runs. */
// biome-ignore format: a table
const REFUSED: [string, (cpu: Vcpu) => void, number, bigint, number, number][] = [
  ["outside the GDT", () => {}, 0x68, JMP, 13, 0x68],
  ["the null selector", () => {}, 0, JMP, 13, 0],
  ["in an LDT that is not there", () => {}, 0x24, JMP, 13, 0x24],
  ["a code segment", () => {}, CODE, JMP, 13, CODE],
  ["a busy task", () => {}, OLD, JMP, 13, OLD],
  ["a free task by IRET", () => {}, NEW, IRET, 10, NEW],
  ["not present", (cpu) => cpu.poke(GDT + NEW, descriptor(NEW_TSS, 0x67, 0x09)), NEW, CALL, 11, NEW],
  ["a limit too small", () => {}, SHORT, JMP, 10, SHORT],
];

test.each(REFUSED)("refused in the old task: %s", async (_name, change, selector, source, vector, error) => {
  await guest(function* (cpu) {
    setUp(cpu);
    change(cpu);
    yield switchTo(selector, source);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([vector, error]);
    expect([cpu.rip, cpu.read(selectorField(Seg.TR))]).toEqual([0x11_0000n, BigInt(OLD)]);
    expect(cpu.peek(OLD_TSS + 0x20, 4)).toBe(0n);
    expect(cpu.read(CR0_SHADOW) & 8n).toBe(0n);
  });
});

/** Name, field of the new TSS, value, vector and error code; the fault is the new task's. */
// biome-ignore format: a table
const FAULTS: [string, number, number, number, number][] = [
  ["CS is null", 0x4c, 0, 10, 0],
  ["CS is data", 0x4c, DATA, 10, DATA],
  ["CS is not present", 0x4c, ABSENT, 10, ABSENT],
  ["CS's DPL is not its RPL", 0x4c, CODE | 3, 10, CODE],
  ["SS is null", 0x50, 0, 10, 0],
  ["SS is code", 0x50, CODE, 10, CODE],
  ["SS is read-only", 0x50, READ_ONLY, 10, READ_ONLY],
  ["SS is not present", 0x50, ABSENT, 12, ABSENT],
  ["SS's RPL is not CPL", 0x50, DATA | 3, 10, DATA],
  ["DS is not present", 0x54, ABSENT, 11, ABSENT],
  ["DS is outside the GDT", 0x54, 0x70, 10, 0x70],
  ["DS's RPL is above its DPL", 0x54, DATA | 3, 10, DATA],
  ["LDT is a data segment", 0x60, DATA, 10, DATA],
  ["LDT lies in the LDT", 0x60, 0x2c, 10, 0x2c],
];

test.each(FAULTS)("faults in the new task: %s", async (_name, at, value, vector, error) => {
  await guest(function* (cpu) {
    setUp(cpu);
    cpu.poke(NEW_TSS + at, BigInt(value), 4);
    yield switchTo(NEW, JMP);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([vector, error]);
    expect([cpu.rip, cpu.read(selectorField(Seg.TR))]).toEqual([0x12_3456n, BigInt(NEW)]);
    setUp(cpu);
  });
});

test("a task at privilege 3, and a conforming data segment for it", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    for (const [at, value] of [
      [0x48, DATA3],
      [0x4c, CODE3],
      [0x50, DATA3],
      [0x54, CONFORMING],
      [0x5c, 0],
    ])
      cpu.poke(NEW_TSS + at, BigInt(value), 4);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect((cpu.read(accessField(Seg.SS)) >> 5n) & 3n).toBe(3n);
    enterProtected(cpu);
  });
});

test("virtual-8086: segments are their selectors times 16", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    cpu.poke(NEW_TSS + 0x24, 0x2_0002n, 4);
    for (const at of [0x48, 0x4c, 0x50, 0x54, 0x58, 0x5c]) cpu.poke(NEW_TSS + at, 0x1234n, 4);
    cpu.poke(NEW_TSS + 0x20, 0x56n, 4);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect([cpu.read(baseField(Seg.CS)), cpu.read(limitField(Seg.CS)), cpu.read(accessField(Seg.CS))]).toEqual([
      0x1_2340n,
      0xffffn,
      0xf3n,
    ]);
    cpu.write(F.GUEST_RFLAGS, 2n);
    enterProtected(cpu);
  });
});

test("the T flag of the new TSS raises #DB with BT", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    cpu.poke(NEW_TSS + 0x64, 1n, 2);
    yield switchTo(NEW, JMP);
    expect(cpu.injected?.vector).toBe(1);
    yield { reason: EXIT.DR_ACCESS, length: 3 }; // loads the guest's debug registers
    expect(cpu.m.current.dr[6] & 0x8000n).toBe(0x8000n);
  });
});

test("an exception through a task gate pushes its error code onto the new stack; RIP saved is the fault's", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    const GP_WITH_ERROR = 0x8000_0b0d;
    yield switchTo(NEW, GATE, { idtVectoring: GP_WITH_ERROR, idtError: 0xabc });
    expect(cpu.injected).toBe(null);
    expect(cpu.get(4)).toBe(0x15_fffcn);
    expect(cpu.peek(0x15_fffc, 4)).toBe(0xabcn);
    expect(cpu.peek(OLD_TSS + 0x20, 4)).toBe(0x11_0000n);
    expect(cpu.peek(NEW_TSS, 2)).toBe(BigInt(OLD));
  });
});

test("an NMI through a task gate blocks NMIs; a software interrupt returns behind itself", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    yield switchTo(NEW, GATE, { idtVectoring: 0x8000_0202 });
    expect(cpu.read(F.GUEST_INTERRUPTIBILITY) & 8n).toBe(8n);
    cpu.write(F.GUEST_INTERRUPTIBILITY, 0n);
    setUp(cpu);
    yield { ...switchTo(NEW, GATE, { idtVectoring: 0x8000_0440 }), length: 2 };
    expect(cpu.injected).toBe(null);
    expect(cpu.peek(OLD_TSS + 0x20, 4)).toBe(0x11_0002n);
  });
});

const PD = 0x39_0000;
const PT = 0x39_1000;
const CR0_PG = 1n << 31n;
const CR4_PSE = 0x10n;

/** 32-bit paging: 4 MiB pages, but the second 2 MiB through a page table, identity all. */
function enablePaging(cpu: Vcpu): void {
  for (let i = 0; i < 1024; i++) cpu.poke(PT + 4 * i, BigInt(0x1000 * i) | 7n, 4);
  cpu.poke(PD, BigInt(PT) | 7n, 4);
  cpu.write(F.GUEST_CR3, PD);
  cpu.write(F.GUEST_CR4, cpu.read(F.GUEST_CR4) | CR4_PSE);
  setCr0(cpu, CR0_PG | 0x1_0000n);
}

test("under paging: a TSS across two pages, CR3 from the new task, and its faults as #PF", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    enablePaging(cpu);
    const across = 0x20_5fc0;
    for (let at = 0; at < 0x68; at += 4) cpu.poke(across + at, cpu.peek(NEW_TSS + at, 4), 4);
    cpu.poke(across + 0x1c, BigInt(PD), 4);
    cpu.poke(GDT + NEW, descriptor(across, 0x67, 0x89));
    cpu.poke(PT + 4 * 0x206, 0n, 4); // its second page is not there
    yield switchTo(NEW, JMP);
    expect([cpu.injected?.vector, cpu.injected?.error, cpu.m.current.cr2]).toEqual([14, 0, 0x20_6000n]);
    expect([cpu.rip, cpu.read(selectorField(Seg.TR))]).toEqual([0x11_0000n, BigInt(OLD)]);
    cpu.poke(PT + 4 * 0x206, 0x20_6007n, 4);
    cpu.poke(PT + 4 * 0x201, 0x20_1005n, 4); // the old TSS is read-only
    yield switchTo(NEW, JMP);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 3]);
    expect(cpu.rip).toBe(0x11_0000n);
    cpu.poke(PT + 4 * 0x201, 0x20_1007n, 4);
    // Another page directory: the new task's.
    cpu.poke(PD + 0x4000, BigInt(PT) | 7n, 4);
    cpu.poke(across + 0x1c, BigInt(PD + 0x4000), 4);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect([cpu.rip, cpu.read(F.GUEST_CR3), cpu.get(R.RAX)]).toEqual([0x12_3456n, BigInt(PD + 0x4000), 0xa0n]);
    setUp(cpu);
    clearCr0(cpu, CR0_PG);
  });
});

test("an old TSS across two pages is written whole or not at all", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    enablePaging(cpu);
    const across = 0x20_5fc0;
    cpu.poke(across, new Uint8Array(0x68));
    cpu.write(baseField(Seg.TR), across);
    cpu.poke(NEW_TSS + 0x1c, BigInt(PD), 4);
    cpu.poke(PT + 4 * 0x206, 0x20_6005n, 4);
    yield switchTo(NEW, JMP);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 3]);
    expect(cpu.peek(across + 0x20, 4)).toBe(0n);
    cpu.poke(PT + 4 * 0x206, 0x20_6007n, 4);
    cpu.poke(GDT + OLD, descriptor(across, 0x67, 0x8b));
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect([cpu.peek(across + 0x20, 4), cpu.peek(across + 0x5c, 4)]).toEqual([0x11_0007n, 0x10n]);
    setUp(cpu);
    clearCr0(cpu, CR0_PG);
  });
});

test("under PAE paging the PDPTEs come with CR3, and a reserved bit in them is #GP in the new task", async () => {
  await guest(function* (cpu) {
    setUp(cpu);
    const table = 0x39_8000;
    cpu.poke(table, BigInt(table + 0x1000) | 1n);
    for (let i = 0; i < 4; i++) cpu.poke(table + 0x1000 + 8 * i, BigInt(0x20_0000 * i) | 0x87n);
    for (let i = 0; i < 4; i++) cpu.write(0x280a + 2 * i, cpu.peek(table + 8 * i));
    cpu.write(F.GUEST_CR3, table);
    cpu.write(F.GUEST_CR4, cpu.read(F.GUEST_CR4) | 0x20n);
    cpu.write(CR4_SHADOW, cpu.read(CR4_SHADOW) | 0x20n);
    setCr0(cpu, CR0_PG);
    cpu.poke(NEW_TSS + 0x1c, BigInt(table + 0x20), 4);
    cpu.poke(table + 0x20, BigInt(table + 0x1000) | 3n);
    yield switchTo(NEW, JMP);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([13, 0]);
    expect(cpu.read(selectorField(Seg.TR))).toBe(BigInt(NEW));
    setUp(cpu);
    cpu.poke(NEW_TSS + 0x1c, BigInt(table + 0x20), 4);
    cpu.poke(table + 0x20, BigInt(table + 0x1000) | 1n);
    yield switchTo(NEW, JMP);
    expect(cpu.injected).toBe(null);
    expect([cpu.read(F.GUEST_CR3), cpu.read(0x280a)]).toEqual([BigInt(table + 0x20), BigInt(table + 0x1000) | 1n]);
    setUp(cpu);
    clearCr0(cpu, CR0_PG);
  });
});
