// Switches: a chain of equality tests on one value, as asc writes a sparse switch, and a br_table become
// whatever is best of their cases: jump tables where they are dense, range tests where neighbours go
// the same way, and a balanced tree of compares over all of it.

import type { Block, Func, Loc, Op, Terminator, Type, Value } from "../ir.ts";
import { countUses, newBlock, newConst, newValue, successors } from "../ssa.ts";
import { simplifyCfg } from "./simplify-cfg.ts";

/** Fewer tests stay a chain. */
const MIN_CASES = 4;
/** A jump table has at least so many cases, in at most so many slots a case. */
const MIN_TABLE = 5;
const MAX_SLOTS_PER_CASE = 3;
/** A range of this many values with one target is tested as a range. */
const MIN_RANGE = 3;
/** A br_table that comes to this few groups is better off without a table. */
const MAX_TREE = 3;

export function buildSwitches(func: Func): boolean {
  const uses = countUses(func);
  let changed = false;
  const gone = new Set<Block>();
  for (const block of [...func.blocks]) {
    if (gone.has(block)) continue;
    const cases = block.terminator.kind === "switch" ? casesOfSwitch(block) : casesOfChain(block, uses);
    if (cases === null) continue;
    const groups = group(cases);
    if (block.terminator.kind === "switch" && (groups.length > MAX_TREE || groups.some((g) => g.kind === "table")))
      continue;
    new Tree(func, block, cases).replace(groups);
    for (const link of cases.gone) gone.add(link);
    changed = true;
  }
  if (changed) simplifyCfg(func);
  return changed;
}

interface Case {
  value: bigint;
  /** The edge that is taken: from a block of the chain to its target. */
  target: Edge;
}

interface Edge {
  target: Block;
  /** Arguments for the target's phis. */
  values: Value[];
}

interface Cases {
  x: Value;
  cases: Case[];
  otherwise: Edge;
  /** Blocks of a chain that go; what follows may use their constants. */
  gone: Block[];
}

function edge(from: Block, target: Block): Edge {
  const at = target.preds.indexOf(from);
  return { target, values: target.phis.map((phi) => phi.args[at] as Value) };
}

function sameEdge(a: Edge, b: Edge): boolean {
  return a.target === b.target && a.values.every((value, i) => value === b.values[i]);
}

// ---- Finding cases

function casesOfSwitch(block: Block): Cases | null {
  const t = block.terminator;
  if (t.kind !== "switch") return null;
  const otherwise = edge(block, t.fallback);
  const cases = t.targets.map((target, i) => ({ value: BigInt(i), target: edge(block, target) }));
  return { x: t.index, cases: cases.filter((c) => !sameEdge(c.target, otherwise)), otherwise, gone: [] };
}

interface Test {
  x: Value;
  value: bigint;
  hit: Block;
  miss: Block;
}

/** The equality test that a block ends with. */
function testOf(t: Terminator): Test | null {
  if (t.kind !== "branch") return null;
  const { condition } = t;
  const c = condition.args[1];
  if ((condition.op === "eq" || condition.op === "ne") && c?.op === "const") {
    const isEq = condition.op === "eq";
    return {
      x: condition.args[0] as Value,
      value: c.imm as bigint,
      hit: isEq ? t.then : t.otherwise,
      miss: isEq ? t.otherwise : t.then,
    };
  }
  if (condition.op === "eqz") return { x: condition.args[0] as Value, value: 0n, hit: t.then, miss: t.otherwise };
  return { x: condition, value: 0n, hit: t.otherwise, miss: t.then };
}

function casesOfChain(start: Block, uses: Uint32Array): Cases | null {
  const first = testOf(start.terminator);
  if (first === null || continues(start, first.x, uses)) return null; // the chain starts further up
  const cases = new Map<bigint, Edge>();
  const gone: Block[] = [];
  let block = start;
  for (let test: Test | null = first; test !== null && test.x === first.x && test.hit !== test.miss; ) {
    if (!cases.has(test.value)) cases.set(test.value, edge(block, test.hit));
    const next = test.miss;
    if (!onlyTests(next, first.x, uses)) return finish(first.x, cases, edge(block, next), gone);
    block = next;
    gone.push(block);
    test = testOf(block.terminator);
  }
  return null;
}

