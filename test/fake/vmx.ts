// The VMX part of a simulated CPU: VMXON to VMENTER as the manual describes them. A VM entry makes the
// manual's checks (vmxcheck.ts), hands the guest to the test's script, and returns with the exit that the
// script describes. Translations of guest-physical addresses stay cached, tagged by EPTP, until INVEPT;
// the VPIDs that a CPU has used stay noted until INVVPID.

import type { Cpu } from "./cpu.ts";
import { GeneralProtection, hex, UndefinedOpcode } from "./faults.ts";
import { type Field, layout } from "./layout.ts";
import type { Machine } from "./machine.ts";
import { checkControls, checkGuest, checkHost } from "./vmxcheck.ts";

const CR4_VMXE = 1n << 13n;
const PE = 1n;
const FEATURE_LOCKED_VMX = 5n;

// Field encodings that the simulation itself uses.
export const F = {
  VPID: 0x0000,
  EPT_POINTER: 0x201a,
  GUEST_PHYSICAL_ADDRESS: 0x2400,
  GUEST_DEBUGCTL: 0x2802,
  PROCESSOR_CONTROLS: 0x4002,
  ENTRY_CONTROLS: 0x4012,
  ENTRY_INTERRUPTION_INFO: 0x4016,
  ENTRY_EXCEPTION_ERROR_CODE: 0x4018,
  ENTRY_INSTRUCTION_LENGTH: 0x401a,
  PROCESSOR_CONTROLS_2: 0x401e,
  INSTRUCTION_ERROR: 0x4400,
  EXIT_REASON: 0x4402,
  EXIT_INTERRUPTION_INFO: 0x4404,
  EXIT_INTERRUPTION_ERROR_CODE: 0x4406,
  IDT_VECTORING_INFO: 0x4408,
  IDT_VECTORING_ERROR_CODE: 0x440a,
  EXIT_INSTRUCTION_LENGTH: 0x440c,
  EXIT_INSTRUCTION_INFO: 0x440e,
  GUEST_INTERRUPTIBILITY: 0x4824,
  EXIT_QUALIFICATION: 0x6400,
  GUEST_LINEAR_ADDRESS: 0x640a,
  GUEST_CR0: 0x6800,
  GUEST_CR3: 0x6802,
  GUEST_CR4: 0x6804,
  GUEST_DR7: 0x681a,
  GUEST_RSP: 0x681c,
  GUEST_RIP: 0x681e,
  GUEST_RFLAGS: 0x6820,
  GUEST_PENDING_DEBUG: 0x6822,
  HOST_CR0: 0x6c00,
  HOST_CR3: 0x6c02,
  HOST_CR4: 0x6c04,
  HOST_RSP: 0x6c14,
} as const;

const ENABLE_VPID = 1n << 5n;
const IA32_SPEC_CTRL = 0x48;
/** EntryFlag.SPEC_CTRL of kernel/vcpu/vcpu.ts. */
const SPEC_CTRL = 16;
const LAUNCH = 256;
const STACK = 512;

/** How a stay in the guest ended. What is left out reads as zero. */
export interface GuestExit {
  reason: number;
  qualification?: bigint;
  length?: number;
  info?: number;
  error?: number;
  instructionInfo?: number;
  gpa?: bigint;
  gva?: bigint;
  idtVectoring?: number;
  idtError?: number;
}

/** What the entry injected. */
export interface Injected {
  vector: number;
  type: number;
  error: number | null;
  length: number;
}

export type GuestScript = (guest: Guest) => GuestExit;

interface Vmcs {
  pa: bigint;
  fields: Map<number, bigint>;
  launched: boolean;
  /** The CPU on which it is active; -1: clear. */
  activeOn: number;
}

/** VMX state that all CPUs share: the VMCS regions, by address, and the guest's script. */
class Shared {
  readonly regions = new Map<bigint, Vmcs>();
  guest: GuestScript = () => {
    throw new Error("a VM entry without a guest script");
  };
}

const sharedOf = new WeakMap<Machine, Shared>();

function shared(m: Machine): Shared {
  let s = sharedOf.get(m);
  if (!s) sharedOf.set(m, (s = new Shared()));
  return s;
}

/** Sets what runs in the guest from the next entry on. */
export function setGuest(m: Machine, script: GuestScript): void {
  shared(m).guest = script;
}

