// Brings a scripted guest into an operating mode: registers in the VMCS, page tables in its memory.

import { F, type Vcpu } from "../../fake/guest.ts";

export const Seg = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDTR: 6, TR: 7 } as const;
export const selectorField = (s: number) => 0x800 + 2 * s;
export const limitField = (s: number) => 0x4800 + 2 * s;
export const accessField = (s: number) => 0x4814 + 2 * s;
export const baseField = (s: number) => 0x6806 + 2 * s;

export const GUEST_EFER = 0x2806;
export const CR0_SHADOW = 0x6004;
export const CR4_SHADOW = 0x6006;
export const IDTR = { base: 0x6818, limit: 0x4812 };
export const GDTR = { base: 0x6816, limit: 0x4810 };
const CR0_PE = 1n;
const CR0_WP = 1n << 16n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const IA32E_MODE_GUEST = 1n << 9n;

/** Where the tables of enterLong() lie in guest memory: three pages. */
export const TABLES = 0x38_0000;
const CODE64 = 0xa09b;
const CODE32 = 0xc09b;
const DATA = 0xc093;
const BUSY_TSS = 0x8b;

export function setSegment(cpu: Vcpu, s: number, selector: number, base: bigint, limit: number, access: number): void {
  cpu.write(selectorField(s), selector);
  cpu.write(baseField(s), base);
  cpu.write(limitField(s), limit);
  cpu.write(accessField(s), access);
}

function flatData(cpu: Vcpu, dpl: number): void {
  for (const s of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS])
    setSegment(cpu, s, 0x10 | dpl, 0n, 0xffff_ffff, DATA | (dpl << 5));
}

/** CR0 and its shadow, as a guest that may write all of it would leave them. */
export function setCr0(cpu: Vcpu, bits: bigint): void {
  cpu.write(F.GUEST_CR0, cpu.read(F.GUEST_CR0) | bits);
  cpu.write(CR0_SHADOW, cpu.read(CR0_SHADOW) | bits);
}

/** The same for bits that go. */
export function clearCr0(cpu: Vcpu, bits: bigint): void {
  cpu.write(F.GUEST_CR0, cpu.read(F.GUEST_CR0) & ~bits);
  cpu.write(CR0_SHADOW, cpu.read(CR0_SHADOW) & ~bits);
}

/** 64-bit mode at privilege `dpl`: the first 4 MiB identity-mapped by 2 MiB user pages, at FFFF800000000000H as well. */
export function enterLong(cpu: Vcpu, dpl = 0): void {
  const entry = (at: number, value: bigint) => cpu.poke(at, value);
  for (const slot of [0, 256]) entry(TABLES + 8 * slot, BigInt(TABLES + 0x1000) | 7n);
  entry(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
  entry(TABLES + 0x2000, 0x87n);
  entry(TABLES + 0x2008, 0x20_0087n);
  cpu.write(F.GUEST_CR3, BigInt(TABLES));
  cpu.write(F.GUEST_CR4, cpu.read(F.GUEST_CR4) | CR4_PAE);
  cpu.write(CR4_SHADOW, cpu.read(CR4_SHADOW) | CR4_PAE);
  setCr0(cpu, CR0_PE | CR0_WP | CR0_PG);
  cpu.write(GUEST_EFER, 0xd00n);
  cpu.write(F.ENTRY_CONTROLS, cpu.read(F.ENTRY_CONTROLS) | IA32E_MODE_GUEST);
  setSegment(cpu, Seg.CS, 0x08 | dpl, 0n, 0xffff_ffff, CODE64 | (dpl << 5));
  flatData(cpu, dpl);
  setSegment(cpu, Seg.TR, 0x28, 0n, 0x67, BUSY_TSS);
}

/** 32-bit protected mode without paging, flat segments at privilege `dpl`. */
export function enterProtected(cpu: Vcpu, dpl = 0): void {
  setCr0(cpu, CR0_PE);
  setSegment(cpu, Seg.CS, 0x08 | dpl, 0n, 0xffff_ffff, CODE32 | (dpl << 5));
  flatData(cpu, dpl);
}

/** Real mode with CS:0 at `base`. */
export function enterReal(cpu: Vcpu, base: number): void {
  clearCr0(cpu, CR0_PE | CR0_PG);
  for (const s of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) setSegment(cpu, s, 0, 0n, 0xffff, 0x93);
  setSegment(cpu, Seg.CS, base >> 4, BigInt(base), 0xffff, 0x9b);
  cpu.write(F.GUEST_RIP, 0);
}
