// Jumps, calls and selectors that come from a device, and what of them goes there: as the manual says, with the faults.

import { expect, test } from "vitest";
import { EXIT, F, guest, R, type Vcpu } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import {
  accessField,
  baseField,
  CR4_SHADOW,
  enterLong,
  enterProtected,
  enterReal,
  GDTR,
  limitField,
  Seg,
  selectorField,
  setSegment,
} from "./mode.ts";

const DEVICE = 0xd000_0000n;
const CODE = 0x31_0000;
const DATA = 0x30_0000;
const STACK = 0x30_1000;
const GDT = 0x30_2000;
const INTERRUPTIBILITY = 0x4824;
const MOV_SS = 2n;

/** The exit says "device"; the operands lie in memory, where they can be looked at. */
function device(): GuestExit {
  return { reason: EXIT.EPT_VIOLATION, qualification: 0x183n, gpa: DEVICE, gva: DEVICE };
}

function at(cpu: Vcpu, code: number[], rip = CODE): void {
  cpu.poke(rip, [...code, 0x90, 0x90, 0x90]);
  cpu.write(F.GUEST_RIP, rip);
  cpu.set(R.RBX, DATA);
  cpu.set(R.RSP, STACK);
}

test("CALL, RET and JMP go where memory says and keep the way back", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.poke(DATA, 0x31_0800n);
    at(cpu, [0xff, 0x23]); // jmp [rbx]
    yield device();
    expect([cpu.injected, cpu.rip, cpu.get(R.RSP)]).toEqual([null, 0x31_0800n, BigInt(STACK)]);
    at(cpu, [0xff, 0x13]); // call [rbx]
    yield device();
    expect([cpu.rip, cpu.get(R.RSP), cpu.peek(STACK - 8)]).toEqual([0x31_0800n, BigInt(STACK - 8), BigInt(CODE + 2)]);
    at(cpu, [0xe8, 0x00, 0x01, 0, 0]); // call $+105H
    yield device();
    expect([cpu.rip, cpu.peek(STACK - 8)]).toEqual([BigInt(CODE + 0x105), BigInt(CODE + 5)]);
    at(cpu, [0xff, 0xd0]); // call rax
    cpu.set(R.RAX, 0x31_0900);
    yield device();
    expect([cpu.rip, cpu.peek(STACK - 8)]).toEqual([0x31_0900n, BigInt(CODE + 2)]);
    at(cpu, [0xc2, 0x10, 0]); // ret 16
    cpu.poke(STACK, 0x31_0a00n);
    yield device();
    expect([cpu.rip, cpu.get(R.RSP)]).toEqual([0x31_0a00n, BigInt(STACK + 24)]);
  });
});

test("a target that is not canonical is #GP, and nothing has moved", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.poke(DATA, 1n << 47n);
    for (const code of [
      [0xff, 0x23],
      [0xff, 0x13],
    ]) {
      at(cpu, code);
      cpu.poke(STACK - 8, 0x55n);
      yield device();
      expect([cpu.injected?.vector, cpu.rip, cpu.get(R.RSP), cpu.peek(STACK - 8)]).toEqual([
        13,
        BigInt(CODE),
        BigInt(STACK),
        0x55n,
      ]);
    }
    at(cpu, [0xc3]);
    cpu.poke(STACK, 1n << 63n);
    yield device();
    expect([cpu.injected?.vector, cpu.rip, cpu.get(R.RSP)]).toEqual([13, BigInt(CODE), BigInt(STACK)]);
  });
});

