/**
 * What the shape of the control flow says: an order of blocks with loops contiguous, dominators,
 * loop nesting and estimated execution frequencies.
 */

import type { Block, Func, Terminator } from "../ir.ts";

export interface Flow {
  /** Reverse postorder; unreachable blocks are left out. */
  order: Block[];
  position: Map<Block, number>;
  idom: Map<Block, Block>;
  /** Innermost loop header of a block. */
  header: Map<Block, Block>;
  depth: Map<Block, number>;
  frequency: Map<Block, number>;
  /** Probability that `from` goes on to `to`. */
  probability: (from: Block, to: Block) => number;
}

const LOOP_TRIPS = 10;
const LIKELY = 0.95;
const RARE = 0.001;

export function successors(terminator: Terminator): Block[] {
  switch (terminator.kind) {
    case "jump":
      return [terminator.target];
    case "branch":
      return [terminator.then, terminator.otherwise];
    case "switch":
      return [...new Set([...terminator.targets, terminator.fallback])];
    default:
      return [];
  }
}

export function analyseFlow(func: Func): Flow {
  const first = reversePostorder(func, () => 0);
  const loops = findLoops(first, dominators(first));
  // A second walk that knows the loops keeps each of them together: what leaves a loop is visited first, so it comes last.
  const order = reversePostorder(func, (from, to) => exitLevels(loops, from, to));
  const position = new Map(order.map((b, i) => [b, i]));
  const probability = branchProbability(loops);
  return {
    order,
    position,
    idom: loops.idom,
    header: loops.header,
    depth: loops.depth,
    probability,
    frequency: frequencies(order, loops, probability),
  };
}

function reversePostorder(func: Func, priority: (from: Block, to: Block) => number): Block[] {
  const entry = func.blocks[0] as Block;
  const seen = new Set<Block>([entry]);
  const post: Block[] = [];
  const next = (b: Block): Block[] => {
    const list = successors(b.terminator);
    const rank = list.map((s, i) => [priority(b, s), i, s] as const);
    // Most exiting first; of equals the later successor first, so that the earlier one follows its predecessor.
    return rank.sort((x, y) => y[0] - x[0] || y[1] - x[1]).map((r) => r[2]);
  };
  const stack: { block: Block; rest: Block[] }[] = [{ block: entry, rest: next(entry) }];
  while (stack.length > 0) {
    const top = stack[stack.length - 1] as { block: Block; rest: Block[] };
    const child = top.rest.shift();
    if (!child) {
      post.push(top.block);
      stack.pop();
    } else if (!seen.has(child)) {
      seen.add(child);
      stack.push({ block: child, rest: next(child) });
    }
  }
  return post.reverse();
}

/** Cooper, Harvey, Kennedy: iterates intersections over the reverse postorder. */
function dominators(order: Block[]): Map<Block, Block> {
  const position = new Map(order.map((b, i) => [b, i]));
  const at = (b: Block): number => position.get(b) as number;
  const idom = new Map<Block, Block>([[order[0] as Block, order[0] as Block]]);
  const intersect = (a: Block, b: Block): Block => {
    while (a !== b) {
      while (at(a) > at(b)) a = idom.get(a) as Block;
      while (at(b) > at(a)) b = idom.get(b) as Block;
    }
    return a;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order.slice(1)) {
      const known = block.preds.filter((p) => idom.has(p));
      const best = known.reduce((a, b) => intersect(a, b));
      if (idom.get(block) !== best) {
        idom.set(block, best);
        changed = true;
      }
    }
  }
  return idom;
}

interface Loops {
  idom: Map<Block, Block>;
  header: Map<Block, Block>;
  depth: Map<Block, number>;
  members: Map<Block, Set<Block>>;
}

export function dominates(idom: Map<Block, Block>, a: Block, b: Block): boolean {
  for (let at = b; ; ) {
    if (at === a) return true;
    const up = idom.get(at) as Block;
    if (up === at) return false;
    at = up;
  }
}

function findLoops(order: Block[], idom: Map<Block, Block>): Loops {
  const members = new Map<Block, Set<Block>>();
  for (const block of order) {
    for (const target of successors(block.terminator)) {
      if (dominates(idom, target, block)) addLoop(members, target, block);
    }
  }
  const header = new Map<Block, Block>();
  const depth = new Map<Block, number>(order.map((b) => [b, 0]));
  const bySize = [...members].sort((a, b) => b[1].size - a[1].size);
  for (const [head, body] of bySize) {
    for (const block of body) {
      header.set(block, head);
      depth.set(block, (depth.get(block) as number) + 1);
    }
  }
  return { idom, header, depth, members };
}

function addLoop(members: Map<Block, Set<Block>>, header: Block, latch: Block): void {
  const body = members.get(header) ?? new Set([header]);
  members.set(header, body);
  const work = [latch];
  while (work.length > 0) {
    const block = work.pop() as Block;
    if (body.has(block)) continue;
    body.add(block);
    work.push(...block.preds);
  }
}

/** How many loops the edge leaves. */
function exitLevels(loops: Loops, from: Block, to: Block): number {
  let count = 0;
  for (const body of loops.members.values()) if (body.has(from) && !body.has(to)) count++;
  return count;
}

/** Ends in a trap, so that nobody expects to come here. */
function isTrapping(block: Block): boolean {
  return block.terminator.kind === "trap";
}

function branchProbability(loops: Loops): (from: Block, to: Block) => number {
  return (from, to) => {
    const t = from.terminator;
    if (t.kind === "switch") return switchProbability(t, to);
    if (t.kind !== "branch") return 1;
    const then = thenProbability(loops, from, t);
    return to === t.then ? then : 1 - then;
  };
}

function switchProbability(t: Extract<Terminator, { kind: "switch" }>, to: Block): number {
  const share = 1 / (t.targets.length + 1);
  return (t.targets.filter((x) => x === to).length + (t.fallback === to ? 1 : 0)) * share;
}

function thenProbability(loops: Loops, from: Block, t: Extract<Terminator, { kind: "branch" }>): number {
  if (isTrapping(t.then) !== isTrapping(t.otherwise)) return isTrapping(t.then) ? RARE : 1 - RARE;
  if (t.likely !== undefined) return t.likely ? LIKELY : 1 - LIKELY;
  const leaves = exitLevels(loops, from, t.then) - exitLevels(loops, from, t.otherwise);
  if (leaves !== 0) return leaves > 0 ? 1 / LOOP_TRIPS : 1 - 1 / LOOP_TRIPS;
  return 0.5;
}

function frequencies(order: Block[], loops: Loops, probability: Flow["probability"]): Map<Block, number> {
  const frequency = new Map<Block, number>();
  for (const block of order) {
    let sum = block === order[0] ? 1 : 0;
    for (const pred of new Set(block.preds)) sum += (frequency.get(pred) ?? 0) * probability(pred, block);
    frequency.set(block, loops.members.has(block) ? sum * LOOP_TRIPS : sum);
  }
  return frequency;
}
