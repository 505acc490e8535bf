// The checks of VM entry, from the manual and independent of kernel/vmx/audit.ts: each returns what is
// wrong, or "". Intel SDM Vol. 3, chapter "VM Entries".

import type { Cpu } from "./cpu.ts";

type Read = (field: number) => bigint;
type Rule = [what: string, ok: (r: Read, cpu: Cpu) => boolean];

const bit = (value: bigint, n: number) => ((value >> BigInt(n)) & 1n) === 1n;
const canonical = (va: bigint) => BigInt.asUintN(64, BigInt.asIntN(48, va)) === va;

function first(cpu: Cpu, rules: Rule[]): string {
  const read: Read = (field) => cpu.vmx.read(field);
  return rules.find(([, ok]) => !ok(read, cpu))?.[0] ?? "";
}

/** Control word against its capability: low half must be 1, high half may be 1. */
function allowed(cpu: Cpu, msr: string, trueMsr: string, value: bigint): boolean {
  const has = bit(cpu.profile.msrs["480"] ?? 0n, 55);
  const pair = cpu.profile.msrs[has ? trueMsr : msr] ?? 0n;
  const must = pair & 0xffff_ffffn;
  return (value & must) === must && (value & ~(pair >> 32n)) === 0n;
}

const secondary = (r: Read) => (bit(r(0x4002), 31) ? r(0x401e) : 0n);
const isPage = (cpu: Cpu, pa: bigint) => !(pa & 0xfffn) && !(pa >> BigInt(cpu.physBits));
const implies = (a: boolean, b: boolean) => !a || b;

// biome-ignore format: a table
const CONTROLS: Rule[] = [
  ["PIN_CONTROLS: not allowed", (r, c) => allowed(c, "481", "48d", r(0x4000))],
  ["PROCESSOR_CONTROLS: not allowed", (r, c) => allowed(c, "482", "48e", r(0x4002))],
  ["PROCESSOR_CONTROLS_2: not allowed", (r, c) => !bit(r(0x4002), 31) || allowed(c, "48b", "48b", r(0x401e))],
  ["EXIT_CONTROLS: not allowed", (r, c) => allowed(c, "483", "48f", r(0x400c))],
  ["ENTRY_CONTROLS: not allowed", (r, c) => allowed(c, "484", "490", r(0x4012))],
  ["IO_BITMAP", (r, c) => !bit(r(0x4002), 25) || (isPage(c, r(0x2000)) && isPage(c, r(0x2002)))],
  ["MSR_BITMAP", (r, c) => !bit(r(0x4002), 28) || isPage(c, r(0x2004))],
  ["VIRTUAL_APIC_ADDRESS", (r, c) => !bit(r(0x4002), 21) || isPage(c, r(0x2012))],
  ["TPR_THRESHOLD: bits 31:4", (r) => !bit(r(0x4002), 21) || bit(secondary(r), 9) || r(0x401c) < 16n],
  ["TPR_THRESHOLD above VTPR", (r, c) => !bit(r(0x4002), 21) || bit(secondary(r), 9) || bit(secondary(r), 0)
    || (r(0x401c) & 15n) <= BigInt((c.machine.view.getUint8(c.vmx.virtualApic + 0x80) >>> 4) & 15)],
  ["virtual NMIs without NMI exiting", (r) => implies(bit(r(0x4000), 5), bit(r(0x4000), 3))],
  ["NMI window without virtual NMIs", (r) => implies(bit(r(0x4002), 22), bit(r(0x4000), 5))],
  ["CR3_TARGET_COUNT", (r, c) => r(0x400a) <= ((c.profile.msrs["485"] ?? 0n) >> 16n & 0x1ffn)],
  ["APIC_ACCESS_ADDRESS", (r, c) => !bit(secondary(r), 0) || isPage(c, r(0x2014))],
  ["APIC virtualisation without TPR shadow", (r) => implies((secondary(r) & 0x310n) !== 0n, bit(r(0x4002), 21))],
  ["x2APIC and APIC accesses both virtualised", (r) => !(bit(secondary(r), 4) && bit(secondary(r), 0))],
  ["virtual-interrupt delivery without external-interrupt exiting", (r) => implies(bit(secondary(r), 9), bit(r(0x4000), 0))],
  ["VPID 0", (r) => !bit(secondary(r), 5) || r(0) !== 0n],
  ["EPT_POINTER", (r, c) => !bit(secondary(r), 1) || goodEptp(c, r(0x201a))],
  ["unrestricted guest without EPT", (r) => implies(bit(secondary(r), 7), bit(secondary(r), 1))],
  ["preemption timer saved but not active", (r) => implies(bit(r(0x400c), 22), bit(r(0x4000), 6))],
  ["MSR lists", (r, c) => [[0x400e, 0x2006], [0x4010, 0x2008], [0x4014, 0x200a]].every(([count, at]) =>
    !r(count) || (!(r(at) & 15n) && !((r(at) + 16n * r(count) - 1n) >> BigInt(c.physBits))))],
  ["ENTRY_CONTROLS: SMM", (r) => !(r(0x4012) & 0xc00n)],
  ["event injection", (r, c) => goodInjection(r, c)],
];

