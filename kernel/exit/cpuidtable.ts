// Computes a vCPU's CPUID table from the host's CPUID, the policy and the VM's shape, once, when the vCPU
// is created.

import { tscKhz } from "../cpu/tsc";
import { cpuid } from "../cpu/insn";
import { maxExtendedLeaf, maxLeaf } from "../cpu/feature";
import { Mitigation, mitigations } from "../cpu/mitigation";
import { Status } from "../lib/status";
import { arenaAlloc } from "../vcpu/vm";
import { Vcpu } from "../vcpu/vcpu";
import { hasInvpcid, hasRdtscp, hasXsavec, hostXcr0 } from "../vendor";
import { KVM_FEATURES } from "../vdev/kvmclock";
import { findSubleaf, standardSize, SUB_BYTES, updateXsaveLeaf } from "./cpuid";
import {
  BASIC_LEAVES,
  EXT1_EDX_RDTSCP,
  EXT_AT,
  EXT_BASE,
  GuestFeature,
  HYPER_AT,
  HYPER_BASE,
  HYPER_LEAVES,
  KVM_AT,
  KVM_BASE,
  LEAF1_ECX_FORCED,
  LEAF1_ECX_NEEDS_XSAVE,
  LEAF1_ECX_PCID,
  LEAF1_ECX_XSAVE,
  LEAF1_EDX_HTT,
  LEAF7_EBX_INVPCID,
  LEAF7_EBX_TSC_ADJUST,
  LEAF7_ECX_RDPID,
  LEAF7_EDX_SPEC,
  LEAFD1_EAX_XSAVEC,
  MAX_BASIC,
  PLAIN_ENTRIES,
  POLICY,
  POLICY_ROWS,
  ROW_BYTES,
  WITH_SUBLEAVES,
} from "./cpuidpolicy";

const MAX_SUBLEAVES: u32 = 16;
const TABLE_BYTES: usize = ((<usize>PLAIN_ENTRIES) << 4) + <usize>MAX_SUBLEAVES * SUB_BYTES;

// "BasaltBasalt" and "KVMKVMKVM" as EBX, ECX, EDX.
const BASALT_B: u32 = 0x6173_6142;
const BASALT_C: u32 = 0x6142_746c;
const BASALT_D: u32 = 0x746c_6173;
const KVM_B: u32 = 0x4b4d_564b;
const KVM_C: u32 = 0x564b_4d56;
const KVM_D: u32 = 0x0000_004d;

/** Allocates (the first time) and fills the table. vCPU index, APIC ID and the VM's vCPU count are set. NO_MEMORY. */
export function buildCpuid(vcpu: Vcpu): Status {
  if (!vcpu.cpuidTable) vcpu.cpuidTable = arenaAlloc(vcpu.vm, TABLE_BYTES, 16);
  if (!vcpu.cpuidTable) return Status.NO_MEMORY;
  memory.fill(vcpu.cpuidTable, 0, TABLE_BYTES);
  vcpu.cpuidSubleaves = 0;
  for (let i: u32 = 0; i < POLICY_ROWS; i++) applyRow(vcpu, POLICY + <usize>i * ROW_BYTES);
  adjustIdentity(vcpu);
  adjustStructured(vcpu);
  adjustExtended(vcpu);
  adjustXsave(vcpu);
  addTopology(vcpu);
  addTime(vcpu);
  addHypervisor(vcpu);
  fillBeyond(vcpu);
  vcpu.featureBits = featuresOf(vcpu);
  return Status.OK;
}

/** host & mask, where the host has the leaf. */
function applyRow(vcpu: Vcpu, row: usize): void {
  const leaf = load<u32>(row);
  const subleaf = load<u32>(row, 4);
  if (leaf > (leaf >= EXT_BASE ? maxExtendedLeaf() : maxLeaf())) return;
  const at = place(vcpu, leaf, subleaf);
  if (!at) return;
  cpuid(leaf, subleaf, at);
  for (let i: usize = 0; i < 16; i += 4) store<u32>(at + i, load<u32>(at + i) & load<u32>(row + 8 + i));
}

