// What each operation may do besides computing its result: passes ask here what may be moved, merged
// or dropped.

import { effectsOf } from "./intrinsics.ts";
import type { Func, Module, Op, Value } from "./ir.ts";

const PURE = new Set<Op>([
  ...(["add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr", "mulh_u", "mulh_s"] as Op[]),
  ...(["eq", "ne", "lt_s", "lt_u", "le_s", "le_u", "gt_s", "gt_u", "ge_s", "ge_u", "eqz"] as Op[]),
  ...(["clz", "ctz", "popcnt", "extend8_s", "extend16_s", "extend32_s", "wrap", "zext", "sext", "bswap"] as Op[]),
  ...(["const", "param", "phi", "select", "proj"] as Op[]),
]);

const DIVISIONS = new Set<Op>(["div_s", "div_u", "rem_s", "rem_u"]);

/** Depends on nothing but its arguments and cannot trap: may be merged, moved, dropped and speculated. */
export function isPure(value: Value): boolean {
  if (PURE.has(value.op)) return true;
  if (DIVISIONS.has(value.op)) return !mayTrap(value);
  return value.op === "intrinsic" && effectsOf(value.name as string).pure;
}

export function isDivision(value: Value): boolean {
  return DIVISIONS.has(value.op);
}

/** A division by a constant that cannot trap is pure; every memory access may trap. */
export function mayTrap(value: Value): boolean {
  if (DIVISIONS.has(value.op)) {
    const divisor = value.args[1] as Value;
    if (divisor.op !== "const" || divisor.imm === 0n) return true;
    return value.op === "div_s" && divisor.imm === (divisor.type === "i32" ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn);
  }
  return !PURE.has(value.op) && value.op !== "global_get" && value.op !== "global_set" && value.op !== "memory_size";
}

/** A load that may be merged with another and moved over what does not write. */
export function isPlainLoad(value: Value): boolean {
  return value.op === "load" && !(value.mem as NonNullable<Value["mem"]>).atomic;
}

export function isPlainStore(value: Value): boolean {
  return value.op === "store" && !(value.mem as NonNullable<Value["mem"]>).atomic;
}

/** What a function or operation does to state. */
export interface Summary {
  readsMemory: boolean;
  writesMemory: boolean;
  readsGlobals: boolean;
  writesGlobals: boolean;
}

const NOTHING: Summary = { readsMemory: false, writesMemory: false, readsGlobals: false, writesGlobals: false };
const EVERYTHING: Summary = { readsMemory: true, writesMemory: true, readsGlobals: true, writesGlobals: true };

/** Effects of each function, with those of everything it calls. */
export class Summaries {
  private readonly byIndex = new Map<number, Summary>();

  constructor(module: Module) {
    for (const imported of module.imports) this.byIndex.set(imported.index, EVERYTHING);
    for (const func of module.funcs) this.byIndex.set(func.index, { ...NOTHING });
    // Effects only grow, so this ends; call graphs are shallow.
    for (let changed = true; changed; ) {
      changed = false;
      for (const func of module.funcs) changed = this.grow(func) || changed;
    }
  }

  private grow(func: Func): boolean {
    const summary = this.byIndex.get(func.index) as Summary;
    const before = count(summary);
    for (const block of func.blocks) for (const value of block.body) merge(summary, this.of(value));
    return count(summary) !== before;
  }

  of(value: Value): Summary {
    switch (value.op) {
      case "load":
        return value.mem?.atomic ? EVERYTHING : { ...NOTHING, readsMemory: true };
      case "store":
        return value.mem?.atomic ? EVERYTHING : { ...NOTHING, writesMemory: true };
      case "global_get":
        return { ...NOTHING, readsGlobals: true };
      case "global_set":
        return { ...NOTHING, writesGlobals: true };
      case "call":
        return this.byIndex.get(value.index as number) ?? EVERYTHING;
      case "intrinsic":
        return intrinsicSummary(value.name as string);
      case "memory_copy":
      case "memory_fill":
      case "memory_init":
        return { ...NOTHING, readsMemory: true, writesMemory: true };
      case "call_indirect":
      case "atomic_rmw":
      case "atomic_cmpxchg":
      case "fence":
      case "data_drop":
        return EVERYTHING;
      default:
        return NOTHING;
    }
  }
}

function intrinsicSummary(name: string): Summary {
  const effects = effectsOf(name);
  if (effects.barrier) return EVERYTHING;
  return { ...NOTHING, readsMemory: effects.reads, writesMemory: effects.writes };
}

function merge(into: Summary, from: Summary): void {
  into.readsMemory ||= from.readsMemory;
  into.writesMemory ||= from.writesMemory;
  into.readsGlobals ||= from.readsGlobals;
  into.writesGlobals ||= from.writesGlobals;
}

function count(s: Summary): number {
  return Number(s.readsMemory) + Number(s.writesMemory) + Number(s.readsGlobals) + Number(s.writesGlobals);
}
