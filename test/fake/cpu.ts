// One simulated processor: its registers, its TLB, its local APIC, and what waits to interrupt it.

import { cpuidOf } from "./cpuid.ts";
import { GeneralProtection, hex, MachineStopped } from "./faults.ts";
import { Lapic } from "./lapic.ts";
import type { Machine } from "./machine.ts";
import { msrModel } from "./msr.ts";
import { type PagingMode, Tlb } from "./paging.ts";
import type { Profile, Registers } from "./profiles/profile.ts";
import { VmxState } from "./vmx.ts";

/** `waiting`: for a start-up IPI; `running`: its code is on the host's stack, or a test speaks for it. */
export type CpuState = "waiting" | "running" | "idle" | "halted";

const CR4_FEATURES: [bit: number, leaf: string, register: number, feature: number][] = [
  [5, "1", 3, 6], // PAE
  [7, "1", 3, 13], // PGE
  [9, "1", 3, 24], // OSFXSR
  [10, "1", 3, 25], // OSXMMEXCPT
  [11, "7.0", 2, 2], // UMIP
  [13, "1", 2, 5], // VMXE
  [16, "7.0", 1, 0], // FSGSBASE
  [17, "1", 2, 17], // PCIDE
  [18, "1", 2, 26], // OSXSAVE
  [20, "7.0", 1, 7], // SMEP
  [21, "7.0", 1, 20], // SMAP
  [22, "7.0", 2, 3], // PKE
];
const CR4_ALWAYS = 0x15fn; // VME PVI TSD DE PSE MCE PCE

const PG = 1n << 31n;
const PE = 1n;
const LME = 1n << 8n;
const LMA = 1n << 10n;
const PCIDE = 1n << 17n;

export class Cpu {
  state: CpuState;
  cr0 = 0x8005_0033n; // PG AM WP NE ET MP PE: as boot/entry.asm leaves it
  cr2 = 0n;
  cr3 = 0n;
  cr4 = 0x20n; // PAE
  efer = 0xd00n; // NXE LMA LME
  xcr0 = 1n;
  gsBase: bigint;
  dr = [0n, 0n, 0n, 0n, 0n, 0n, 0xffff_0ff0n, 0x400n];
  interruptsEnabled = false;
  pendingNmi = false;
  tscOffset = 0n;
  /** MSRs that were written. */
  readonly cells = new Map<number, bigint>();
  /** x87, SSE and further state in the standard XSAVE form. */
  readonly fpu = new Uint8Array(4096);
  tlb = new Tlb();
  readonly lapic: Lapic;
  readonly vmx: VmxState;
  descriptors = { gdt: 0n, gdtLimit: 0, idt: 0n, idtLimit: 0, tr: 0 };
  /** The page number of the start-up IPI that this CPU obeyed. */
  startupPage = -1;

  constructor(
    readonly machine: Machine,
    readonly index: number,
    readonly apicId: number,
    readonly profile: Profile,
  ) {
    this.state = index === 0 ? "running" : "waiting";
    this.gsBase = machine.percpu(index);
    this.lapic = new Lapic(this);
    this.vmx = new VmxState(this);
  }

  cpuid(leaf: number, subleaf: number): Registers {
    return cpuidOf(this, leaf, subleaf).map((r) => r >>> 0) as Registers;
  }

  hasLeaf(leaf: number): boolean {
    return leaf.toString(16) in this.profile.cpuid;
  }

  feature(leaf: number, register: "eax" | "ebx" | "ecx" | "edx", bit: number): boolean {
    const name = leaf.toString(16);
    const registers = this.profile.cpuid[name] ?? this.profile.cpuid[`${name}.0`];
    return registers !== undefined && ((registers[["eax", "ebx", "ecx", "edx"].indexOf(register)] >>> bit) & 1) === 1;
  }

  get physBits(): number {
    return (this.profile.cpuid["80000008"]?.[0] ?? 36) & 0xff;
  }

  get tsc(): bigint {
    return BigInt.asUintN(64, BigInt(Math.floor(this.machine.clock.ticks)) + this.tscOffset);
  }

  get pagingMode(): PagingMode {
    return {
      tag: this.cr4 & PCIDE ? Number(this.cr3 & 0xfffn) : 0,
      wp: (this.cr0 & (1n << 16n)) !== 0n,
      nxe: (this.efer & 0x800n) !== 0n,
      pge: (this.cr4 & 0x80n) !== 0n,
      physBits: this.physBits,
      pages1g: this.feature(0x8000_0001, "edx", 26),
    };
  }

  // ---- MSRs

  rdmsr(msr: number): bigint {
    const custom = this.machine.msrs.get(msr);
    if (custom) return custom.read(this);
    const model = msrModel(msr);
    if (model && this.exists(msr)) return BigInt.asUintN(64, model.read(this));
    const constant = this.profile.msrs[msr.toString(16)];
    if (constant === undefined) throw new GeneralProtection(`RDMSR ${hex(msr)}`);
    return constant;
  }

  wrmsr(msr: number, value: bigint) {
    const custom = this.machine.msrs.get(msr);
    if (custom) return custom.write(this, value);
    const model = msrModel(msr);
    if (!model || !this.exists(msr)) throw new GeneralProtection(`WRMSR ${hex(msr)} = ${hex(value)}`);
    model.write(this, value);
  }

