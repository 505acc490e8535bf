// Control registers, XCR0 and the instructions with a one-line answer, through the whole path of an exit.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import {
  accessField,
  CR0_SHADOW,
  CR4_SHADOW,
  enterLong,
  enterProtected,
  enterReal,
  GUEST_EFER,
  Seg,
  TABLES,
} from "./mode.ts";

const GP = 13;
const UD = 6;
const CR0 = { PE: 1n, MP: 2n, TS: 8n, NE: 0x20n, WP: 0x1_0000n, NW: 1n << 29n, CD: 1n << 30n, PG: 1n << 31n };
const CR4 = { VME: 1n, PAE: 0x20n, PGE: 0x80n, VMXE: 0x2000n, PCIDE: 0x2_0000n, OSXSAVE: 0x4_0000n, LA57: 0x1000n };
const EFER = { SCE: 1n, LME: 0x100n, LMA: 0x400n, NXE: 0x800n };

function movTo(cr: number, register: number): GuestExit {
  return instruction(EXIT.CR_ACCESS, 3, { qualification: BigInt(cr | (register << 8)) });
}

function movFrom(cr: number, register: number): GuestExit {
  return instruction(EXIT.CR_ACCESS, 3, { qualification: BigInt(cr | 0x10 | (register << 8)) });
}

/** CR0 and CR4 as the guest reads them. */
const visible = (cpu: Vcpu, cr: 0 | 4) => {
  const mask = cpu.read(cr === 0 ? 0x6000 : 0x6002);
  return (
    (cpu.read(cr === 0 ? CR0_SHADOW : CR4_SHADOW) & mask) | (cpu.read(cr === 0 ? F.GUEST_CR0 : F.GUEST_CR4) & ~mask)
  );
};

/** Makes the exit and says what it came to: null if the guest goes on behind the instruction, else the vector. */
function* outcome(cpu: Vcpu, exit: GuestExit): Generator<GuestExit, number | null, void> {
  const rip = cpu.rip;
  yield exit;
  if (cpu.injected) {
    expect(cpu.rip).toBe(rip);
    return cpu.injected.vector;
  }
  expect(cpu.rip).toBe(rip + BigInt(exit.length ?? 0));
  return null;
}

function* writeCr(cpu: Vcpu, cr: number, value: bigint): Generator<GuestExit, number | null, void> {
  cpu.set(R.RCX, value);
  return yield* outcome(cpu, movTo(cr, R.RCX));
}

test("CR0: the combinations that the manual forbids take #GP and change nothing", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    const before = visible(cpu, 0);
    expect(before & CR0.PE).toBe(CR0.PE);
    for (const value of [CR0.PG, before | CR0.NW, (before & ~CR0.PE) | CR0.PG]) {
      expect(yield* writeCr(cpu, 0, value)).toBe(GP);
      expect(visible(cpu, 0)).toBe(before);
    }
    expect(yield* writeCr(cpu, 0, before | CR0.NW | CR0.CD)).toBe(null);
    expect(visible(cpu, 0)).toBe(before | CR0.NW | CR0.CD);
    expect(cpu.read(F.GUEST_CR0) & (CR0.NW | CR0.CD)).toBe(0n); // the host's caches stay on
    expect(yield* writeCr(cpu, 0, before)).toBe(null);
    expect(visible(cpu, 0)).toBe(before);
    // Reserved bits below 32 are ignored; ET cannot be cleared.
    expect(yield* writeCr(cpu, 0, before | 0x0fc0_ff00n)).toBe(null);
    expect(visible(cpu, 0)).toBe(before);
    expect(yield* writeCr(cpu, 0, before & ~0x10n)).toBe(null);
    expect(visible(cpu, 0) & 0x10n).toBe(0x10n);
    expect(cpu.read(F.GUEST_CR0) & CR0.NE).toBe(CR0.NE); // VMX wants it, whatever the guest has
  });
});

