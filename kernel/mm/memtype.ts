// Memory types of host-physical ranges, from the MTRRs that firmware set up. EPT leaves and host mappings
// repeat them, and no mapping spans a change of type. Read once, on the boot CPU; firmware gives every CPU
// the same. Intel SDM Vol. 3, "Memory Type Range Registers (MTRRs)".

import { Feature, has, physBits } from "../cpu/feature";
import { rdmsr } from "../cpu/insn";
import { Msr } from "../cpu/msr";

export const enum MemoryType {
  UC = 0,
  WC = 1,
  WT = 4,
  WP = 5,
  WB = 6,
  /** Answer of uniformType: the range has more than one type. */
  MIXED = 0xff,
}

const MAX_RANGES: u32 = 32;
const FIXED_END: u64 = 0x10_0000;

const CAP_FIXED: u64 = 1 << 8;
const DEF_FIXED_ENABLE: u64 = 1 << 10;
const DEF_ENABLE: u64 = 1 << 11;
const MASK_VALID: u64 = 1 << 11;
const TYPE: u64 = 0xff;

// Written at boot only.
const bases = memory.data(256, 8); // u64[MAX_RANGES]: base in bits 12 and up, type in bits 7:0
const masks = memory.data(256, 8); // u64[MAX_RANGES]
const fixed = memory.data(88, 8); // u8[FIXED_RANGES]
let ranges: u32 = 0;
let fixedInForce: bool = false;
let defaultType: u32 = MemoryType.WB;

/** Reads the MTRRs. Without MTRRs all memory is taken as write-back, which is how such machines run. */
export function detectMemoryTypes(): void {
  if (!has(Feature.MTRR)) return;
  const def = rdmsr(Msr.IA32_MTRR_DEF_TYPE);
  if ((def & DEF_ENABLE) == 0) {
    defaultType = MemoryType.UC; // MTRRs off: everything is uncacheable
    return;
  }
  defaultType = <u32>(def & TYPE);
  const cap = rdmsr(Msr.IA32_MTRRCAP);
  fixedInForce = (cap & CAP_FIXED) != 0 && (def & DEF_FIXED_ENABLE) != 0;
  if (fixedInForce) readFixed();
  readVariable(<u32>(cap & 0xff));
}

function readVariable(count: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    const mask = rdmsr(Msr.IA32_MTRR_PHYSMASK0 + 2 * i);
    if ((mask & MASK_VALID) == 0 || ranges == MAX_RANGES) continue;
    const at = (<usize>ranges) << 3;
    store<u64>(bases + at, rdmsr(Msr.IA32_MTRR_PHYSBASE0 + 2 * i));
    store<u64>(masks + at, mask & addressBits());
    ranges++;
  }
}

function readFixed(): void {
  store<u64>(fixed, rdmsr(Msr.IA32_MTRR_FIX64K_00000));
  store<u64>(fixed + 8, rdmsr(Msr.IA32_MTRR_FIX16K_80000));
  store<u64>(fixed + 16, rdmsr(Msr.IA32_MTRR_FIX16K_A0000));
  for (let i: u32 = 0; i < 8; i++) store<u64>(fixed + 24 + ((<usize>i) << 3), rdmsr(Msr.IA32_MTRR_FIX4K_C0000 + i));
}

function addressBits(): u64 {
  return (((<u64>1) << physBits()) - 1) & ~(<u64>0xfff);
}

/** Type of the byte at `pa`. */
export function typeOf(pa: u64): u32 {
  if (fixedInForce && pa < FIXED_END) return fixedType(pa);
  let type: u32 = MemoryType.MIXED;
  for (let i: u32 = 0; i < ranges; i++) {
    const at = (<usize>i) << 3;
    const mask = load<u64>(masks + at);
    const base = load<u64>(bases + at);
    if ((pa & mask) == (base & mask)) type = combine(type, <u32>(base & TYPE));
  }
  return type == MemoryType.MIXED ? defaultType : type;
}

/** Overlapping ranges: UC wins, WT beats WB; what the manual leaves undefined is made UC. */
function combine(first: u32, second: u32): u32 {
  if (first == MemoryType.MIXED || first == second) return second;
  if (first == MemoryType.UC || second == MemoryType.UC) return MemoryType.UC;
  const through = first == MemoryType.WT || second == MemoryType.WT;
  const back = first == MemoryType.WB || second == MemoryType.WB;
  return through && back ? MemoryType.WT : MemoryType.UC;
}

function fixedType(pa: u64): u32 {
  let index: u64;
  if (pa < 0x8_0000) index = pa >> 16;
  else if (pa < 0xc_0000) index = 8 + ((pa - 0x8_0000) >> 14);
  else index = 24 + ((pa - 0xc_0000) >> 12);
  return <u32>load<u8>(fixed + <usize>index);
}

/** The one type of the naturally aligned range of 2^log2Bytes bytes at `pa`, or MIXED. log2Bytes: 12 or more. */
export function uniformType(pa: u64, log2Bytes: u32): u32 {
  if (log2Bytes == 12) return typeOf(pa); // no MTRR divides a page
  if (fixedInForce && pa < FIXED_END && log2Bytes > 12)
    return log2Bytes >= 20 ? MemoryType.MIXED : uniformFixed(pa, log2Bytes);
  const inside = ((<u64>1) << log2Bytes) - 1;
  for (let i: u32 = 0; i < ranges; i++) {
    const at = (<usize>i) << 3;
    const mask = load<u64>(masks + at);
    // Mask bits below the size cut the range: some of it is in, some is not.
    if ((mask & inside) != 0 && (pa & mask & ~inside) == (load<u64>(bases + at) & mask & ~inside))
      return MemoryType.MIXED;
  }
  return typeOf(pa);
}

function uniformFixed(pa: u64, log2Bytes: u32): u32 {
  const type = fixedType(pa);
  for (let at = pa; at < pa + ((<u64>1) << log2Bytes); at += 0x1000) if (fixedType(at) != type) return MemoryType.MIXED;
  return type;
}
