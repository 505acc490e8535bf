// Which CPUID bits a guest sees: the host's, and-ed with this table, and a few that are ours. A leaf that
// has no row reads as zero. What is masked is either not virtualised (VMX, MONITOR, PMU, PT, SGX, CET,
// protection keys, AMX, XSAVES, TSX) or the host's own business (thermal, power, microcode).
// Intel SDM Vol. 2, "CPUID—CPU Identification".

/** Rows of leaf, subleaf, then masks for EAX, EBX, ECX, EDX. */
export const ROW_BYTES: usize = 24;
// biome-ignore format: a table
export const POLICY: usize = memory.data<u32>([
  0x0000_0000, 0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, // vendor
  0x0000_0001, 0, 0x0fff_3fff, 0x0000_ff00, 0x76da_3203, 0x1f8b_fbff, // family, features
  0x0000_0002, 0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, // caches and TLBs by descriptor
  0x0000_0004, 0, 0x0000_03ff, 0xffff_ffff, 0xffff_ffff, 0x0000_0007, // caches by subleaf
  0x0000_0004, 1, 0x0000_03ff, 0xffff_ffff, 0xffff_ffff, 0x0000_0007,
  0x0000_0004, 2, 0x0000_03ff, 0xffff_ffff, 0xffff_ffff, 0x0000_0007,
  0x0000_0004, 3, 0x0000_03ff, 0xffff_ffff, 0xffff_ffff, 0x0000_0007,
  0x0000_0006, 0, 0x0000_0004, 0, 0, 0, // ARAT
  0x0000_0007, 0, 0, 0xf1bf_27e9, 0x1a40_5f46, 0xac00_0510, // structured extended features
  0x0000_000d, 0, 0x0000_00e7, 0, 0, 0, // XSAVE: sizes are computed
  0x0000_000d, 1, 0x0000_0007, 0, 0, 0, // XSAVEOPT, XSAVEC, XGETBV1
  0x0000_000d, 2, 0xffff_ffff, 0xffff_ffff, 0x0000_0002, 0,
  0x0000_000d, 5, 0xffff_ffff, 0xffff_ffff, 0x0000_0002, 0,
  0x0000_000d, 6, 0xffff_ffff, 0xffff_ffff, 0x0000_0002, 0,
  0x0000_000d, 7, 0xffff_ffff, 0xffff_ffff, 0x0000_0002, 0,
  0x8000_0001, 0, 0, 0, 0x0000_0121, 0x2c10_0800, // LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1 GiB pages, RDTSCP, LM
  0x8000_0002, 0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, // brand string
  0x8000_0003, 0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff,
  0x8000_0004, 0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff,
  0x8000_0006, 0, 0, 0, 0xffff_ffff, 0, // L2
  0x8000_0007, 0, 0, 0, 0, 0x0000_0100, // invariant TSC
  0x8000_0008, 0, 0x0000_ffff, 0, 0, 0, // address widths
]);
export const POLICY_ROWS: u32 = 22;

// Leaf 1 ECX, in the mask above: SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX
// F16C RDRAND; forced: x2APIC (21), TSC_DEADLINE (24), HYPERVISOR (31). EDX: all but DS, ACPI, TM, PBE, IA-64.
// Leaf 7 EBX: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA and AVX-512; forced:
// TSC_ADJUST (1). ECX: AVX512_VBMI UMIP VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ RDPID CLDEMOTE MOVDIRI
// MOVDIR64B. EDX: FSRM, MD_CLEAR, IBRS_IBPB, STIBP, ARCH_CAPABILITIES, SSBD, AVX512_VP2INTERSECT.

export const LEAF1_ECX_FORCED: u32 = (1 << 21) | (1 << 24) | (1 << 31);
export const LEAF1_ECX_OSXSAVE: u32 = 1 << 27;
export const LEAF1_ECX_XSAVE: u32 = 1 << 26;
export const LEAF1_ECX_NEEDS_XSAVE: u32 = (1 << 28) | (1 << 12) | (1 << 29); // AVX, FMA, F16C
export const LEAF1_ECX_PCID: u32 = 1 << 17;
export const LEAF1_EDX_APIC: u32 = 1 << 9;
export const LEAF1_EDX_HTT: u32 = 1 << 28;
export const LEAF7_EBX_TSC_ADJUST: u32 = 1 << 1;
export const LEAF7_EBX_INVPCID: u32 = 1 << 10;
export const LEAF7_ECX_RDPID: u32 = 1 << 22;
export const LEAF7_EDX_SPEC: u32 = (1 << 26) | (1 << 27) | (1 << 29) | (1 << 31);
export const LEAFD1_EAX_XSAVEC: u32 = 1 << 1;
export const EXT1_EDX_RDTSCP: u32 = 1 << 27;

// Ranges of leaves, and where their entries of 16 bytes stand in a vCPU's table.
export const BASIC_LEAVES: u32 = 32; // 0 .. 1FH
export const MAX_BASIC: u32 = 0x16;
export const HYPER_BASE: u32 = 0x4000_0000;
export const HYPER_LEAVES: u32 = 17; // .. 40000010H
export const KVM_BASE: u32 = 0x4000_0100;
export const KVM_LEAVES: u32 = 2;
export const EXT_BASE: u32 = 0x8000_0000;
export const EXT_LEAVES: u32 = 9; // .. 80000008H
export const HYPER_AT: u32 = 32;
export const KVM_AT: u32 = 49;
export const EXT_AT: u32 = 51;
export const PLAIN_ENTRIES: u32 = 60;
/** Leaves whose answer depends on ECX. */
export const WITH_SUBLEAVES: u32 = (1 << 4) | (1 << 7) | (1 << 0xb) | (1 << 0xd);

/** What MSR and CR4 policy depend on: Vcpu.featureBits. */
export const enum GuestFeature {
  SPEC_CTRL = 1,
  ARCH_CAPABILITIES = 2,
  RDTSCP = 4,
  NX = 8,
  LONG_MODE = 16,
  SYSCALL = 32,
}