/** Where the leaf's registers stand; a subleaf gets a new entry. */
function place(vcpu: Vcpu, leaf: u32, subleaf: u32): usize {
  if (leaf >= EXT_BASE) return vcpu.cpuidTable + ((<usize>(EXT_AT + leaf - EXT_BASE)) << 4);
  if (((WITH_SUBLEAVES >> leaf) & 1) == 0) return plain(vcpu, leaf);
  if (vcpu.cpuidSubleaves == MAX_SUBLEAVES) return 0;
  const at = vcpu.cpuidTable + (PLAIN_ENTRIES << 4) + <usize>vcpu.cpuidSubleaves * SUB_BYTES;
  vcpu.cpuidSubleaves += 1;
  store<u32>(at, (leaf << 8) | subleaf);
  return at + 4;
}

function plain(vcpu: Vcpu, index: u32): usize {
  return vcpu.cpuidTable + ((<usize>index) << 4);
}

function set(at: usize, eax: u32, ebx: u32, ecx: u32, edx: u32): void {
  store<u32>(at, eax);
  store<u32>(at, ebx, 4);
  store<u32>(at, ecx, 8);
  store<u32>(at, edx, 12);
}

/** Bits `mask` of a register on or off. */
function setBits(at: usize, mask: u32, on: bool): void {
  store<u32>(at, on ? load<u32>(at) | mask : load<u32>(at) & ~mask);
}

function adjustIdentity(vcpu: Vcpu): void {
  store<u32>(plain(vcpu, 0), MAX_BASIC);
  const one = plain(vcpu, 1);
  const count = vcpu.vm.vcpuCount;
  store<u32>(one, (load<u32>(one, 4) & 0xff00) | (powerOfTwo(count) << 16) | (vcpu.apicId << 24), 4);
  setBits(one + 12, LEAF1_EDX_HTT, count > 1);
  setBits(one + 8, LEAF1_ECX_FORCED, true);
  if (!hostXcr0()) setBits(one + 8, LEAF1_ECX_XSAVE | LEAF1_ECX_NEEDS_XSAVE, false);
  if (!hasInvpcid()) setBits(one + 8, LEAF1_ECX_PCID, false);
}

function adjustStructured(vcpu: Vcpu): void {
  let seven = findSubleaf(vcpu, 7, 0);
  if (!seven) seven = place(vcpu, 7, 0);
  if (!seven) return;
  setBits(seven + 4, LEAF7_EBX_TSC_ADJUST, true);
  if (!hasInvpcid()) setBits(seven + 4, LEAF7_EBX_INVPCID, false);
  if (!hasRdtscp()) setBits(seven + 8, LEAF7_ECX_RDPID, false);
  if ((mitigations() & Mitigation.SPEC_CTRL_GUEST) == 0) setBits(seven + 12, LEAF7_EDX_SPEC & ~(1 << 29), false);
}

function adjustExtended(vcpu: Vcpu): void {
  store<u32>(plain(vcpu, EXT_AT), EXT_BASE + 8);
  if (!hasRdtscp()) setBits(plain(vcpu, EXT_AT + 1) + 12, EXT1_EDX_RDTSCP, false);
}

/** Leaf 0DH: the components on offer and their sizes; subleaves of others are not there. */
function adjustXsave(vcpu: Vcpu): void {
  const main = findSubleaf(vcpu, 0xd, 0);
  if (!main) return;
  const offered = hostXcr0();
  set(main, <u32>offered, 0, standardSize(vcpu, offered), <u32>(offered >> 32));
  for (let i: u32 = 2; i < 8; i++) {
    const at = findSubleaf(vcpu, 0xd, i);
    if (at && ((offered >> <u64>i) & 1) == 0) set(at, 0, 0, 0, 0);
  }
  const more = findSubleaf(vcpu, 0xd, 1);
  if (more && !hasXsavec()) setBits(more, LEAFD1_EAX_XSAVEC, false);
  updateXsaveLeaf(vcpu);
}

