// Range tests: two branches that ask whether a value is at least one constant and below another, and go to the
// same place if not, become one unsigned comparison. Also where the answer is a value and nothing branches.

import { isPure } from "../effects.ts";
import { toSigned } from "../fold.ts";
import type { Block, Func, Type, Value } from "../ir.ts";
import { newConst, newValue, Replacements, removePred } from "../ssa.ts";

/** What the second test's block may compute besides its condition. */
const MAX_BODY = 4;

export function mergeRangeTests(func: Func): boolean {
  let changed = false;
  const gone = new Set<Block>();
  for (const block of func.blocks) {
    while (!gone.has(block) && mergeNext(func, block, gone)) changed = true;
  }
  if (changed) func.blocks = func.blocks.filter((block) => !gone.has(block));
  return mergeSelects(func) || changed;
}

/** Joins the test at the end of `block` with the one that follows it. */
function mergeNext(func: Func, block: Block, gone: Set<Block>): boolean {
  const t = block.terminator;
  if (t.kind !== "branch") return false;
  for (const holds of [true, false]) {
    const [next, out] = holds ? [t.then, t.otherwise] : [t.otherwise, t.then];
    const inner = next.terminator;
    if (inner.kind !== "branch" || !isJustATest(next) || next === block) continue;
    const stays = inner.then === out ? false : inner.otherwise === out ? true : null;
    const inside = stays === true ? inner.then : inner.otherwise;
    if (stays === null || inside === out || inside === next || !sameArguments(out, block, next)) continue;
    const range = rangeOf(bound(t.condition, holds), bound(inner.condition, stays));
    if (range === null) continue;
    block.body.push(...next.body);
    for (const value of next.body) value.block = block;
    const condition = test(func, block, block.body, range);
    removePred(out, next);
    inside.preds = inside.preds.map((pred) => (pred === next ? block : pred));
    block.terminator = { kind: "branch", condition, then: inside, otherwise: out, loc: t.loc };
    gone.add(next);
    return true;
  }
  return false;
}

function isJustATest({ preds, phis, body }: Block): boolean {
  return preds.length === 1 && phis.length === 0 && body.length <= MAX_BODY && body.every(isPure);
}

/** Does `target` get the same from both of its predecessors? */
function sameArguments(target: Block, a: Block, b: Block): boolean {
  const [i, j] = [target.preds.indexOf(a), target.preds.indexOf(b)];
  return target.phis.every((phi) => phi.args[i] === phi.args[j]);
}

// ---- Answers that are values

/** select(x >= low, x < high, 0), and `and` of the two. */
function mergeSelects(func: Func): boolean {
  const replacements = new Replacements();
  for (const block of func.blocks) {
    const out: Value[] = [];
    for (const value of block.body) {
      const range = rangeOfValue(value);
      if (range === null) out.push(value);
      else replacements.set(value, test(func, block, out, range));
    }
    block.body = out;
  }
  replacements.apply(func);
  return replacements.size > 0;
}

function rangeOfValue({ op, args: [a, b, zero] }: Value): Range | null {
  const both = op === "and" || (op === "select" && zero?.op === "const" && zero.imm === 0n);
  return both && a && b ? rangeOf(bound(a, true), bound(b, true)) : null;
}

// ---- Ranges

interface Bound {
  value: Value;
  isLower: boolean;
  isSigned: boolean;
  /** As an unsigned number: the least value inside, or the least one above. */
  limit: bigint;
}

/** What the outcome of a comparison with a constant says. */
function bound({ op, args: [value, constant] }: Value, holds: boolean): Bound | null {
  if (!value || constant?.op !== "const") return null;
  if (op !== "lt_u" && op !== "lt_s" && op !== "ge_u" && op !== "ge_s") return null;
  const isLower = op.startsWith("ge") === holds;
  return { value, isLower, isSigned: op.endsWith("_s"), limit: constant.imm as bigint };
}

interface Range {
  value: Value;
  low: bigint;
  /** How many numbers are inside. */
  count: bigint;
}

function rangeOf(a: Bound | null, b: Bound | null): Range | null {
  if (a === null || b === null || a.value !== b.value || a.isSigned !== b.isSigned || a.isLower === b.isLower)
    return null;
  const [low, high] = a.isLower ? [a.limit, b.limit] : [b.limit, a.limit];
  const type = a.value.type as Type;
  const order = (limit: bigint): bigint => (a.isSigned ? toSigned(type, limit) : limit);
  return order(low) < order(high) ? { value: a.value, low, count: order(high) - order(low) } : null;
}

/** value - low < count, unsigned: at the end of `body`, which is that of `block`. */
function test(func: Func, block: Block, body: Value[], { value, low, count }: Range): Value {
  const type = value.type as Type;
  const make = (op: "add" | "lt_u", result: Type, ...args: Value[]): Value => {
    const made = newValue(func, block, op, result, args, value.loc);
    body.push(made);
    return made;
  };
  const constant = (number: bigint): Value => {
    const made = newConst(func, block, type, number, value.loc);
    body.push(made);
    return made;
  };
  return make("lt_u", "i32", make("add", type, value, constant(-low)), constant(count));
}