test("a stack that is not mapped is #PF, a segment limit #SS or #GP, with RSP where it was", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    const nowhere = 0x4000_0000;
    for (const [code, touched] of [
      [[0x50], nowhere - 8],
      [[0xff, 0x13], nowhere - 8],
      [[0x58], nowhere],
      [[0xc3], nowhere],
      [[0xc8, 0x20, 0, 0], nowhere - 0x28],
    ] as [number[], number][]) {
      at(cpu, code);
      cpu.poke(DATA, 0x31_0800n);
      cpu.set(R.RSP, nowhere);
      yield device();
      expect([code, cpu.injected?.vector, cpu.m.cpus[0].cr2]).toEqual([code, 14, BigInt(touched)]);
      expect([cpu.get(R.RSP), cpu.rip]).toEqual([BigInt(nowhere), BigInt(CODE)]);
    }
  });
  await guest(function* (cpu) {
    enterProtected(cpu);
    setSegment(cpu, Seg.SS, 0x10, 0n, 0x2f_ffff, 0xc093);
    at(cpu, [0x50]);
    yield device();
    expect([cpu.injected?.vector, cpu.get(R.RSP)]).toEqual([12, BigInt(STACK)]);
    setSegment(cpu, Seg.CS, 0x08, 0n, 0x31_0fff, 0xc09b);
    setSegment(cpu, Seg.SS, 0x10, 0n, 0xffff_ffff, 0xc093);
    cpu.poke(DATA, 0x32_0000n);
    at(cpu, [0xff, 0x23]);
    yield device();
    expect([cpu.injected?.vector, cpu.rip]).toEqual([13, BigInt(CODE)]);
  });
});

test("a 16-bit stack wraps at 64 KiB, and what is above it stays", async () => {
  await guest(function* (cpu) {
    enterReal(cpu, 0x1000);
    cpu.poke(0x1000, [0x50, 0x90]);
    cpu.write(F.GUEST_RIP, 0);
    cpu.set(R.RSP, 0x1234_0000n);
    cpu.set(R.RAX, 0xabcdn);
    yield device();
    expect([cpu.injected, cpu.get(R.RSP), cpu.peek(0xfffe, 2)]).toEqual([null, 0x1234_fffen, 0xabcdn]);
    cpu.poke(0x1000, [0xcb, 0x90]); // a far return is not emulated
  });
});

/** Descriptors from 08H on: 64-bit code, data, 32-bit code, a read-only segment, a missing one, an LDT, a TSS. */
function tables(cpu: Vcpu): void {
  const rows = [
    0x00af_9a00_0000_ffffn,
    0x00cf_9200_0000_ffffn,
    0x00cf_9a00_0000_ffffn,
    0x00cf_9000_0000_ffffn,
    0x00cf_1200_0000_ffffn,
    0x0000_8200_3000_0fffn,
    0n,
    0x0000_8900_3100_0067n,
    0n,
    0x00cf_f200_0000_ffffn,
  ];
  for (const [i, row] of rows.entries()) cpu.poke(GDT + 8 + 8 * i, row);
  cpu.write(GDTR.base, GDT);
  cpu.write(GDTR.limit, 8 * rows.length + 7);
  setSegment(cpu, Seg.LDTR, 0, 0n, 0, 0x10000);
}

