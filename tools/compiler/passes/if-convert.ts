// If-conversion: a branch around next to nothing becomes a select. Only for what costs as little as the
// branch itself: an arm of at most one cheap operation, one or two values that differ.

import { isDivision, isPure } from "../effects.ts";
import type { Block, Func, Op, Terminator, Value } from "../ir.ts";
import { newValue, removePred } from "../ssa.ts";
import { simplifyCfg } from "./simplify-cfg.ts";

/** Operations in both arms and selects together. */
const MAX_COST = 2;

const EXPENSIVE = new Set<Op>(["mul", "mulh_u", "mulh_s", "popcnt", "clz", "ctz", "select", "intrinsic"]);

export function convertIfs(func: Func): boolean {
  let changed = false;
  for (const block of func.blocks) {
    const t = block.terminator;
    if (t.kind === "branch" && t.likely === undefined) changed = convert(func, block, t) || changed;
  }
  if (changed) simplifyCfg(func);
  return changed;
}

/** Where a side of the branch ends up: past its arm, if the arm does little and nothing else leads to it. */
function joinOf(block: Block, side: Block): { join: Block; arm: Block | null } {
  const t = side.terminator;
  const isArm =
    t.kind === "jump" && side.preds.length === 1 && side.phis.length === 0 && t.target !== side && side !== block;
  return isArm ? { join: t.target, arm: side } : { join: side, arm: null };
}

function convert(func: Func, block: Block, t: Terminator & { kind: "branch" }): boolean {
  const shape = shapeOf(block, t);
  if (shape === null) return false;
  const { join, arms } = shape;
  const work = arms.flatMap((arm) => arm.body);
  const costs = work.filter((value) => value.op !== "const");
  if (!work.every(isCheap)) return false;
  const yes = join.preds.indexOf(shape.yes);
  const no = join.preds.indexOf(shape.no);
  const differing = join.phis.filter((phi) => phi.args[yes] !== phi.args[no]);
  if (differing.length === 0 || differing.length + costs.length > MAX_COST) return false;
  for (const value of work) {
    value.block = block;
    block.body.push(value);
  }
  const merged = join.phis.map((phi) => {
    const [a, b] = [phi.args[yes] as Value, phi.args[no] as Value];
    if (a === b) return a;
    const select = newValue(func, block, "select", phi.type, [t.condition, a, b], t.loc);
    block.body.push(select);
    return select;
  });
  rewire(block, join, shape.yes, shape.no, arms, merged, t);
  return true;
}

interface Shape {
  join: Block;
  /** Predecessors of the join on the two ways. */
  yes: Block;
  no: Block;
  arms: Block[];
}

/** A diamond or a triangle, or null. */
function shapeOf(block: Block, t: Terminator & { kind: "branch" }): Shape | null {
  const [a, b] = [joinOf(block, t.then), joinOf(block, t.otherwise)];
  const arms = (...list: (Block | null)[]) => list.filter((arm) => arm !== null);
  if (a.arm !== null && b.arm !== null && a.join === b.join) {
    return { join: a.join, yes: a.arm, no: b.arm, arms: arms(a.arm, b.arm) };
  }
  if (a.arm !== null && a.join === t.otherwise) return { join: a.join, yes: a.arm, no: block, arms: arms(a.arm) };
  if (b.arm !== null && b.join === t.then) return { join: b.join, yes: block, no: b.arm, arms: arms(b.arm) };
  return null;
}

function isCheap(value: Value): boolean {
  return isPure(value) && !EXPENSIVE.has(value.op) && !isDivision(value);
}

function rewire(block: Block, join: Block, yes: Block, no: Block, arms: Block[], merged: Value[], t: Terminator): void {
  removePred(join, yes);
  removePred(join, no);
  join.preds.push(block);
  join.phis.forEach((phi, i) => {
    phi.args.push(merged[i] as Value);
  });
  block.terminator = { kind: "jump", target: join, loc: t.loc };
  for (const arm of arms) {
    // Unreachable from here on; it leads nowhere so that dropping it disturbs nothing.
    arm.body = [];
    arm.preds = [];
    arm.terminator = { kind: "trap", trap: 0, loc: null };
  }
}
