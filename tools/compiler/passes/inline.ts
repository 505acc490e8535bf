// Inlining, callees first: small functions everywhere, larger ones where they are called only once or
// from a loop. What a function weighs is counted after its own optimisation.

import { buildCallGraph } from "../backend/callgraph.ts";
import { cloneTerminator, cloneValue } from "../duplicate.ts";
import type { Block, Func, Module, Terminator, Value } from "../ir.ts";
import { findLoops, loopOfBlocks } from "../loops.ts";
import { dropUnreachable, mapTargets, newBlock, newValue, Replacements, successors } from "../ssa.ts";

/** Weights up to which a callee is inlined. */
const LEAF = 14;
const IN_LOOP = 40;
const ONCE = 250;
/** A function takes in its own recursive calls until it weighs this. */
const RECURSIVE = 220;
/** A caller that has grown to this takes in only the smallest. */
const LARGE_CALLER = 3000;

export class Inliner {
  private readonly byIndex: Map<number, Func>;
  private readonly cyclic: Set<Func>;
  private readonly weights = new Map<Func, number>();
  private readonly callCounts = new Map<number, number>();

  constructor(module: Module) {
    this.byIndex = new Map(module.funcs.map((f) => [f.index, f]));
    this.cyclic = buildCallGraph(module).cyclic;
    for (const func of module.funcs) {
      for (const block of func.blocks) {
        for (const v of block.body) {
          if (v.op === "call")
            this.callCounts.set(v.index as number, (this.callCounts.get(v.index as number) ?? 0) + 1);
        }
      }
    }
  }

  /** Inlines into `func` what pays. Its callees must have been through their passes. */
  run(func: Func): boolean {
    this.weights.delete(func);
    const inner = loopOfBlocks(findLoops(func));
    for (const block of func.blocks) block.loopDepth = inner.get(block)?.depth ?? 0;
    let room = LARGE_CALLER - this.weightOf(func);
    let changed = false;
    for (const block of [...func.blocks]) {
      // What stands behind an inlined call moves to a new block, where the search goes on.
      for (let at: Block | null = block; at !== null; ) {
        const call: Value | undefined = at.body.find((v) => this.pays(v, func, block, room));
        if (call === undefined) break;
        const callee = this.byIndex.get(call.index as number) as Func;
        room -= this.weightOf(callee);
        at = inlineCall(func, at, call, callee);
        changed = true;
      }
    }
    if (changed) dropUnreachable(func);
    this.weights.delete(func);
    return changed;
  }

  /** Inlines recursive calls into the function itself: fewer, larger frames. */
  unrollRecursion(func: Func): boolean {
    const isSelf = (v: Value) => v.op === "call" && v.index === func.index;
    const calls = func.blocks.flatMap((block) => block.body.filter(isSelf));
    this.weights.delete(func);
    const weight = this.weightOf(func);
    if (calls.length === 0 || 2 * weight > RECURSIVE) return false;
    const original = copyOf(func);
    // Breadth first: each round takes in what the round before brought.
    let total = weight;
    for (let round = calls; round.length > 0 && total + weight <= RECURSIVE; ) {
      const before = new Set(func.blocks);
      for (const call of round) {
        if (total + weight > RECURSIVE) break;
        inlineCall(func, call.block, call, original);
        total += weight;
      }
      round = func.blocks
        .filter((b) => !before.has(b))
        .flatMap((b) => b.body.filter((v) => isSelf(v) && !round.includes(v)));
    }
    dropUnreachable(func);
    this.weights.delete(func);
    return true;
  }

  private pays(v: Value, caller: Func, block: Block, room: number): boolean {
    if (v.op !== "call") return false;
    const callee = this.byIndex.get(v.index as number);
    if (callee === undefined || callee === caller || callee.unsupported || this.cyclic.has(callee)) return false;
    const weight = this.weightOf(callee);
    if (weight <= LEAF) return true;
    if (weight > room) return false;
    const once = this.callCounts.get(callee.index) === 1 && callee.exports.length === 0 && !callee.inTable;
    if (once) return weight <= ONCE;
    return block.loopDepth > 0 && weight <= IN_LOOP;
  }

  /** About the number of instructions. */
  private weightOf(func: Func): number {
    let weight = this.weights.get(func);
    if (weight === undefined) {
      weight = 0;
      for (const block of func.blocks) {
        weight += block.terminator.kind === "return" ? 0 : 1;
        for (const v of block.body) weight += v.op === "const" || v.op === "param" ? 0 : v.op === "call" ? 4 : 1;
      }
      this.weights.set(func, weight);
    }
    return weight;
  }
}

