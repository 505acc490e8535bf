// Accesses to guest-physical memory that is not RAM: devices, nothing at all, and what faults on the way.

import { expect, test } from "vitest";
import { EXIT, F, guest, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import {
  accessField,
  baseField,
  CR0_SHADOW,
  CR4_SHADOW,
  clearCr0,
  enterLong,
  enterProtected,
  enterReal,
  GDTR,
  limitField,
  Seg,
  TABLES,
} from "./mode.ts";

const CODE = 0x31_0000;
const APIC = 0xfee0_0000;
const TPR = APIC + 0x80;
const VERSION = APIC + 0x30;
const NOWHERE = 0xd000_0000;
const CR0_WP = 0x1_0000n;
const READ = 1n;
const WRITE = 2n;
const FETCH = 4n;
const VALID = 0x80n;
const FINAL = 0x100n;

/** The processor met a page that the EPT does not map. */
function violation(gpa: number | bigint, kind: bigint, more: Partial<GuestExit> = {}): GuestExit {
  return {
    reason: EXIT.EPT_VIOLATION,
    qualification: kind | VALID | FINAL,
    gpa: BigInt(gpa),
    gva: BigInt(gpa),
    ...more,
  };
}

function run(cpu: Vcpu, code: number[], at = CODE): void {
  cpu.poke(at, code);
  cpu.write(F.GUEST_RIP, at);
}

/** Maps the 2 MiB page that holds `gpa` at the same linear address, by enterLong()'s tables. */
function mapDevice(cpu: Vcpu, gpa: number): void {
  const gib = Math.floor(gpa / 2 ** 30);
  const directory = TABLES + 0x3000 + 0x1000 * gib;
  cpu.poke(TABLES + 0x1000 + 8 * gib, BigInt(directory) | 7n);
  cpu.poke(directory + 8 * (Math.floor(gpa / 2 ** 21) & 511), (BigInt(gpa) & ~0x1f_ffffn) | 0x87n);
}

const load = [0x8b, 0x03]; // mov eax, [rbx]
const save = [0x89, 0x03]; // mov [rbx], eax

test("a register of the local APIC is written and read in every mode", async () => {
  const modes: [string, (cpu: Vcpu) => void][] = [
    [
      "64-bit",
      (cpu) => {
        enterLong(cpu);
        mapDevice(cpu, APIC);
      },
    ],
    ["32-bit", (cpu) => enterProtected(cpu)],
  ];
  for (const [mode, enter] of modes) {
    await guest(function* (cpu) {
      enter(cpu);
      cpu.set(R.RBX, TPR);
      cpu.set(R.RAX, 0x60);
      run(cpu, save);
      yield violation(TPR, WRITE);
      expect([mode, cpu.injected, cpu.rip]).toEqual([mode, null, BigInt(CODE + 2)]);
      cpu.set(R.RAX, 0n);
      run(cpu, load);
      yield violation(TPR, READ);
      expect([mode, cpu.get(R.RAX)]).toEqual([mode, 0x60n]);
      cpu.set(R.RBX, VERSION);
      run(cpu, load);
      yield violation(VERSION, READ);
      expect([0x14n, 0x15n]).toContain(cpu.get(R.RAX) & 0xffn);
    });
  }
});

test("the APIC page by the processor's own exit: reads and writes; code there stops the VM", async () => {
  const { ended } = await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    cpu.set(R.RBX, TPR);
    cpu.set(R.RAX, 0x30);
    run(cpu, save);
    yield { reason: EXIT.APIC_ACCESS, qualification: 0x1080n };
    cpu.set(R.RAX, 0);
    run(cpu, load);
    yield { reason: EXIT.APIC_ACCESS, qualification: 0x80n };
    expect(cpu.get(R.RAX)).toBe(0x30n);
    yield { reason: EXIT.APIC_ACCESS, qualification: 0x2080n };
    throw new Error("the guest ran on");
  });
  expect(ended).toContain("test ended");
});