function finish(x: Value, cases: Map<bigint, Edge>, otherwise: Edge, gone: Block[]): Cases | null {
  if (cases.size < MIN_CASES) return null;
  return { x, cases: [...cases].map(([value, target]) => ({ value, target })), otherwise, gone };
}

/** Is the block in the middle of a chain on `x`? */
function continues(block: Block, x: Value, uses: Uint32Array): boolean {
  const pred = block.preds[0];
  if (block.preds.length !== 1 || pred === undefined || !onlyTests(block, x, uses)) return false;
  const test = testOf(pred.terminator);
  return test !== null && test.x === x && test.miss === block && test.hit !== block;
}

/** Does the block do nothing but test `x` once more? */
function onlyTests(block: Block, x: Value, uses: Uint32Array): boolean {
  if (block.preds.length !== 1 || block.phis.length > 0) return false;
  const test = testOf(block.terminator);
  if (test === null || test.x !== x) return false;
  const condition = (block.terminator as Terminator & { kind: "branch" }).condition;
  return block.body.every((v) => v.op === "const" || (v === condition && uses[v.id] === 1));
}

// ---- Grouping

interface Group {
  kind: "one" | "range" | "table";
  low: bigint;
  high: bigint;
  cases: Case[];
}

function group(all: Cases): Group[] {
  const sorted = [...all.cases].sort((a, b) => (a.value < b.value ? -1 : 1));
  return tables(ranges(sorted));
}

/** Runs of neighbours with one target. */
function ranges(sorted: Case[]): Group[] {
  const groups: Group[] = [];
  for (const c of sorted) {
    const last = groups[groups.length - 1];
    const grows =
      last !== undefined && last.high + 1n === c.value && sameEdge((last.cases[0] as Case).target, c.target);
    if (grows) {
      last.high = c.value;
      last.cases.push(c);
    } else groups.push({ kind: "one", low: c.value, high: c.value, cases: [c] });
  }
  return groups.flatMap((g): Group[] => {
    if (g.cases.length >= MIN_RANGE) return [{ ...g, kind: "range" }];
    return g.cases.map((c) => ({ kind: "one", low: c.value, high: c.value, cases: [c] }));
  });
}

/** Joins groups that lie densely into jump tables, the longest possible first from the left. */
function tables(groups: Group[]): Group[] {
  const result: Group[] = [];
  for (let i = 0; i < groups.length; ) {
    const end = longestTable(groups, i);
    if (end === null) {
      result.push(groups[i] as Group);
      i++;
      continue;
    }
    const members = groups.slice(i, end);
    const cases = members.flatMap((g) => g.cases);
    result.push({
      kind: "table",
      low: (members[0] as Group).low,
      high: (members[members.length - 1] as Group).high,
      cases,
    });
    i = end;
  }
  return result;
}

function longestTable(groups: Group[], start: number): number | null {
  let count = 0;
  let best: number | null = null;
  for (let i = start; i < groups.length; i++) {
    const g = groups[i] as Group;
    count += g.cases.length;
    const slots = g.high - (groups[start] as Group).low + 1n;
    if (slots > 4096n) break;
    const distinct = i - start + 1;
    if (distinct >= MIN_TABLE && slots <= BigInt(count * MAX_SLOTS_PER_CASE)) best = i + 1;
  }
  return best;
}

// ---- The tree

class Tree {
  private readonly func: Func;
  private readonly root: Block;
  private readonly all: Cases;
  private readonly loc: Loc | null;
  private readonly type: Type;

  constructor(func: Func, root: Block, all: Cases) {
    this.func = func;
    this.root = root;
    this.all = all;
    this.loc = root.terminator.loc;
    this.type = all.x.type as Type;
  }

  replace(groups: Group[]): void {
    for (const block of this.all.gone) this.keepConstants(block);
    for (const target of new Set(successors(this.root.terminator))) this.cut(target);
    this.build(this.root, groups);
  }

  private keepConstants(block: Block): void {
    for (const v of block.body) {
      if (v.op !== "const") continue;
      v.block = this.root;
      this.root.body.push(v);
    }
  }