export class VmxState {
  /** In VMX operation. */
  on = false;
  vmxonPa = 0n;
  current: Vmcs | null = null;
  /** Guest-physical translations: EPTP, then page number, to the leaf that was walked. */
  readonly gpas = new Map<bigint, Map<bigint, EptLeaf>>();
  /** VPIDs whose translations this CPU may hold. */
  readonly vpids = new Set<number>();
  /** The virtual-APIC page of the vCPU that was entered last, in linear memory: an arena is no window of the RAM. */
  virtualApic = 0;
  /** Why the last entry failed, by the checks of vmxcheck.ts. */
  lastFailure = "";
  /** INVVPID and INVEPT that were executed, for tests. */
  readonly invalidations: string[] = [];

  constructor(private readonly cpu: Cpu) {}

  /** CR0 bits that must be 1 in VMX operation. */
  get cr0Fixed0(): bigint {
    return this.cpu.profile.msrs["486"] ?? 0n;
  }

  read(field: number): bigint {
    return this.current?.fields.get(field) ?? 0n;
  }

  write(field: number, value: bigint): void {
    this.current?.fields.set(field, value);
  }
}

const WIDTHS = [16n, 64n, 32n, 64n];

function widthOf(field: number): bigint {
  return WIDTHS[(field >> 13) & 3];
}

const isReadOnly = (field: number) => ((field >> 10) & 3) === 1;

/** Fields that exist only with a capability: [field, MSR, bit of its allowed-1 half]. */
const CONDITIONAL: [first: number, last: number, msr: string, bit: number][] = [
  [0x0000, 0x0000, "48b", 5],
  [0x0002, 0x0002, "481", 7],
  [0x0810, 0x0810, "48b", 9],
  [0x2012, 0x2012, "482", 21],
  [0x2014, 0x2014, "48b", 0],
  [0x201a, 0x201a, "48b", 1],
  [0x201c, 0x2022, "48b", 9],
  [0x202e, 0x202e, "48b", 15],
  [0x2036, 0x2036, "48b", 28],
  [0x2400, 0x2400, "48b", 1],
  [0x280a, 0x2810, "48b", 1],
  [0x401c, 0x401c, "482", 21],
  [0x401e, 0x401e, "482", 31],
  [0x4020, 0x4022, "48b", 10],
  [0x482e, 0x482e, "481", 6],
];

function checkField(cpu: Cpu, field: number, access: string): void {
  const row = CONDITIONAL.find(([first, last]) => field >= first && field <= last);
  if (row && !(((cpu.profile.msrs[row[2]] ?? 0n) >> BigInt(32 + row[3])) & 1n))
    throw new Error(`${access} of field ${hex(field)}, which this processor lacks`);
  if (field & 0x9001 || field >> 10 > 31) throw new Error(`${access} of ${hex(field)}: no field`);
}