/** How EOI can be written: the store's bytes, and whether it ends an interrupt. RBX: the register's address. */
// biome-ignore format: a table
const EOI_STORES: [name: string, code: number[], ends: boolean][] = [
  ["mov [rbx], eax", [0x89, 0x03], true],
  ["mov dword [rbx], 0", [0xc7, 0x03, 0, 0, 0, 0], true],
  ["mov dword [rbx + 0], -1", [0xc7, 0x43, 0, 0xff, 0xff, 0xff, 0xff], true],
  ["mov [eax], ...: stosd", [0xab], true],
  ["and dword [rbx], 0", [0x83, 0x23, 0], true],
  ["xchg [rbx], eax", [0x87, 0x03], true],
  ["mov [rbx], ax", [0x66, 0x89, 0x03], false],
  ["mov [rbx], al", [0x88, 0x03], false],
  ["mov [rbx], rax", [0x48, 0x89, 0x03], true],
];

/** How the processor tells of an access to the APIC page: with an APIC-access page, and without. */
const APIC_EXITS: [name: string, exit: (reg: number, write: boolean) => GuestExit][] = [
  [
    "by the processor's own exit",
    (reg, write) => ({ reason: EXIT.APIC_ACCESS, qualification: BigInt((write ? 0x1000 : 0) | reg) }),
  ],
  ["by an EPT violation", (reg, write) => violation(APIC + reg, write ? WRITE : READ)],
];
const EOI_CASES = APIC_EXITS.flatMap(([how, exit]) => EOI_STORES.map((row) => [...row, how, exit] as const));

test.each(EOI_CASES)("EOI by %s (%o, %s) %s, the first time and again", async (_name, code, ends, _how, exit) => {
  const RF = 0x1_0000n; // in what these exits save
  const IF_TF = 0x302n;
  const IRR = 0x200;
  const { ended } = await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    const write = function* (reg: number, value: number) {
      cpu.set(R.RBX, APIC + reg);
      cpu.set(R.RAX, value);
      run(cpu, save, CODE + 0x104); // no instruction displaces another in the table of known ones
      yield exit(reg, true);
    };
    yield* write(0xf0, 0x1ff);
    for (let again = 0; again < 4; again++) {
      // 41H and 62H wait; 62H goes in first.
      cpu.write(F.GUEST_RFLAGS, 0x202n);
      yield* write(0x80, 0xf0);
      for (const vector of [0x41, 0x62]) yield* write(0x300, 0x4_4000 | vector);
      yield* write(0x80, 0);
      expect([again, cpu.injected?.vector]).toEqual([again, 0x62]);
      cpu.set(R.RBX, APIC + 0xb0);
      cpu.set(R.RDI, APIC + 0xb0);
      cpu.set(R.RAX, 0);
      cpu.write(F.GUEST_RFLAGS, IF_TF | RF);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 1n); // behind STI
      run(cpu, code);
      yield exit(0xb0, true);
      const state = [cpu.injected?.vector, cpu.rip, cpu.read(F.GUEST_INTERRUPTIBILITY) & 3n];
      expect([again, ...state]).toEqual([again, ends ? 0x41 : undefined, BigInt(CODE + code.length), 0n]);
      expect(cpu.read(F.GUEST_PENDING_DEBUG) & 0x4000n).toBe(0x4000n); // the single step
      expect(cpu.read(F.GUEST_RFLAGS) & (IF_TF | RF)).toBe(IF_TF);
      cpu.write(F.GUEST_PENDING_DEBUG, 0n);
      cpu.write(F.GUEST_RFLAGS, 0x202n);
      for (let i = 0; i < 2; i++) yield* write(0xb0, 0);
      cpu.set(R.RBX, APIC + IRR + 0x20);
      run(cpu, load, CODE + 0x208);
      yield exit(IRR + 0x20, false);
      expect(cpu.get(R.RAX)).toBe(0n);
    }
  });
  expect(ended).toContain("powered off, code 0");
});