function goodEptp(cpu: Cpu, eptp: bigint): boolean {
  const caps = cpu.profile.msrs["48c"] ?? 0n;
  const type = eptp & 7n;
  if (!((type === 6n && bit(caps, 14)) || (type === 0n && bit(caps, 8)))) return false;
  if (((eptp >> 3n) & 7n) !== 3n || (bit(eptp, 6) && !bit(caps, 21))) return false;
  return !(eptp & 0xf80n) && !(eptp >> BigInt(cpu.physBits));
}

const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17, 21];

function goodInjection(r: Read, cpu: Cpu): boolean {
  const info = Number(r(0x4016));
  if (!(info >>> 31)) return true;
  const type = (info >> 8) & 7;
  const vector = info & 0xff;
  const unrestricted = bit(secondary(r), 7);
  const real = unrestricted && !bit(r(0x6800), 0);
  if (type === 1 || (info & 0x7fff_f000) !== 0) return false;
  if ((type === 2 && vector !== 2) || (type === 3 && vector > 31)) return false;
  if (type === 7 && (vector !== 0 || !bit(cpu.profile.msrs["482"] ?? 0n, 32 + 27))) return false;
  const pushes = type === 3 && WITH_ERROR.includes(vector) && !real;
  if (((info & 0x800) !== 0) !== pushes) return false;
  if (pushes && r(0x4018) >> 16n) return false;
  const length = Number(r(0x401a));
  if (type >= 4 && type <= 6) return length <= 15 && (length > 0 || bit(cpu.profile.msrs["485"] ?? 0n, 30));
  return true;
}

// biome-ignore format: a table
const HOST: Rule[] = [
  ["HOST_CR0", (r, c) => fixed(c, "486", "487", r(0x6c00))],
  ["HOST_CR4", (r, c) => fixed(c, "488", "489", r(0x6c04)) && bit(r(0x6c04), 5)],
  ["HOST_CR3", (r, c) => !(r(0x6c02) >> BigInt(c.physBits))],
  ["HOST selectors: RPL or TI", (r) => [0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a, 0xc0c].every((f) => !(r(f) & 7n))],
  ["HOST_CS_SELECTOR", (r) => r(0xc02) !== 0n],
  ["HOST_TR_SELECTOR", (r) => r(0xc0c) !== 0n],
  ["HOST bases", (r) => [0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x6c16].every((f) => canonical(r(f)))],
  ["HOST_RIP", (r) => r(0x6c16) !== 0n],
  ["HOST address-space size", (r) => bit(r(0x400c), 9)],
  ["HOST_EFER", (r) => !bit(r(0x400c), 21) || (bit(r(0x2c02), 10) && bit(r(0x2c02), 8) && !(r(0x2c02) & ~0xd01n))],
  ["HOST_PAT", (r) => !bit(r(0x400c), 19) || goodPat(r(0x2c00))],
];

function fixed(cpu: Cpu, zero: string, one: string, value: bigint): boolean {
  const must = cpu.profile.msrs[zero] ?? 0n;
  return (value & must) === must && (value & ~(cpu.profile.msrs[one] ?? 0n)) === 0n;
}

function goodPat(pat: bigint): boolean {
  for (let i = 0n; i < 64n; i += 8n) if (![0n, 1n, 4n, 5n, 6n, 7n].includes((pat >> i) & 0xffn)) return false;
  return true;
}

const long = (r: Read) => bit(r(0x4012), 9);
const unrestricted = (r: Read) => bit(secondary(r), 7);

