// Machine-check banks of a guest: registers that hold what is written, and never an error.
// Intel SDM Vol. 3, "Machine-Check MSRs".

import { Vcpu } from "../vcpu/vcpu";

const FIRST: u32 = 0x400;
const CTL: u32 = 0;
const STATUS: u32 = 1;

export function readMcBank(vcpu: Vcpu, msr: u32): u64 {
  return load<u64>(vcpu.mcBanks + ((<usize>(msr - FIRST)) << 3));
}

/** CTL takes all zeros or all ones; STATUS only zero; ADDR and MISC anything. */
export function writeMcBank(vcpu: Vcpu, msr: u32, value: u64): bool {
  const register = (msr - FIRST) & 3;
  if (register == CTL && value != 0 && value != u64.MAX_VALUE) return false;
  if (register == STATUS && value != 0) return false;
  store<u64>(vcpu.mcBanks + ((<usize>(msr - FIRST)) << 3), value);
  return true;
}