test("real mode and back", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    expect(yield* writeCr(cpu, 0, visible(cpu, 0) & ~CR0.PE)).toBe(null);
    expect(visible(cpu, 0) & CR0.PE).toBe(0n);
    enterReal(cpu, 0x8000);
    yield instruction(EXIT.CPUID, 2);
    expect(cpu.rip).toBe(2n);
    expect(yield* writeCr(cpu, 0, visible(cpu, 0) | CR0.PE)).toBe(null);
    enterProtected(cpu);
  });
});

test("CLTS and LMSW: TS goes, PE comes and cannot be taken away", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    yield* writeCr(cpu, 0, visible(cpu, 0) | CR0.TS);
    expect(yield* outcome(cpu, instruction(EXIT.CR_ACCESS, 2, { qualification: 0x20n }))).toBe(null);
    expect(visible(cpu, 0) & CR0.TS).toBe(0n);
    const lmsw = (value: bigint) => instruction(EXIT.CR_ACCESS, 3, { qualification: 0x30n | (value << 16n) });
    expect(yield* outcome(cpu, lmsw(0xfff8n))).toBe(null);
    expect(visible(cpu, 0) & 0xfn).toBe(CR0.PE | CR0.TS);
    expect(yield* outcome(cpu, lmsw(CR0.MP))).toBe(null);
    expect(visible(cpu, 0) & 0xfn).toBe(CR0.PE | CR0.MP);
  });
});

test("IA-32e mode: LMA follows LME and PG, and leaves with them", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    cpu.poke(TABLES, BigInt(TABLES + 0x1000) | 7n);
    cpu.poke(TABLES + 0x1000, 0x87n);
    cpu.write(F.GUEST_CR3, TABLES);
    cpu.write(GUEST_EFER, EFER.LME);
    const cr0 = visible(cpu, 0);
    expect(yield* writeCr(cpu, 0, cr0 | CR0.PG)).toBe(GP); // CR4.PAE is 0
    expect(yield* writeCr(cpu, 4, CR4.PAE)).toBe(null);
    expect(yield* writeCr(cpu, 0, cr0 | CR0.PG)).toBe(null);
    expect(cpu.read(GUEST_EFER)).toBe(EFER.LME | EFER.LMA);
    expect(cpu.read(F.ENTRY_CONTROLS) & 0x200n).toBe(0x200n);
    expect(yield* writeCr(cpu, 4, 0n)).toBe(GP); // PAE stays while LMA
    expect(yield* writeCr(cpu, 4, CR4.PAE | CR4.LA57)).toBe(GP);
    expect(yield* outcome(cpu, wrmsr(cpu, 0xc000_0080, 0))).toBe(GP); // LME stays while PG
    cpu.write(F.GUEST_CR3, TABLES | 0x18);
    expect(yield* writeCr(cpu, 4, CR4.PAE | CR4.PCIDE)).toBe(GP); // CR3[11:0] is not 0
    cpu.write(F.GUEST_CR3, TABLES);
    expect(yield* writeCr(cpu, 4, CR4.PAE | CR4.PCIDE)).toBe(null);
    expect(yield* writeCr(cpu, 0, cr0)).toBe(GP); // PG stays while PCIDE
    expect(yield* writeCr(cpu, 4, CR4.PAE)).toBe(null);
    expect(yield* writeCr(cpu, 0, cr0)).toBe(null);
    expect(cpu.read(GUEST_EFER)).toBe(EFER.LME);
    expect(cpu.read(F.ENTRY_CONTROLS) & 0x200n).toBe(0n);
    // With CS.L set, IA-32e mode cannot be entered; with a 16-bit TSS neither.
    cpu.write(accessField(Seg.CS), 0xa09b);
    expect(yield* writeCr(cpu, 0, cr0 | CR0.PG)).toBe(GP);
    cpu.write(accessField(Seg.CS), 0xc09b);
    cpu.write(accessField(Seg.TR), 0x83);
    expect(yield* writeCr(cpu, 0, cr0 | CR0.PG)).toBe(GP);
    cpu.write(accessField(Seg.TR), 0x8b);
    cpu.write(GUEST_EFER, 0n);
    expect(yield* writeCr(cpu, 4, 0n)).toBe(null);
  });
});