// biome-ignore format: a table
const GUEST: Rule[] = [
  ["GUEST_CR0: fixed bits", (r, c) => {
    const free = unrestricted(r) ? 0x8000_0001n : 0n;
    const must = (c.profile.msrs["486"] ?? 0n) & ~free;
    return (r(0x6800) & must) === must && (r(0x6800) & ~(c.profile.msrs["487"] ?? 0n)) === 0n;
  }],
  ["GUEST_CR0: PG without PE", (r) => implies(bit(r(0x6800), 31), bit(r(0x6800), 0))],
  ["GUEST_CR4: fixed bits", (r, c) => fixed(c, "488", "489", r(0x6804))],
  ["IA-32e mode without PG and PAE", (r) => implies(long(r), bit(r(0x6800), 31) && bit(r(0x6804), 5))],
  ["PCIDE outside IA-32e mode", (r) => implies(!long(r), !bit(r(0x6804), 17))],
  ["GUEST_CR3", (r, c) => !(r(0x6802) >> BigInt(c.physBits))],
  ["GUEST_DR7", (r) => !bit(r(0x4012), 2) || !(r(0x681a) >> 32n)],
  ["GUEST_DEBUGCTL", (r) => !bit(r(0x4012), 2) || !(r(0x2802) & ~0xdfc3n)],
  ["GUEST_SYSENTER", (r) => canonical(r(0x6824)) && canonical(r(0x6826))],
  ["GUEST_PAT", (r) => !bit(r(0x4012), 14) || goodPat(r(0x2804))],
  ["GUEST_EFER: reserved", (r) => !bit(r(0x4012), 15) || !(r(0x2806) & ~0xd01n)],
  ["GUEST_EFER: LMA", (r) => !bit(r(0x4012), 15) || bit(r(0x2806), 10) === long(r)],
  ["GUEST_EFER: LMA and LME", (r) => !bit(r(0x4012), 15) || !bit(r(0x6800), 31) || bit(r(0x2806), 10) === bit(r(0x2806), 8)],
  ["segments", (r) => segments(r) === ""],
  ["descriptor tables", (r) => canonical(r(0x6816)) && canonical(r(0x6818)) && !(r(0x4810) >> 16n) && !(r(0x4812) >> 16n)],
  ["GUEST_RIP", (r) => long(r) && bit(r(0x4816), 13) ? canonical(r(0x681e)) : !(r(0x681e) >> 32n)],
  ["GUEST_RFLAGS", (r) => !(r(0x6820) & ~0x3f_7fd7n) && bit(r(0x6820), 1)],
  ["GUEST_RFLAGS: VM", (r) => implies(bit(r(0x6820), 17), !long(r) && bit(r(0x6800), 0))],
  ["interrupt injected with IF = 0", (r) => implies((r(0x4016) & 0x8000_0700n) === 0x8000_0000n, bit(r(0x6820), 9))],
  ["GUEST_ACTIVITY", (r) => r(0x4826) <= 3n],
  ["GUEST_ACTIVITY: supported", (r, c) => !r(0x4826) || bit(c.profile.msrs["485"] ?? 0n, 5 + Number(r(0x4826)))],
  ["GUEST_ACTIVITY: HLT with DPL", (r) => r(0x4826) !== 1n || !(r(0x4818) & 0x60n)],
  ["GUEST_ACTIVITY: shadow", (r) => implies(r(0x4826) !== 0n, !(r(0x4824) & 3n))],
  ["GUEST_ACTIVITY: event", (r) => !bit(r(0x4016), 31) || eventFits(Number(r(0x4826)), Number(r(0x4016)))],
  ["GUEST_INTERRUPTIBILITY: reserved", (r) => !(r(0x4824) & ~0x1fn)],
  ["GUEST_INTERRUPTIBILITY: SMI outside SMM", (r) => !bit(r(0x4824), 2)],
  ["GUEST_INTERRUPTIBILITY: enclave", (r, c) => !bit(r(0x4824), 4) || (!bit(r(0x4824), 1) && hasLeaf7(c, 2))],
  ["GUEST_INTERRUPTIBILITY: STI and MOV SS", (r) => (r(0x4824) & 3n) !== 3n],
  ["STI blocking with IF = 0", (r) => implies(bit(r(0x4824), 0), bit(r(0x6820), 9))],
  ["interrupt injected into a shadow", (r) => implies((r(0x4016) & 0x8000_0700n) === 0x8000_0000n, !(r(0x4824) & 3n))],
  ["NMI injected while blocked", (r) => implies((r(0x4016) & 0x8000_0700n) === 0x8000_0200n, !(r(0x4824) & 0xbn))],
  ["GUEST_PENDING_DEBUG: reserved", (r) => !(r(0x6822) & 0xffff_ffff_fffe_aff0n)],
  ["GUEST_PENDING_DEBUG: BS", (r) => {
    if (!(r(0x4824) & 3n) && r(0x4826) !== 1n) return true;
    return bit(r(0x6822), 14) === (bit(r(0x6820), 8) && !bit(r(0x2802), 1));
  }],
  ["GUEST_PENDING_DEBUG: RTM", (r, c) => !bit(r(0x6822), 16)
    || (r(0x6822) === 0x1_1000n && !bit(r(0x4824), 1) && hasLeaf7(c, 11))],
  ["VMCS_LINK_POINTER", (r) => r(0x2800) === 0xffff_ffff_ffff_ffffn],
  ["PDPTEs", (r, c) => !pae(r) || [0x280a, 0x280c, 0x280e, 0x2810].every((f) => !bit(r(f), 0) || !(r(f) & (0x1e6n | ~((1n << BigInt(c.physBits)) - 1n))))],
];

