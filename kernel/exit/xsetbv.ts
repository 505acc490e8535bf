// XSETBV. CPL and CR4.OSXSAVE were checked by the processor.
// Intel SDM Vol. 1, "Enabling the XSAVE Feature Set and XSAVE-Enabled Features".

import { Vcpu } from "../vcpu/vcpu";
import { advance, hostXcr0, readCpl, setXcr0 } from "../vendor";
import { updateXsaveLeaf } from "./cpuid";
import { raiseGp } from "./fault";

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const AVX512: u64 = 0xe0;

export function onXsetbv(vcpu: Vcpu): void {
  const value = (vcpu.rdx << 32) | (vcpu.rax & 0xffff_ffff);
  if (<u32>vcpu.rcx != 0 || readCpl() != 0 || !isValidXcr0(value, hostXcr0())) {
    raiseGp(vcpu);
    return;
  }
  setXcr0(vcpu, value);
  updateXsaveLeaf(vcpu);
  advance(vcpu);
}

/** x87 always; AVX needs SSE; AVX-512 comes whole and needs AVX; nothing that is not offered. */
export function isValidXcr0(value: u64, offered: u64): bool {
  if ((value & X87) == 0 || (value & ~offered) != 0) return false;
  if ((value & AVX) != 0 && (value & SSE) == 0) return false;
  const vector = value & AVX512;
  return vector == 0 || (vector == AVX512 && (value & AVX) != 0);
}