/** The intrinsics of the section "VMX" in kernel/cpu/insn.ts. Arguments arrive unsigned. */
export function vmxIntrinsics(m: Machine) {
  const vcpuFields = lazy(() => layout("kernel/vcpu/vcpu.ts", "Vcpu"));
  const now = () => m.current.vmx;
  const operating = (name: string): VmxState => {
    if (!now().on) throw new UndefinedOpcode(`${name} outside VMX operation`);
    return now();
  };
  const revision = (pa: bigint) => m.ram.read32(Number(pa)) & 0x7fff_ffff;
  const goodRegion = (pa: bigint) => !(pa & 0xfffn) && !(pa >> BigInt(m.current.physBits));
  const ownRevision = () => Number((m.current.profile.msrs["480"] ?? 0n) & 0x7fff_ffffn);
  const current = (name: string): VmxState => {
    const vmx = operating(name);
    if (!vmx.current) throw new Error(`${name} without a current VMCS`);
    return vmx;
  };
  const vmread = (field: number): bigint => {
    const vmx = current("VMREAD");
    checkField(m.current, field, "VMREAD");
    return vmx.read(field);
  };
  const vmwrite = (field: number, value: bigint): void => {
    const vmx = current("VMWRITE");
    checkField(m.current, field, "VMWRITE");
    if (isReadOnly(field)) throw new Error(`VMWRITE of read-only field ${hex(field)}`);
    vmx.write(field, BigInt.asUintN(Number(widthOf(field)), value));
  };
  return {
    vmxon(pa: bigint): number {
      const cpu = m.current;
      if (!(cpu.cr4 & CR4_VMXE)) throw new UndefinedOpcode("VMXON without CR4.VMXE");
      if ((cpu.rdmsr(0x3a) & FEATURE_LOCKED_VMX) !== FEATURE_LOCKED_VMX)
        throw new GeneralProtection("VMXON: IA32_FEATURE_CONTROL");
      if ((cpu.cr0 & cpu.vmx.cr0Fixed0) !== cpu.vmx.cr0Fixed0) throw new GeneralProtection("VMXON: CR0");
      if (now().on) return 2;
      if (!goodRegion(pa) || revision(pa) !== ownRevision()) return 1;
      Object.assign(now(), { on: true, vmxonPa: pa, current: null });
      return 0;
    },
    vmxoff(): void {
      operating("VMXOFF").on = false;
    },
    vmclear(pa: bigint): number {
      const vmx = operating("VMCLEAR");
      if (!goodRegion(pa) || pa === vmx.vmxonPa) return vmx.current ? 2 : 1;
      const region = shared(m).regions.get(pa);
      if (region && region.activeOn >= 0 && region.activeOn !== m.current.index)
        throw new Error(`VMCLEAR of a VMCS that is active on CPU ${region.activeOn}`);
      shared(m).regions.set(pa, { pa, fields: region?.fields ?? new Map(), launched: false, activeOn: -1 });
      if (vmx.current?.pa === pa) vmx.current = null;
      return 0;
    },
    vmptrld(pa: bigint): number {
      const vmx = operating("VMPTRLD");
      if (!goodRegion(pa) || pa === vmx.vmxonPa || revision(pa) !== ownRevision()) return vmx.current ? 2 : 1;
      const region = shared(m).regions.get(pa);
      if (!region) throw new Error(`VMPTRLD of a region that was never cleared: ${hex(pa)}`);
      if (region.activeOn >= 0 && region.activeOn !== m.current.index)
        throw new Error(`VMPTRLD of a VMCS that is active on CPU ${region.activeOn}`);
      region.activeOn = m.current.index;
      vmx.current = region;
      return 0;
    },
    vmread,
    vmwrite,
    vmwriteSafe(field: number, value: bigint): number {
      try {
        vmwrite(field, value);
        return 0;
      } catch (error) {
        if (error instanceof UndefinedOpcode) throw error;
        return 2;
      }
    },
    vmreadSafe(field: number, out: number): number {
      try {
        m.view.setBigUint64(out, vmread(field), true);
        return 0;
      } catch (error) {
        if (error instanceof UndefinedOpcode) throw error;
        return 2;
      }
    },
    invept(type: number, eptp: bigint): number {
      const vmx = operating("INVEPT");
      const caps = m.current.profile.msrs["48c"] ?? 0n;
      if (!(caps & (1n << 20n))) throw new UndefinedOpcode("INVEPT");
      if (!((caps >> BigInt(24 + type)) & 1n) || type < 1 || type > 2) return 2;
      vmx.invalidations.push(type === 1 ? `invept ${hex(eptp)}` : "invept all");
      if (type === 1) vmx.gpas.delete(eptp & ~0xfffn);
      else vmx.gpas.clear();
      return 0;
    },
    invvpid(type: number, vpid: number, _gva: bigint): number {
      const vmx = operating("INVVPID");
      const caps = m.current.profile.msrs["48c"] ?? 0n;
      if (!(caps & (1n << 32n))) throw new UndefinedOpcode("INVVPID");
      if (!((caps >> BigInt(40 + type)) & 1n) || (type !== 2 && vpid === 0)) return 2;
      vmx.invalidations.push(type === 2 ? "invvpid all" : `invvpid ${vpid}`);
      if (type === 2) vmx.vpids.clear();
      else vmx.vpids.delete(vpid);
      return 0;
    },
    vmenter(ptr: number): number {
      const vmx = operating("VMLAUNCH");
      if (!vmx.current) return 1;
      return enter(m, vmx, vmx.current, ptr, vcpuFields());
    },
  };
}

function lazy<T>(make: () => T): () => T {
  let value: T | undefined;
  return () => (value ??= make());
}

const VM_FAIL_LAUNCH_NOT_CLEAR = 4n;
const VM_FAIL_RESUME_NOT_LAUNCHED = 5n;
const VM_FAIL_CONTROLS = 7n;
const VM_FAIL_HOST = 8n;

