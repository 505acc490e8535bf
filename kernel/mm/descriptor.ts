// Each CPU's descriptor tables: a GDT with the selectors of kernel/config.ts and the 64-bit TSS whose
// interrupt stack table leads NMI, #MC, #DF and #PF to stacks of their own. Both lie in one TABLE frame,
// so that stray stores of the core cannot reach them; the IDT is the image's, read-only.
// Intel SDM Vol. 3, "Segment Descriptor Tables" and "64-Bit Task-State Segment (TSS)".
//
//   +000 GDT: null, code, data, TSS (two entries)      +080 TSS, 104 bytes

import {
  CODE_SELECTOR,
  DATA_SELECTOR,
  IST1_TOP,
  IST2_TOP,
  IST3_TOP,
  IST4_TOP,
  STACK_SLOT_BYTES,
  STACKS_BASE,
  TABLE_WINDOW,
  TSS_SELECTOR,
} from "../config";
import { loadDescriptors } from "../cpu/insn";
import { writeEntry, writeWord, zeroFrame } from "./phys";

const TSS: u64 = 0x80;
const TSS_BYTES: u64 = 104;
const TSS_IST1: u64 = 36;
const TSS_IO_MAP: u64 = 100; // the map's offset is in bits 31:16

// Accessed bits are set, so that the processor need not write the table.
const CODE64: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS_AVAILABLE: u64 = 0x0000_8900_0000_0000;
const GDT_LIMIT: u32 = TSS_SELECTOR + 16 - 1;

/** Fills the zeroable TABLE frame at `frame` for CPU `index` and loads it. On that CPU. */
export function useDescriptors(frame: u64, index: u32): void {
  zeroFrame(frame);
  writeTss(frame + TSS, STACKS_BASE + <u64>index * STACK_SLOT_BYTES);
  writeGdt(frame, tssAddress(frame));
  loadDescriptors(gdtAddress(frame), GDT_LIMIT, 0, 0, TSS_SELECTOR);
}

/** Host-virtual address of the GDT in `frame`; its limit is that of the last TSS entry. */
export function gdtAddress(frame: u64): u64 {
  return TABLE_WINDOW + frame;
}

export function tssAddress(frame: u64): u64 {
  return TABLE_WINDOW + frame + TSS;
}

function writeGdt(frame: u64, tss: u64): void {
  writeEntry(frame + CODE_SELECTOR, CODE64);
  writeEntry(frame + DATA_SELECTOR, DATA);
  const low = (TSS_BYTES - 1) | ((tss & 0xff_ffff) << 16) | TSS_AVAILABLE | (((tss >> 24) & 0xff) << 56);
  writeEntry(frame + TSS_SELECTOR, low);
  writeEntry(frame + TSS_SELECTOR + 8, tss >> 32);
}

function writeTss(tss: u64, stacks: u64): void {
  writeStack(tss + TSS_IST1, stacks + IST1_TOP);
  writeStack(tss + TSS_IST1 + 8, stacks + IST2_TOP);
  writeStack(tss + TSS_IST1 + 16, stacks + IST3_TOP);
  writeStack(tss + TSS_IST1 + 24, stacks + IST4_TOP);
  writeWord(tss + TSS_IO_MAP, (<u32>TSS_BYTES) << 16); // beyond the limit: no map
}

/** The fields of a TSS are aligned to 4 bytes only. */
function writeStack(at: u64, va: u64): void {
  writeWord(at, <u32>va);
  writeWord(at + 4, <u32>(va >> 32));
}
