// The processor's own name. Intel SDM Vol. 2A, "The Processor Brand String Method".

import { isIntel, maxExtendedLeaf } from "./feature";
import { cpuid } from "./insn";
import * as log from "../lib/log";
import { scratch } from "./percpu";

const BRAND_FIRST: u32 = 0x8000_0002;
const BRAND_LAST: u32 = 0x8000_0004;
const BRAND_BYTES: usize = 48;

/** Adds the name to the log's line, without the blanks around it. */
export function logBrand(): void {
  if (maxExtendedLeaf() < BRAND_LAST) {
    log.str(isIntel() ? "Intel processor" : "processor");
    return;
  }
  const at = scratch();
  for (let leaf = BRAND_FIRST; leaf <= BRAND_LAST; leaf++) cpuid(leaf, 0, at + ((<usize>(leaf - BRAND_FIRST)) << 4));
  let from: usize = 0;
  while (from < BRAND_BYTES && load<u8>(at + from) == 0x20) from++;
  let to = from;
  while (to < BRAND_BYTES && load<u8>(at + to) != 0) to++;
  while (to > from && load<u8>(at + to - 1) == 0x20) to--;
  log.bytes(at + from, <u32>(to - from));
}
