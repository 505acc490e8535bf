/**
 * What may run on a way that comes back: questions over the call graph, answered on the safe side. A way that the code
 * could take counts, whatever the data say; an indirect call reaches every function of its type in the table.
 */

import { buildCallGraph, type CallGraph } from "./backend/callgraph.ts";
import { effectsOf } from "./intrinsics.ts";
import type { Block, Func, Module, Value } from "./ir.ts";
import { successors } from "./ssa.ts";

export class Paths {
  private readonly graph: CallGraph;
  private readonly byIndex: Map<number, Func>;
  private readonly returning = new Map<Func, Set<Block>>();

  constructor(module: Module) {
    this.graph = buildCallGraph(module);
    this.byIndex = new Map(module.funcs.map((f) => [f.index, f]));
    // Callees come first; those on a cycle are taken to return.
    for (const func of this.graph.order) this.returning.set(func, this.findReturning(func));
  }

  /** Functions that the value may enter; none if it is no call, or one of an intrinsic. */
  callees(value: Value): Func[] {
    if (value.op === "call_indirect") return this.graph.byType.get(value.index as number) ?? [];
    const callee = value.op === "call" ? this.byIndex.get(value.index as number) : undefined;
    return callee ? [callee] : [];
  }

  /** Blocks on a way from the function's entry to a return: what ends in a panic is none of them. */
  blocksThatReturn(func: Func): Set<Block> {
    return this.returning.get(func) ?? new Set();
  }

  /** Functions that execute the intrinsic, themselves or in what they call. */
  functionsWith(intrinsic: string): Set<Func> {
    const found = new Set<Func>();
    for (const func of this.graph.order)
      if (func.blocks.some((b) => this.executes(b, intrinsic, found))) found.add(func);
    return found;
  }

  /** Blocks of `func` on a way from one execution of the intrinsic, in it or below it, to the next that does not leave `func`. */
  blocksBetween(func: Func, intrinsic: string): Set<Block> {
    const users = this.functionsWith(intrinsic);
    const between = new Set<Block>();
    for (const site of func.blocks.filter((b) => this.executes(b, intrinsic, users))) {
      const after = reach(
        successors(site.terminator),
        (b) => successors(b.terminator),
        (b) => this.passes(b),
      );
      if (!after.has(site)) continue;
      const before = reach(
        [site],
        (b) => b.preds,
        (b) => this.passes(b),
      );
      for (const block of after) if (before.has(block)) between.add(block);
    }
    return between;
  }

  private executes(block: Block, intrinsic: string, users: Set<Func>): boolean {
    return block.body.some((v) =>
      v.op === "intrinsic" ? v.name === intrinsic : this.callees(v).some((callee) => users.has(callee)),
    );
  }

  private findReturning(func: Func): Set<Block> {
    const forward = reach(
      func.blocks.slice(0, 1),
      (b) => successors(b.terminator),
      (b) => this.passes(b),
    );
    const ends = [...forward].filter((b) => b.terminator.kind === "return");
    return reach(
      ends,
      (b) => b.preds,
      (b) => forward.has(b),
    );
  }

  /** Does control get from the block's start to its end? Not if it calls what never returns. */
  private passes(block: Block): boolean {
    return block.body.every((v) => {
      if (v.op === "intrinsic") return !effectsOf(v.name as string).noreturn;
      const callees = this.callees(v);
      return callees.length === 0 || callees.some((callee) => this.returning.get(callee)?.size !== 0);
    });
  }
}

/** What `next` leads to from `from`, over blocks that `admits` lets in. */
function reach(from: Block[], next: (b: Block) => Block[], admits: (b: Block) => boolean): Set<Block> {
  const found = new Set<Block>();
  const work = [...from];
  for (let block = work.pop(); block !== undefined; block = work.pop()) {
    if (found.has(block) || !admits(block)) continue;
    found.add(block);
    work.push(...next(block));
  }
  return found;
}