test.each(APIC_EXITS)(
  "EOI %s by an instruction that has changed meanwhile moves RIP by what it is now",
  async (_how, exit) => {
    const { ended } = await guest(function* (cpu) {
      enterLong(cpu);
      mapDevice(cpu, APIC);
      cpu.set(R.RBX, APIC + 0xb0);
      const eoi = exit(0xb0, true);
      for (const code of [save, save, [0xc7, 0x03, 0, 0, 0, 0], [0x89, 0x43, 0x00], [0x89, 0x43, 0x00], save]) {
        run(cpu, code);
        yield eoi;
        expect(cpu.rip).toBe(BigInt(CODE + code.length));
      }
      // The same linear address, another page behind it.
      cpu.poke(0x11_0000, [0xc7, 0x03, 0, 0, 0, 0]);
      cpu.poke(TABLES + 0x2008, 0x87n);
      cpu.write(F.GUEST_RIP, CODE);
      yield eoi;
      expect(cpu.rip).toBe(BigInt(CODE + 6));
    });
    expect(ended).toContain("powered off, code 0");
  },
);

test("an instruction is executed as it stands now: other bytes, another page behind it, another privilege", async () => {
  const HERE = 0x51_0000; // in the third 2 MiB, which change their frame
  const ENTRY = TABLES + 0x2010;
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    cpu.poke(0x31_0000, load);
    cpu.poke(0x11_0000, [0x8b, 0x13]); // mov edx, [rbx]
    cpu.set(R.RBX, VERSION);
    const step = (rip = HERE) => {
      cpu.set(R.RAX, 0n);
      cpu.set(R.RDX, 0n);
      cpu.write(F.GUEST_RIP, rip);
      return violation(VERSION, READ);
    };
    const got = () => [cpu.get(R.RAX) !== 0n, cpu.get(R.RDX) !== 0n];
    cpu.poke(ENTRY, 0x20_0087n);
    for (let i = 0; i < 3; i++) {
      yield step();
      expect([got(), cpu.rip]).toEqual([[true, false], BigInt(HERE + 2)]);
    }
    cpu.poke(ENTRY, 0x87n);
    yield step();
    expect(got()).toEqual([false, true]);
    cpu.poke(ENTRY, 0x20_0087n);
    yield step();
    cpu.poke(0x31_0001, [0x13]);
    yield step();
    expect(got()).toEqual([false, true]);
    // Of several entries, each keeps its own.
    for (let at = 0x52_0000; at < 0x52_0040; at += 2) {
      cpu.poke(at - 0x20_0000, at & 4 ? load : [0x8b, 0x13]);
      for (let i = 0; i < 2; i++) {
        yield step(at);
        expect([at, got()]).toEqual([at, [(at & 4) !== 0, (at & 4) === 0]]);
      }
    }
    // The same code as supervisor and, from a page that user mode may not fetch from, as user.
    yield step();
    cpu.poke(ENTRY, 0x20_0083n);
    enterLong(cpu, 3);
    yield step();
    expect([cpu.get(R.RDX), cpu.rip]).toEqual([0n, BigInt(HERE)]);
    enterLong(cpu); // to switch itself off
  });
});

test("a known MOV: every size, immediates, and operands that the processor has not told", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    const at = 0x20_0100;
    for (const told of [true, false]) {
      const exit = (gpa: number, kind: bigint) => violation(gpa, kind, told ? {} : { gva: 1n });
      for (let again = 0; again < 3; again++) {
        cpu.set(R.RBX, TPR - 0x40);
        cpu.set(R.RCX, 0x10n);
        run(cpu, [0xc7, 0x44, 0x8b, 0x00, 0x50, 0x00, 0x00, 0x00]); // mov dword [rbx + rcx * 4], 50h
        yield exit(TPR, WRITE);
        expect([told, again, cpu.injected, cpu.rip]).toEqual([told, again, null, BigInt(CODE + 8)]);
        for (const [code, want] of [
          [[0x8a, 0x04, 0x8b], 0x1111_1111_1111_1150n], // mov al
          [[0x66, 0x8b, 0x04, 0x8b], 0x1111_1111_1111_0050n],
          [[0x8b, 0x04, 0x8b], 0x50n],
          [[0x48, 0x8b, 0x04, 0x8b], 0x50n],
        ] as const) {
          cpu.set(R.RAX, 0x1111_1111_1111_1111n);
          run(cpu, [...code]);
          yield exit(TPR, READ);
          expect([told, again, cpu.get(R.RAX)]).toEqual([told, again, want]);
        }
      }
    }
    // Memory: what the exit tells is not what the operand is.
    cpu.poke(at, 0x8877_6655_4433_2211n);
    cpu.set(R.RBX, at);
    for (let again = 0; again < 2; again++) {
      run(cpu, load);
      yield violation(NOWHERE, READ, { gva: 1n });
      expect(cpu.get(R.RAX)).toBe(0x4433_2211n);
    }
  });
});

