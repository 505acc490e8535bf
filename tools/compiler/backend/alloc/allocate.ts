/** Register allocation of one function: liveness, coalescing, assignment, rewriting. */

import type { MFunc } from "../machine.ts";
import { R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, type Reg, RSI } from "../registers.ts";
import { coalesce } from "./coalesce.ts";
import { Allocator, type Problem } from "./greedy.ts";
import { lineUp } from "./interval.ts";
import { findLiveness } from "./liveness.ts";
import { rewrite } from "./rewrite.ts";

/** Those that calls change anyway come first, so that callers keep the others; those without a REX prefix before those with. */
const ORDER: Reg[] = [RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, RBX, RBP, R12, R14, R15, R13];

export function allocate(func: MFunc): void {
  const line = lineUp(func);
  const live = findLiveness(line);
  const bundles = coalesce(line, live);
  const problem: Problem = { line, live, bundles, order: ORDER, preserved: func.preserved };
  new Allocator(problem).run();
  rewrite(problem);
}
