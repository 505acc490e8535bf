// The last pass: which way branches go, how often blocks run, how deep loops nest. Blocks end up in
// reverse postorder. Selection, allocation and layout read what is written here.
//
// Heuristics after Ball and Larus, "Branch Prediction for Free": loops iterate, traps and what cannot return
// are rare.

import { Dominators } from "../dominators.ts";
import { effectsOf } from "../intrinsics.ts";
import type { Block, Func } from "../ir.ts";
import { findLoops, type Loop, loopOfBlocks } from "../loops.ts";
import { reversePostorder, successors } from "../ssa.ts";

/** Iterations that a loop is taken to make. */
const ITERATIONS = 8;
const STAYS = 1 - 1 / ITERATIONS;
const RARE = 1 / 1024;
/** A branch this sure is marked. */
const SURE = 0.8;

export function estimateFrequencies(func: Func): void {
  func.blocks = reversePostorder(func);
  const dominators = new Dominators(func);
  const inner = loopOfBlocks(findLoops(func, dominators));
  const cold = coldBlocks(func);
  const headers = new Set([...inner.values()].map((loop) => loop.header));
  const edges = new Map<Block, Map<Block, number>>();
  for (const block of func.blocks) {
    block.loopDepth = inner.get(block)?.depth ?? 0;
    block.frequency = block === func.blocks[0] ? 1 : arriving(block, edges, headers.has(block));
    edges.set(block, leaving(block, inner.get(block) ?? null, cold));
  }
}

/** Blocks from which every path ends in a trap or in what does not return. */
function coldBlocks(func: Func): Set<Block> {
  const cold = new Set<Block>();
  for (const block of [...func.blocks].reverse()) {
    const next = successors(block.terminator);
    const ends =
      block.terminator.kind === "trap" ||
      block.body.some((v) => v.op === "intrinsic" && effectsOf(v.name as string).noreturn);
    if (ends || (next.length > 0 && next.every((target) => cold.has(target)))) cold.add(block);
  }
  return cold;
}

/** Executions by edges from blocks that come before; a loop's header runs as often as the loop iterates. */
function arriving(block: Block, edges: Map<Block, Map<Block, number>>, isHeader: boolean): number {
  let sum = 0;
  for (const pred of new Set(block.preds)) sum += edges.get(pred)?.get(block) ?? 0;
  return isHeader ? sum * ITERATIONS : sum;
}

/** Executions of each edge out of a block. Marks its branch. */
function leaving(block: Block, loop: Loop | null, cold: Set<Block>): Map<Block, number> {
  const t = block.terminator;
  const out = new Map<Block, number>();
  if (t.kind === "branch") {
    const p = probability(t.then, t.otherwise, loop, cold, t.likely);
    if (t.likely === undefined && (p >= SURE || p <= 1 - SURE)) t.likely = p >= SURE;
    out.set(t.then, block.frequency * p);
    out.set(t.otherwise, block.frequency * (1 - p));
    return out;
  }
  const targets = successors(t);
  const warm = targets.filter((target) => !cold.has(target)).length;
  for (const target of targets) {
    const share = warm === 0 ? 1 / targets.length : cold.has(target) ? RARE / targets.length : 1 / warm;
    out.set(target, (out.get(target) ?? 0) + block.frequency * share);
  }
  return out;
}

/** That `then` is taken. */
function probability(then: Block, otherwise: Block, loop: Loop | null, cold: Set<Block>, likely?: boolean): number {
  if (cold.has(then) !== cold.has(otherwise)) return cold.has(then) ? RARE : 1 - RARE;
  const stays = staying(then, loop);
  if (stays !== staying(otherwise, loop)) return stays ? STAYS : 1 - STAYS;
  if (likely !== undefined) return likely ? STAYS : 1 - STAYS;
  return 0.5;
}

function staying(block: Block, loop: Loop | null): boolean {
  return loop === null || loop.blocks.has(block);
}