test("64-bit mode: the upper half of CR0 and CR4 is reserved; paging cannot be left from CS.L", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    const cr0 = visible(cpu, 0);
    const cr4 = visible(cpu, 4);
    expect(yield* writeCr(cpu, 0, cr0 | (1n << 32n))).toBe(GP);
    expect(yield* writeCr(cpu, 4, cr4 | (1n << 32n))).toBe(GP);
    expect(yield* writeCr(cpu, 0, cr0 & ~CR0.PG)).toBe(GP);
    expect(yield* writeCr(cpu, 4, cr4 | CR4.VMXE)).toBe(GP); // CPUID shows no VMX
    expect(visible(cpu, 4)).toBe(cr4);
    expect(cpu.read(F.GUEST_CR4) & CR4.VMXE).toBe(CR4.VMXE); // the processor wants it
  });
});

test("PAE paging loads the PDPTEs with CR0 and CR4, and refuses reserved bits", async () => {
  await guest(function* (cpu) {
    enterProtected(cpu);
    const pdpte = (i: number) => cpu.read(0x280a + 2 * i);
    for (let i = 0; i < 4; i++) cpu.poke(TABLES + 8 * i, BigInt(0x1000 * (i + 16)) | 1n);
    cpu.write(F.GUEST_CR3, TABLES);
    const cr0 = visible(cpu, 0);
    expect(yield* writeCr(cpu, 4, CR4.PAE)).toBe(null);
    expect(yield* writeCr(cpu, 0, cr0 | CR0.PG)).toBe(null);
    expect([0, 1, 2, 3].map(pdpte)).toEqual([0x1_0001n, 0x1_1001n, 0x1_2001n, 0x1_3001n]);
    cpu.poke(TABLES, 0x5_0001n);
    expect(yield* writeCr(cpu, 4, CR4.PAE | CR4.PGE)).toBe(null);
    expect(pdpte(0)).toBe(0x5_0001n);
    for (const bad of [0x5_0003n, 0x5_0101n, (1n << 60n) | 1n]) {
      cpu.poke(TABLES + 24, bad);
      expect(yield* writeCr(cpu, 4, CR4.PAE)).toBe(GP);
      expect(pdpte(3)).toBe(0x1_3001n);
    }
    cpu.poke(TABLES + 24, 0n); // not present: no bit is reserved
    expect(yield* writeCr(cpu, 4, CR4.PAE)).toBe(null);
    cpu.write(F.GUEST_CR3, 0xf000_0000); // not memory: all ones
    expect(yield* writeCr(cpu, 4, CR4.PAE | CR4.PGE)).toBe(GP);
    cpu.write(F.GUEST_CR3, TABLES);
    expect(yield* writeCr(cpu, 0, cr0)).toBe(null);
    expect(yield* writeCr(cpu, 4, 0n)).toBe(null);
  });
});

test("CR8 is the upper half of TPR, and only its four bits exist", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    expect(yield* writeCr(cpu, 8, 9n)).toBe(null);
    yield movFrom(8, R.RDX);
    expect(cpu.get(R.RDX)).toBe(9n);
    expect(yield* writeCr(cpu, 8, 16n)).toBe(GP);
    expect(yield* writeCr(cpu, 8, 0n)).toBe(null);
  });
});

