// IN, OUT, INS and OUTS through the whole path of an exit.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { accessField, baseField, enterLong, enterProtected, limitField, Seg, TABLES } from "./mode.ts";

const IN = 8;
const STRING = 0x10;
const REP = 0x20;
const DF = 0x400n;
const PIC_MASK = 0x21;
const PCI_ADDRESS = 0xcf8;
const NOWHERE = 0x5000;
const COM1 = 0x3f8;
const BUFFER = 0x20_0000;

function port(number: number, bytes: number, flags: number, more: Partial<GuestExit> = {}): GuestExit {
  return instruction(EXIT.IO, 2, { qualification: BigInt((number << 16) | flags | (bytes - 1)), ...more });
}

/** INS or OUTS with an address of 2^(size + 1) bytes, and its segment. */
function string(number: number, bytes: number, flags: number, size = 2, segment: number = Seg.DS): GuestExit {
  return port(number, bytes, flags | STRING, { instructionInfo: (size << 7) | (segment << 15) });
}

test("IN and OUT of 1, 2 and 4 bytes leave the rest of RAX as the manual says", async () => {
  await guest(function* (cpu) {
    const ones = 0xffff_ffff_ffff_ffffn;
    cpu.set(R.RAX, 0x1122_3344_5566_77a5n);
    yield port(PIC_MASK, 1, 0);
    cpu.set(R.RAX, ones);
    yield port(PIC_MASK, 1, IN);
    expect(cpu.get(R.RAX)).toBe(0xffff_ffff_ffff_ffa5n);
    cpu.set(R.RAX, 0x1234_5678_8000_0004n);
    yield port(PCI_ADDRESS, 4, 0);
    cpu.set(R.RAX, ones);
    yield port(PCI_ADDRESS, 4, IN);
    expect(cpu.get(R.RAX)).toBe(0x8000_0004n);
    for (const [bytes, mask] of [
      [1, 0xffn],
      [2, 0xffffn],
      [4, 0xffff_ffffn],
    ] as const) {
      cpu.set(R.RAX, 0n);
      const rip = cpu.rip;
      yield port(NOWHERE, bytes, IN); // nothing there: all ones
      expect([bytes, cpu.get(R.RAX), cpu.rip]).toEqual([bytes, mask, rip + 2n]);
      yield port(NOWHERE, bytes, 0);
      yield port(0xffff, bytes, IN); // an access across the end of the port space
    }
  });
});

test("REP OUTSB writes every byte in order, and the registers move past them", async () => {
  const { log } = await guest(function* (cpu) {
    enterLong(cpu);
    const text = "string output\n";
    cpu.poke(BUFFER, [...Buffer.from(text)]);
    cpu.set(R.RSI, BUFFER);
    cpu.set(R.RCX, text.length);
    cpu.set(R.RDX, COM1);
    const rip = cpu.rip;
    yield string(COM1, 1, REP);
    expect([cpu.get(R.RSI), cpu.get(R.RCX), cpu.rip]).toEqual([BigInt(BUFFER + text.length), 0n, rip + 2n]);
  });
  expect(log.some((line) => line.includes("string output"))).toBe(true);
});

test("INS of every size stores at ES:RDI, forwards and backwards, and REP with a count of 0 does nothing", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.set(R.RAX, 0x5a);
    yield port(PIC_MASK, 1, 0);
    for (const bytes of [1, 2, 4]) {
      cpu.poke(BUFFER, 0n);
      cpu.poke(BUFFER + 8, 0n);
      cpu.set(R.RDI, BUFFER + 4);
      yield string(bytes === 1 ? PIC_MASK : NOWHERE, bytes, IN);
      expect(cpu.peek(BUFFER, 4)).toBe(0n);
      expect(cpu.peek(BUFFER + 4, 8)).toBe(bytes === 1 ? 0x5an : (1n << BigInt(8 * bytes)) - 1n);
      expect(cpu.get(R.RDI)).toBe(BigInt(BUFFER + 4 + bytes));
    }
    cpu.write(F.GUEST_RFLAGS, 2n | DF);
    cpu.poke(BUFFER, 0n);
    cpu.set(R.RDI, BUFFER + 6);
    cpu.set(R.RCX, 2);
    yield string(NOWHERE, 2, IN | REP);
    expect(cpu.peek(BUFFER)).toBe(0xffff_ffff_0000_0000n);
    expect([cpu.get(R.RDI), cpu.get(R.RCX)]).toEqual([BigInt(BUFFER + 2), 0n]);
    cpu.set(R.RCX, 0);
    const rip = cpu.rip;
    yield string(NOWHERE, 2, IN | REP);
    expect([cpu.get(R.RDI), cpu.rip]).toEqual([BigInt(BUFFER + 2), rip + 2n]);
    cpu.write(F.GUEST_RFLAGS, 2n);
  });
});

// biome-ignore format: a table
test.each<[string, bigint]>([
  ["in x2APIC mode", 0xfee0_0d00n],
  ["switched off", 0xfee0_0100n],
  ["at its page", 0xfee0_0900n],
])("the first page of memory is memory while the local APIC is %s", async (_name, base) => {
  await guest(function* (cpu) {
    yield wrmsr(cpu, 0x1b, base);
    enterLong(cpu);
    cpu.set(R.RAX, 0x5a);
    yield port(PIC_MASK, 1, 0);
    for (const at of [0, 0x20, 0x500, 0xffd, 0xfff]) {
      cpu.poke(at, 0n, 1);
      cpu.set(R.RDI, at);
      yield string(PIC_MASK, 1, IN);
      expect([at, cpu.peek(at, 1)]).toEqual([at, 0x5an]);
    }
  });
});