test("nothing there: reads are all ones, writes vanish, code is #UD", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    cpu.set(R.RBX, NOWHERE);
    for (const [code, want] of [
      [[0x8a, 0x03], 0x12ff],
      [[0x66, 0x8b, 0x03], 0xffff],
      [load, 0xffff_ffff],
    ] as const) {
      cpu.set(R.RAX, 0x1200);
      run(cpu, [...code]);
      yield violation(NOWHERE, READ);
      expect(cpu.get(R.RAX)).toBe(BigInt(want));
    }
    run(cpu, save);
    yield violation(NOWHERE, WRITE);
    expect([cpu.injected, cpu.rip]).toEqual([null, BigInt(CODE + 2)]);
    cpu.write(F.GUEST_RIP, NOWHERE);
    yield violation(NOWHERE, FETCH);
    expect(cpu.injected?.vector).toBe(6);
    cpu.write(F.GUEST_RIP, CODE);
  });
});

test("AH to BH, segment overrides, RIP-relative and absolute addresses", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    const at = 0x20_0100;
    cpu.poke(at, 0x8877_6655_4433_2211n);
    const exit = violation(NOWHERE, READ, { gva: 1n });
    cpu.set(R.RBX, at);
    cpu.set(R.RAX, 0xaaaa_bbbb_cccc_ddddn);
    run(cpu, [0x8a, 0x23]); // mov ah, [rbx]
    yield exit;
    expect(cpu.get(R.RAX)).toBe(0xaaaa_bbbb_cccc_11ddn);
    run(cpu, [0x88, 0x63, 0x08]); // mov [rbx+8], ah
    yield exit;
    expect(cpu.peek(at + 8, 1)).toBe(0x11n);
    cpu.write(baseField(Seg.GS), at - 0x40);
    run(cpu, [0x65, 0x8b, 0x04, 0x25, 0x40, 0, 0, 0]); // mov eax, gs:[0x40]
    yield exit;
    expect(cpu.get(R.RAX)).toBe(0x4433_2211n);
    run(cpu, [0x8b, 0x05, ...little(at + 4 - (CODE + 6), 4)]); // mov eax, [rip + x]
    yield exit;
    expect(cpu.get(R.RAX)).toBe(0x8877_6655n);
    run(cpu, [0x48, 0xa1, ...little(at, 4), 0, 0, 0, 0]); // mov rax, moffs
    yield exit;
    expect(cpu.get(R.RAX)).toBe(0x8877_6655_4433_2211n);
    run(cpu, [0xa2, ...little(at + 16, 4), 0, 0, 0, 0]); // mov moffs, al
    yield exit;
    expect(cpu.peek(at + 16, 1)).toBe(0x11n);
    run(cpu, [0x8c, 0x1b]); // mov [rbx], ds
    yield exit;
    expect(cpu.peek(at, 4)).toBe(0x4433_0010n);
    cpu.set(R.RAX, at + 0x8000_0000_0000_0000);
    run(cpu, [0x67, 0x8b, 0x03]); // 32-bit address
    cpu.set(R.RBX, 0xffff_ffff_0000_0000n + BigInt(at));
    yield exit;
    expect(cpu.get(R.RAX)).toBe(0x4433_0010n);
  });
});

function little(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => (value >> (8 * i)) & 0xff);
}

