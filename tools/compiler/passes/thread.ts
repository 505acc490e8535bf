// Jump threading: where the way into a small block already decides its branch, that way gets a copy of
// the block, whose branch then folds. Undoes conditions that were computed as values (a && b).

import { duplicateFor } from "../duplicate.ts";
import { isPure } from "../effects.ts";
import { evaluate, isPureOp } from "../fold.ts";
import type { Block, Func, Type, Value } from "../ir.ts";
import { findLoops } from "../loops.ts";
import { replaceTerminator } from "../ssa.ts";
import { simplify } from "./simplify.ts";
import { simplifyCfg } from "./simplify-cfg.ts";

const MAX_BODY = 6;

export function threadJumps(func: Func): boolean {
  const headers = new Set(findLoops(func).map((loop) => loop.header));
  let changed = false;
  for (const block of [...func.blocks]) {
    if (headers.has(block) || block.preds.length < 2 || block.preds.length > 64 || !isSmall(block)) continue;
    changed = threadThrough(func, block) || changed;
  }
  if (!changed) return false;
  simplifyCfg(func);
  simplify(func);
  simplifyCfg(func);
  return true;
}

function isSmall(block: Block): boolean {
  const { body, terminator: t } = block;
  if (t.kind !== "branch" || t.then === block || t.otherwise === block) return false;
  return body.length <= MAX_BODY && body.every(isPure);
}

function threadThrough(func: Func, block: Block): boolean {
  const decided = new Map<Block, boolean>();
  block.preds.forEach((pred, i) => {
    const t = pred.terminator;
    if (t.kind === "switch" || pred === block) return;
    const way = decision(block, i);
    if (way !== null) decided.set(pred, way);
  });
  let changed = false;
  for (const way of [true, false]) {
    const preds = new Set([...decided].filter(([, w]) => w === way).map(([pred]) => pred));
    if (preds.size === 0 || block.preds.every((pred) => preds.has(pred))) continue;
    const copy = duplicateFor(func, block, (pred) => preds.has(pred));
    const t = copy.terminator;
    if (t.kind === "branch") replaceTerminator(copy, { kind: "jump", target: way ? t.then : t.otherwise, loc: t.loc });
    changed = true;
  }
  return changed;
}

/** Which way the block goes when it is entered by edge `edge`, if phis of constants decide it. */
function decision(block: Block, edge: number): boolean | null {
  const t = block.terminator;
  if (t.kind !== "branch") return null;
  const known = new Map<Value, bigint>();
  for (const phi of block.phis) {
    const arg = phi.args[edge] as Value;
    if (arg.op === "const") known.set(phi, arg.imm as bigint);
  }
  if (known.size === 0) return null;
  const constantOf = (value: Value): bigint | null =>
    value.op === "const" ? (value.imm as bigint) : (known.get(value) ?? null);
  for (const value of block.body) {
    const args = value.args.map(constantOf);
    if (!isPureOp(value.op) || args.includes(null)) continue;
    const result = evaluate(value.op, value.args[0]?.type as Type, value.type as Type, args as bigint[]);
    if (result !== null) known.set(value, result);
  }
  const condition = constantOf(t.condition);
  return condition === null ? null : condition !== 0n;
}