/** What vmx/switch.asm and the processor do between the core and the guest. */
function enter(m: Machine, vmx: VmxState, vmcs: Vmcs, ptr: number, fields: Record<string, Field>): number {
  const cpu = m.current;
  const flags = m.view.getUint32(ptr + fields.entryFlags.offset, true);
  const launched = (flags & LAUNCH) === 0;
  vmx.virtualApic = m.view.getUint32(ptr + fields.virtualApic.offset, true);
  const stack = 0xffff_ffff_c001_ef00n; // the core calls from one depth
  if (flags & STACK) vmx.write(F.HOST_RSP, stack);
  m.view.setUint32(ptr + fields.entryFlags.offset, flags & ~(LAUNCH | STACK), true);
  const failure =
    launched !== vmcs.launched
      ? launched
        ? VM_FAIL_RESUME_NOT_LAUNCHED
        : VM_FAIL_LAUNCH_NOT_CLEAR
      : checkControls(cpu)
        ? VM_FAIL_CONTROLS
        : checkHost(cpu)
          ? VM_FAIL_HOST
          : 0n;
  if (failure) {
    vmcs.fields.set(F.INSTRUCTION_ERROR, failure);
    m.view.setUint32(ptr + fields.entryFlags.offset, flags, true);
    vmx.lastFailure = checkControls(cpu) || checkHost(cpu) || `instruction error ${failure}`;
    return 2;
  }
  const wrong = checkGuest(cpu);
  if (wrong) {
    vmx.lastFailure = wrong;
    vmcs.fields.set(F.EXIT_REASON, 0x8000_0021n);
    vmcs.fields.set(F.EXIT_QUALIFICATION, 0n);
    return 0;
  }
  vmcs.launched = true;
  const switched = (flags & SPEC_CTRL) !== 0;
  const specCtrl = (field: Field) => cpu.wrmsr(IA32_SPEC_CTRL, BigInt(m.view.getUint32(ptr + field.offset, true)));
  if (switched) specCtrl(fields.specCtrlGuest);
  const guest = new Guest(m, cpu, vmx, ptr, takeInjected(vmx));
  if (vmx.read(F.PROCESSOR_CONTROLS_2) & ENABLE_VPID) vmx.vpids.add(Number(vmx.read(F.VPID)));
  const exit = shared(m).guest(guest);
  recordExit(vmx, exit);
  loadHost(cpu, vmx);
  if (switched) specCtrl(fields.specCtrlHost);
  return 0;
}

function takeInjected(vmx: VmxState): Injected | null {
  const info = Number(vmx.read(F.ENTRY_INTERRUPTION_INFO));
  vmx.write(F.ENTRY_INTERRUPTION_INFO, BigInt(info & 0x7fff_ffff));
  if (!(info >>> 31)) return null;
  const type = (info >> 8) & 7;
  // Delivery ends interrupt shadows; that of an NMI blocks further ones.
  const blocking = vmx.read(F.GUEST_INTERRUPTIBILITY) & ~3n;
  vmx.write(F.GUEST_INTERRUPTIBILITY, type === 2 ? blocking | 8n : blocking);
  return {
    vector: info & 0xff,
    type,
    error: info & 0x800 ? Number(vmx.read(F.ENTRY_EXCEPTION_ERROR_CODE)) : null,
    length: type >= 4 ? Number(vmx.read(F.ENTRY_INSTRUCTION_LENGTH)) : 0,
  };
}

function recordExit(vmx: VmxState, exit: GuestExit): void {
  vmx.write(F.EXIT_REASON, BigInt(exit.reason));
  vmx.write(F.EXIT_QUALIFICATION, BigInt.asUintN(64, exit.qualification ?? 0n));
  vmx.write(F.EXIT_INSTRUCTION_LENGTH, BigInt(exit.length ?? 0));
  vmx.write(F.EXIT_INTERRUPTION_INFO, BigInt((exit.info ?? 0) >>> 0));
  vmx.write(F.EXIT_INTERRUPTION_ERROR_CODE, BigInt(exit.error ?? 0));
  vmx.write(F.EXIT_INSTRUCTION_INFO, BigInt((exit.instructionInfo ?? 0) >>> 0));
  vmx.write(F.GUEST_PHYSICAL_ADDRESS, exit.gpa ?? 0n);
  vmx.write(F.GUEST_LINEAR_ADDRESS, exit.gva ?? 0n);
  vmx.write(F.IDT_VECTORING_INFO, BigInt((exit.idtVectoring ?? 0) >>> 0));
  vmx.write(F.IDT_VECTORING_ERROR_CODE, BigInt(exit.idtError ?? 0));
}

/** Host state at the exit. With VPIDs translations of the host survive; without, they are dropped. */
function loadHost(cpu: Cpu, vmx: VmxState): void {
  cpu.cr0 = vmx.read(F.HOST_CR0);
  cpu.cr4 = vmx.read(F.HOST_CR4);
  cpu.cr3 = vmx.read(F.HOST_CR3);
  cpu.dr[7] = 0x400n;
  if (!(vmx.read(F.PROCESSOR_CONTROLS_2) & ENABLE_VPID)) cpu.tlb.flushTag(cpu.pagingMode.tag);
}

export interface EptLeaf {
  entry: bigint;
  log2: number;
}