test("MOV to a segment register loads what its descriptor says, or faults as the manual does", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    tables(cpu);
    const es = [0x8e, 0x03];
    const ss = [0x8e, 0x13];
    // biome-ignore format: a table
    const rows: [number[], number, number | null, number][] = [
      // instruction, selector, vector, error code
      [es, 0x10, null, 0], [es, 0x18, null, 0], [es, 0x00, null, 0], [es, 0x03, null, 0], [es, 0x28, 11, 0x28], [es, 0x30, 13, 0x30],
      [es, 0x200, 13, 0x200], [es, 0x14, 13, 0x14], [ss, 0x10, null, 0], [ss, 0x00, null, 0], [ss, 0x03, 13, 0], [ss, 0x08, 13, 0x08],
      [ss, 0x20, 13, 0x20], [ss, 0x28, 12, 0x28], [ss, 0x13, 13, 0x10], [ss, 0x50, 13, 0x50], [[0x8e, 0x0b], 0x08, 6, 0], [[0x8e, 0x33], 0x10, 6, 0],
    ];
    for (const [code, selector, vector, error] of rows) {
      at(cpu, code);
      cpu.poke(DATA, BigInt(selector), 2);
      cpu.write(INTERRUPTIBILITY, 0);
      yield device();
      const name = `${code} ${selector.toString(16)}`;
      expect([name, cpu.injected?.vector ?? null, cpu.injected?.error ?? 0]).toEqual([name, vector, error]);
      if (vector !== null) continue;
      const segment = code === ss ? Seg.SS : Seg.ES;
      expect([name, cpu.read(selectorField(segment)), cpu.rip]).toEqual([name, BigInt(selector), BigInt(CODE + 2)]);
      expect(cpu.read(INTERRUPTIBILITY)).toBe(code === ss ? MOV_SS : 0n);
      const unusable = (Number(cpu.read(accessField(segment))) & 0x10000) !== 0;
      expect([name, unusable]).toEqual([name, selector < 4]);
      if (selector >= 4) expect([name, (cpu.peek(GDT + selector, 8) >> 40n) & 1n]).toEqual([name, 1n]); // accessed
    }
  });
});

test("outside of protected mode a segment register takes the selector times 16", async () => {
  await guest(function* (cpu) {
    enterReal(cpu, 0x1000);
    cpu.poke(0x1000, [0x8e, 0x07]); // mov es, [bx]
    cpu.write(F.GUEST_RIP, 0);
    cpu.set(R.RBX, 0x40);
    cpu.poke(0x40, 0x1234n, 2);
    yield device();
    expect([cpu.read(selectorField(Seg.ES)), cpu.read(baseField(Seg.ES)), cpu.rip]).toEqual([0x1234n, 0x1_2340n, 2n]);
    // "Unreal" mode: the limit that protected mode has left stays.
    setSegment(cpu, Seg.ES, 0, 0n, 0xffff_ffff, 0x8093);
    cpu.write(F.GUEST_RIP, 0);
    yield device();
    expect([cpu.read(limitField(Seg.ES)), cpu.read(accessField(Seg.ES))]).toEqual([0xffff_ffffn, 0x8093n]);
    setSegment(cpu, Seg.ES, 0, 0n, 0, 0x10000);
    cpu.write(F.GUEST_RIP, 0);
    yield device();
    expect([cpu.read(limitField(Seg.ES)), cpu.read(accessField(Seg.ES))]).toEqual([0xffffn, 0x93n]);
    cpu.poke(0x1000, [0xff, 0x2f]); // jmp far [bx]
    cpu.write(F.GUEST_RIP, 0);
    cpu.poke(0x40, 0x2000_0010n, 4);
    yield device();
    expect([cpu.read(selectorField(Seg.CS)), cpu.read(baseField(Seg.CS)), cpu.rip]).toEqual([
      0x2000n,
      0x2_0000n,
      0x10n,
    ]);
  });
});

