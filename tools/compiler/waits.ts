/**
 * Loops that wait for another CPU: a way out of them is decided by an atomic access, or a call with one in it, that each
 * round makes at the same place in memory; or they say PAUSE. A search through a list looks elsewhere each time.
 */

import { Dominators } from "./dominators.ts";
import type { Block, Func, Loc, Module, Value } from "./ir.ts";
import { findLoops, type Loop } from "./loops.ts";
import type { Paths } from "./paths.ts";
import { successors } from "./ssa.ts";

/** Functions that make an atomic access, themselves or in what they call. */
export function atomicFunctions(module: Module, paths: Paths): Set<Func> {
  const found = new Set<Func>();
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const func of module.funcs) {
      const touches = (v: Value): boolean => isAtomic(v) || paths.callees(v).some((callee) => found.has(callee));
      if (!found.has(func) && func.blocks.some((b) => b.body.some(touches))) found.add(func);
    }
  }
  return found;
}

function isAtomic(v: Value): boolean {
  return v.op === "atomic_rmw" || v.op === "atomic_cmpxchg" || (v.op === "load" && v.mem?.atomic === true);
}

/** Where `func` waits, one place a loop. */
export function waitsOf(func: Func, paths: Paths, atomics: Set<Func>): (Loc | null)[] {
  return findLoops(func, new Dominators(func))
    .filter((loop) => pauses(loop) || isDecidedByOthers(loop, paths, atomics))
    .map((loop) => firstLoc(loop.header) ?? func.loc);
}

function pauses(loop: Loop): boolean {
  return [...loop.blocks].some((b) => b.body.some((v) => v.op === "intrinsic" && v.name === "pause"));
}

function isDecidedByOthers(loop: Loop, paths: Paths, atomics: Set<Func>): boolean {
  const asks = (v: Value): boolean => isAtomic(v) || paths.callees(v).some((callee) => atomics.has(callee));
  const deciding = new Set<Value>();
  const work = [...loop.blocks].filter((b) => leaves(b, loop)).flatMap(conditionOf);
  for (let v = work.pop(); v !== undefined; v = work.pop()) {
    if (deciding.has(v) || !loop.blocks.has(v.block)) continue;
    deciding.add(v);
    if (asks(v) && isSamePlace(v, loop)) return true;
    work.push(...v.args);
  }
  return false;
}

function leaves(block: Block, loop: Loop): boolean {
  return successors(block.terminator).some((target) => !loop.blocks.has(target));
}

function conditionOf({ terminator: t }: Block): Value[] {
  return t.kind === "branch" ? [t.condition] : t.kind === "switch" ? [t.index] : [];
}

/** Is what says where it looks (the address, or all arguments of a call) the same in each round? Plain loads count as the same. */
function isSamePlace(v: Value, loop: Loop): boolean {
  const seen = new Set<Value>();
  const work = isAtomic(v) ? v.args.slice(0, 1) : [...v.args];
  for (let at = work.pop(); at !== undefined; at = work.pop()) {
    if (seen.has(at) || !loop.blocks.has(at.block)) continue;
    seen.add(at);
    if (at.op === "phi" && isChanged(at, loop)) return false;
    work.push(...(at.op === "phi" ? [] : at.args));
  }
  return true;
}

/** A phi of the loop that takes anything but itself and one value from outside. */
function isChanged(phi: Value, loop: Loop): boolean {
  const others = new Set(phi.args.filter((arg) => arg !== phi));
  return others.size > 1 || [...others].some((arg) => loop.blocks.has(arg.block));
}

function firstLoc(block: Block): Loc | null {
  return block.body.find((v) => v.loc)?.loc ?? block.terminator.loc;
}
