// The optimising passes, in order: one page. Each is a file in passes/.

import { buildCallGraph } from "./backend/callgraph.ts";
import { Summaries } from "./effects.ts";
import type { Func, Module } from "./ir.ts";
import { combineBytes } from "./passes/bytes.ts";
import { eliminateDeadCode } from "./passes/dce.ts";
import { divideByConstants } from "./passes/divide.ts";
import { estimateFrequencies } from "./passes/frequency.ts";
import { numberValues } from "./passes/gvn.ts";
import { convertIfs } from "./passes/if-convert.ts";
import { Inliner } from "./passes/inline.ts";
import { hoistInvariants } from "./passes/licm.ts";
import { recogniseBulkLoops } from "./passes/loop-idiom.ts";
import { mergeRangeTests } from "./passes/ranges.ts";
import { rotateLoops } from "./passes/rotate.ts";
import { simplify } from "./passes/simplify.ts";
import { simplifyCfg } from "./passes/simplify-cfg.ts";
import { reduceStrength } from "./passes/strength.ts";
import { buildSwitches } from "./passes/switches.ts";
import { loopTailCalls } from "./passes/tail.ts";
import { threadJumps } from "./passes/thread.ts";
import { verifyFunc } from "./verify.ts";

/** What passes know of the rest of the module. */
export interface Context {
  module: Module;
  /** What each function may do to state. */
  summaries: Summaries;
  inliner: Inliner;
}

export interface Pass {
  name: string;
  run(func: Func, context: Context): void;
  /** Part of the debug profile too, whose code keeps the calls and the order of the source. */
  debug?: true;
}

/** On each function, callees first: a callee has been through all of them when its caller starts. */
export const PASSES: Pass[] = [
  { name: "simplify-cfg", run: simplifyCfg, debug: true },
  { name: "simplify", run: simplify, debug: true },
  { name: "tail", run: loopTailCalls },
  { name: "unroll-recursion", run: (func, { inliner }) => inliner.unrollRecursion(func) },
  { name: "inline", run: (func, { inliner }) => inliner.run(func) },
  { name: "simplify-cfg-inlined", run: simplifyCfg },
  { name: "simplify-inlined", run: simplify },
  { name: "gvn", run: (func, { summaries }) => numberValues(func, summaries) },
  { name: "bytes", run: combineBytes },
  { name: "thread", run: threadJumps },
  { name: "ranges", run: mergeRangeTests },
  { name: "if-convert", run: convertIfs },
  { name: "rotate", run: rotateLoops },
  { name: "licm", run: (func, { summaries }) => hoistInvariants(func, summaries) },
  { name: "strength", run: reduceStrength },
  { name: "divide", run: divideByConstants },
  { name: "bulk-loops", run: (func, { module }) => recogniseBulkLoops(func, module) },
  { name: "simplify-late", run: simplify },
  { name: "gvn-late", run: (func, { summaries }) => numberValues(func, summaries) },
  { name: "dce", run: (func) => eliminateDeadCode(func), debug: true },
  { name: "switches", run: buildSwitches, debug: true },
  { name: "simplify-cfg-late", run: simplifyCfg, debug: true },
  { name: "frequency", run: estimateFrequencies, debug: true },
];

export interface OptimizeOptions {
  /** Only the passes of the debug profile. */
  debug?: boolean;
  /** Check the SSA after each pass. */
  verify?: boolean;
  /** Called after each pass on each function. */
  onPass?: (pass: string, func: Func) => void;
}

export function optimize(module: Module, options: OptimizeOptions = {}): void {
  const context: Context = { module, summaries: new Summaries(module), inliner: new Inliner(module) };
  const passes = options.debug ? PASSES.filter((pass) => pass.debug) : PASSES;
  for (const func of buildCallGraph(module).order) {
    for (const pass of passes) {
      pass.run(func, context);
      if (options.verify) verifyFunc(func, module);
      options.onPass?.(pass.name, func);
    }
  }
  dropUnusedFunctions(module);
}

/** Functions that inlining left without a caller. */
function dropUnusedFunctions(module: Module): void {
  const callees = buildCallGraph(module).callees;
  const isRoot = (func: Func) => func.exports.length > 0 || func.inTable || func.index === module.start;
  const used = new Set(module.funcs.filter(isRoot));
  const work = [...used];
  for (let func = work.pop(); func !== undefined; func = work.pop()) {
    for (const callee of callees.get(func) ?? []) {
      if (used.has(callee)) continue;
      used.add(callee);
      work.push(callee);
    }
  }
  module.funcs = module.funcs.filter((func) => used.has(func));
}
