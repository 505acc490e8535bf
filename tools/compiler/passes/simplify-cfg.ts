// Tidies the control flow graph: constant branches folded, unreachable blocks dropped, straight lines
// merged, empty blocks skipped, trivial phis gone. Runs after everything that leaves such things.

import { removeTrivialPhis } from "../build-ssa.ts";
import type { Block, Func, Terminator, Value } from "../ir.ts";
import {
  countUses,
  dropUnreachable,
  mapTargets,
  Replacements,
  removePred,
  replaceTerminator,
  successors,
} from "../ssa.ts";

export function simplifyCfg(func: Func): boolean {
  let any = false;
  for (let changed = true; changed; any = any || changed) {
    changed = dropUnreachable(func);
    changed = foldTerminators(func) || changed;
    changed = removeTrivialPhis(func) || changed;
    changed = skipEmptyBlocks(func) || changed;
    changed = mergeLines(func) || changed;
  }
  return any;
}

// ---- Constant and one-way terminators

function foldTerminators(func: Func): boolean {
  let changed = false;
  for (const block of func.blocks) {
    const folded = foldTerminator(block.terminator);
    if (folded === null) continue;
    replaceTerminator(block, folded);
    changed = true;
  }
  if (changed) dropUnreachable(func);
  return changed;
}

function foldTerminator(t: Terminator): Terminator | null {
  if (t.kind === "branch") return foldBranch(t);
  if (t.kind === "switch") return foldSwitch(t);
  return null;
}

function foldBranch(t: Terminator & { kind: "branch" }): Terminator | null {
  if (t.condition.op === "const") {
    return { kind: "jump", target: t.condition.imm !== 0n ? t.then : t.otherwise, loc: t.loc };
  }
  // The sense of the test is the terminator's business: no eqz in front of a branch.
  const inner = t.condition.args[0] as Value;
  if (t.condition.op === "eqz" && inner.type === "i32") {
    const likely = t.likely === undefined ? undefined : !t.likely;
    return { ...t, condition: inner, then: t.otherwise, otherwise: t.then, likely };
  }
  return null;
}

function foldSwitch(t: Terminator & { kind: "switch" }): Terminator | null {
  if (t.index.op === "const") {
    const target = t.targets[Number(t.index.imm)] ?? t.fallback;
    return { kind: "jump", target, loc: t.loc };
  }
  if (t.targets.every((target) => target === t.fallback)) return { kind: "jump", target: t.fallback, loc: t.loc };
  if (t.targets[t.targets.length - 1] === t.fallback) {
    let length = t.targets.length;
    while (t.targets[length - 1] === t.fallback) length--;
    return { ...t, targets: t.targets.slice(0, length) };
  }
  if (t.targets.length === 1) {
    // Index 0 goes to the target, everything else to the fallback.
    return { kind: "branch", condition: t.index, then: t.fallback, otherwise: t.targets[0] as Block, loc: t.loc };
  }
  return null;
}

// ---- Straight lines

/** A block whose only predecessor jumps to it becomes part of that one. */
function mergeLines(func: Func): boolean {
  const gone = new Set<Block>();
  const replacements = new Replacements();
  for (const block of func.blocks) {
    if (gone.has(block)) continue;
    for (;;) {
      const t = block.terminator;
      if (t.kind !== "jump" || t.target === block || t.target.preds.length !== 1 || t.target === func.blocks[0]) break;
      absorb(block, t.target, replacements);
      gone.add(t.target);
    }
  }
  if (gone.size === 0) return false;
  func.blocks = func.blocks.filter((block) => !gone.has(block));
  replacements.apply(func);
  return true;
}

function absorb(block: Block, next: Block, replacements: Replacements): void {
  for (const phi of next.phis) replacements.set(phi, phi.args[0] as Value);
  for (const value of next.body) {
    value.block = block;
    block.body.push(value);
  }
  block.terminator = next.terminator;
  for (const target of new Set(successors(next.terminator))) {
    target.preds = target.preds.map((pred) => (pred === next ? block : pred));
  }
}

// ---- Empty blocks

/** Sends the predecessors of blocks that only jump on straight to the target. */
function skipEmptyBlocks(func: Func): boolean {
  let changed = false;
  const uses = countUses(func);
  for (const block of func.blocks) {
    const t = block.terminator;
    if (t.kind !== "jump" || block.body.length > 0 || t.target === block || block === func.blocks[0]) continue;
    if (!phisFeedOnly(block, t.target, uses)) continue;
    for (const pred of [...new Set(block.preds)]) changed = redirect(pred, block, t.target, uses) || changed;
  }
  return changed;
}

/** All uses of the block's phis are in phis of `target` on the edge from it. */
function phisFeedOnly(block: Block, target: Block, uses: Uint32Array): boolean {
  if (block.phis.length === 0) return true;
  const edge = target.preds.indexOf(block);
  const fed = new Map<Value, number>();
  for (const phi of target.phis) {
    const arg = phi.args[edge] as Value;
    fed.set(arg, (fed.get(arg) ?? 0) + 1);
  }
  return block.phis.every((phi) => uses[phi.id] === (fed.get(phi) ?? 0));
}

/** Moves all edges pred -> block to pred -> target, if phis of the target allow it. */
function redirect(pred: Block, block: Block, target: Block, uses: Uint32Array): boolean {
  const through = target.preds.indexOf(block);
  const at = block.preds.indexOf(pred);
  const values = target.phis.map((phi) => {
    const arg = phi.args[through] as Value;
    return arg.op === "phi" && arg.block === block ? (arg.args[at] as Value) : arg;
  });
  const existing = target.preds.indexOf(pred);
  if (existing >= 0 && target.phis.some((phi, i) => phi.args[existing] !== values[i])) return false;
  const t = pred.terminator;
  const count = block.preds.filter((p) => p === pred).length;
  for (let i = 0; i < count; i++) {
    removePred(block, pred);
    target.preds.push(pred);
    target.phis.forEach((phi, j) => {
      const value = values[j] as Value;
      phi.args.push(value);
      (uses[value.id] as number)++; // removed uses are not counted down: too many is safe
    });
  }
  mapTargets(t, (b) => (b === block ? target : b));
  if (t.kind === "branch" && t.then === t.otherwise) {
    removePred(target, pred);
    pred.terminator = { kind: "jump", target, loc: t.loc };
  }
  return true;
}
