// What to write to the PM1 control registers for power-off: the package \_S5_ in the DSDT. This is a
// bounded search for its encoding, not an AML interpreter.
// ACPI Specification, "\_Sx (System States)" and "AML Byte Stream Byte Values".

import { deviceload32, deviceload8 } from "../../kernel/cpu/insn";
import * as platform from "../platform";
import { HEADER_BYTES } from "./table";

const NAME_S5: u32 = 0x5f35_535f; // "_S5_"
const NAME_OP: u32 = 0x08;
const ROOT_CHAR: u32 = 0x5c;
const PACKAGE_OP: u32 = 0x12;
const ZERO_OP: u32 = 0x00;
const ONE_OP: u32 = 0x01;
const BYTE_PREFIX: u32 = 0x0a;
const NONE: u32 = 0xffff_ffff;

/** SLP_TYPa in bits 2:0 and SLP_TYPb in bits 10:8; NONE_FOUND if the DSDT has no such package. */
export const NONE_FOUND: u32 = NONE;

export function sleepTypes(): u32 {
  const p = platform.platform();
  if (p.dsdt == 0 || p.dsdtBytes < HEADER_BYTES + 12) return NONE;
  const end = p.dsdt + p.dsdtBytes;
  for (let pa = p.dsdt + HEADER_BYTES + 1; pa + 8 < end; pa++) {
    if (deviceload32(pa) != NAME_S5) continue;
    const before = deviceload8(pa - 1);
    if (before != NAME_OP && !(before == ROOT_CHAR && deviceload8(pa - 2) == NAME_OP)) continue;
    const types = readPackage(pa + 4, end);
    if (types != NONE) return types;
  }
  return NONE;
}

/** PackageOp, PkgLength, NumElements, then integers: the first two count. */
function readPackage(at: u64, end: u64): u32 {
  if (deviceload8(at) != PACKAGE_OP) return NONE;
  const lengthBytes: u64 = 1 + (deviceload8(at + 1) >> 6);
  const elements = at + 1 + lengthBytes;
  if (elements + 5 > end || deviceload8(elements) < 2) return NONE;
  const first = integerAt(elements + 1);
  if (first == NONE) return NONE;
  const second = integerAt(elements + 1 + (first >> 8));
  if (second == NONE) return NONE;
  return (first & 7) | ((second & 7) << 8);
}

/** An integer's low byte, with its encoded length in bits 15:8; NONE if it is none. */
function integerAt(at: u64): u32 {
  const op = deviceload8(at);
  if (op == ZERO_OP || op == ONE_OP) return op | 0x100;
  if (op == BYTE_PREFIX) return deviceload8(at + 1) | 0x200;
  return NONE;
}
