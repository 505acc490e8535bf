// CPUID of one simulated CPU: the profile's leaves with the fields that follow the CPU's state.
// Intel SDM Vol. 2A, "CPUID-CPU Identification".

import type { Cpu } from "./cpu.ts";
import type { Registers } from "./profiles/profile.ts";

const CR4_OSXSAVE = 1n << 18n;

export function cpuidOf(cpu: Cpu, leaf: number, subleaf: number): Registers {
  const [eax, ebx, ecx, edx] = find(cpu, leaf, subleaf);
  switch (leaf) {
    case 1: {
      const osxsave = cpu.cr4 & CR4_OSXSAVE ? 1 << 27 : 0;
      const apic = cpu.lapic.enabled ? 0 : 1 << 9;
      return [eax, (ebx & 0x00ff_ffff) | ((cpu.apicId & 0xff) << 24), (ecx & ~(1 << 27)) | osxsave, edx & ~apic];
    }
    case 0xb:
    case 0x1f:
      return [eax, ebx, (ecx & ~0xff) | (subleaf & 0xff), eax || ebx || subleaf === 0 ? cpu.apicId : 0];
    case 0xd:
      return subleaf === 0 ? [eax, xsaveBytes(cpu, cpu.xcr0), ecx, edx] : [eax, ebx, ecx, edx];
    default:
      return [eax, ebx, ecx, edx];
  }
}

/** Bytes of an XSAVE area in standard form for the components of `mask`. */
export function xsaveBytes(cpu: Cpu, mask: bigint): number {
  let bytes = 576;
  for (let i = 2; i < 63; i++) {
    const component = cpu.profile.cpuid[`d.${i.toString(16)}`];
    if (component && mask & (1n << BigInt(i))) bytes = Math.max(bytes, component[0] + component[1]);
  }
  return bytes;
}

/** Beyond the highest basic leaf a processor answers as for that leaf. */
function find(cpu: Cpu, leaf: number, subleaf: number): Registers {
  const leaves = cpu.profile.cpuid;
  const highest = (leaves["0"] ?? [0])[0];
  const highestExtended = (leaves["80000000"] ?? [0])[0];
  const extended = leaf >= 0x8000_0000;
  const known = extended ? leaf <= highestExtended : leaf <= highest || (leaf >>> 28 === 4 && cpu.hasLeaf(leaf));
  const asked = known ? leaf : highest;
  const name = asked.toString(16);
  return leaves[`${name}.${subleaf.toString(16)}`] ?? leaves[name] ?? [0, 0, 0, 0];
}
