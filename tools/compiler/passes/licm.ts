// Loop-invariant code: what computes the same in every iteration moves before the loop. A load moves
// only if nothing in the loop writes its place and it is executed whenever the loop is entered, before
// anything else that could trap or be seen.

import { isPlainLoad, isPlainStore, isPure, mayTrap, type Summaries } from "../effects.ts";
import type { Block, Func, Op, Type, Value } from "../ir.ts";
import { findLoops, type Loop, preheaderOf } from "../loops.ts";
import { newConst, reversePostorder, terminatorArgs } from "../ssa.ts";
import { mayOverlap, placeOf } from "./gvn.ts";

export function hoistInvariants(func: Func, summaries: Summaries): boolean {
  const loops = findLoops(func);
  if (loops.length === 0) return false;
  for (const loop of loops) preheaderOf(func, loop);
  func.blocks = reversePostorder(func);
  const folded = foldedUses(func);
  let changed = false;
  // Loops come inner first: what leaves an inner loop may leave the outer one next.
  for (const loop of findLoops(func)) changed = new Hoisting(func, loop, summaries, folded).run() || changed;
  return changed;
}

class Hoisting {
  private readonly preheader: Block;
  private readonly order: Block[];
  private readonly writes: Value[] = [];
  private writesGlobals = false;
  private readonly func: Func;
  private readonly loop: Loop;
  private readonly summaries: Summaries;
  private readonly folded: Set<Value>;

  constructor(func: Func, loop: Loop, summaries: Summaries, folded: Set<Value>) {
    this.func = func;
    this.loop = loop;
    this.summaries = summaries;
    this.folded = folded;
    this.preheader = preheaderOf(func, loop);
    this.order = func.blocks.filter((block) => loop.blocks.has(block));
    for (const block of this.order) for (const value of block.body) this.note(value);
  }

  private note(value: Value): void {
    const summary = this.summaries.of(value);
    if (summary.writesMemory) this.writes.push(value);
    this.writesGlobals ||= summary.writesGlobals;
  }

  run(): boolean {
    const certain = this.certainLoads();
    let changed = false;
    for (const block of this.order) {
      const kept: Value[] = [];
      for (const value of block.body) {
        if (this.isInvariant(value) && this.mayMove(value, certain)) {
          this.move(value);
          changed = true;
        } else kept.push(value);
      }
      block.body = kept;
    }
    return changed;
  }

  private move(value: Value): void {
    value.args = value.args.map((arg) => (this.loop.blocks.has(arg.block) ? this.constant(arg) : arg));
    value.block = this.preheader;
    this.preheader.body.push(value);
  }

  /** Constants in the loop are no obstacle: copies of them come along. */
  private isInvariant(value: Value): boolean {
    return value.args.every((arg) => !this.loop.blocks.has(arg.block) || arg.op === "const");
  }

  private constant(value: Value): Value {
    const copy = newConst(this.func, this.preheader, value.type as Type, value.imm as bigint, value.loc);
    this.preheader.body.push(copy);
    return copy;
  }

  private mayMove(value: Value, certain: Set<Value>): boolean {
    if (value.op === "const" || value.op === "param" || value.op === "proj") return false;
    const movable = isPure(value)
      ? !this.folded.has(value)
      : value.op === "global_get"
        ? !this.writesGlobals
        : isPlainLoad(value) && certain.has(value) && !this.isWritten(value);
    return movable;
  }

  private isWritten(load: Value): boolean {
    const place = placeOf(load);
    return this.writes.some((write) => !isPlainStore(write) || mayOverlap(placeOf(write), place));
  }

  /** Loads at the start of the loop that no effect, other trap or decision precedes. */
  private certainLoads(): Set<Value> {
    const certain = new Set<Value>();
    for (let block: Block | null = this.loop.header; block !== null; block = this.onlyNext(block)) {
      for (const value of block.body) {
        if (isPlainLoad(value)) certain.add(value);
        else if (!isPure(value) && (mayTrap(value) || value.op === "global_set")) return certain;
      }
    }
    return certain;
  }

  private onlyNext(block: Block): Block | null {
    const t = block.terminator;
    const inside = t.kind === "jump" && this.loop.blocks.has(t.target) && t.target !== this.loop.header;
    return inside && t.target.preds.length === 1 ? t.target : null;
  }
}

// ---- What selection folds into its users and is better left beside them

const TESTS = new Set<Op>(["eq", "ne", "lt_s", "lt_u", "le_s", "le_u", "gt_s", "gt_u", "ge_s", "ge_u", "eqz"]);
const CASTS = new Set<Op>(["wrap", "zext"]);

/** Compares that only decide branches and selects, constant displacements of addresses, casts that cost nothing. */
function foldedUses(func: Func): Set<Value> {
  const other = new Set<Value>();
  const asAddress = new Set<Value>();
  for (const block of func.blocks) {
    for (const phi of block.phis) for (const arg of phi.args) other.add(arg);
    for (const value of block.body) {
      value.args.forEach((arg, i) => {
        if (i === 0 && value.mem !== undefined) asAddress.add(arg);
        else if (!(i === 0 && value.op === "select" && TESTS.has(arg.op))) other.add(arg);
      });
    }
    for (const arg of terminatorArgs(block.terminator)) if (!TESTS.has(arg.op)) other.add(arg);
  }
  const folded = new Set<Value>();
  for (const block of func.blocks) {
    for (const value of block.body) {
      const displacement = value.op === "add" && value.args[1]?.op === "const" && asAddress.has(value);
      if (CASTS.has(value.op) || ((TESTS.has(value.op) || displacement) && !other.has(value))) folded.add(value);
    }
  }
  return folded;
}
