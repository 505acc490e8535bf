// CPUID: a look-up in the vCPU's own table, which was computed from the host's CPUID and the policy when
// the vCPU was created. What changes later (OSXSAVE, APIC, XSAVE sizes) is changed in the table then, so
// that the exit itself computes nothing.

import { Vcpu } from "../vcpu/vcpu";
import { advance } from "../vendor";
import {
  BASIC_LEAVES,
  EXT_AT,
  EXT_BASE,
  EXT_LEAVES,
  HYPER_AT,
  HYPER_BASE,
  HYPER_LEAVES,
  KVM_AT,
  KVM_BASE,
  KVM_LEAVES,
  LEAF1_ECX_OSXSAVE,
  LEAF1_ECX_XSAVE,
  LEAF1_EDX_APIC,
  MAX_BASIC,
  PLAIN_ENTRIES,
  WITH_SUBLEAVES,
} from "./cpuidpolicy";
import { CR4_OSXSAVE } from "../cpu/registerbits";

/** An entry of a leaf with subleaves: key (leaf << 8 | subleaf), then the four registers. */
export const SUB_BYTES: usize = 20;
const SUB_AT: usize = (<usize>PLAIN_ENTRIES) << 4;
const X2APIC_ID_LEAF: u32 = 0xb;

export function onCpuid(vcpu: Vcpu): void {
  const leaf = <u32>vcpu.rax;
  const entry = isPlain(leaf) ? plainEntry(vcpu, leaf) : entryOf(vcpu, leaf, <u32>vcpu.rcx);
  vcpu.rax = load<u32>(entry);
  vcpu.rbx = load<u32>(entry, 4);
  vcpu.rcx = load<u32>(entry, 8);
  vcpu.rdx = load<u32>(entry, 12);
  advance(vcpu);
}

/** Address of EAX, EBX, ECX, EDX for the leaf. */
export function entryOf(vcpu: Vcpu, leaf: u32, subleaf: u32): usize {
  if (isPlain(leaf)) return plainEntry(vcpu, leaf);
  return leaf < BASIC_LEAVES ? subleafOf(vcpu, leaf, subleaf) : plainEntry(vcpu, rareIndex(leaf));
}

/** A basic leaf whose answer does not depend on ECX. */
function isPlain(leaf: u32): bool {
  return leaf < BASIC_LEAVES && ((WITH_SUBLEAVES >> leaf) & 1) == 0;
}

function plainEntry(vcpu: Vcpu, index: u32): usize {
  return vcpu.cpuidTable + ((<usize>index) << 4);
}

/** Extended and hypervisor leaves. Beyond them the processor answers with its highest basic leaf. */
function rareIndex(leaf: u32): u32 {
  if (leaf - EXT_BASE < EXT_LEAVES) return EXT_AT + (leaf - EXT_BASE);
  if (leaf - HYPER_BASE < HYPER_LEAVES) return HYPER_AT + (leaf - HYPER_BASE);
  if (leaf - KVM_BASE < KVM_LEAVES) return KVM_AT + (leaf - KVM_BASE);
  if (leaf - HYPER_BASE < 0x1_0000) return HYPER_AT + 1; // reserved for hypervisors: zeros
  return MAX_BASIC;
}

/** A subleaf that does not exist reads as zeros; of leaf 0BH, with its number and the x2APIC ID. */
function subleafOf(vcpu: Vcpu, leaf: u32, subleaf: u32): usize {
  const found = findSubleaf(vcpu, leaf, subleaf);
  if (found) return found;
  const blank = vcpu.scratch;
  memory.fill(blank, 0, 16);
  if (leaf != X2APIC_ID_LEAF) return blank;
  store<u32>(blank, subleaf & 0xff, 8);
  store<u32>(blank, vcpu.apicId, 12);
  return blank;
}

export function findSubleaf(vcpu: Vcpu, leaf: u32, subleaf: u32): usize {
  if (subleaf > 0xff) return 0;
  const key = (leaf << 8) | subleaf;
  let at = vcpu.cpuidTable + SUB_AT;
  for (let i = vcpu.cpuidSubleaves; i != 0; i--) {
    if (load<u32>(at) == key) return at + 4;
    at += SUB_BYTES;
  }
  return 0;
}

/** CR4 changed: OSXSAVE shows in leaf 1. */
export function updateCr4Leaves(vcpu: Vcpu, cr4: u64): void {
  const at = vcpu.cpuidTable + 16 + 8;
  const on = (cr4 & CR4_OSXSAVE) != 0 && (load<u32>(at) & LEAF1_ECX_XSAVE) != 0;
  store<u32>(at, on ? load<u32>(at) | LEAF1_ECX_OSXSAVE : load<u32>(at) & ~LEAF1_ECX_OSXSAVE);
}

/** IA32_APIC_BASE changed: EN shows in leaf 1. */
export function updateApicLeaf(vcpu: Vcpu, enabled: bool): void {
  const at = vcpu.cpuidTable + 16 + 12;
  store<u32>(at, enabled ? load<u32>(at) | LEAF1_EDX_APIC : load<u32>(at) & ~LEAF1_EDX_APIC);
}

/** XCR0 changed: leaf 0DH tells the size of what is enabled, standard and compacted. */
export function updateXsaveLeaf(vcpu: Vcpu): void {
  const main = findSubleaf(vcpu, 0xd, 0);
  const compact = findSubleaf(vcpu, 0xd, 1);
  if (!main || !compact) return;
  store<u32>(main, standardSize(vcpu, vcpu.xcr0), 4);
  store<u32>(compact, compactSize(vcpu, vcpu.xcr0), 4);
}

const LEGACY_AND_HEADER: u32 = 576;

/** Bytes of a standard-format area for the components. */
export function standardSize(vcpu: Vcpu, components: u64): u32 {
  let bytes = LEGACY_AND_HEADER;
  for (let i: u32 = 2; i < 10; i++) {
    const at = ((components >> <u64>i) & 1) != 0 ? findSubleaf(vcpu, 0xd, i) : 0;
    if (at) bytes = max(bytes, load<u32>(at) + load<u32>(at, 4));
  }
  return bytes;
}

/** Bytes of a compacted area: components in order, those marked so on 64-byte boundaries. */
function compactSize(vcpu: Vcpu, components: u64): u32 {
  let bytes = LEGACY_AND_HEADER;
  for (let i: u32 = 2; i < 10; i++) {
    const at = ((components >> <u64>i) & 1) != 0 ? findSubleaf(vcpu, 0xd, i) : 0;
    if (!at) continue;
    if ((load<u32>(at, 8) & 2) != 0) bytes = (bytes + 63) & ~63;
    bytes += load<u32>(at);
  }
  return bytes;
}
