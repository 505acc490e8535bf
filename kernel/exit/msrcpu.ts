// MSRs that steer the processor itself: EFER, IA32_MISC_ENABLE, IA32_DEBUGCTL, speculation control.

import { rdmsr, wrmsr } from "../cpu/insn";
import { Msr } from "../cpu/msr";
import { Vcpu } from "../vcpu/vcpu";
import { Feature, has } from "../cpu/feature";
import {
  flushGuest,
  readCr0,
  readEfer,
  readGuestDebugctl,
  writeEfer,
  writeGuestDebugctl,
  setSpecCtrl,
} from "../vendor";
import { GuestFeature } from "./cpuidpolicy";

const SCE: u64 = 1 << 0;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const PG: u64 = 1 << 31;

/** EFER: LMA is the processor's; LME cannot change while paging is on. */
export function writeEferMsr(vcpu: Vcpu, value: u64): bool {
  const old = readEfer(vcpu);
  if ((value & ~(LMA | eferAllowed(vcpu))) != 0) return false;
  if (((old ^ value) & LME) != 0 && (readCr0() & PG) != 0) return false;
  writeEfer(vcpu, (value & ~LMA) | (old & LMA));
  if (((old ^ value) & NXE) != 0) flushGuest(vcpu);
  return true;
}

function eferAllowed(vcpu: Vcpu): u64 {
  let bits: u64 = 0;
  if ((vcpu.featureBits & GuestFeature.SYSCALL) != 0) bits |= SCE;
  if ((vcpu.featureBits & GuestFeature.LONG_MODE) != 0) bits |= LME | SCE;
  if ((vcpu.featureBits & GuestFeature.NX) != 0) bits |= NXE;
  return bits;
}

/** Fast strings; branch trace store and PEBS are unavailable, and stay so. */
export const MISC_ENABLE_RESET: u64 = 0x1801;
const MISC_FIXED: u64 = 0x1800;

/** Stored for the guest to read back; it steers nothing here. */
export function writeMiscEnable(vcpu: Vcpu, value: u64): bool {
  vcpu.miscEnable = value | MISC_FIXED;
  return true;
}

const LBR: u64 = 1;
const BTF: u64 = 2;

export function readDebugctl(): u64 {
  return readGuestDebugctl();
}

/** BTF works; LBR is accepted and records nothing (its MSRs read as zero). */
export function writeDebugctl(value: u64): bool {
  if ((value & ~(LBR | BTF)) != 0) return false;
  writeGuestDebugctl(value & BTF);
  return true;
}

const IBRS: u64 = 1;
const STIBP: u64 = 2;
const SSBD: u64 = 4;
const IBPB: u64 = 1;

export function writeSpecCtrl(vcpu: Vcpu, value: u64): bool {
  if ((value & ~(IBRS | STIBP | (has(Feature.SSBD) ? SSBD : 0))) != 0) return false;
  setSpecCtrl(vcpu, value);
  return true;
}

export function writePredCmd(value: u64): bool {
  if ((value & ~IBPB) != 0) return false;
  if ((value & IBPB) != 0) wrmsr(Msr.IA32_PRED_CMD, IBPB);
  return true;
}

/** What the host's processor says of its bugs, as far as it concerns software in a guest. */
const CAPABILITIES_SHOWN: u64 =
  (1 << 0) |
  (1 << 1) |
  (1 << 2) |
  (1 << 4) |
  (1 << 5) |
  (1 << 6) |
  (1 << 8) |
  (1 << 13) |
  (1 << 14) |
  (1 << 15) |
  (1 << 17) |
  (1 << 20) |
  (1 << 24) |
  (1 << 26) |
  (1 << 27) |
  (1 << 28);
/** SKIP_L1DFL_VMENTRY: nested guests are not ours. */
const SKIP_L1DFL: u64 = 1 << 3;

export function guestArchCapabilities(): u64 {
  return (rdmsr(Msr.IA32_ARCH_CAPABILITIES) & CAPABILITIES_SHOWN) | SKIP_L1DFL;
}
