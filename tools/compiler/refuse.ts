// What the core may not do although it is plain Wasm: recursion, unknown intrinsics, state in globals.
// build-ssa.ts refuses what cannot be represented at all (floats, SIMD, references, memory.grow).

import { buildCallGraph } from "./backend/callgraph.ts";
import { CompileError, type Diagnostic, diagnosticAt } from "./diagnostic.ts";
import { intrinsic } from "./intrinsics.ts";
import type { Func, ImportedFunc, Loc, Module, Value } from "./ir.ts";

export interface RefuseOptions {
  /** Recursion, host calls and globals are a hosted program's own affair. */
  hosted: boolean;
}

/** Throws CompileError with every reason that there is. */
export function refuseModule(module: Module, options: RefuseOptions): void {
  const diagnostics = unknownIntrinsics(module, options);
  if (!options.hosted) diagnostics.push(...recursion(module), ...globalsWrittenAfterBoot(module));
  if (diagnostics.length > 0) throw new CompileError(diagnostics);
}

function* valuesOf(func: Func): Generator<Value> {
  for (const block of func.blocks) yield* block.body;
}

// ---- Intrinsics

function unknownIntrinsics(module: Module, options: RefuseOptions): Diagnostic[] {
  return module.imports.flatMap((item) => {
    const problem = importProblem(item, options);
    return problem === null ? [] : [diagnosticAt(module.files, firstUse(module, item), problem)];
  });
}

function importProblem(item: ImportedFunc, options: RefuseOptions): string | null {
  if (item.module !== "insn") {
    return options.hosted
      ? null
      : `${item.module}.${item.name} is not an intrinsic: only kernel/cpu/insn.ts declares functions without a body`;
  }
  const row = intrinsic(item.name);
  if (row === undefined) return `${item.name} is not an intrinsic`;
  const { params, results } = item.signature;
  const same = params.join() === row.params.join() && (results[0] ?? null) === row.result && results.length <= 1;
  return same ? null : `${item.name} is declared with another signature than its intrinsic has`;
}

function firstUse(module: Module, item: ImportedFunc): Loc | null {
  for (const func of module.funcs) {
    for (const value of valuesOf(func)) {
      const isUse =
        value.op === "intrinsic" ? value.name === item.name : value.op === "call" && value.index === item.index;
      if (isUse) return value.loc ?? func.loc;
    }
  }
  return null;
}

// ---- Recursion

function recursion(module: Module): Diagnostic[] {
  const graph = buildCallGraph(module);
  const diagnostics: Diagnostic[] = [];
  const reported = new Set<Func>();
  for (const func of graph.order) {
    if (!graph.cyclic.has(func) || reported.has(func)) continue;
    const cycle = shortestCycle(func, graph.callees);
    for (const member of cycle) reported.add(member);
    const names = [...cycle, func].map((f) => f.name).join(" -> ");
    const loc = callLoc(module, func, cycle[1] ?? func);
    diagnostics.push(diagnosticAt(module.files, loc, `recursion is not supported: ${names}`));
  }
  return diagnostics;
}

/** From `start` back to itself, breadth first. */
function shortestCycle(start: Func, callees: Map<Func, Set<Func>>): Func[] {
  const before = new Map<Func, Func>();
  const queue = [start];
  for (let func = queue.shift(); func !== undefined; func = queue.shift()) {
    for (const callee of callees.get(func) ?? []) {
      if (callee === start) return pathTo(func, start, before);
      if (before.has(callee)) continue;
      before.set(callee, func);
      queue.push(callee);
    }
  }
  return [start];
}

function pathTo(end: Func, start: Func, before: Map<Func, Func>): Func[] {
  const path = [end];
  for (let func = end; func !== start; ) {
    func = before.get(func) as Func;
    path.unshift(func);
  }
  return path;
}

function callLoc(module: Module, caller: Func, callee: Func): Loc | null {
  for (const value of valuesOf(caller)) {
    const direct = value.op === "call" && value.index === callee.index;
    const indirect = value.op === "call_indirect" && value.index === callee.type && module.table.includes(callee.index);
    if (direct || indirect) return value.loc ?? caller.loc;
  }
  return caller.loc;
}

// ---- Mutable globals

/** Exports that run once, on the boot CPU, before any other CPU or interrupt. What else they reach is checked through the others. */
const BOOT_ENTRIES = new Set(["_start", "kmain"]);

/**
 * A module-level `let` is one word for all CPUs, which optimised code may keep in a register. So it
 * may be written only where no entry but those of boot leads: then every other CPU and every
 * interrupt sees it constant.
 */
function globalsWrittenAfterBoot(module: Module): Diagnostic[] {
  const callees = buildCallGraph(module).callees;
  const reachedFrom = new Map<Func, string>();
  for (const func of module.funcs) {
    const entry = func.exports.find((name) => !BOOT_ENTRIES.has(name));
    if (entry !== undefined) spread(func, entry, callees, reachedFrom);
  }
  const diagnostics: Diagnostic[] = [];
  for (const [func, entry] of reachedFrom) {
    for (const value of valuesOf(func)) {
      if (value.op !== "global_set") continue;
      const name = module.globals[value.index as number]?.name;
      const message = `the module-level variable ${name} is written after boot (in ${func.name}, which ${entry} reaches): keep it in memory`;
      diagnostics.push(diagnosticAt(module.files, value.loc ?? func.loc, message));
    }
  }
  return diagnostics;
}

function spread(from: Func, entry: string, callees: Map<Func, Set<Func>>, reachedFrom: Map<Func, string>): void {
  const work = [from];
  for (let func = work.pop(); func !== undefined; func = work.pop()) {
    if (reachedFrom.has(func)) continue;
    reachedFrom.set(func, entry);
    work.push(...(callees.get(func) ?? []));
  }
}