const hasLeaf7 = (cpu: Cpu, feature: number) => (((cpu.profile.cpuid["7.0"]?.[1] ?? 0) >> feature) & 1) === 1;

/** Events that may be injected in an activity state: what would bring a processor out of it. */
function eventFits(activity: number, info: number): boolean {
  const event = `${(info >> 8) & 7}:${info & 0xff}`;
  if (activity === 0) return true;
  if (activity === 1) return /^(0:.*|2:2|3:1|3:18|7:0)$/.test(event);
  return activity === 2 && /^(2:2|3:18)$/.test(event);
}

const pae = (r: Read) => bit(r(0x6800), 31) && bit(r(0x6804), 5) && !long(r);

const NAMES = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];

/** Segment registers: the name of the first that is not acceptable. */
export function segments(r: Read): string {
  const v86 = bit(r(0x6820), 17);
  const index = [0, 1, 2, 3, 4, 5, 6, 7].find((i) => !(v86 && i < 6 ? goodVirtual(r, i) : goodSegment(r, i)));
  return index === undefined ? "" : NAMES[index];
}

const selector = (r: Read, i: number) => Number(r(0x800 + 2 * i));
const base = (r: Read, i: number) => r(0x6806 + 2 * i);
const limit = (r: Read, i: number) => Number(r(0x4800 + 2 * i));
const access = (r: Read, i: number) => Number(r(0x4814 + 2 * i));

function goodVirtual(r: Read, i: number): boolean {
  return base(r, i) === BigInt(selector(r, i)) << 4n && limit(r, i) === 0xffff && access(r, i) === 0xf3;
}

function goodSegment(r: Read, i: number): boolean {
  const a = access(r, i);
  const unusable = (a & 0x1_0000) !== 0;
  if (i === 6)
    return (
      unusable ||
      (!(selector(r, i) & 4) && (a & 0x9f) === 0x82 && !(a & 0xfffe_0f00) && goodLimit(r, i) && canonical(base(r, i)))
    );
  if (i === 7) return goodTr(r, a);
  if ((i === 4 || i === 5) && !canonical(base(r, i))) return false;
  if (i === 1) return goodCode(r, a);
  if (i === 2 && !goodStackLevel(r, a)) return false;
  if (unusable) return true;
  if ((a & 0x90) !== 0x90 || (a & 0xfffe_0f00) !== 0 || !goodLimit(r, i)) return false;
  if (i < 4 && base(r, i) >> 32n) return false;
  const type = a & 15;
  const dpl = (a >> 5) & 3;
  if (i === 2) return type === 3 || type === 7;
  if (!(type & 1) || ((type & 8) !== 0 && !(type & 2))) return false;
  return unrestricted(r) || type > 11 || dpl >= (selector(r, i) & 3);
}

/** Rules on SS that hold whether it is usable or not. */
function goodStackLevel(r: Read, a: number): boolean {
  const dpl = (a >> 5) & 3;
  if (!unrestricted(r) && (dpl !== (selector(r, 2) & 3) || dpl !== (selector(r, 1) & 3))) return false;
  return dpl === 0 || ((access(r, 1) & 15) !== 3 && bit(r(0x6800), 0));
}

function goodLimit(r: Read, i: number): boolean {
  const g = (access(r, i) & 0x8000) !== 0;
  const l = limit(r, i) >>> 0;
  return g ? (l & 0xfff) === 0xfff : l < 0x10_0000;
}

function goodCode(r: Read, a: number): boolean {
  const type = a & 15;
  const dpl = (a >> 5) & 3;
  const stack = (access(r, 2) >> 5) & 3;
  if (a & 0x1_0000 || (a & 0x90) !== 0x90 || (a & 0xfffe_0f00) !== 0 || base(r, 1) >> 32n || !goodLimit(r, 1))
    return false;
  if (long(r) && a & 0x2000 && a & 0x4000) return false;
  if (type === 3) return unrestricted(r) && dpl === 0;
  if (type === 9 || type === 11) return dpl === stack;
  return (type === 13 || type === 15) && dpl <= stack;
}

function goodTr(r: Read, a: number): boolean {
  const type = a & 15;
  if (type !== 11 && (long(r) || type !== 3)) return false;
  return (
    (a & 0x1_0000) === 0 &&
    (a & 0x90) === 0x80 &&
    !(a & 0xfffe_0f00) &&
    goodLimit(r, 7) &&
    !(selector(r, 7) & 4) &&
    canonical(base(r, 7))
  );
}

export const checkControls = (cpu: Cpu) => first(cpu, CONTROLS);
export const checkHost = (cpu: Cpu) => first(cpu, HOST);
export const checkGuest = (cpu: Cpu) => first(cpu, GUEST);
