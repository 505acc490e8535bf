// Processors from Nehalem to Sapphire Rapids, and a vCPU of KVM with nested VMX: what differs from the
// generic one in the fields that Basalt looks at. Servers where there is a server part.
// Intel SDM Vol. 2, "CPUID"; Vol. 3, appendix "VMX Capability Reporting Facility"; Intel, "Affected Processors".

import { generic } from "./generic.ts";
import { type CpuidOverrides, type Profile, withCpuid, withMsrs } from "./profile.ts";

// CPUID.7.0:EDX
const MD_CLEAR = 1 << 10;
const IBRS_IBPB = 1 << 26;
const STIBP = 1 << 27;
const L1D_FLUSH = 1 << 28;
const ARCH_CAPABILITIES = 1 << 29;
const SSBD = 1 << 31;
const MICROCODE_2018 = IBRS_IBPB | STIBP | L1D_FLUSH | SSBD;
const MICROCODE_2019 = MICROCODE_2018 | MD_CLEAR;

// CPUID.7.0:EBX
const FSGSBASE = 1 << 0;
const TSC_ADJUST = 1 << 1;
const HLE_RTM = (1 << 4) | (1 << 11);
const SMEP = 1 << 7;
const INVPCID = 1 << 10;
const SMAP = 1 << 20;

// IA32_ARCH_CAPABILITIES
const RDCL_NO = 1n << 0n;
const IBRS_ALL = 1n << 1n;
const SKIP_L1DFL = 1n << 3n;
const MDS_NO = 1n << 5n;
const PSCHANGE_NO = 1n << 6n;
const TSX_CTRL = 1n << 7n;
const TAA_NO = 1n << 8n;
const SBDR_NO = 1n << 13n;
const FBSDP_NO = 1n << 14n;
const PSDP_NO = 1n << 15n;
const FB_CLEAR = 1n << 17n;
const RFDS_NO = 1n << 27n;
const RFDS_CLEAR = 1n << 28n;

interface Description {
  name: string;
  /** CPUID.1:EAX. */
  signature: number;
  /** CPUID.1:ECX. */
  ecx1: number;
  ebx7?: number;
  ecx7?: number;
  edx7?: number;
  /** CPUID.7.2:EDX. */
  edx72?: number;
  edxExtended?: number;
  physBits: number;
  maxLeaf: number;
  archCapabilities?: bigint;
  /** Allowed-1 settings of the secondary processor-based controls. */
  secondary: number;
  /** IA32_VMX_EPT_VPID_CAP. */
  ept: bigint;
}

const NX_RDTSCP_LM = 0x2810_0800;
const PAGE_1G = 1 << 26;
const EPT_NEHALEM = 0x0000_0f01_0611_4141n;
const EPT_1G = 0x0000_0f01_0613_4141n;
const EPT_AD = 0x0000_0f01_0633_4141n;
const EPT_5_LEVELS = 0x0000_0f01_0673_41c1n;

const SSE42 = 0x009c_e3bd; // SSE3 .. SSE4.2, VMX, POPCNT
const WESTMERE = SSE42 | 0x0202_0002; // AES, PCLMULQDQ, PCID
const SANDY_BRIDGE = (WESTMERE | 0x1720_0000) >>> 0; // x2APIC, TSC deadline, XSAVE, AVX
const IVY_BRIDGE = (SANDY_BRIDGE | 0x6000_0000) >>> 0; // F16C, RDRAND
const HASWELL = (IVY_BRIDGE | 0x0040_1000) >>> 0; // FMA, MOVBE

function make(d: Description): Profile {
  const leaves: CpuidOverrides = {
    0: { eax: d.maxLeaf },
    1: { eax: d.signature, ecx: d.ecx1 },
    "7.0": { eax: d.edx72 ? 2 : 0, ebx: d.ebx7 ?? 0, ecx: d.ecx7 ?? 0, edx: (d.edx7 ?? 0) >>> 0 },
    "7.2": { edx: d.edx72 ?? 0 },
    "80000001": { edx: d.edxExtended ?? NX_RDTSCP_LM | PAGE_1G },
    "80000008": { eax: 0x3000 | d.physBits },
  };
  const cpuid = withCpuid(
    generic,
    Object.fromEntries(Object.entries(leaves).map(([k, v]) => [/^8/.test(k) ? Number.parseInt(k, 16) : k, v])),
  );
  const named: Record<string, bigint> = { "48b": BigInt(d.secondary) << 32n, "48c": d.ept };
  if (d.archCapabilities !== undefined) named["10a"] = d.archCapabilities;
  return withMsrs(cpuid, d.name, named);
}

