// A guest's memory-type range registers and PAT. Its memory is the host's RAM, write-back whatever they
// say (no device of the machine's is passed to a guest), so they are checked and stored.
// Intel SDM Vol. 3, "Memory Type Range Registers (MTRRs)".

import { physBits } from "../cpu/feature";
import { Vcpu } from "../vcpu/vcpu";
import { writeGuestPat } from "../vendor";
import { FIXED_MTRRS } from "./msrpolicy";

const VARIABLE_FIRST: u32 = 0x200;
const VALID: u64 = 1 << 11;
const DEF_TYPE_BITS: u64 = 0xc0f; // E, FE, type
const DEF_TYPE_WRITABLE: u64 = 0xcff;

/** Valid types: UC 0, WC 1, WT 4, WP 5, WB 6; PAT has UC- 7 too. */
const MTRR_TYPES: u32 = 0x73;
const PAT_TYPES: u32 = 0xf3;

function validType(type: u64, types: u32): bool {
  return type < 8 && ((types >> <u32>type) & 1) != 0;
}

function slot(vcpu: Vcpu, index: u32): usize {
  return vcpu.mtrrs + ((<usize>index) << 3);
}

/** 250H, 258H, 259H, 268H..26FH are 0, 1, 2, 3..10. */
function fixedIndex(msr: u32): u32 {
  return msr == 0x250 ? 0 : msr < 0x260 ? msr - 0x257 : msr - 0x265;
}

export function readFixed(vcpu: Vcpu, msr: u32): u64 {
  return load<u64>(slot(vcpu, fixedIndex(msr)));
}

/** Eight types in eight bytes. */
export function writeFixed(vcpu: Vcpu, msr: u32, value: u64): bool {
  if (!allTypesValid(value, MTRR_TYPES)) return false;
  store<u64>(slot(vcpu, fixedIndex(msr)), value);
  return true;
}

function allTypesValid(value: u64, types: u32): bool {
  for (let shift: u64 = 0; shift < 64; shift += 8) {
    if (!validType((value >> shift) & 0xff, types)) return false;
  }
  return true;
}

export function readVariable(vcpu: Vcpu, msr: u32): u64 {
  return load<u64>(slot(vcpu, FIXED_MTRRS + msr - VARIABLE_FIRST));
}

export function writeVariable(vcpu: Vcpu, msr: u32, value: u64): bool {
  const address = (((<u64>1) << physBits()) - 1) & ~(<u64>0xfff);
  if ((msr & 1) == 0) {
    if ((value & ~(address | 0xff)) != 0 || !validType(value & 0xff, MTRR_TYPES)) return false;
  } else if ((value & ~(address | VALID)) != 0) return false;
  store<u64>(slot(vcpu, FIXED_MTRRS + msr - VARIABLE_FIRST), value);
  return true;
}

export function writeDefType(vcpu: Vcpu, value: u64): bool {
  if ((value & ~DEF_TYPE_WRITABLE) != 0 || !validType(value & 0xff, MTRR_TYPES)) return false;
  vcpu.mtrrDefType = value & DEF_TYPE_BITS;
  return true;
}

export function writePat(value: u64): bool {
  if (!allTypesValid(value, PAT_TYPES)) return false;
  writeGuestPat(value);
  return true;
}
