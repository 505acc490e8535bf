/**
 * The calling convention inside a module. Arguments and results travel in registers as far as those
 * reach, then in the caller's outgoing area, results after arguments. An i32 that crosses a call has
 * bits 63..32 clear. A function that is on no call cycle may change any register, and its callers
 * know which ones; one on a cycle preserves PRESERVED.
 */

import type { Signature } from "../ir.ts";
import {
  ALLOCATABLE,
  R8,
  R9,
  R10,
  R11,
  R12,
  R13,
  R14,
  R15,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  type Reg,
  type RegSet,
  RSI,
  setOf,
} from "./registers.ts";

/** The first six and RAX are System V's, so that entries from NASM and C need no shuffling. */
export const ARGUMENT_REGISTERS: Reg[] = [RDI, RSI, RDX, RCX, R8, R9, R10, R11];
export const RESULT_REGISTERS: Reg[] = [RAX, RDX, RCX, RSI, RDI, R8];
export const PRESERVED: RegSet = setOf(RBX, RBP, R12, R13, R14, R15);
/** What a System V callee may change. */
export const SYSTEM_V_CLOBBERS: RegSet = ALLOCATABLE & ~PRESERVED;
export const SYSTEM_V_ARGUMENTS: Reg[] = [RDI, RSI, RDX, RCX, R8, R9];

export type Place = { reg: Reg } | { stack: number };

/** Where the arguments and the results of a call are; `stack` counts bytes in the outgoing area. */
export interface Places {
  arguments: Place[];
  results: Place[];
  stackBytes: number;
}

export function places(signature: Pick<Signature, "params" | "results">): Places {
  let stackBytes = 0;
  const place = (registers: Reg[], i: number): Place => {
    const reg = registers[i];
    if (reg !== undefined) return { reg };
    stackBytes += 8;
    return { stack: stackBytes - 8 };
  };
  const args = signature.params.map((_, i) => place(ARGUMENT_REGISTERS, i));
  const results = signature.results.map((_, i) => place(RESULT_REGISTERS, i));
  return { arguments: args, results, stackBytes };
}

export function placeRegisters(list: Place[]): RegSet {
  return list.reduce((set, p) => ("reg" in p ? set | (1 << p.reg) : set), 0);
}