test("LTR makes an available TSS busy, LLDT takes an LDT; both at privilege 0 and from the GDT", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    tables(cpu);
    const ltr = [0x0f, 0x00, 0x1b];
    const lldt = [0x0f, 0x00, 0x13];
    const step = (code: number[], selector: number) => {
      at(cpu, code);
      cpu.poke(DATA, BigInt(selector), 2);
      return device();
    };
    yield step(ltr, 0x38);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([13, 0x38]); // an empty descriptor
    cpu.poke(GDT + 0x48, 0xffff_8000n); // bits 63:32 of the base
    yield step(ltr, 0x40);
    expect([cpu.injected, cpu.read(selectorField(Seg.TR))]).toEqual([null, 0x40n]);
    expect([cpu.read(baseField(Seg.TR)), cpu.read(limitField(Seg.TR))]).toEqual([0xffff_8000_0000_3100n, 0x67n]);
    expect((cpu.peek(GDT + 0x40) >> 40n) & 15n).toBe(11n);
    yield step(ltr, 0x40);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([13, 0x40]); // it is busy now
    yield step(lldt, 0x30);
    expect([cpu.injected, cpu.read(baseField(Seg.LDTR)), cpu.read(limitField(Seg.LDTR))]).toEqual([
      null,
      0x3000n,
      0xfffn,
    ]);
    yield step(lldt, 0);
    expect(Number(cpu.read(accessField(Seg.LDTR))) & 0x10000).toBe(0x10000);
    yield step(lldt, 0x10);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([13, 0x10]);
  });
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    at(cpu, [0x0f, 0x00, 0x1b]);
    yield device();
    expect(cpu.injected?.vector).toBe(13);
    enterLong(cpu); // where it may shut down
  });
  await guest(function* (cpu) {
    enterReal(cpu, 0x1000);
    cpu.poke(0x1000, [0x0f, 0x00, 0x1f]);
    cpu.write(F.GUEST_RIP, 0);
    yield device();
    expect(cpu.injected?.vector).toBe(6);
  });
});

test("a far JMP takes a code segment that its privilege may use; a gate stops the VM with a report", async () => {
  const { ended } = await guest(function* (cpu) {
    enterLong(cpu);
    tables(cpu);
    const step = (selector: number, to: bigint) => {
      at(cpu, [0x48, 0xff, 0x2b]); // jmp far qword [rbx]
      cpu.poke(DATA, to);
      cpu.poke(DATA + 8, BigInt(selector), 2);
      return device();
    };
    yield step(0x08, 0x31_0800n);
    expect([cpu.injected, cpu.rip, cpu.read(selectorField(Seg.CS))]).toEqual([null, 0x31_0800n, 0x08n]);
    expect(Number(cpu.read(accessField(Seg.CS)))).toBe(0xa09b);
    // biome-ignore format: a table
    const refused: [number, bigint, number, number][] = [
      [0, 0n, 13, 0], [0x10, 0n, 13, 0x10], [0x28, 0n, 13, 0x28], [0x0b, 0n, 13, 0x08], [0x08, 1n << 47n, 13, 0], [0x300, 0n, 13, 0x300],
    ];
    for (const [selector, to, vector, error] of refused) {
      yield step(selector, to);
      expect([selector, cpu.injected?.vector, cpu.injected?.error ?? 0, cpu.rip]).toEqual([
        selector,
        vector,
        error,
        BigInt(CODE),
      ]);
    }
    yield step(0x40, 0n);
    throw new Error("the guest ran on");
  });
  expect(ended).toContain("test ended");
});

test("SLDT, STR and SMSW store 16 bits; with UMIP only at privilege 0", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    for (const [code, want] of [
      [[0x0f, 0x00, 0x03], cpu.read(selectorField(Seg.LDTR))],
      [[0x48, 0x0f, 0x00, 0x0b], cpu.read(selectorField(Seg.TR))],
      [[0x0f, 0x01, 0x23], cpu.read(F.GUEST_CR0) & 0xffffn],
    ] as [number[], bigint][]) {
      at(cpu, code);
      cpu.poke(DATA, 0x1111_2222_3333_4444n);
      yield device();
      expect([cpu.injected, cpu.rip]).toEqual([null, BigInt(CODE + code.length)]);
      expect(cpu.peek(DATA)).toBe(0x1111_2222_3333_0000n | want);
    }
  });
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    for (const field of [F.GUEST_CR4, CR4_SHADOW]) cpu.write(field, cpu.read(field) | 0x800n);
    at(cpu, [0x0f, 0x01, 0x23]);
    cpu.poke(DATA, 0x55n);
    yield device();
    expect([cpu.injected?.vector, cpu.peek(DATA)]).toEqual([13, 0x55n]);
    enterLong(cpu); // where it may shut down
  });
});