/** One thread a core, all vCPUs in one package; caches below level 3 are a core's own. */
function addTopology(vcpu: Vcpu): void {
  const count = vcpu.vm.vcpuCount;
  const width = log2Ceiling(count);
  for (let i: u32 = 0; i < 4; i++) {
    const cache = findSubleaf(vcpu, 4, i);
    if (!cache || (load<u32>(cache) & 0x1f) == 0) continue;
    const shared = ((load<u32>(cache) >> 5) & 7) >= 3 ? (1 << width) - 1 : 0;
    store<u32>(cache, load<u32>(cache) | (shared << 14) | (((1 << width) - 1) << 26));
  }
  set(place(vcpu, 0xb, 0), 0, 1, 0x100, vcpu.apicId);
  set(place(vcpu, 0xb, 1), width, count, 0x201, vcpu.apicId);
}

/** Leaf 15H: a crystal at the TSC's own rate, where its frequency fits; the APIC timer counts with it. Leaf 16H: MHz. */
function addTime(vcpu: Vcpu): void {
  const khz = tscKhz();
  const hz = khz * 1000;
  if (hz <= 0xffff_ffff) set(plain(vcpu, 0x15), 1, 1, <u32>hz, 0);
  const mhz = <u32>(khz / 1000);
  set(plain(vcpu, 0x16), mhz & 0xffff, mhz & 0xffff, 0, 0);
}

function addHypervisor(vcpu: Vcpu): void {
  const khz = <u32>tscKhz();
  set(plain(vcpu, HYPER_AT), HYPER_BASE + HYPER_LEAVES - 1, BASALT_B, BASALT_C, BASALT_D);
  set(plain(vcpu, HYPER_AT + 0x10), khz, khz, 0, 0);
  set(plain(vcpu, KVM_AT), KVM_BASE + 1, KVM_B, KVM_C, KVM_D);
  set(plain(vcpu, KVM_AT + 1), KVM_FEATURES, 0, 0, 0);
}

/** Basic leaves above the highest repeat it. */
function fillBeyond(vcpu: Vcpu): void {
  for (let i = MAX_BASIC + 1; i < BASIC_LEAVES; i++) memory.copy(plain(vcpu, i), plain(vcpu, MAX_BASIC), 16);
}

function featuresOf(vcpu: Vcpu): u32 {
  let bits: u32 = 0;
  const seven = findSubleaf(vcpu, 7, 0);
  const edx = seven ? load<u32>(seven, 12) : 0;
  const extended = load<u32>(plain(vcpu, EXT_AT + 1), 12);
  if ((edx & (1 << 26)) != 0) bits |= GuestFeature.SPEC_CTRL;
  if ((edx & (1 << 29)) != 0) bits |= GuestFeature.ARCH_CAPABILITIES;
  if ((extended & EXT1_EDX_RDTSCP) != 0) bits |= GuestFeature.RDTSCP;
  if ((extended & (1 << 20)) != 0) bits |= GuestFeature.NX;
  if ((extended & (1 << 29)) != 0) bits |= GuestFeature.LONG_MODE;
  if ((extended & (1 << 11)) != 0) bits |= GuestFeature.SYSCALL;
  return bits;
}

/** CR4 bits that the vCPU may set: those of the features it sees. */
export function cr4Allowed(vcpu: Vcpu): u64 {
  const one = plain(vcpu, 1);
  const seven = findSubleaf(vcpu, 7, 0);
  const ecx = load<u32>(one, 8);
  const ebx7 = seven ? load<u32>(seven, 4) : 0;
  const ecx7 = seven ? load<u32>(seven, 8) : 0;
  // VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT
  let bits: u64 = 0x7ff;
  if ((ecx7 & (1 << 2)) != 0) bits |= 1 << 11; // UMIP
  if ((ebx7 & 1) != 0) bits |= 1 << 16; // FSGSBASE
  if ((ecx & LEAF1_ECX_PCID) != 0) bits |= 1 << 17; // PCIDE
  if ((ecx & LEAF1_ECX_XSAVE) != 0) bits |= 1 << 18; // OSXSAVE
  if ((ebx7 & (1 << 7)) != 0) bits |= 1 << 20; // SMEP
  if ((ebx7 & (1 << 20)) != 0) bits |= 1 << 21; // SMAP
  return bits;
}

/** The smallest n with 2^n >= count. */
function log2Ceiling(count: u32): u32 {
  return count <= 1 ? 0 : 32 - <u32>clz(count - 1);
}

function powerOfTwo(count: u32): u32 {
  return 1 << log2Ceiling(count);
}
