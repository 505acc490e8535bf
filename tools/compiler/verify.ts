// What must hold of the SSA between any two passes. Throws with the function, the rule and its text.

import { Dominators } from "./dominators.ts";
import type { Block, Func, Module, Op, Type, Value } from "./ir.ts";
import { printFunc, printValue } from "./print.ts";
import { successors, terminatorArgs } from "./ssa.ts";

export class VerifyError extends Error {}

export function verifyModule(module: Module): void {
  for (const func of module.funcs) verifyFunc(func, module);
}

export function verifyFunc(func: Func, module?: Module): void {
  const problems = [...edgeProblems(func), ...valueProblems(func, module)];
  if (problems.length === 0) return;
  throw new VerifyError(`${func.name}: ${problems.slice(0, 5).join("; ")}\n${printFunc(func, module)}`);
}

// ---- Edges

function* edgeProblems(func: Func): Generator<string> {
  const listed = new Set(func.blocks);
  if (func.blocks[0]?.preds.length !== 0) yield "the entry has predecessors";
  const incoming = new Map<Block, Block[]>(func.blocks.map((b) => [b, []]));
  for (const block of func.blocks) {
    const t = block.terminator;
    if (t.kind === "branch" && t.then === t.otherwise) yield `b${block.id} branches to one block on both sides`;
    for (const target of successors(t)) {
      if (!listed.has(target)) yield `b${block.id} leads to b${target.id}, which is not listed`;
      incoming.get(target)?.push(block);
    }
  }
  for (const block of func.blocks) yield* predProblems(block, incoming.get(block) as Block[]);
}

function* predProblems(block: Block, incoming: Block[]): Generator<string> {
  const sorted = (list: Block[]) =>
    list
      .map((b) => b.id)
      .sort((a, b) => a - b)
      .join();
  if (sorted(block.preds) !== sorted(incoming)) {
    yield `preds of b${block.id} are [${sorted(block.preds)}], edges come from [${sorted(incoming)}]`;
  }
  for (const phi of block.phis) {
    if (phi.op !== "phi") yield `v${phi.id} stands among phis`;
    if (phi.args.length !== block.preds.length)
      yield `v${phi.id} has ${phi.args.length} arguments for ${block.preds.length} edges`;
    const torn = block.preds.findIndex((pred, i) => phi.args[block.preds.indexOf(pred)] !== phi.args[i]);
    if (torn >= 0) yield `v${phi.id} tells two edges from b${block.preds[torn]?.id} apart`;
  }
}

// ---- Values

function* valueProblems(func: Func, module?: Module): Generator<string> {
  const dominators = new Dominators(func);
  const position = new Map<Value, number>();
  for (const block of func.blocks) {
    for (const v of [...block.phis, ...block.body]) {
      if (position.has(v)) yield `v${v.id} stands in two places`;
      if (v.block !== block) yield `v${v.id} stands in b${block.id} but names b${v.block.id}`;
      if (v.id >= func.nextId) yield `v${v.id} is past the next free number`;
      position.set(v, v.op === "phi" ? -1 : position.size);
    }
  }
  const seen = new Set<number>();
  for (const v of position.keys()) {
    if (seen.has(v.id)) yield `two values are called v${v.id}`;
    seen.add(v.id);
  }
  /** Whether `value` is there when `at` (or the end of `block`) is executed. */
  const available = (value: Value, block: Block, at: number) => {
    const p = position.get(value);
    if (p === undefined) return false;
    return value.block === block ? p < at : dominators.dominates(value.block, block);
  };
  for (const block of func.blocks) {
    if (!dominators.isReachable(block)) continue;
    for (const phi of block.phis) {
      for (let i = 0; i < phi.args.length; i++) {
        const arg = phi.args[i] as Value;
        const pred = block.preds[i];
        if (arg.type !== phi.type) yield `types of ${printValue(phi)}`;
        if (pred && dominators.isReachable(pred) && !available(arg, pred, Infinity))
          yield `v${arg.id} does not reach ${printValue(phi)} from b${pred.id}`;
      }
    }
    for (const v of block.body) {
      if (v.op === "phi") yield `${printValue(v)} stands in a body`;
      for (const arg of v.args) {
        if (!available(arg, block, position.get(v) as number)) yield `v${arg.id} does not dominate ${printValue(v)}`;
      }
      const wrong = typeProblem(v, func, module);
      if (wrong !== null) yield `${wrong}: ${printValue(v)}`;
    }
    for (const arg of terminatorArgs(block.terminator)) {
      if (!available(arg, block, Infinity)) yield `v${arg.id} does not dominate the end of b${block.id}`;
    }
    yield* terminatorTypes(func, block);
  }
}