test("an operand across two pages, one of them a device's", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, NOWHERE);
    // Linear 3FFFFEH: two bytes of RAM's last page, two beyond the end of RAM.
    cpu.poke(TABLES + 0x2010, BigInt(NOWHERE) | 0x87n);
    cpu.poke(0x3f_fffe, [0x34, 0x12]);
    cpu.set(R.RBX, 0x3f_fffe);
    run(cpu, load);
    yield violation(NOWHERE, READ, { gva: 0x40_0000n });
    expect([cpu.injected, cpu.get(R.RAX)]).toEqual([null, 0xffff_1234n]);
    cpu.set(R.RAX, 0x5566_7788);
    run(cpu, save);
    yield violation(NOWHERE, WRITE, { gva: 0x40_0000n });
    expect(cpu.peek(0x3f_fffe, 2)).toBe(0x7788n);
    // The second page is not mapped: nothing is written.
    cpu.poke(TABLES + 0x2010, 0n);
    cpu.set(R.RAX, 0);
    run(cpu, save);
    yield violation(NOWHERE, WRITE, { gva: 0x3f_fffen });
    expect([cpu.injected?.vector, cpu.injected?.error, cpu.m.current.cr2]).toEqual([14, 2, 0x40_0000n]);
    expect(cpu.peek(0x3f_fffe, 2)).toBe(0x7788n);
  });
});

/** What an operand meets on its way: name, set-up, code, vector, error code. */
// biome-ignore format: a table
const FAULTS: [string, (cpu: Vcpu) => void, number[], number, number | null][] = [
  ["a page that is not present", (cpu) => { cpu.set(R.RBX, 0x60_0000); }, save, 14, 2],
  ["a read-only page, CR0.WP", (cpu) => { cpu.poke(TABLES + 0x2008, 0x20_0085n); cpu.set(R.RBX, 0x20_0000); }, save, 14, 3],
  ["a reserved bit", (cpu) => { cpu.poke(TABLES + 0x2018, 0x60_2087n); cpu.set(R.RBX, 0x60_0000); }, load, 14, 9],
  ["a non-canonical address", (cpu) => { cpu.set(R.RBX, 0x8000_0000_0000n); }, load, 13, 0],
  ["a non-canonical address of the stack", (cpu) => { cpu.set(R.RBP, 0x8000_0000_0000n); }, [0x8b, 0x45, 0x00], 12, 0],
  ["LOCK on what takes none", (cpu) => { cpu.set(R.RBX, NOWHERE); }, [0xf0, 0x8b, 0x03], 6, null],
  ["more than 15 bytes", (cpu) => { cpu.set(R.RBX, NOWHERE); }, [...Array(15).fill(0x66), 0x8b, 0x03], 13, 0],
  ["division by what reads as zero", (cpu) => { cpu.poke(0x20_0000, 0n); cpu.set(R.RBX, 0x20_0000); }, [0xf7, 0x33], 0, null],
];

test.each(FAULTS)("%s", async (_name, setUp, code, vector, error) => {
  await guest(function* (cpu) {
    enterLong(cpu);
    setUp(cpu);
    cpu.set(R.RAX, 0x1234);
    run(cpu, code);
    yield violation(NOWHERE, READ | WRITE, { gva: 1n });
    expect([cpu.injected?.vector, cpu.injected?.error, cpu.rip]).toEqual([vector, error, BigInt(CODE)]);
    expect(cpu.get(R.RAX)).toBe(0x1234n);
  });
});

test("user mode cannot reach supervisor pages, nor write read-only ones without CR0.WP", async () => {
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    cpu.poke(TABLES + 0x2008, 0x20_0083n);
    cpu.set(R.RBX, 0x20_0000);
    run(cpu, save, 0x1000);
    yield violation(NOWHERE, WRITE, { gva: 1n });
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 7]);
    cpu.poke(TABLES + 0x2008, 0x20_0085n);
    clearCr0(cpu, CR0_WP);
    yield violation(NOWHERE, WRITE, { gva: 1n });
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 7]);
    enterLong(cpu, 0);
    cpu.poke(TABLES + 0x2008, 0x20_0085n);
    clearCr0(cpu, CR0_WP);
    cpu.set(R.RAX, 0x77);
    yield violation(NOWHERE, WRITE, { gva: 1n });
    expect(cpu.injected).toBe(null);
    expect(cpu.peek(0x20_0000, 4)).toBe(0x77n);
  });
});

