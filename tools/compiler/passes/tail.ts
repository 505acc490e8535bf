// Self-recursion in tail position becomes a loop. A call whose result is only added to something (or
// multiplied, and so on) counts too, with an accumulator, as long as other calls keep the recursion
// bounded by the stack: f(n) = f(n - 1) + f(n - 2) loops over the second call.

import { isPure } from "../effects.ts";
import type { Block, Func, Op, Type, Value } from "../ir.ts";
import { newBlock, newConst, newValue, Replacements, removePred, successors } from "../ssa.ts";

export function loopTailCalls(func: Func): boolean {
  const calls = selfCalls(func);
  if (calls.length === 0 || func.results.length > 1) return false;
  let sites = calls.flatMap((call) => siteOf(func, call) ?? []);
  const accumulating = sites.find((site) => site.op !== null);
  if (accumulating !== undefined) {
    sites = sites.filter((site) => site.op === null || site.op === accumulating.op);
    if (sites.length === calls.length) sites = sites.filter((site) => site.op === null);
  }
  if (sites.length === 0 || !leavesWithout(func, sites)) return false;
  new Looping(func, sites).run();
  return true;
}

interface Site {
  block: Block;
  call: Value;
  /** What joins the result before it is returned, and with what; null: nothing. */
  op: Op | null;
  operand: Value | null;
}

const IDENTITY: Partial<Record<Op, bigint>> = { add: 0n, or: 0n, xor: 0n, mul: 1n, and: -1n };

function selfCalls(func: Func): Value[] {
  return func.blocks.flatMap((block) => block.body.filter((v) => v.op === "call" && v.index === func.index));
}

/** The value that the block returns, directly or through a block that only returns; undefined: none, null: nothing to return. */
function returned(block: Block): Value | null | undefined {
  const t = block.terminator;
  if (t.kind === "return") return t.values[0] ?? null;
  if (t.kind !== "jump" || t.target.body.length > 0 || t.target.terminator.kind !== "return") return undefined;
  const value = t.target.terminator.values[0];
  if (value === undefined) return null;
  if (value.block !== t.target) return value;
  return value.args[t.target.preds.indexOf(block)];
}

function siteOf(func: Func, call: Value): Site | null {
  const block = call.block;
  const result = returned(block);
  if (result === undefined) return null;
  const after = block.body.slice(block.body.indexOf(call) + 1);
  if (func.results.length === 0) return after.every(isPure) ? { block, call, op: null, operand: null } : null;
  if (result === call) return after.every(isPure) ? { block, call, op: null, operand: null } : null;
  if (result === null || !(result.op in IDENTITY) || result.block !== block || !after.every(isPure)) return null;
  const operand = result.args[0] === call ? result.args[1] : result.args[1] === call ? result.args[0] : undefined;
  const others = after.filter((v) => v !== result && v.args.includes(call));
  if (operand === undefined || operand === call || others.length > 0) return null;
  return { block, call, op: result.op, operand };
}

/** Can the function return without passing a site? Otherwise it recurses for ever, which must end in a trap. */
function leavesWithout(func: Func, sites: Site[]): boolean {
  const blocked = new Set(sites.map((site) => site.block));
  const seen = new Set<Block>();
  const work = [func.blocks[0] as Block];
  for (let block = work.pop(); block !== undefined; block = work.pop()) {
    if (seen.has(block) || blocked.has(block)) continue;
    seen.add(block);
    if (block.terminator.kind === "return") return true;
    work.push(...successors(block.terminator));
  }
  return false;
}

class Looping {
  private readonly entry: Block;
  private readonly header: Block;
  private readonly params: Value[];
  private readonly accumulator: Value | null;
  private readonly op: Op | null;
  private readonly func: Func;
  private readonly sites: Site[];

  constructor(func: Func, sites: Site[]) {
    this.func = func;
    this.sites = sites;
    this.header = func.blocks[0] as Block;
    this.entry = newBlock(func);
    this.entry.terminator = { kind: "jump", target: this.header, loc: func.loc };
    this.header.preds.push(this.entry);
    func.blocks.unshift(this.entry);
    this.params = this.loopParams();
    this.op = sites.find((site) => site.op !== null)?.op ?? null;
    this.accumulator = this.op === null ? null : this.makeAccumulator(this.op);
  }

  /** Parameters move to the new entry; the body sees phis. */
  private loopParams(): Value[] {
    const { func, entry, header } = this;
    const replacements = new Replacements();
    const existing = header.body.filter((v) => v.op === "param");
    header.body = header.body.filter((v) => v.op !== "param");
    const phis = func.params.map((type, i) => {
      const param = newValue(func, entry, "param", type, [], func.loc);
      param.imm = BigInt(i);
      entry.body.push(param);
      const phi = newValue(func, header, "phi", type, [param], func.loc);
      header.phis.push(phi);
      for (const old of existing) if (Number(old.imm) === i) replacements.set(old, phi);
      return phi;
    });
    replacements.apply(func);
    for (const site of this.sites) if (site.operand !== null) site.operand = replacements.resolve(site.operand);
    return phis;
  }

  private makeAccumulator(op: Op): Value {
    const type = this.func.results[0] as Type;
    const start = newConst(this.func, this.entry, type, IDENTITY[op] as bigint);
    this.entry.body.push(start);
    const phi = newValue(this.func, this.header, "phi", type, [start], this.func.loc);
    this.header.phis.push(phi);
    return phi;
  }

  run(): void {
    const blocks = new Set(this.sites.map((site) => site.block));
    if (this.accumulator !== null) for (const block of [...this.func.blocks]) this.accumulateReturn(block, blocks);
    for (const site of this.sites) this.loop(site);
  }

  /** What other paths return joins what was accumulated. */
  private accumulateReturn(block: Block, sites: Set<Block>): void {
    const t = block.terminator;
    if (t.kind !== "return" || sites.has(block)) return;
    t.values = [this.join(block, t.values[0] as Value)];
  }

  private join(block: Block, value: Value): Value {
    const joined = newValue(
      this.func,
      block,
      this.op as Op,
      value.type,
      [this.accumulator as Value, value],
      block.terminator.loc,
    );
    block.body.push(joined);
    return joined;
  }

  private loop({ block, call, operand }: Site): void {
    for (const target of new Set(successors(block.terminator))) removePred(target, block);
    const args = call.args;
    const at = block.body.indexOf(call);
    // What follows the call depends on it or is dead, but for the operand's own sources.
    block.body = block.body.filter((v, i) => i < at || (v !== call && !v.args.includes(call)));
    const accumulated =
      this.accumulator === null ? [] : [operand === null ? this.accumulator : this.join(block, operand)];
    block.terminator = { kind: "jump", target: this.header, loc: call.loc };
    this.header.preds.push(block);
    this.params.forEach((phi, i) => {
      phi.args.push(args[i] as Value);
    });
    for (const value of accumulated) (this.accumulator as Value).args.push(value);
  }
}