/** The function as it is now. */
function copyOf(func: Func): Func {
  const copy: Func = { ...func, blocks: [] };
  const blocks = new Map<Block, Block>(func.blocks.map((b) => [b, newBlock(copy)]));
  const values = new Map<Value, Value>();
  const same = (value: Value) => value;
  for (const [original, twin] of blocks) {
    for (const [list, to] of [
      [original.phis, twin.phis],
      [original.body, twin.body],
    ] as [Value[], Value[]][]) {
      for (const value of list) {
        const made = cloneValue(copy, twin, value, same);
        values.set(value, made);
        to.push(made);
      }
    }
    twin.preds = original.preds.map((pred) => blocks.get(pred) as Block);
    twin.loopDepth = original.loopDepth;
  }
  const map = (value: Value) => values.get(value) ?? value;
  for (const [original, twin] of blocks) {
    for (const value of [...twin.phis, ...twin.body]) value.args = value.args.map(map);
    twin.terminator = cloneTerminator(original.terminator, map);
    mapTargets(twin.terminator, (block) => blocks.get(block) as Block);
  }
  copy.blocks = [...blocks.values()];
  return copy;
}

/** Replaces `call` in `block` by the callee's blocks. Returns the block that holds what came after it. */
function inlineCall(func: Func, block: Block, call: Value, callee: Func): Block {
  const after = splitAfter(func, block, call);
  const blocks = new Map<Block, Block>(callee.blocks.map((b) => [b, newBlock(func)]));
  const values = new Map<Value, Value>();
  const returns: { from: Block; values: Value[] }[] = [];
  copyBlocks(func, call.args, blocks, values);
  for (const [original, copy] of blocks) {
    copy.terminator = copyTerminator(original, copy, after, blocks, values, returns);
    copy.preds = original.preds.map((pred) => blocks.get(pred) as Block);
    copy.loopDepth = original.loopDepth + block.loopDepth;
  }
  const entry = blocks.get(callee.blocks[0] as Block) as Block;
  entry.preds = [block];
  block.terminator = { kind: "jump", target: entry, loc: call.loc };
  after.preds = returns.map((r) => r.from);
  func.blocks.splice(func.blocks.indexOf(block) + 1, 0, ...blocks.values(), after);
  replaceResults(func, call, callee, after, returns);
  return after;
}

/** Moves what stands behind `call` to a block of its own, and drops the call. */
function splitAfter(func: Func, block: Block, call: Value): Block {
  const after = newBlock(func);
  const at = block.body.indexOf(call);
  after.body = block.body.splice(at + 1);
  block.body.pop();
  for (const value of after.body) value.block = after;
  after.terminator = block.terminator;
  after.loopDepth = block.loopDepth;
  for (const target of new Set(successors(after.terminator))) {
    target.preds = target.preds.map((pred) => (pred === block ? after : pred));
  }
  return after;
}

function copyBlocks(func: Func, args: Value[], blocks: Map<Block, Block>, values: Map<Value, Value>): void {
  const same = (value: Value) => value;
  for (const [original, copy] of blocks) {
    for (const phi of original.phis) {
      const twin = cloneValue(func, copy, phi, same);
      values.set(phi, twin);
      copy.phis.push(twin);
    }
    for (const value of original.body) {
      if (value.op === "param") {
        values.set(value, args[Number(value.imm)] as Value);
        continue;
      }
      const twin = cloneValue(func, copy, value, same);
      values.set(value, twin);
      copy.body.push(twin);
    }
  }
  const map = (value: Value) => values.get(value) ?? value;
  for (const copy of blocks.values()) {
    for (const value of [...copy.phis, ...copy.body]) value.args = value.args.map(map);
  }
}

function copyTerminator(
  original: Block,
  copy: Block,
  after: Block,
  blocks: Map<Block, Block>,
  values: Map<Value, Value>,
  returns: { from: Block; values: Value[] }[],
): Terminator {
  const t = cloneTerminator(original.terminator, (value) => values.get(value) ?? value);
  const target = (block: Block) => blocks.get(block) as Block;
  if (t.kind === "return") {
    returns.push({ from: copy, values: t.values });
    return { kind: "jump", target: after, loc: t.loc };
  }
  mapTargets(t, target);
  return t;
}

/** The call's result, or its projections, become phis over the returns. */
function replaceResults(
  func: Func,
  call: Value,
  callee: Func,
  after: Block,
  returns: { from: Block; values: Value[] }[],
): void {
  if (callee.results.length === 0 || returns.length === 0) return;
  const results = callee.results.map((type, i) => {
    const phi = newValue(func, after, "phi", type, [], call.loc);
    phi.args = returns.map((r) => r.values[i] as Value);
    after.phis.push(phi);
    return phi;
  });
  const replacements = new Replacements();
  if (callee.results.length === 1) replacements.set(call, results[0] as Value);
  else {
    for (const block of func.blocks) {
      for (const v of block.body) {
        if (v.op === "proj" && v.args[0] === call) replacements.set(v, results[Number(v.imm)] as Value);
      }
    }
  }
  replacements.apply(func);
}