export const nehalem = make({
  name: "Nehalem",
  signature: 0x0001_06a5,
  ecx1: SSE42,
  physBits: 40,
  maxLeaf: 0xb,
  edxExtended: NX_RDTSCP_LM,
  secondary: 0x7f,
  ept: EPT_NEHALEM,
});
export const westmere = make({
  name: "Westmere",
  signature: 0x0002_06c2,
  ecx1: WESTMERE,
  physBits: 40,
  maxLeaf: 0xb,
  edx7: 0,
  secondary: 0xff,
  ept: EPT_1G,
});
export const sandyBridge = make({
  name: "Sandy Bridge",
  signature: 0x0002_06d7,
  ecx1: SANDY_BRIDGE,
  physBits: 46,
  maxLeaf: 0xd,
  edx7: MICROCODE_2019,
  secondary: 0x4ff,
  ept: EPT_1G,
});
export const ivyBridge = make({
  name: "Ivy Bridge",
  signature: 0x0003_06e4,
  ecx1: IVY_BRIDGE,
  physBits: 46,
  maxLeaf: 0xd,
  ebx7: FSGSBASE | SMEP,
  edx7: MICROCODE_2019,
  secondary: 0xfff,
  ept: EPT_1G,
});
export const haswell = make({
  name: "Haswell",
  signature: 0x0003_06f2,
  ecx1: HASWELL,
  physBits: 46,
  maxLeaf: 0xf,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID,
  edx7: MICROCODE_2019,
  secondary: 0x7fff,
  ept: EPT_AD,
});
export const broadwell = make({
  name: "Broadwell",
  signature: 0x0004_06f1,
  ecx1: HASWELL,
  physBits: 46,
  maxLeaf: 0x14,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP | HLE_RTM,
  edx7: MICROCODE_2019,
  secondary: 0x0007_7fff,
  ept: EPT_AD,
});
export const skylake = make({
  name: "Skylake",
  signature: 0x0005_0654,
  ecx1: HASWELL,
  physBits: 46,
  maxLeaf: 0x16,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP | HLE_RTM,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  archCapabilities: 0n,
  secondary: 0x0277_7fff,
  ept: EPT_AD,
});
export const cascadeLake = make({
  name: "Cascade Lake",
  signature: 0x0005_0657,
  ecx1: HASWELL,
  physBits: 46,
  maxLeaf: 0x16,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP | HLE_RTM,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  archCapabilities: RDCL_NO | IBRS_ALL | SKIP_L1DFL | MDS_NO | TSX_CTRL | FB_CLEAR,
  secondary: 0x0277_7fff,
  ept: EPT_AD,
});
export const iceLake = make({
  name: "Ice Lake",
  signature: 0x0006_06a6,
  ecx1: HASWELL,
  ecx7: 1 << 2,
  physBits: 46,
  maxLeaf: 0x1b,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  archCapabilities: RDCL_NO | IBRS_ALL | SKIP_L1DFL | MDS_NO | PSCHANGE_NO | TAA_NO | FB_CLEAR,
  secondary: 0x0377_7fff,
  ept: EPT_AD,
});
export const sapphireRapids = make({
  name: "Sapphire Rapids",
  signature: 0x0008_06f8,
  ecx1: HASWELL,
  ecx7: (1 << 2) | (1 << 16),
  physBits: 52,
  maxLeaf: 0x20,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  edx72: (1 << 2) | (1 << 4),
  archCapabilities:
    RDCL_NO | IBRS_ALL | SKIP_L1DFL | MDS_NO | PSCHANGE_NO | TAA_NO | SBDR_NO | FBSDP_NO | PSDP_NO | RFDS_NO,
  secondary: 0x1377_7fff,
  ept: EPT_5_LEVELS,
});
export const alderLake = make({
  name: "Alder Lake",
  signature: 0x0009_0672,
  ecx1: HASWELL,
  ecx7: 1 << 2,
  physBits: 46,
  maxLeaf: 0x20,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  edx72: (1 << 2) | (1 << 4),
  archCapabilities:
    RDCL_NO | IBRS_ALL | SKIP_L1DFL | MDS_NO | PSCHANGE_NO | TAA_NO | SBDR_NO | FBSDP_NO | PSDP_NO | RFDS_CLEAR,
  secondary: 0x1377_7fff,
  ept: EPT_AD,
});
/** A vCPU of KVM on a Cascade Lake, with nested VMX: no preemption-timer surprises, a hypervisor bit, fewer controls. */
export const kvmNested = make({
  name: "KVM nested",
  signature: 0x0005_0657,
  ecx1: (HASWELL | 0x8000_0000) >>> 0,
  physBits: 46,
  maxLeaf: 0x16,
  ebx7: FSGSBASE | TSC_ADJUST | SMEP | INVPCID | SMAP,
  edx7: MICROCODE_2019 | ARCH_CAPABILITIES,
  archCapabilities: RDCL_NO | IBRS_ALL | SKIP_L1DFL | MDS_NO | PSCHANGE_NO | TAA_NO,
  secondary: 0x0055_7cff,
  ept: 0x0000_0f01_0633_4141n,
});

/** Oldest first. */
export const processors: Profile[] = [
  nehalem,
  westmere,
  sandyBridge,
  ivyBridge,
  haswell,
  broadwell,
  skylake,
  cascadeLake,
  iceLake,
  sapphireRapids,
  alderLake,
  kvmNested,
];
