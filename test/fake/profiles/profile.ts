// What one model of processor says of itself: CPUID leaves as the instruction returns them and the
// MSRs that describe it. Fields that depend on the running machine (APIC IDs, OSXSAVE, XSAVE sizes)
// are filled in by ../cpuid.ts.

export type Registers = [eax: number, ebx: number, ecx: number, edx: number];

export interface Profile {
  name: string;
  /** Key: leaf, or leaf.subleaf, in lower-case hexadecimal: "1", "d.1", "80000008". */
  cpuid: Record<string, Registers>;
  /** Key: MSR number in hexadecimal. Reads of MSRs that are neither here nor modelled raise #GP. */
  msrs: Record<string, bigint>;
  tscKhz: number;
  /** Where XSAVEC stores the first component behind the header; 576 by the manual. */
  compactedFrom?: number;
}

/** "Genu", "ineI", "ntel" as CPUID leaf 0 returns them. */
export const GENUINE_INTEL = { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e } as const;

export function withMsrs(base: Profile, name: string, msrs: Record<string, bigint>): Profile {
  return { ...base, name, msrs: { ...base.msrs, ...msrs } };
}

/** `base` with some registers of some leaves replaced. */
export function withCpuid(base: Profile, overrides: CpuidOverrides): Profile {
  const cpuid = { ...base.cpuid };
  for (const [key, change] of Object.entries(overrides)) {
    const name = /^\d+$/.test(key) ? Number(key).toString(16) : key;
    const old = cpuid[name] ?? [0, 0, 0, 0];
    cpuid[name] = [change.eax ?? old[0], change.ebx ?? old[1], change.ecx ?? old[2], change.edx ?? old[3]];
  }
  return { ...base, cpuid };
}

/** Key: a decimal leaf (an object literal's number), or "leaf.subleaf" in hexadecimal. */
export type CpuidOverrides = Record<string | number, Partial<Record<"eax" | "ebx" | "ecx" | "edx", number>>>;
