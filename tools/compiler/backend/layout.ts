/**
 * The order of blocks: hot edges fall through, what is rarely run goes to the end (and to
 * .text.cold), jumps to the next block vanish, conditions turn around where that saves a jump.
 */

import { edgeFrequency } from "./alloc/split.ts";
import type { Inst, MBlock, MFunc } from "./machine.ts";
import { invert } from "./select/compare.ts";

const COLD_FREQUENCY = 0.02;

export function layOut(func: MFunc): void {
  threadJumps(func);
  dropUnreachable(func);
  func.blocks = chainOrder(func);
  markCold(func);
  for (let i = 0; i < func.blocks.length; i++) fallThrough(func.blocks[i] as MBlock, func.blocks[i + 1]);
}

/** Blocks that only jump are passed over. */
function threadJumps(func: MFunc): void {
  const goal = (block: MBlock): MBlock => {
    const seen = new Set<MBlock>();
    let at = block;
    while (!seen.has(at) && at.insts.length === 1 && at.insts[0]?.op === "jmp") {
      seen.add(at);
      at = at.insts[0].target as MBlock;
    }
    return at;
  };
  for (const block of func.blocks) {
    for (const inst of block.insts) if (inst.target) inst.target = goal(inst.target);
    block.succs = block.succs.map(goal);
    sameTarget(block);
  }
  for (const table of func.jumpTables) table.targets = table.targets.map(goal);
  linkPreds(func);
}

/** A branch both of whose ways lead to one block is a jump. */
function sameTarget(block: MBlock): void {
  const [branch, jump] = block.insts.slice(-2);
  if (branch?.op === "jcc" && jump?.op === "jmp" && branch.target === jump.target) block.insts.splice(-2, 1);
  block.succs = [...new Set(block.succs)];
}

function linkPreds(func: MFunc): void {
  for (const block of func.blocks) block.preds = [];
  for (const block of func.blocks) for (const s of block.succs) s.preds.push(block);
}

function dropUnreachable(func: MFunc): void {
  const seen = new Set<MBlock>();
  const work = [func.blocks[0] as MBlock];
  for (let block = work.pop(); block; block = work.pop()) {
    if (seen.has(block)) continue;
    seen.add(block);
    work.push(...block.succs);
  }
  func.blocks = func.blocks.filter((b) => seen.has(b));
  linkPreds(func);
}

/** Joins blocks along their most frequent edges; a chain never closes a loop. */
function chainOrder(func: MFunc): MBlock[] {
  const position = new Map(func.blocks.map((b, i) => [b, i]));
  const chain = new Map(func.blocks.map((b) => [b, [b]]));
  const edges = func.blocks.flatMap((from) => from.succs.map((to) => ({ from, to, frequency: weight(from, to) })));
  edges.sort((a, b) => b.frequency - a.frequency || at(position, a.from) - at(position, b.from));
  for (const { from, to } of edges) {
    const a = chain.get(from) as MBlock[];
    const b = chain.get(to) as MBlock[];
    if (a === b || a[a.length - 1] !== from || b[0] !== to || to === func.blocks[0]) continue;
    // A backward edge does not turn its loop around, except for the moves on it: these stand before the header.
    if (isBackEdgeBlock(position, to) || (at(position, to) <= at(position, from) && !isBackEdgeBlock(position, from)))
      continue;
    a.push(...b);
    for (const block of b) chain.set(block, a);
  }
  const chains = [...new Set(chain.values())];
  const heat = (c: MBlock[]): number => Math.max(...c.map((b) => b.frequency));
  const first = chain.get(func.blocks[0] as MBlock) as MBlock[];
  const rank = (c: MBlock[]): number => (c === first ? 0 : heat(c) < COLD_FREQUENCY ? 2 : 1);
  const place = (c: MBlock[]): number => Math.min(...c.map((b) => at(position, b)));
  chains.sort((a, b) => rank(a) - rank(b) || place(a) - place(b));
  return chains.flat();
}

/** Moves between the end of a loop and its header, where the end can also leave the loop. */
function isBackEdgeBlock(position: Map<MBlock, number>, block: MBlock): boolean {
  const only = block.preds[0];
  const header = block.succs[0];
  if (!header || at(position, header) >= at(position, block)) return false;
  return (
    block.preds.length === 1 &&
    only !== undefined &&
    only.succs.length > 1 &&
    block.insts.every((inst) => inst.op === "mov" || inst.op === "jmp" || inst.op === "xchg")
  );
}

function at(position: Map<MBlock, number>, block: MBlock): number {
  return position.get(block) as number;
}

/** How often the edge is taken, as far as the frequencies of its ends tell. */
function weight(from: MBlock, to: MBlock): number {
  return Math.min(edgeFrequency(from, to), from.frequency, to.frequency);
}

/** Everything behind the last block that is not cold. */
function markCold(func: MFunc): void {
  for (let i = func.blocks.length - 1; i > 0; i--) {
    const block = func.blocks[i] as MBlock;
    if (block.frequency >= COLD_FREQUENCY) return;
    block.cold = true;
  }
}

function fallThrough(block: MBlock, next: MBlock | undefined): void {
  const following = next && next.cold === block.cold ? next : undefined;
  const last = block.insts[block.insts.length - 1] as Inst;
  const branch = block.insts[block.insts.length - 2];
  if (last.op !== "jmp") return;
  if (last.target === following) block.insts.pop();
  else if (branch?.op === "jcc" && branch.target === following) {
    branch.cond = invert(branch.cond as NonNullable<Inst["cond"]>);
    branch.target = last.target;
    block.insts.pop();
  } else if (branch?.op === "jcc" && weight(block, last.target as MBlock) > weight(block, branch.target as MBlock)) {
    // Neither follows: the frequent way takes one jump, the other two.
    branch.cond = invert(branch.cond as NonNullable<Inst["cond"]>);
    [branch.target, last.target] = [last.target, branch.target];
  }
}