  /** Removes the old edges from the root. */
  private cut(target: Block): void {
    for (let at = target.preds.indexOf(this.root); at >= 0; at = target.preds.indexOf(this.root)) {
      target.preds.splice(at, 1);
      for (const phi of target.phis) phi.args.splice(at, 1);
    }
  }

  private build(block: Block, groups: Group[]): void {
    if (groups.length === 1) {
      this.test(block, groups[0] as Group, this.way(block, this.all.otherwise));
      return;
    }
    if (groups.length <= 3 && groups.every((g) => g.kind === "one")) {
      const [first, ...rest] = groups as [Group, ...Group[]];
      const next = this.below(block);
      this.build(next, rest);
      this.test(block, first, next);
      return;
    }
    const middle = groups.length >> 1;
    const pivot = (groups[middle] as Group).low;
    const less = this.compare(block, "lt_u", this.all.x, pivot);
    const [left, right] = [this.below(block), this.below(block)];
    block.terminator = { kind: "branch", condition: less, then: left, otherwise: right, loc: this.loc };
    this.build(left, groups.slice(0, middle));
    this.build(right, groups.slice(middle));
  }

  private below(block: Block): Block {
    const next = newBlock(this.func);
    next.preds.push(block);
    this.func.blocks.push(next);
    return next;
  }

  /** A block that only leads on along `edge`: simplify-cfg.ts removes it where it can. */
  private way(block: Block, { target, values }: Edge): Block {
    const next = this.below(block);
    next.terminator = { kind: "jump", target, loc: this.loc };
    target.preds.push(next);
    target.phis.forEach((phi, i) => {
      phi.args.push(values[i] as Value);
    });
    return next;
  }

  private test(block: Block, g: Group, miss: Block): void {
    if (g.kind === "table") {
      this.table(block, g, miss);
      return;
    }
    const hit = this.way(block, (g.cases[0] as Case).target);
    const condition = g.kind === "one" ? this.compare(block, "eq", this.all.x, g.low) : this.inRange(block, g);
    block.terminator = { kind: "branch", condition, then: hit, otherwise: miss, loc: this.loc };
  }

  private inRange(block: Block, g: Group): Value {
    return this.compare(block, "lt_u", this.shifted(block, g.low), g.high - g.low + 1n);
  }

  private shifted(block: Block, low: bigint): Value {
    if (low === 0n) return this.all.x;
    return this.add(block, "add", this.type, this.all.x, this.constant(block, this.type, -low));
  }

  private table(block: Block, g: Group, miss: Block): void {
    let from = block;
    let index = this.shifted(block, g.low);
    if (this.type === "i64") {
      // The index has 32 bits: check the range first.
      const inside = this.compare(block, "lt_u", index, g.high - g.low + 1n);
      from = this.below(block);
      block.terminator = { kind: "branch", condition: inside, then: from, otherwise: miss, loc: this.loc };
      index = this.add(from, "wrap", "i32", index);
      miss = this.way(from, this.all.otherwise);
    }
    const ways = new Map<bigint, Block>();
    const known: { edge: Edge; block: Block }[] = [];
    for (const c of g.cases) {
      let way = known.find((k) => sameEdge(k.edge, c.target))?.block;
      if (way === undefined) {
        way = this.way(from, c.target);
        way.preds.pop();
        known.push({ edge: c.target, block: way });
      }
      ways.set(c.value, way);
    }
    const targets: Block[] = [];
    for (let value = g.low; value <= g.high; value++) targets.push(ways.get(value) ?? miss);
    for (const target of targets) target.preds.push(from);
    from.terminator = { kind: "switch", index, targets, fallback: miss, loc: this.loc };
  }

  // ---- Values

  private add(block: Block, op: Op, type: Type, ...args: Value[]): Value {
    const value = newValue(this.func, block, op, type, args, this.loc);
    block.body.push(value);
    return value;
  }

  private constant(block: Block, type: Type, imm: bigint): Value {
    const value = newConst(this.func, block, type, imm, this.loc);
    block.body.push(value);
    return value;
  }

  private compare(block: Block, op: Op, x: Value, imm: bigint): Value {
    return this.add(block, op, "i32", x, this.constant(block, x.type as Type, imm));
  }
}
