// The choice of mitigations on each processor, against what Intel's guidance says of it.

import { expect, test } from "vitest";
import { machine } from "../../fake/machine.ts";
import { generic } from "../../fake/profiles/generic.ts";
import {
  alderLake,
  broadwell,
  cascadeLake,
  haswell,
  iceLake,
  ivyBridge,
  kvmNested,
  nehalem,
  sandyBridge,
  sapphireRapids,
  skylake,
  westmere,
} from "../../fake/profiles/processors.ts";
import { type Profile, withCpuid, withMsrs } from "../../fake/profiles/profile.ts";

const BITS = {
  CLEAR_REGISTERS: 0x001,
  FLUSH_L1D: 0x002,
  VERW: 0x004,
  FILL_RSB: 0x008,
  CLEAR_BHB: 0x010,
  BHI_DIS_S: 0x020,
  IBRS_ALWAYS: 0x040,
  IBRS_ON_EXIT: 0x080,
  IBPB: 0x100,
  SPLIT_EXECUTABLE: 0x200,
  SPEC_CTRL_GUEST: 0x400,
  FILL_RSB_16: 0x800,
  GUARD_RSB: 0x1000,
};
type Name = keyof typeof BITS;

async function chosen(profile: Profile, mode = 0): Promise<Name[]> {
  const m = await machine({ entries: ["kernel/cpu/mitigation.ts", "kernel/cpu/feature.ts"], profile });
  m.kernel.detectFeatures(0x30000);
  m.kernel.chooseMitigations(mode);
  const bits = m.kernel.mitigations() as number;
  return (Object.keys(BITS) as Name[]).filter((name) => bits & BITS[name]);
}

const ALWAYS: Name[] = ["CLEAR_REGISTERS"];
const PREDICTOR: Name[] = ["IBPB", "SPEC_CTRL_GUEST"];
const TABLE: [Profile, Name[]][] = [
  // No microcode interface at all: what needs no MSR
  [nehalem, [...ALWAYS, "FILL_RSB_16", "SPLIT_EXECUTABLE"]],
  [westmere, [...ALWAYS, "FILL_RSB_16", "SPLIT_EXECUTABLE"]],
  // Meltdown-era parts with microcode: everything
  [sandyBridge, [...ALWAYS, "FLUSH_L1D", "VERW", "FILL_RSB_16", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  [ivyBridge, [...ALWAYS, "FLUSH_L1D", "VERW", "FILL_RSB_16", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  [haswell, [...ALWAYS, "FLUSH_L1D", "VERW", "FILL_RSB_16", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  [broadwell, [...ALWAYS, "FLUSH_L1D", "VERW", "FILL_RSB_16", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  [skylake, [...ALWAYS, "FLUSH_L1D", "VERW", "FILL_RSB_16", "IBRS_ON_EXIT", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  // Not L1TF nor MDS, but TAA and MMIO stale data; enhanced IBRS, and BHI without a control for it
  [cascadeLake, [...ALWAYS, "VERW", "GUARD_RSB", "CLEAR_BHB", "IBRS_ALWAYS", "SPLIT_EXECUTABLE", ...PREDICTOR]],
  [iceLake, [...ALWAYS, "VERW", "GUARD_RSB", "CLEAR_BHB", "IBRS_ALWAYS", ...PREDICTOR]],
  [sapphireRapids, [...ALWAYS, "GUARD_RSB", "BHI_DIS_S", "IBRS_ALWAYS", ...PREDICTOR]],
  [alderLake, [...ALWAYS, "VERW", "GUARD_RSB", "BHI_DIS_S", "IBRS_ALWAYS", ...PREDICTOR]],
  [kvmNested, [...ALWAYS, "GUARD_RSB", "CLEAR_BHB", "IBRS_ALWAYS", ...PREDICTOR]],
];

for (const [profile, expected] of TABLE) {
  test(`${profile.name} gets what it needs and nothing else`, async () => {
    expect((await chosen(profile)).sort()).toEqual([...expected].sort());
  });
}

test("mitigations=off chooses none", async () => {
  for (const profile of [skylake, sapphireRapids]) expect(await chosen(profile, 1)).toEqual([]);
});

test("the L1D flush needs the command MSR, VERW the microcode that makes it clear buffers", async () => {
  const old = withCpuid(haswell, { "7.0": { edx: 1 << 26 } });
  const names = await chosen(old);
  expect(names).not.toContain("FLUSH_L1D");
  expect(names).not.toContain("VERW");
});

test("IA32_ARCH_CAPABILITIES takes a mitigation away, one bit at a time", async () => {
  const caps = (bits: bigint) => withMsrs(skylake, "Skylake with capabilities", { "10a": bits });
  expect(await chosen(caps(1n << 0n))).not.toContain("FLUSH_L1D"); // RDCL_NO
  expect(await chosen(caps(1n << 3n))).not.toContain("FLUSH_L1D"); // SKIP_L1DFL_VMENTRY
  expect(await chosen(caps(1n << 6n))).not.toContain("SPLIT_EXECUTABLE"); // IF_PSCHANGE_MC_NO
  expect(await chosen(caps(1n << 1n))).toContain("IBRS_ALWAYS"); // IBRS_ALL
  expect(await chosen(caps((1n << 1n) | (1n << 24n)))).not.toContain("GUARD_RSB"); // PBRSB_NO
  expect(await chosen(caps((1n << 1n) | (1n << 20n)))).not.toContain("CLEAR_BHB"); // BHI_NO
});

test("the return stack buffer is filled as far as it is known to reach", async () => {
  const rsb = async (profile: Profile) => (await chosen(profile)).filter((name) => name.includes("RSB"));
  expect(await rsb(skylake)).toEqual(["FILL_RSB_16"]);
  expect(await rsb(withCpuid(skylake, { 1: { eax: 0x000f_06f0 } }))).toEqual(["FILL_RSB"]); // a model of the future
  expect(await rsb(withMsrs(skylake, "with enhanced IBRS", { "10a": 1n << 1n }))).toEqual(["GUARD_RSB"]);
  expect(await rsb(withMsrs(skylake, "without the flaw", { "10a": (1n << 1n) | (1n << 24n) }))).toEqual([]);
});

test("another vendor's processor gets none of Intel's", async () => {
  expect(await chosen(withCpuid(generic, { 0: { ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 } }))).toEqual([]);
});

test("mitigations=software adds what needs no MSR, on any processor", async () => {
  const software = ["CLEAR_REGISTERS", "VERW", "FILL_RSB", "CLEAR_BHB"];
  for (const profile of [generic, nehalem, skylake]) {
    const names = await chosen(profile, 2);
    for (const name of software) expect(names).toContain(name);
    for (const name of await chosen(profile)) expect(names).toContain(name);
  }
});

test("an Intel processor of a family that the table does not know gets what its own MSRs ask for", async () => {
  const names = await chosen(withCpuid(sapphireRapids, { 1: { eax: 0x0040_0f01 } })); // family 19
  expect(names).toContain("IBRS_ALWAYS");
  expect(names).toContain("BHI_DIS_S");
});