  /** MSRs that come with a feature. Intel SDM Vol. 4, the tables' "if CPUID..." columns. */
  private exists(msr: number): boolean {
    if (this.machine.absentMsrs.has(msr)) return false;
    if (msr === 0x3a) return this.feature(1, "ecx", 5);
    if (msr === 0x3b) return this.feature(7, "ebx", 1);
    if (msr === 0x48) return this.feature(7, "edx", 26);
    if (msr === 0x49) return this.feature(7, "edx", 26);
    if (msr === 0x10b) return this.feature(7, "edx", 28);
    if (msr === 0x122) return ((this.profile.msrs["10a"] ?? 0n) & 0x80n) !== 0n;
    if (msr >= 0x200 && msr <= 0x2ff && msr !== 0x277) return this.feature(1, "edx", 12);
    if (msr === 0x277) return this.feature(1, "edx", 16);
    if (msr === 0x6e0) return this.feature(1, "ecx", 24);
    if (msr >= 0x800 && msr < 0x900) return this.feature(1, "ecx", 21);
    if (msr === 0xda0) return ((this.profile.cpuid["d.1"]?.[0] ?? 0) & 8) !== 0;
    if (msr === 0xc0000103) return this.feature(0x8000_0001, "edx", 27);
    return true;
  }

  // ---- Control registers. Intel SDM Vol. 3, "Control Registers"; Vol. 2B, "MOV-Move to/from Control Registers".

  writeCr0(value: bigint): void {
    if (value >> 32n) throw new GeneralProtection("CR0: upper half");
    if (value & PG && !(value & PE)) throw new GeneralProtection("CR0: PG without PE");
    if (!(value & (1n << 30n)) && value & (1n << 29n)) throw new GeneralProtection("CR0: NW without CD");
    if (this.vmx.on && (value & this.vmx.cr0Fixed0) !== this.vmx.cr0Fixed0)
      throw new GeneralProtection("CR0: fixed bit in VMX operation");
    if (!(value & PG) && this.efer & LMA) throw new GeneralProtection("CR0: paging off in 64-bit mode");
    if ((value ^ this.cr0) & PG) this.tlb.flushAll();
    if (value & PG && this.efer & LME) this.efer |= LMA;
    this.cr0 = value | 0x10n;
  }

  writeCr3(value: bigint): void {
    const keep = (this.cr4 & PCIDE) !== 0n && (value & (1n << 63n)) !== 0n;
    const cr3 = value & ~(1n << 63n);
    if (cr3 >> BigInt(this.physBits)) throw new GeneralProtection(`CR3 = ${hex(value)}`);
    if (value >> 63n && !(this.cr4 & PCIDE)) throw new GeneralProtection("CR3 bit 63 without PCIDE");
    this.cr3 = cr3;
    if (!keep) this.tlb.flushTag(this.pagingMode.tag);
  }

  writeCr4(value: bigint): void {
    const supported = CR4_FEATURES.reduce(
      (mask, [bit, leaf, register, feature]) =>
        mask | (((this.profile.cpuid[leaf]?.[register] ?? 0) >>> feature) & 1 ? 1n << BigInt(bit) : 0n),
      CR4_ALWAYS,
    );
    if (value & ~supported)
      throw new GeneralProtection(`CR4 = ${hex(value)}: ${hex(value & ~supported)} not supported`);
    if (!(value & 0x20n)) throw new GeneralProtection("CR4: PAE cleared in 64-bit mode");
    if (this.vmx.on && !(value & (1n << 13n))) throw new GeneralProtection("CR4: VMXE cleared in VMX operation");
    if (value & ~this.cr4 & PCIDE && this.cr3 & 0xfffn)
      throw new GeneralProtection("CR4: PCIDE set with a PCID in CR3");
    const changed = value ^ this.cr4;
    // PGE and PCIDE drop everything; so does setting SMEP. "Operations that Invalidate TLBs and Paging-Structure Caches".
    if (changed & (0x80n | PCIDE) || value & ~this.cr4 & (1n << 20n)) this.tlb.flushAll();
    this.cr4 = value;
  }

  xsetbv(index: number, value: bigint): void {
    const supported =
      BigInt(this.profile.cpuid["d.0"]?.[0] ?? 0) | (BigInt(this.profile.cpuid["d.0"]?.[3] ?? 0) << 32n);
    const avxWithoutSse = value & 4n && !(value & 2n);
    if (index !== 0 || !(value & 1n) || value & ~supported || avxWithoutSse)
      throw new GeneralProtection(`XSETBV ${hex(value)}`);
    this.xcr0 = value;
  }

  // ---- Start and stop

  init(): void {
    if (this.index === 0) throw new MachineStopped("INIT sent to the boot CPU");
    this.state = "waiting";
    this.lapic.reset();
    this.tlb = new Tlb();
  }

  /** A start-up IPI; ignored unless the CPU waits for one. */
  startup(page: number): void {
    if (this.state !== "waiting") return;
    this.startupPage = page;
    this.state = "idle";
    this.machine.toStart.push(this);
  }
}
