// Natural loops: header, blocks, nesting. Every loop of Wasm has one header, so every back edge leads
// to a block that dominates it.

import { Dominators } from "./dominators.ts";
import type { Block, Func } from "./ir.ts";
import { newBlock, newValue, successors } from "./ssa.ts";

export interface Loop {
  header: Block;
  /** Sources of the back edges. */
  latches: Block[];
  /** With those of inner loops. */
  blocks: Set<Block>;
  parent: Loop | null;
  depth: number;
}

/** Loops, inner ones before the ones around them. */
export function findLoops(func: Func, dominators = new Dominators(func)): Loop[] {
  const byHeader = new Map<Block, Loop>();
  for (const block of dominators.order) {
    for (const target of successors(block.terminator)) {
      if (!dominators.dominates(target, block)) continue;
      const loop = byHeader.get(target) ?? { header: target, latches: [], blocks: new Set(), parent: null, depth: 1 };
      byHeader.set(target, loop);
      if (!loop.latches.includes(block)) loop.latches.push(block);
    }
  }
  // Inner headers come later in reverse postorder.
  const loops = [...byHeader.values()].sort((a, b) => dominators.indexOf(b.header) - dominators.indexOf(a.header));
  for (const loop of loops) collect(loop, dominators);
  for (const [i, inner] of loops.entries()) {
    inner.parent = loops.slice(i + 1).find((outer) => outer !== inner && outer.blocks.has(inner.header)) ?? null;
  }
  for (const loop of loops) for (let outer = loop.parent; outer !== null; outer = outer.parent) loop.depth++;
  return loops;
}

function collect(loop: Loop, dominators: Dominators): void {
  loop.blocks.add(loop.header);
  const work = [...loop.latches];
  for (let block = work.pop(); block !== undefined; block = work.pop()) {
    if (loop.blocks.has(block) || !dominators.isReachable(block)) continue;
    loop.blocks.add(block);
    work.push(...block.preds);
  }
}

/** Innermost loop of each block. */
export function loopOfBlocks(loops: Loop[]): Map<Block, Loop> {
  const inner = new Map<Block, Loop>();
  for (const loop of loops) for (const block of loop.blocks) if (!inner.has(block)) inner.set(block, loop);
  return inner;
}

/** The block before the loop that leads only into its header; made if there is none. */
export function preheaderOf(func: Func, loop: Loop): Block {
  const outside = loop.header.preds.filter((pred) => !loop.blocks.has(pred));
  const only = outside[0];
  if (outside.length === 1 && only?.terminator.kind === "jump") return only;
  const block = newBlock(func);
  splitPreds(func, loop.header, block, (pred) => !loop.blocks.has(pred));
  func.blocks.splice(func.blocks.indexOf(loop.header), 0, block);
  for (let outer = loop.parent; outer !== null; outer = outer.parent) outer.blocks.add(block);
  return block;
}

/** Puts `middle` between `target` and those of its predecessors that `chosen` picks. */
export function splitPreds(func: Func, target: Block, middle: Block, chosen: (pred: Block) => boolean): void {
  const moved = target.preds.map(chosen);
  middle.preds = target.preds.filter((_, i) => moved[i]);
  middle.terminator = { kind: "jump", target, loc: null };
  for (const phi of target.phis) {
    const args = phi.args.filter((_, i) => moved[i]);
    let merged = args[0];
    if (args.some((arg) => arg !== merged)) {
      merged = newValue(func, middle, "phi", phi.type, args, phi.loc);
      middle.phis.push(merged);
    }
    phi.args = phi.args.filter((_, i) => !moved[i]);
    if (merged !== undefined) phi.args.push(merged);
  }
  for (const pred of new Set(middle.preds)) retarget(pred, target, middle);
  target.preds = target.preds.filter((_, i) => !moved[i]);
  target.preds.push(middle);
}

/** Changes every edge from `block` to `from` into one to `to`, on the side of the terminator only. */
export function retarget(block: Block, from: Block, to: Block): void {
  const t = block.terminator;
  if (t.kind === "jump") t.target = to;
  else if (t.kind === "branch") {
    if (t.then === from) t.then = to;
    if (t.otherwise === from) t.otherwise = to;
  } else if (t.kind === "switch") {
    t.targets = t.targets.map((target) => (target === from ? to : target));
    if (t.fallback === from) t.fallback = to;
  }
}