/** The guest as its script sees it, between an entry and the next exit. */
export class Guest {
  constructor(
    readonly m: Machine,
    readonly cpu: Cpu,
    private readonly vmx: VmxState,
    /** Address of the Vcpu. */
    readonly vcpu: number,
    readonly injected: Injected | null,
  ) {}

  /** A VMCS field, whichever. */
  read(field: number): bigint {
    return this.vmx.read(field);
  }

  write(field: number, value: bigint): void {
    this.vmx.write(field, BigInt.asUintN(Number(widthOf(field)), value));
  }

  /** General register by encoding; RSP is in the VMCS. */
  get(register: number): bigint {
    return register === 4 ? this.read(F.GUEST_RSP) : this.m.view.getBigUint64(this.vcpu + 8 * register, true);
  }

  set(register: number, value: bigint): void {
    if (register === 4) this.write(F.GUEST_RSP, value);
    else this.m.view.setBigUint64(this.vcpu + 8 * register, BigInt.asUintN(64, value), true);
  }

  get rip(): bigint {
    return this.read(F.GUEST_RIP);
  }

  get rflags(): bigint {
    return this.read(F.GUEST_RFLAGS);
  }

  /** Whether protected mode pushes error codes. */
  get isProtected(): boolean {
    return (this.read(F.GUEST_CR0) & PE) !== 0n;
  }

  /**
   * A guest-physical access through the EPT, with whatever this CPU has cached. Returns the hpa, or the
   * EPT violation that it would cause.
   */
  access(gpa: bigint, kind: "read" | "write" | "fetch" = "read"): { hpa: bigint } | GuestExit {
    const need = { read: 1n, write: 2n, fetch: 4n }[kind];
    const leaf = this.leaf(gpa);
    if (leaf && leaf.entry & need) {
      const offset = (1n << BigInt(leaf.log2)) - 1n;
      return { hpa: (leaf.entry & 0xf_ffff_ffff_f000n & ~offset) | (gpa & offset) };
    }
    const rights = leaf ? (leaf.entry & 7n) << 3n : 0n;
    return { reason: 48, qualification: need | rights | 0x180n, gpa, gva: gpa };
  }

  private leaf(gpa: bigint): EptLeaf | null {
    const eptp = this.read(F.EPT_POINTER) & ~0xfffn;
    let cache = this.vmx.gpas.get(eptp);
    if (!cache) this.vmx.gpas.set(eptp, (cache = new Map()));
    const cached = cache.get(gpa >> 12n);
    if (cached) return cached;
    const leaf = walkEpt(this.m, eptp, gpa);
    if (leaf) cache.set(gpa >> 12n, leaf);
    return leaf;
  }

  /** Lets time pass until a physical interrupt arrives, and exits with it, acknowledged. */
  untilInterrupt(): GuestExit {
    for (let i = 0; i < 1_000_000; i++) {
      const vector = this.cpu.lapic.pending();
      if (vector >= 0) {
        this.cpu.lapic.acknowledge(vector);
        return { reason: 1, info: 0x8000_0000 | vector };
      }
      if (!this.m.clock.skip()) break;
    }
    throw new Error("the guest waits for an interrupt that never comes");
  }
}

/** The EPT's leaf for `gpa` as it stands in memory; checks reserved bits and memory types. */
export function walkEpt(m: Machine, root: bigint, gpa: bigint): EptLeaf | null {
  let table = root;
  for (let level = 4; level >= 1; level--) {
    const entry = m.ram.read64(Number(table + ((gpa >> BigInt(12 + 9 * (level - 1))) & 511n) * 8n));
    if (!(entry & 7n)) return null;
    if ((entry & 7n) === 2n || (entry & 7n) === 6n)
      throw new Error(`EPT misconfiguration: ${hex(entry)} is writable and not readable`);
    const leaf = level === 1 || (level <= 3 && (entry & 0x80n) !== 0n);
    const log2 = 12 + 9 * (level - 1);
    if (leaf) {
      if (entry & ((1n << BigInt(log2)) - 0x1000n) & 0xf_ffff_ffff_f000n)
        throw new Error(`EPT misconfiguration: ${hex(entry)} is unaligned`);
      if (![0n, 1n, 4n, 5n, 6n].includes((entry >> 3n) & 7n))
        throw new Error(`EPT misconfiguration: memory type of ${hex(entry)}`);
      return { entry, log2 };
    }
    if (entry & 0xf8n) throw new Error(`EPT misconfiguration: reserved bits of ${hex(entry)}`);
    table = entry & 0xf_ffff_ffff_f000n;
  }
  return null;
}