test("CR4.OSXSAVE shows in CPUID, and XSETBV takes only what XCR0 can be", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    const osxsave = function* (): Generator<GuestExit, boolean, void> {
      cpu.set(R.RAX, 1);
      cpu.set(R.RCX, 0);
      yield instruction(EXIT.CPUID, 2);
      return (cpu.get(R.RCX) & (1n << 27n)) !== 0n;
    };
    expect(yield* osxsave()).toBe(false);
    expect(yield* writeCr(cpu, 4, visible(cpu, 4) | CR4.OSXSAVE)).toBe(null);
    expect(yield* osxsave()).toBe(true);
    const xsetbv = function* (index: number, value: bigint): Generator<GuestExit, number | null, void> {
      cpu.set(R.RCX, index);
      cpu.set(R.RAX, value & 0xffff_ffffn);
      cpu.set(R.RDX, value >> 32n);
      return yield* outcome(cpu, instruction(EXIT.XSETBV, 3));
    };
    const size = function* (): Generator<GuestExit, bigint, void> {
      cpu.set(R.RAX, 0xd);
      cpu.set(R.RCX, 0);
      yield instruction(EXIT.CPUID, 2);
      return cpu.get(R.RBX);
    };
    expect(yield* size()).toBe(576n);
    expect(yield* xsetbv(0, 7n)).toBe(null);
    expect(yield* size()).toBe(832n);
    for (const [index, value] of [
      [1, 7n],
      [0, 0n],
      [0, 6n],
      [0, 5n],
      [0, 0x27n],
      [0, 1n << 63n],
    ] as const)
      expect([index, value, yield* xsetbv(index, value)]).toEqual([index, value, GP]);
    expect(yield* xsetbv(0, 1n)).toBe(null);
    expect(yield* size()).toBe(576n);
  });
});

test.each([
  ["is offered where it stores by the manual", 576, 7n],
  ["is not offered where XRSTOR would not find what it stored", 416, 5n],
])("XSAVEC %s", async (_what, compactedFrom, features) => {
  const { log } = await guest(
    function* (cpu) {
      cpu.set(R.RAX, 0xd);
      cpu.set(R.RCX, 1);
      yield instruction(EXIT.CPUID, 2);
      expect(cpu.get(R.RAX)).toBe(features);
    },
    { profile: { ...bochs("corei7_skylake_x"), compactedFrom } },
  );
  expect(log.some((line) => line.includes("guests do without it"))).toBe(compactedFrom !== 576);
});

test("XSETBV outside CPL 0 takes #GP", async () => {
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    cpu.set(R.RCX, 0);
    cpu.set(R.RAX, 1);
    cpu.set(R.RDX, 0);
    expect(yield* outcome(cpu, instruction(EXIT.XSETBV, 3))).toBe(GP);
    enterLong(cpu, 0);
  });
});

// biome-ignore format: a table
const UNDEFINED = {
  GETSEC: 11, RSM: 17, VMCLEAR: 19, VMLAUNCH: 20, VMPTRLD: 21, VMPTRST: 22, VMREAD: 23, VMRESUME: 24, VMWRITE: 25, VMXOFF: 26, VMXON: 27,
  MWAIT: 36, MONITOR: 39, INVEPT: 50, INVVPID: 53, INVPCID: 58, VMFUNC: 59, ENCLS: 60, XSAVES: 63, XRSTORS: 64, PCONFIG: 65, UMWAIT: 67,
  TPAUSE: 68, LOADIWKEY: 69, ENCLV: 70,
};

test("what the guest's processor does not have is #UD", async () => {
  await guest(function* (cpu) {
    for (const [name, reason] of Object.entries(UNDEFINED))
      expect([name, yield* outcome(cpu, instruction(reason, 3))]).toEqual([name, UD]);
  });
});

test("INVD, WBINVD, INVLPG, PAUSE and the time-stamp counter go on behind the instruction; RDPMC is #GP", async () => {
  await guest(function* (cpu) {
    for (const reason of [EXIT.INVD, EXIT.WBINVD, EXIT.INVLPG, EXIT.PAUSE])
      expect([reason, yield* outcome(cpu, instruction(reason, 2))]).toEqual([reason, null]);
    expect(yield* outcome(cpu, instruction(EXIT.RDPMC, 2))).toBe(GP);
    yield instruction(EXIT.RDTSC, 2);
    const first = (cpu.get(R.RDX) << 32n) | cpu.get(R.RAX);
    yield wrmsr(cpu, 0xc000_0103, 0x1234);
    yield instruction(EXIT.RDTSCP, 3);
    expect(cpu.get(R.RCX)).toBe(0x1234n);
    expect((cpu.get(R.RDX) << 32n) | cpu.get(R.RAX)).toBeGreaterThan(first);
  });
});