test("a long REP takes several exits: RIP stays until RCX is 0", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    const count = 2500;
    cpu.set(R.RDI, BUFFER);
    cpu.set(R.RCX, count);
    const rip = cpu.rip;
    let exits = 0;
    while (cpu.rip === rip) {
      const before = cpu.get(R.RCX);
      yield string(NOWHERE, 1, IN | REP);
      expect(cpu.get(R.RCX)).toBeLessThan(before);
      expect(cpu.get(R.RDI) + cpu.get(R.RCX)).toBe(BigInt(BUFFER + count));
      exits++;
    }
    expect(exits).toBeGreaterThan(1);
    expect(cpu.get(R.RCX)).toBe(0n);
    expect(cpu.peek(BUFFER + count - 1, 2) & 0xffn).toBe(0xffn);
  });
});

test("a fault in the middle leaves the elements before it done, and reads no port for the one that faults", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.poke(TABLES + 0x2008, 0n); // 2 MiB and up are not mapped
    cpu.set(R.RDI, 0x1f_fffe);
    cpu.set(R.RCX, 4);
    const rip = cpu.rip;
    yield string(NOWHERE, 1, IN | REP);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 2]);
    expect([cpu.get(R.RDI), cpu.get(R.RCX), cpu.rip]).toEqual([0x20_0000n, 2n, rip]);
    expect(cpu.m.current.cr2).toBe(0x20_0000n);
    // An element across the boundary is not begun.
    cpu.set(R.RDI, 0x1f_ffff);
    cpu.poke(0x1f_ffff, [0x11]);
    yield string(NOWHERE, 2, IN);
    expect(cpu.injected?.vector).toBe(14);
    expect(cpu.peek(0x1f_ffff, 1)).toBe(0x11n);
    cpu.set(R.RSI, 0x20_0000);
    yield string(NOWHERE, 4, 0);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 0]);
    cpu.set(R.RSI, 0x8000_0000_0000n);
    yield string(NOWHERE, 4, 0);
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([13, 0]);
  });
});

/** OUTS of four bytes at `offset` of a data segment that `change` has shaped; the vector it takes. */
function* outs(cpu: Vcpu, offset: number, segment: number): Generator<GuestExit, number | null, void> {
  cpu.set(R.RSI, offset);
  yield string(NOWHERE, 4, 0, 1, segment);
  return cpu.injected?.vector ?? null;
}

test("segments outside 64-bit mode: limits, expand-down, rights, and #SS for the stack's", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    const set = (segment: number, limit: number, access: number) => {
      cpu.write(limitField(segment), limit);
      cpu.write(accessField(segment), access);
    };
    set(Seg.DS, 0xffff, 0x4093);
    expect(yield* outs(cpu, 0xfffc, Seg.DS)).toBe(null);
    expect(yield* outs(cpu, 0xfffd, Seg.DS)).toBe(13);
    set(Seg.SS, 0xffff, 0x4093);
    expect(yield* outs(cpu, 0xfffd, Seg.SS)).toBe(12);
    set(Seg.SS, 0xffff_ffff, 0xc093);
    set(Seg.DS, 0x1000, 0x4097); // expand-down, 32 bits: 1001H and up
    expect(yield* outs(cpu, 0x1000, Seg.DS)).toBe(13);
    expect(yield* outs(cpu, 0x1001, Seg.DS)).toBe(null);
    set(Seg.DS, 0x1000, 0x97); // 16 bits: up to FFFFH
    expect(yield* outs(cpu, 0x1_0000, Seg.DS)).toBe(13);
    expect(yield* outs(cpu, 0xfffc, Seg.DS)).toBe(null);
    set(Seg.FS, 0xffff_ffff, 0x1_0000); // unusable
    expect(yield* outs(cpu, 0, Seg.FS)).toBe(13);
    set(Seg.GS, 0xffff_ffff, 0xc09b); // readable code
    expect(yield* outs(cpu, 0, Seg.GS)).toBe(null);
    set(Seg.ES, 0xffff_ffff, 0xc091); // read-only
    cpu.set(R.RDI, BUFFER);
    yield string(NOWHERE, 4, IN, 1);
    expect(cpu.injected?.vector).toBe(13);
    set(Seg.ES, 0xffff_ffff, 0xc093);
    cpu.write(baseField(Seg.DS), 0x1_0000);
    set(Seg.DS, 0xffff_ffff, 0xc093);
    cpu.set(R.RSI, 0xffff_ff00n);
    yield string(NOWHERE, 4, 0, 1, Seg.DS); // base and offset wrap at 4 GiB
    expect(cpu.injected).toBe(null);
  });
});

test("16-bit addresses keep the upper bits of the index and of the count", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    cpu.set(R.RDI, 0x1234_fffen);
    cpu.set(R.RCX, 0xabcd_0002n);
    yield string(NOWHERE, 1, IN | REP, 0);
    expect([cpu.get(R.RDI), cpu.get(R.RCX)]).toEqual([0x1234_0000n, 0xabcd_0000n]);
  });
});