function* terminatorTypes(func: Func, block: Block): Generator<string> {
  const t = block.terminator;
  if (t.kind === "branch" && t.condition.type !== "i32") yield `b${block.id} branches on no i32`;
  if (t.kind === "switch" && t.index.type !== "i32") yield `b${block.id} switches on no i32`;
  if (t.kind === "return" && types(t.values) !== func.results.join()) yield `b${block.id} returns ${types(t.values)}`;
}

function types(values: Value[]): string {
  return values.map((v) => v.type).join();
}

const SAME = new Set<Op>([
  "add",
  "sub",
  "mul",
  "and",
  "or",
  "xor",
  "shl",
  "shr_s",
  "shr_u",
  "rotl",
  "rotr",
  "div_s",
  "div_u",
  "rem_s",
  "rem_u",
  "mulh_u",
  "mulh_s",
]);
const COMPARE = new Set<Op>(["eq", "ne", "lt_s", "lt_u", "le_s", "le_u", "gt_s", "gt_u", "ge_s", "ge_u"]);
const UNARY_SAME = new Set<Op>(["clz", "ctz", "popcnt", "extend8_s", "extend16_s", "extend32_s", "bswap"]);

/** Operand and result types where the operation fixes them: [operands, result]. */
function expected(v: Value): [string, Type | null] | null {
  const t = v.type;
  if (SAME.has(v.op)) return [`${t},${t}`, t];
  if (COMPARE.has(v.op)) return [`${v.args[0]?.type},${v.args[0]?.type}`, "i32"];
  if (UNARY_SAME.has(v.op)) return [`${t}`, t];
  switch (v.op) {
    case "eqz":
      return [`${v.args[0]?.type}`, "i32"];
    case "wrap":
      return ["i64", "i32"];
    case "zext":
    case "sext":
      return ["i32", "i64"];
    case "select":
      return [`i32,${t},${t}`, t];
    case "load":
      return ["i32", t];
    case "store":
      return [`i32,${v.args[1]?.type}`, null];
    case "atomic_rmw":
      return [`i32,${t}`, t];
    case "atomic_cmpxchg":
      return [`i32,${t},${t}`, t];
    case "memory_fill":
      return [`i32,${v.mem?.bits === 64 ? "i64" : "i32"},i32`, null];
    case "memory_copy":
    case "memory_init":
      return ["i32,i32,i32", null];
    case "fence":
    case "data_drop":
      return ["", null];
    case "const":
    case "param":
    case "global_get":
    case "memory_size":
      return ["", t];
    default:
      return null;
  }
}

function typeProblem(v: Value, func: Func, module?: Module): string | null {
  const rule = expected(v);
  if (rule !== null && (types(v.args) !== rule[0] || v.type !== rule[1]))
    return `types (${types(v.args)}) -> ${v.type}`;
  if (v.op === "const" && BigInt.asUintN(v.type === "i32" ? 32 : 64, v.imm as bigint) !== v.imm)
    return "constant out of range";
  if (v.op === "param" && func.params[Number(v.imm)] !== v.type) return "parameter type";
  if (["load", "store", "atomic_rmw", "atomic_cmpxchg"].includes(v.op) && v.mem === undefined)
    return "no memory access";
  if (v.op === "proj" && v.args[0]?.results?.[Number(v.imm)] !== v.type) return "result type";
  if (module !== undefined) return moduleProblem(v, module);
  return null;
}

function moduleProblem(v: Value, module: Module): string | null {
  if (v.op === "global_get" && module.globals[v.index as number]?.type !== v.type) return "type of the global";
  if (v.op === "global_set" && module.globals[v.index as number]?.type !== v.args[0]?.type) return "type of the global";
  if (v.op === "call") {
    const callee = module.imports[v.index as number]?.signature ?? module.funcs.find((f) => f.index === v.index);
    if (callee === undefined) return "no such function";
    if (!("unsupported" in callee) && types(v.args) !== callee.params.join()) return "argument types";
  }
  return null;
}