test("RDRAND writes its operand size, and CF alone of the flags", async () => {
  await guest(function* (cpu) {
    const rdrand = function* (register: number, size: number): Generator<GuestExit, void, void> {
      cpu.write(F.GUEST_RFLAGS, 0x8d6n);
      yield instruction(EXIT.RDRAND, 3, { instructionInfo: (register << 3) | (size << 11) });
      expect(cpu.read(F.GUEST_RFLAGS) & 0x8d4n).toBe(0n);
      expect(cpu.read(F.GUEST_RFLAGS) & 1n).toBe(1n);
    };
    cpu.set(R.RBX, 0xffff_ffff_ffff_ffffn);
    yield* rdrand(R.RBX, 0);
    expect(cpu.get(R.RBX) >> 16n).toBe(0xffff_ffff_ffffn);
    cpu.set(R.RBX, 0xffff_ffff_ffff_ffffn);
    yield* rdrand(R.RBX, 1);
    expect(cpu.get(R.RBX) >> 32n).toBe(0n);
    const seen = new Set<bigint>();
    for (let i = 0; i < 4; i++) {
      yield* rdrand(R.RBX, 2);
      seen.add(cpu.get(R.RBX));
    }
    expect(seen.size).toBe(4);
  });
});

test("VMCALL: version, refusal of what is unknown, #UD outside CPL 0", async () => {
  const { log } = await guest(function* (cpu) {
    enterLong(cpu);
    const call = function* (rax: bigint, rbx = 0n, rcx = 0n): Generator<GuestExit, bigint, void> {
      cpu.set(R.RAX, rax);
      cpu.set(R.RBX, rbx);
      cpu.set(R.RCX, rcx);
      expect(yield* outcome(cpu, instruction(EXIT.VMCALL, 3))).toBe(null);
      return BigInt.asIntN(64, cpu.get(R.RAX));
    };
    expect(yield* call(0n)).toBe(0x1_0000n);
    expect(yield* call(2n)).toBe(0n);
    expect(yield* call(99n)).toBe(-38n);
    expect(yield* call(1n << 40n)).toBe(-38n);
    cpu.poke(0x20_0000, [...Buffer.from("hello there\n")]);
    expect(yield* call(1n, 0x20_0000n, 12n)).toBe(12n);
    expect(yield* call(1n, 0x20_0000n, 1025n)).toBe(-22n);
    expect(yield* call(1n, 0xf000_0000n, 4n)).toBe(-14n);
    expect(yield* call(1n, (1n << 64n) - 2n, 4n)).toBe(-14n);
    cpu.set(R.RDX, 0);
    cpu.set(R.RSI, 0x33);
    expect(yield* call(10n, 1n)).toBe(1n);
    expect(yield* call(10n, 2n)).toBe(0n);
    cpu.set(R.RSI, 0x4_0033); // a shorthand
    expect(yield* call(10n, 1n)).toBe(-22n);
    enterLong(cpu, 3);
    cpu.set(R.RAX, 3);
    expect(yield* outcome(cpu, instruction(EXIT.VMCALL, 3))).toBe(UD);
    enterLong(cpu, 0);
  });
  expect(log.some((line) => line.includes("test") && line.includes("hello there"))).toBe(true);
});

test("exits that nothing answers stop the VM with a report", async () => {
  for (const reason of [5, 6, 46, 47, 49, 62, 66, 99]) {
    const { ended, log } = await guest(function* (cpu) {
      cpu.poke(Number(cpu.rip), [0x0f, 0xa2]);
      yield instruction(reason, 2);
      throw new Error("the guest ran on");
    });
    expect(ended).toContain("test ended");
    expect(log.join("\n")).toMatch(/vcpu 0: rip [0-9a-f]+/);
    expect(log.join("\n")).toMatch(/instruction 0xf 0xa2 /);
  }
});

test("a triple fault ends the VM with a report", async () => {
  const { ended, log } = await guest(function* () {
    yield { reason: EXIT.TRIPLE_FAULT };
    throw new Error("the guest ran on");
  });
  expect(ended).toContain("triple fault");
  expect(log.join("\n")).toContain("triple fault");
});