test("real mode: 16-bit addresses, and limits of 64 KiB", async () => {
  await guest(function* (cpu) {
    enterReal(cpu, 0x8000);
    cpu.write(baseField(Seg.DS), 0x1_0000);
    cpu.poke(0x1_0010, 0xbeefn, 2);
    cpu.set(R.RBX, 0xabcd_0010);
    cpu.poke(0x8000, [0x8b, 0x07]); // mov ax, [bx]
    yield violation(NOWHERE, READ, { gva: 1n });
    expect(cpu.get(R.RAX) & 0xffffn).toBe(0xbeefn);
    cpu.set(R.RBX, 0xffff);
    cpu.write(F.GUEST_RIP, 0);
    yield violation(NOWHERE, READ, { gva: 1n });
    expect([cpu.injected?.vector, cpu.rip]).toEqual([13, 0n]);
    cpu.poke(0x8000, [0x8b, 0x46, 0x00]); // mov ax, [bp+0]
    cpu.set(R.RBP, 0xffff);
    yield violation(NOWHERE, READ, { gva: 1n });
    expect(cpu.injected?.vector).toBe(12);
    cpu.poke(0x8000, [0x67, 0x8b, 0x03]); // 32-bit address beyond the limit
    cpu.set(R.RBX, 0x1_0000);
    yield violation(NOWHERE, READ, { gva: 1n });
    expect(cpu.injected?.vector).toBe(13);
  });
});

test("protected mode: the segment's rights decide", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    const attempt = function* (
      segment: number,
      access: number,
      limit: number,
      offset: number,
      code: number[],
    ): Generator<GuestExit, number | null, void> {
      cpu.write(accessField(segment), access);
      cpu.write(limitField(segment), limit);
      cpu.set(R.RBX, offset);
      run(cpu, code);
      yield violation(NOWHERE, READ, { gva: 1n });
      return cpu.injected?.vector ?? null;
    };
    expect(yield* attempt(Seg.DS, 0xc091, 0xffff_ffff, 0x20_0000, save)).toBe(13); // read-only
    expect(yield* attempt(Seg.DS, 0xc091, 0xffff_ffff, 0x20_0000, load)).toBe(null);
    expect(yield* attempt(Seg.DS, 0x4093, 0xfffff, 0xffffd, load)).toBe(13);
    expect(yield* attempt(Seg.DS, 0x4093, 0xfffff, 0xffffc, load)).toBe(null);
    expect(yield* attempt(Seg.DS, 0x4097, 0xfffff, 0xffffc, load)).toBe(13); // expand-down
    expect(yield* attempt(Seg.DS, 0x4097, 0xfffff, 0x10_0000, load)).toBe(null);
    expect(yield* attempt(Seg.FS, 0x1_0000, 0, 0, [0x64, 0x8b, 0x03])).toBe(13); // unusable
    cpu.write(accessField(Seg.DS), 0xc093);
    cpu.write(limitField(Seg.DS), 0xffff_ffff);
    expect(yield* attempt(Seg.CS, 0xc09b, 0xffff_ffff, 0x20_0000, [0x2e, 0x89, 0x03])).toBe(13); // code is never written
    expect(yield* attempt(Seg.CS, 0xc09b, 0xffff_ffff, 0x20_0000, [0x2e, 0x8b, 0x03])).toBe(null);
  });
});

test("long string operations on a device take several exits", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, NOWHERE);
    cpu.set(R.RDI, NOWHERE);
    cpu.set(R.RCX, 1000);
    run(cpu, [0xf3, 0xab]);
    let exits = 0;
    while (cpu.rip === BigInt(CODE)) {
      yield violation(cpu.get(R.RDI), WRITE);
      exits++;
    }
    expect([cpu.get(R.RCX), cpu.get(R.RDI)]).toEqual([0n, BigInt(NOWHERE + 4000)]);
    expect(exits).toBeGreaterThan(2);
  });
});

