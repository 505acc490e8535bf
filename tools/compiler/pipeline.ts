// The optimising passes, in order: one page. Each is a file in passes/.

import type { Func, Module } from "./ir.ts";
import { eliminateDeadCode } from "./passes/dce.ts";
import { divideByConstants } from "./passes/divide.ts";
import { numberValues } from "./passes/gvn.ts";
import { hoistInvariants } from "./passes/licm.ts";
import { rotateLoops } from "./passes/rotate.ts";
import { simplify } from "./passes/simplify.ts";
import { simplifyCfg } from "./passes/simplify-cfg.ts";
import { verifyFunc } from "./verify.ts";

export interface Pass {
  name: string;
  run(func: Func, module: Module): void;
}

export const PASSES: Pass[] = [
  { name: "simplify-cfg", run: simplifyCfg },
  { name: "simplify", run: simplify },
  { name: "gvn", run: numberValues },
  { name: "rotate", run: rotateLoops },
  { name: "licm", run: hoistInvariants },
  { name: "divide", run: divideByConstants },
  { name: "simplify-2", run: simplify },
  { name: "gvn-2", run: numberValues },
  { name: "dce", run: eliminateDeadCode },
  { name: "simplify-cfg-2", run: simplifyCfg },
];

export interface OptimizeOptions {
  /** Check the SSA after each pass. */
  verify?: boolean;
  /** Called after each pass on each function. */
  onPass?: (pass: string, func: Func) => void;
}

export function optimize(module: Module, options: OptimizeOptions = {}): void {
  for (const func of module.funcs) {
    for (const pass of PASSES) {
      pass.run(func, module);
      if (options.verify) verifyFunc(func, module);
      options.onPass?.(pass.name, func);
    }
  }
}
