// Small operations on the SSA form that every pass needs: making values, following and changing
// edges, replacing values.

import type { Block, Func, Loc, Op, Terminator, Type, Value } from "./ir.ts";

export function newBlock(func: Func): Block {
  return {
    id: func.nextId++,
    phis: [],
    body: [],
    terminator: { kind: "trap", trap: 0, loc: null },
    preds: [],
    loopDepth: 0,
    frequency: 1,
  };
}

/** A value that stands nowhere yet: the caller puts it into `block.body` or `block.phis`. */
export function newValue(func: Func, block: Block, op: Op, type: Type | null, args: Value[], loc: Loc | null): Value {
  return { id: func.nextId++, op, type, args, block, loc };
}

export function newConst(func: Func, block: Block, type: Type, value: bigint, loc: Loc | null = null): Value {
  const result = newValue(func, block, "const", type, [], loc);
  result.imm = BigInt.asUintN(widthOf(type), value);
  return result;
}

export function widthOf(type: Type): 32 | 64 {
  return type === "i32" ? 32 : 64;
}

/** Successors in edge order; one that occurs twice is listed twice. */
export function successors(terminator: Terminator): Block[] {
  switch (terminator.kind) {
    case "jump":
      return [terminator.target];
    case "branch":
      return [terminator.then, terminator.otherwise];
    case "switch":
      return [...terminator.targets, terminator.fallback];
    default:
      return [];
  }
}

/** Values that a terminator reads. */
export function terminatorArgs(terminator: Terminator): Value[] {
  switch (terminator.kind) {
    case "branch":
      return [terminator.condition];
    case "switch":
      return [terminator.index];
    case "return":
      return terminator.values;
    default:
      return [];
  }
}

export function mapTerminatorArgs(terminator: Terminator, map: (value: Value) => Value): void {
  if (terminator.kind === "branch") terminator.condition = map(terminator.condition);
  else if (terminator.kind === "switch") terminator.index = map(terminator.index);
  else if (terminator.kind === "return") {
    const values = terminator.values;
    for (let i = 0; i < values.length; i++) values[i] = map(values[i] as Value);
  }
}

export function mapTargets(terminator: Terminator, map: (block: Block) => Block): void {
  if (terminator.kind === "jump") terminator.target = map(terminator.target);
  else if (terminator.kind === "branch") {
    terminator.then = map(terminator.then);
    terminator.otherwise = map(terminator.otherwise);
  } else if (terminator.kind === "switch") {
    terminator.targets = terminator.targets.map(map);
    terminator.fallback = map(terminator.fallback);
  }
}

/** Removes one edge from `pred` to `block` on the side of `block`: the predecessor and its phi arguments. */
export function removePred(block: Block, pred: Block): void {
  const position = block.preds.indexOf(pred);
  if (position < 0) throw new Error(`block ${pred.id} is no predecessor of block ${block.id}`);
  block.preds.splice(position, 1);
  for (const phi of block.phis) phi.args.splice(position, 1);
}

/** Replaces the terminator, keeping preds and phis of old and new successors right. New edges must need no new phi arguments. */
export function replaceTerminator(block: Block, terminator: Terminator): void {
  const gone = successors(block.terminator);
  for (const target of successors(terminator)) {
    const position = gone.indexOf(target);
    if (position >= 0) gone.splice(position, 1);
    else {
      if (target.phis.length > 0) throw new Error(`new edge from ${block.id} to ${target.id} needs phi arguments`);
      target.preds.push(block);
    }
  }
  for (const target of gone) removePred(target, block);
  block.terminator = terminator;
}

/** A jump or a branch: a branch whose two sides are equal becomes a jump. */
export function jumpTo(target: Block, loc: Loc | null): Terminator {
  return { kind: "jump", target, loc };
}

/** Replacements of values by others, followed to their end. */
export class Replacements {
  private readonly map = new Map<Value, Value>();

  get size(): number {
    return this.map.size;
  }

  set(from: Value, to: Value): void {
    this.map.set(from, to);
  }

  has(value: Value): boolean {
    return this.map.has(value);
  }

  resolve = (value: Value): Value => {
    let target = this.map.get(value);
    if (target === undefined) return value;
    for (let next = this.map.get(target); next !== undefined; next = this.map.get(target)) target = next;
    this.map.set(value, target);
    return target;
  };

  /** Rewrites every use and takes the replaced values out of their blocks. */
  apply(func: Func): void {
    if (this.map.size === 0) return;
    for (const block of func.blocks) {
      if (block.phis.some((phi) => this.map.has(phi))) block.phis = block.phis.filter((phi) => !this.map.has(phi));
      if (block.body.some((value) => this.map.has(value))) {
        block.body = block.body.filter((value) => !this.map.has(value));
      }
      for (const phi of block.phis) this.rewrite(phi.args);
      for (const value of block.body) this.rewrite(value.args);
      mapTerminatorArgs(block.terminator, this.resolve);
    }
  }

  private rewrite(args: Value[]): void {
    for (let i = 0; i < args.length; i++) args[i] = this.resolve(args[i] as Value);
  }
}

/** How many times each value is used, by id. */
export function countUses(func: Func): Uint32Array {
  const uses = new Uint32Array(func.nextId);
  const count = (value: Value) => {
    (uses[value.id] as number)++;
  };
  for (const block of func.blocks) {
    for (const phi of block.phis) phi.args.forEach(count);
    for (const value of block.body) value.args.forEach(count);
    terminatorArgs(block.terminator).forEach(count);
  }
  return uses;
}

/** Blocks reachable from the entry in reverse postorder. */
export function reversePostorder(func: Func): Block[] {
  const order: Block[] = [];
  const seen = new Set<Block>();
  const entry = func.blocks[0] as Block;
  const stack: { block: Block; next: Block[] }[] = [{ block: entry, next: successors(entry.terminator) }];
  seen.add(entry);
  while (stack.length > 0) {
    const top = stack[stack.length - 1] as { block: Block; next: Block[] };
    // The last successor first: then the first one follows its predecessor directly in the result.
    const next = top.next.pop();
    if (next === undefined) {
      order.push(top.block);
      stack.pop();
    } else if (!seen.has(next)) {
      seen.add(next);
      stack.push({ block: next, next: successors(next.terminator) });
    }
  }
  return order.reverse();
}

/** Drops unreachable blocks and puts the rest into reverse postorder. */
export function dropUnreachable(func: Func): boolean {
  const order = reversePostorder(func);
  const reachable = new Set(order);
  const changed = order.length !== func.blocks.length;
  if (changed) {
    for (const block of func.blocks) {
      if (reachable.has(block)) continue;
      for (const target of successors(block.terminator)) if (reachable.has(target)) removePred(target, block);
    }
  }
  func.blocks = order;
  return changed;
}
