// Duplicating a block for some of its predecessors, and repairing SSA afterwards: what loop rotation
// and jump threading are made of.

import type { Block, Func, Terminator, Value } from "./ir.ts";
import { retarget } from "./loops.ts";
import { mapTerminatorArgs, newBlock, newValue, successors } from "./ssa.ts";

/** A copy of a value without its place: arguments are mapped. */
export function cloneValue(func: Func, block: Block, value: Value, map: (arg: Value) => Value): Value {
  const copy = newValue(func, block, value.op, value.type, value.args.map(map), value.loc);
  copy.imm = value.imm;
  copy.index = value.index;
  copy.mem = value.mem;
  copy.rmw = value.rmw;
  copy.name = value.name;
  copy.results = value.results;
  return copy;
}

export function cloneTerminator(t: Terminator, map: (arg: Value) => Value): Terminator {
  const copy = { ...t };
  if (copy.kind === "switch") copy.targets = [...copy.targets];
  if (copy.kind === "return") copy.values = [...copy.values];
  mapTerminatorArgs(copy, map);
  return copy;
}

/**
 * Gives the predecessors that `chosen` picks a copy of `block` of their own, and repairs the uses of
 * its values everywhere. The copy is put behind the block in func.blocks.
 */
export function duplicateFor(func: Func, block: Block, chosen: (pred: Block) => boolean): Block {
  const copy = newBlock(func);
  const copies = new Map<Value, Value>();
  const map = (value: Value) => copies.get(value) ?? value;
  const moved = block.preds.map(chosen);
  copy.preds = block.preds.filter((_, i) => moved[i]);
  for (const phi of block.phis) {
    const twin = newValue(
      func,
      copy,
      "phi",
      phi.type,
      phi.args.filter((_, i) => moved[i]),
      phi.loc,
    );
    phi.args = phi.args.filter((_, i) => !moved[i]);
    copy.phis.push(twin);
    copies.set(phi, twin);
  }
  block.preds = block.preds.filter((_, i) => !moved[i]);
  for (const value of block.body) {
    const twin = cloneValue(func, copy, value, map);
    copy.body.push(twin);
    copies.set(value, twin);
  }
  copy.terminator = cloneTerminator(block.terminator, map);
  for (const target of new Set(successors(copy.terminator))) addEdges(block, copy, target, map);
  for (const pred of new Set(copy.preds)) retarget(pred, block, copy);
  func.blocks.splice(func.blocks.indexOf(block) + 1, 0, copy);
  repair(func, block, copy, copies);
  return copy;
}

/** The copy leads to `target` as often as the block does, with the copied values. */
function addEdges(block: Block, copy: Block, target: Block, map: (value: Value) => Value): void {
  const edges = target.preds.flatMap((pred, i) => (pred === block ? [i] : []));
  for (const edge of edges) {
    target.preds.push(copy);
    for (const phi of target.phis) phi.args.push(map(phi.args[edge] as Value));
  }
}

/** Every value of `block` has two definitions now: uses elsewhere take the one that reaches them, through phis. */
function repair(func: Func, block: Block, copy: Block, copies: Map<Value, Value>): void {
  const repairs = new Map<Value, Reaching>();
  const reaching = (value: Value, at: Block, atEnd: boolean): Value => {
    const twin = copies.get(value);
    if (twin === undefined) return value;
    let state = repairs.get(value);
    if (state === undefined) {
      state = new Reaching(func, value, block, copy, twin);
      repairs.set(value, state);
    }
    return atEnd ? state.atEnd(at) : state.atStart(at);
  };
  for (const user of [...func.blocks]) {
    for (const phi of [...user.phis]) {
      for (let i = 0; i < phi.args.length; i++)
        phi.args[i] = reaching(phi.args[i] as Value, user.preds[i] as Block, true);
    }
    if (user === block || user === copy) continue;
    for (const value of user.body) {
      for (let i = 0; i < value.args.length; i++) value.args[i] = reaching(value.args[i] as Value, user, false);
    }
    mapTerminatorArgs(user.terminator, (value) => reaching(value, user, false));
  }
}

/** Which of two definitions of a variable reaches a block; phis are made where both do. */
class Reaching {
  private readonly ends = new Map<Block, Value>();
  private readonly starts = new Map<Block, Value>();
  private readonly func: Func;
  private readonly value: Value;

  constructor(func: Func, value: Value, block: Block, copy: Block, twin: Value) {
    this.func = func;
    this.value = value;
    this.ends.set(block, value);
    this.ends.set(copy, twin);
  }

  atEnd(block: Block): Value {
    return this.ends.get(block) ?? this.atStart(block);
  }

  atStart(start: Block): Value {
    let block = start;
    for (;;) {
      const known = this.starts.get(block);
      if (known !== undefined) return known;
      const only = block.preds.length === 1 ? (block.preds[0] as Block) : null;
      if (only === null) return this.join(block);
      const end = this.ends.get(only);
      if (end !== undefined) return end;
      block = only;
    }
  }

  private join(block: Block): Value {
    if (block.preds.length === 0) return this.value; // unreachable
    const phi = newValue(this.func, block, "phi", this.value.type, [], this.value.loc);
    this.starts.set(block, phi);
    block.phis.push(phi);
    phi.args = block.preds.map((pred) => this.atEnd(pred));
    return phi;
  }
}