test("paging structures in no memory: #PF with the reserved bit", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.poke(TABLES + 0x1008, BigInt(NOWHERE) | 7n);
    run(cpu, load);
    yield { reason: EXIT.EPT_VIOLATION, qualification: READ | VALID, gpa: BigInt(NOWHERE), gva: 0x4000_0000n };
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([14, 9]);
    expect(cpu.m.current.cr2).toBe(0x4000_0000n);
  });
});

test("code that has gone meanwhile is fetched again by the guest; what is not emulated stops the VM", async () => {
  const { ended, log } = await guest(function* (cpu) {
    enterLong(cpu);
    cpu.write(F.GUEST_RIP, 0x60_0000); // not mapped
    yield violation(NOWHERE, READ, { gva: 1n });
    expect([cpu.injected, cpu.rip]).toEqual([null, 0x60_0000n]);
    cpu.set(R.RBX, NOWHERE);
    run(cpu, [0x0f, 0x58, 0x03]); // addps xmm0, [rbx]
    yield violation(NOWHERE, READ);
    throw new Error("the guest ran on");
  });
  expect(ended).toContain("test ended");
  expect(log.join("\n")).toContain("an instruction with a device operand that is not emulated");
});

test("an event whose delivery touches a device stops the VM, also where a known store stands at RIP", async () => {
  for (const at of [NOWHERE, APIC + 0xb0]) {
    const { ended } = await guest(function* (cpu) {
      enterLong(cpu);
      mapDevice(cpu, APIC);
      cpu.set(R.RBX, APIC + 0xb0);
      for (let again = 0; again < 3; again++) {
        run(cpu, save);
        yield violation(APIC + 0xb0, WRITE);
      }
      run(cpu, save);
      yield violation(at, WRITE, { idtVectoring: 0x8000_0320 });
      throw new Error("the guest ran on");
    });
    expect(ended).toContain("test ended");
  }
});

test("an EOI's offset elsewhere, a paging entry where EOI is, and an APIC in x2APIC mode: nothing ends", async () => {
  const { ended } = await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    mapDevice(cpu, NOWHERE);
    cpu.write(F.GUEST_RFLAGS, 0x202n);
    const write = function* (at: number, value: number, more: Partial<GuestExit> = {}) {
      cpu.set(R.RBX, at);
      cpu.set(R.RAX, value);
      run(cpu, save);
      yield violation(at, WRITE, more);
    };
    const serves = () => cpu.apic(0x100 + 0x20);
    yield* write(APIC + 0xf0, 0x1ff);
    yield* write(APIC + 0x300, 0x4_4041);
    expect([cpu.injected?.vector, serves()]).toEqual([0x41, 2]);
    yield* write(NOWHERE + 0xb0, 0);
    expect(serves()).toBe(2);
    // Entry 0B0H / 8 of a page directory in the APIC's page.
    cpu.poke(TABLES + 0x1008, BigInt(APIC) | 7n);
    yield* write(0x4000_0000 + 22 * 0x20_0000, 0, { qualification: WRITE | VALID, gpa: BigInt(APIC + 0xb0) });
    expect([cpu.injected?.vector, cpu.injected?.error, serves()]).toEqual([14, 11, 2]);
    yield* write(APIC + 0xb0, 0);
    expect(serves()).toBe(0);
    yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
    yield wrmsr(cpu, 0x83f, 0x41);
    expect([cpu.injected?.vector, serves()]).toEqual([0x41, 2]);
    yield* write(APIC + 0xb0, 0);
    expect(serves()).toBe(2);
  });
  expect(ended).toContain("powered off, code 0");
});

