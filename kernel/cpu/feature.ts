// What the processor has, as questions. CPUID is read once a CPU: the boot CPU's words are kept, and each
// further CPU's words are and-ed into them, so that `has` answers for all CPUs that are up.
// Intel SDM Vol. 2, "CPUID—CPU Identification".

import { cpuid } from "./insn";

/** Words of feature bits that are kept, by CPUID leaf, subleaf and register. */
const enum Word {
  L1_ECX = 0,
  L1_EDX = 1,
  L7_EBX = 2,
  L7_ECX = 3,
  L7_EDX = 4,
  EXT1_ECX = 5, // 80000001H
  EXT1_EDX = 6,
  LD1_EAX = 7, // 0DH, subleaf 1
  L6_EAX = 8,
  EXT7_EDX = 9, // 80000007H
  L7_2_EDX = 10, // 07H, subleaf 2
  L7_1_EAX = 11,
  COUNT = 12,
}

/** A feature bit: word * 32 + bit. Names as in the manual. */
export const enum Feature {
  SSE3 = 0,
  MONITOR = 3,
  VMX = 5,
  SMX = 6,
  PCID = 17,
  X2APIC = 21,
  POPCNT = 23,
  TSC_DEADLINE = 24,
  XSAVE = 26,
  OSXSAVE = 27,
  AVX = 28,
  RDRAND = 30,
  HYPERVISOR = 31,
  DE = 34,
  PSE = 35,
  TSC = 36,
  MSR = 37,
  PAE = 38,
  MCE = 39,
  CX8 = 40,
  APIC = 41,
  SEP = 43,
  MTRR = 44,
  PGE = 45,
  MCA = 46,
  PAT = 48,
  CLFSH = 51,
  FXSR = 56,
  SSE = 57,
  FSGSBASE = 64,
  TSC_ADJUST = 65,
  SMEP = 71,
  INVPCID = 74,
  RTM = 75,
  RDSEED = 82,
  SMAP = 84,
  CLFLUSHOPT = 87,
  UMIP = 98,
  PKU = 99,
  LA57 = 112,
  RDPID = 118,
  MD_CLEAR = 138,
  IBRS_IBPB = 154,
  STIBP = 155,
  L1D_FLUSH = 156,
  ARCH_CAPABILITIES = 157,
  SSBD = 159,
  SVM = 162,
  SYSCALL = 203,
  NX = 212,
  PDPE1GB = 218,
  RDTSCP = 219,
  LM = 221,
  XSAVEC = 225,
  XSAVES = 227,
  ARAT = 258,
  INVARIANT_TSC = 296,
  RRSBA_CTRL = 322,
  BHI_CTRL = 324,
  LASS = 358,
}

const words = memory.data(48, 4); // u32[Word.COUNT]; written at boot only
let vendorIntel: bool = false;
let maximumLeaf: u32 = 0;
let maximumExtendedLeaf: u32 = 0;
let signature: u32 = 0;
let physicalBits: u32 = 36;
let linearBits: u32 = 48;

/** Reads the boot CPU. `scratch`: 16 bytes. */
export function detectFeatures(scratch: usize): void {
  cpuid(0, 0, scratch);
  maximumLeaf = load<u32>(scratch);
  vendorIntel =
    load<u32>(scratch, 4) == 0x756e6547 && load<u32>(scratch, 12) == 0x49656e69 && load<u32>(scratch, 8) == 0x6c65746e;
  cpuid(0x8000_0000, 0, scratch);
  maximumExtendedLeaf = load<u32>(scratch);
  if (maximumExtendedLeaf < 0x8000_0000) maximumExtendedLeaf = 0;
  cpuid(1, 0, scratch);
  signature = load<u32>(scratch);
  if (maximumExtendedLeaf >= 0x8000_0008) {
    cpuid(0x8000_0008, 0, scratch);
    physicalBits = load<u8>(scratch);
    linearBits = load<u8>(scratch, 1);
  }
  for (let i: u32 = 0; i < <u32>Word.COUNT; i++) store<u32>(words + ((<usize>i) << 2), readWord(i, scratch));
}

/** Called on each further CPU, one at a time: keeps what it has too. Returns the words' bits that were lost. */
export function mergeFeatures(scratch: usize): u32 {
  let lost: u32 = 0;
  for (let i: u32 = 0; i < <u32>Word.COUNT; i++) {
    const here = readWord(i, scratch);
    const before = load<u32>(words + ((<usize>i) << 2));
    lost += popcnt<u32>(before & ~here & ~varying(i));
    store<u32>(words + ((<usize>i) << 2), before & (here | varying(i)));
  }
  return lost;
}

/** OSXSAVE mirrors CR4, which each CPU sets for itself. */
function varying(word: u32): u32 {
  return word == Word.L1_ECX ? 1 << 27 : 0;
}

function readWord(word: u32, scratch: usize): u32 {
  switch (word) {
    case Word.L1_ECX:
      return leaf(1, 0, 8, scratch);
    case Word.L1_EDX:
      return leaf(1, 0, 12, scratch);
    case Word.L7_EBX:
      return leaf(7, 0, 4, scratch);
    case Word.L7_ECX:
      return leaf(7, 0, 8, scratch);
    case Word.L7_EDX:
      return leaf(7, 0, 12, scratch);
    case Word.EXT1_ECX:
      return leaf(0x8000_0001, 0, 8, scratch);
    case Word.EXT1_EDX:
      return leaf(0x8000_0001, 0, 12, scratch);
    case Word.LD1_EAX:
      return leaf(0x0d, 1, 0, scratch);
    case Word.L6_EAX:
      return leaf(6, 0, 0, scratch);
    case Word.EXT7_EDX:
      return leaf(0x8000_0007, 0, 12, scratch);
    case Word.L7_2_EDX:
      return subleaf7(2, 12, scratch);
    default:
      return subleaf7(1, 0, scratch);
  }
}

/** One register of a leaf; 0 if the leaf does not exist (Intel processors answer with another leaf's data). */
function leaf(number: u32, sub: u32, register: usize, scratch: usize): u32 {
  const maximum = number >= 0x8000_0000 ? maximumExtendedLeaf : maximumLeaf;
  if (number > maximum) return 0;
  cpuid(number, sub, scratch);
  return load<u32>(scratch + register);
}

function subleaf7(sub: u32, register: usize, scratch: usize): u32 {
  return leaf(7, 0, 0, scratch) < sub ? 0 : leaf(7, sub, register, scratch);
}

export function has(feature: Feature): bool {
  const word = load<u32>(words + ((<usize>feature >> 5) << 2));
  return ((word >> (<u32>feature & 31)) & 1) != 0;
}

export function isIntel(): bool {
  return vendorIntel;
}

export function maxLeaf(): u32 {
  return maximumLeaf;
}

export function maxExtendedLeaf(): u32 {
  return maximumExtendedLeaf;
}

/** MAXPHYADDR: bits of a physical address. */
export function physBits(): u32 {
  return physicalBits;
}

export function virtBits(): u32 {
  return linearBits;
}

/** Family with its extension (display family). */
export function family(): u32 {
  const base = (signature >> 8) & 15;
  return base == 15 ? base + ((signature >> 20) & 0xff) : base;
}

/** Model with its extension (display model). */
export function model(): u32 {
  const base = (signature >> 8) & 15;
  const low = (signature >> 4) & 15;
  return base == 6 || base == 15 ? (((signature >> 16) & 15) << 4) | low : low;
}

export function stepping(): u32 {
  return signature & 15;
}