test("an instruction that begins at the end of a page is fetched from both; where the second is not there, from one", async () => {
  const LAST = 0x40_0000; // the end of what enterLong() maps
  const far = [0x8b, 0x83, 0, 0, 0, 0]; // mov eax, [rbx + 0]
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, APIC);
    cpu.set(R.RBX, VERSION);
    for (const split of [1, 3, 5]) {
      cpu.set(R.RAX, 0);
      run(cpu, far, 0x31_1000 - split);
      yield violation(VERSION, READ);
      expect([split, cpu.rip, cpu.get(R.RAX) & 0xffn]).toEqual([split, BigInt(0x31_1000 - split + 6), 0x14n]);
    }
    run(cpu, load, LAST - 2);
    yield violation(VERSION, READ);
    expect(cpu.rip).toBe(BigInt(LAST));
    // The rest has gone since: the guest fetches it again, and takes the fault itself.
    cpu.poke(LAST - 2, far.slice(0, 2));
    cpu.write(F.GUEST_RIP, LAST - 2);
    yield violation(VERSION, READ);
    expect([cpu.injected, cpu.rip]).toEqual([null, BigInt(LAST - 2)]);
  });
});

test("with PAE paging the operand goes through the page-directory pointers that the processor holds", async () => {
  const PDPTE0 = 0x280a;
  await guest(function* (cpu) {
    enterProtected(cpu);
    const directory = TABLES + 0x2000;
    cpu.poke(directory, 0x87n); // 2 MiB pages: the second page of the space is the first of memory
    cpu.poke(directory + 8, 0x87n);
    for (const field of [F.GUEST_CR0, CR0_SHADOW]) cpu.write(field, cpu.read(field) | (1n << 31n));
    for (const field of [F.GUEST_CR4, CR4_SHADOW]) cpu.write(field, cpu.read(field) | (1n << 5n));
    cpu.write(PDPTE0, BigInt(directory) | 1n);
    for (const n of [1, 2, 3]) cpu.write(PDPTE0 + 2 * n, 0);
    cpu.poke(0x1_0000, save);
    cpu.write(F.GUEST_RIP, 0x21_0000);
    cpu.set(R.RBX, 0x22_0000);
    cpu.set(R.RAX, 0x1234_5678);
    yield violation(NOWHERE, WRITE);
    expect([cpu.injected, cpu.rip, cpu.peek(0x2_0000, 4)]).toEqual([null, 0x21_0002n, 0x1234_5678n]);
    cpu.write(F.GUEST_RIP, 0x21_0000);
    cpu.set(R.RBX, 0x4000_0000); // its pointer is not present
    yield violation(NOWHERE, WRITE);
    expect([cpu.injected?.vector, cpu.m.cpus[0].cr2]).toEqual([14, 0x4000_0000n]);
  });
});

test("a descriptor table in a device is read and its accessed flag written there", async () => {
  const DEVICE = 0xff00_0000; // the memory of the test ports
  await guest(function* (cpu) {
    enterLong(cpu);
    mapDevice(cpu, DEVICE);
    const put = function* (at: number, value: bigint): Generator<GuestExit, void, void> {
      cpu.set(R.RBX, at);
      cpu.set(R.RAX, value);
      run(cpu, [0x48, ...save]);
      yield violation(at, WRITE);
    };
    const get = function* (at: number): Generator<GuestExit, void, void> {
      cpu.set(R.RBX, at);
      run(cpu, [0x48, ...load]);
      yield violation(at, READ);
    };
    // Aligned, and across a boundary of 4 bytes: the bus takes aligned pieces.
    for (const base of [DEVICE, DEVICE + 0x104]) {
      yield* put(base + 0x10, 0x00cf_9200_1234_5678n);
      cpu.write(GDTR.base, base);
      cpu.write(GDTR.limit, 0x17);
      cpu.poke(0x30_0000, 0x10n, 2);
      cpu.set(R.RBX, 0x30_0000);
      run(cpu, [0x8e, 0x03]); // mov es, [rbx]
      yield violation(NOWHERE, READ);
      expect([cpu.injected, cpu.read(baseField(Seg.ES))]).toEqual([null, 0x1234n]);
      yield* get(base + 0x10);
      expect(cpu.get(R.RAX)).toBe(0x00cf_9300_1234_5678n);
    }
  });
});
