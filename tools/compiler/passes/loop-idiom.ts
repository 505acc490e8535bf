// Loops that copy or fill memory become memory_copy and memory_fill: a block that does nothing but
// load and store, or store one value, at addresses that rise by the width of the access. The loop
// stays for what the bulk operation may not do: few elements, a range that leaves linear memory (the
// loop writes up to its end, then traps), a source that the copy overwrites before it is read.

import type { Block, Func, Module, Op, Type, Value } from "../ir.ts";
import { findLoops, type Loop, preheaderOf, retarget, splitPreds } from "../loops.ts";
import { newBlock, newConst, newValue, reversePostorder, terminatorArgs } from "../ssa.ts";

/** A bulk operation costs a call and its checks: not for less. */
const LEAST_BYTES = 128;
const MOST_BYTES = 1 << 26;
/** The first 64 KiB may be unmapped: the loop finds out. */
const LOW_BYTES = 0x1_0000;

export function recogniseBulkLoops(func: Func, module: Module): boolean {
  const memoryBytes = (module.memoryPages?.initial ?? 0) * 0x1_0000;
  if (memoryBytes < LOW_BYTES + LEAST_BYTES) return false;
  let changed = false;
  for (const loop of findLoops(func)) {
    const shape = shapeOf(loop);
    if (!shape || isShort(shape) || !escapes(func, shape.block).every((v) => strideOf(shape.block, v) !== null))
      continue;
    new BulkLoop(func, loop, shape, memoryBytes).build();
    changed = true;
  }
  if (changed) func.blocks = reversePostorder(func);
  return changed;
}

/** What is known of a loop of one block that copies or fills. */
interface Shape {
  block: Block;
  exit: Block;
  store: Value;
  /** null: a fill. */
  load: Value | null;
  bytes: number;
  /** The loop goes on while `left` is below (or not equal to) the invariant `bound`. */
  left: Value;
  bound: Value;
  test: "lt_u" | "lt_s" | "ne";
  step: bigint;
}

function shapeOf(loop: Loop): Shape | null {
  const block = loop.header;
  const t = block.terminator;
  if (loop.blocks.size !== 1 || t.kind !== "branch") return null;
  const exit = t.then === block ? t.otherwise : t.then;
  const memory = block.body.filter((v) => !isPlain(v));
  const store = memory.find((v) => v.op === "store");
  const load = memory.find((v) => v.op === "load") ?? null;
  if (!store?.mem || store.mem.atomic || memory.length !== (load ? 2 : 1)) return null;
  const bytes = store.mem.bits / 8;
  const test = testOf(block, t.then === block);
  if (!test || strideOf(block, store.args[0] as Value) !== BigInt(bytes)) return null;
  const source = isCopy(block, store, load) ? load : null;
  if (load && !source) return null;
  if (!load && !isFill(block, store)) return null;
  return { block, exit, store, load, bytes, ...test };
}

const PLAIN: ReadonlySet<Op> = new Set<Op>([
  "const",
  "add",
  "sub",
  "shl",
  "mul",
  "and",
  "or",
  "xor",
  "wrap",
  "zext",
  "sext",
  "eq",
  "ne",
  "eqz",
  "lt_u",
  "lt_s",
  "gt_u",
  "gt_s",
  "le_u",
  "le_s",
  "ge_u",
  "ge_s",
]);

function isPlain(v: Value): boolean {
  return PLAIN.has(v.op);
}

/** The store writes just what the load read, and the load goes on at the same pace. */
function isCopy(block: Block, store: Value, load: Value | null): boolean {
  if (!load?.mem || load.mem.atomic || store.args[1] !== load || load.mem.bits !== store.mem?.bits) return false;
  return strideOf(block, load.args[0] as Value) === BigInt(load.mem.bits / 8);
}

function isFill(block: Block, store: Value): boolean {
  return (store.args[1] as Value).block !== block || (store.args[1] as Value).op === "const";
}

/** By how much the i32 `v` rises from one iteration to the next; null: not by a constant. */
function strideOf(block: Block, v: Value): bigint | null {
  if (v.type !== "i32") return null;
  if (v.block !== block || v.op === "const") return 0n;
  const [a, b] = v.args as [Value, Value];
  switch (v.op) {
    case "phi":
      return phiStep(block, v);
    case "add":
    case "sub": {
      const [x, y] = [strideOf(block, a), strideOf(block, b)];
      return x === null || y === null ? null : v.op === "add" ? x + y : x - y;
    }
    case "shl":
    case "mul": {
      const x = strideOf(block, a);
      if (x === null || b.op !== "const") return null;
      const factor = b.imm as bigint;
      return v.op === "shl" ? x << (factor & 31n) : x * BigInt.asIntN(32, factor);
    }
    default:
      return null;
  }
}

function phiStep(block: Block, phi: Value): bigint | null {
  const next = phi.args[block.preds.indexOf(block)] as Value;
  if ((next.op !== "add" && next.op !== "sub") || next.args[0] !== phi || next.args[1]?.op !== "const") return null;
  const step = BigInt.asIntN(32, next.args[1].imm as bigint);
  return next.op === "add" ? step : -step;
}

const MIRROR: Partial<Record<Op, Op>> = {
  gt_u: "lt_u",
  gt_s: "lt_s",
  lt_u: "gt_u",
  lt_s: "gt_s",
  ne: "ne",
  eq: "eq",
  ge_u: "le_u",
  ge_s: "le_s",
  le_u: "ge_u",
  le_s: "ge_s",
};
const NEGATED: Partial<Record<Op, Op>> = {
  lt_u: "ge_u",
  ge_u: "lt_u",
  gt_u: "le_u",
  le_u: "gt_u",
  lt_s: "ge_s",
  ge_s: "lt_s",
  gt_s: "le_s",
  le_s: "gt_s",
  eq: "ne",
  ne: "eq",
};

/** The condition for another iteration as `left` test `bound`. */
function testOf(block: Block, repeatsIfTrue: boolean): Pick<Shape, "left" | "bound" | "test" | "step"> | null {
  const t = block.terminator;
  if (t.kind !== "branch") return null;
  const { condition } = t;
  if (!(condition.op in NEGATED))
    return condition.block === block && condition.type === "i32" && repeatsIfTrue ? untilZero(block, condition) : null;
  let op = condition.op;
  let [left, bound] = condition.args as [Value, Value];
  if (strideOf(block, left) === 0n) {
    op = MIRROR[op] as Op;
    [left, bound] = [bound, left];
  }
  if (!repeatsIfTrue) op = NEGATED[op] as Op;
  const step = strideOf(block, left);
  if (step === null || strideOf(block, bound) !== 0n) return null;
  if ((op === "lt_u" || op === "lt_s") && step > 0n && isPower(step)) return { left, bound, test: op, step };
  return op === "ne" && (step === 1n || step === -1n) ? { left, bound, test: "ne", step } : null;
}

/** A count that the loop takes down to zero. */
function untilZero(block: Block, left: Value): Pick<Shape, "left" | "bound" | "test" | "step"> | null {
  const step = strideOf(block, left);
  if (step !== 1n && step !== -1n) return null;
  const zero: Value = { id: -1, op: "const", type: "i32", args: [], block, loc: null, imm: 0n };
  return { left, bound: zero, test: "ne", step };
}

function isPower(n: bigint): boolean {
  return (n & (n - 1n)) === 0n;
}

/** A trip count that is known and too small. */
function isShort(shape: Shape): boolean {
  const first = constantStart(shape.block, shape.left);
  if (first === null || shape.bound.op !== "const") return false;
  const distance = BigInt.asUintN(32, ((shape.bound.imm as bigint) - first) * (shape.step < 0n ? -1n : 1n));
  return (distance / (shape.step < 0n ? 1n : shape.step)) * BigInt(shape.bytes) < LEAST_BYTES;
}

function constantStart(block: Block, v: Value): bigint | null {
  if (v.op === "const") return v.imm as bigint;
  if (v.block !== block) return null;
  if (v.op === "phi")
    return block.preds.length === 2 ? constantStart(block, v.args[1 - block.preds.indexOf(block)] as Value) : null;
  if (v.op !== "add" && v.op !== "sub") return null;
  const [a, b] = v.args.map((x) => constantStart(block, x));
  if (a == null || b == null) return null;
  return BigInt.asUintN(32, v.op === "add" ? a + b : a - b);
}

/**
 * The new shape:
 *
 *     preheader -> checks, one block each -> fast (the bulk operation) -> done
 *                        \-> slow -> the loop ------------------------> done -> exit
 */
class BulkLoop {
  private readonly preheader: Block;
  private readonly initials = new Map<Value, Value>();
  private at: Block;

  constructor(
    private readonly func: Func,
    loop: Loop,
    private readonly shape: Shape,
    private readonly memoryBytes: number,
  ) {
    this.preheader = preheaderOf(func, loop);
    this.at = this.preheader;
  }

  build(): void {
    const { func, shape } = this;
    this.hoistConstants();
    const done = this.dedicatedExit();
    const slow = newBlock(func);
    const fast = newBlock(func);
    this.reroute(slow);
    const bytes = this.checks(slow, fast);
    this.at = fast;
    this.bulk(bytes);
    fast.terminator = { kind: "jump", target: done, loc: shape.store.loc };
    done.preds.push(fast);
    this.mergeResults(done);
    func.blocks.push(slow, fast);
  }

  /** The loop no longer dominates what follows it, which may read its constants. */
  private hoistConstants(): void {
    const { block } = this.shape;
    const constants = block.body.filter((v) => v.op === "const");
    for (const v of constants) v.block = this.preheader;
    this.preheader.body.push(...constants);
    block.body = block.body.filter((v) => v.op !== "const");
  }

  /** A block that only this loop leads to. */
  private dedicatedExit(): Block {
    const { block, exit } = this.shape;
    if (exit.preds.length === 1) return exit;
    const between = newBlock(this.func);
    splitPreds(this.func, exit, between, (p) => p === block);
    this.func.blocks.push(between);
    return between;
  }

  private reroute(slow: Block): void {
    const { block } = this.shape;
    slow.terminator = { kind: "jump", target: block, loc: null };
    block.preds[block.preds.indexOf(this.preheader)] = slow;
    retarget(this.preheader, block, slow);
  }

  // ---- Values before the loop

  private make(op: Op, type: Type, ...args: Value[]): Value {
    const v = newValue(this.func, this.at, op, type, args, this.shape.store.loc);
    this.at.body.push(v);
    return v;
  }

  private number(type: Type, value: bigint | number): Value {
    const v = newConst(this.func, this.at, type, BigInt(value));
    this.at.body.push(v);
    return v;
  }

  /** `v` as the first iteration computes it. */
  private initial(v: Value): Value {
    const { block } = this.shape;
    if (v.op === "const") return this.number(v.type as Type, v.imm as bigint);
    if (v.block !== block) return v;
    let first = this.initials.get(v);
    if (!first) {
      first =
        v.op === "phi"
          ? (v.args[1 - block.preds.indexOf(block)] as Value)
          : this.make(v.op, v.type as Type, ...v.args.map((a) => this.initial(a)));
      this.initials.set(v, first);
    }
    return first;
  }

  /** The linear `v` as the last of `count` iterations computes it. */
  private last(v: Value, count: Value): Value {
    const stride = strideOf(this.shape.block, v) as bigint;
    const rounds = this.make("sub", "i32", count, this.number("i32", 1));
    return this.make("add", "i32", this.initial(v), this.make("mul", "i32", rounds, this.number("i32", stride)));
  }

  // ---- Checks

  /** Goes to `slow` unless `condition` holds. */
  private require(condition: Value, slow: Block): void {
    const next = newBlock(this.func);
    this.at.terminator = {
      kind: "branch",
      condition,
      then: next,
      otherwise: slow,
      likely: true,
      loc: this.shape.store.loc,
    };
    next.preds.push(this.at);
    slow.preds.push(this.at);
    this.func.blocks.push(next);
    this.at = next;
  }

  private count!: Value;

  /** Emits the checks; ends in `fast` and returns the number of bytes as an i64. */
  private checks(slow: Block, fast: Block): Value {
    const { shape } = this;
    this.count = this.tripCount(slow);
    const width = BigInt(shape.bytes);
    const least = Math.ceil(LEAST_BYTES / shape.bytes);
    const most = Math.floor(Math.min(MOST_BYTES, this.memoryBytes - LOW_BYTES) / shape.bytes);
    const excess = this.make("sub", "i32", this.count, this.number("i32", least));
    this.require(this.make("le_u", "i32", excess, this.number("i32", Math.max(most - least, 0))), slow);
    const bytes = this.make("mul", "i64", this.make("zext", "i64", this.count), this.number("i64", width));
    this.to = this.checkedRange(shape.store, bytes, slow);
    if (shape.load) {
      this.from = this.checkedRange(shape.load, bytes, slow);
      this.require(this.make("ge_u", "i32", this.make("sub", "i64", this.to, this.from), bytes), slow);
    }
    this.at.terminator = { kind: "jump", target: fast, loc: null };
    fast.preds.push(this.at);
    return bytes;
  }
  private to!: Value;
  private from: Value | null = null;

  private tripCount(slow: Block): Value {
    const { left, bound, test, step } = this.shape;
    const first = this.initial(left);
    const limit = this.initial(bound);
    if (test !== "ne") this.require(this.make(test, "i32", first, limit), slow);
    const distance = step < 0n ? this.make("sub", "i32", first, limit) : this.make("sub", "i32", limit, first);
    if (step === 1n || step === -1n) return this.make("add", "i32", distance, this.number("i32", 1));
    // Rounded up; the sum does not wrap, because the count is checked to be small against 2^32 / step.
    const shift = BigInt(step.toString(2).length - 1);
    const rounded = this.make("add", "i32", distance, this.number("i32", step - 1n));
    this.require(this.make("ge_u", "i32", rounded, distance), slow);
    return this.make(
      "add",
      "i32",
      this.make("shr_u", "i32", rounded, this.number("i32", shift)),
      this.number("i32", 1),
    );
  }

  /** First address of the access, as an i64, checked to lie in linear memory with all that follows. */
  private checkedRange(access: Value, bytes: Value, slow: Block): Value {
    const start = this.make("zext", "i64", this.initial(access.args[0] as Value));
    const address = this.make("add", "i64", start, this.number("i64", access.mem?.offset as number));
    const above = this.make("sub", "i64", address, this.number("i64", LOW_BYTES));
    const room = this.make("sub", "i64", this.number("i64", this.memoryBytes - LOW_BYTES), bytes);
    this.require(this.make("le_u", "i32", above, room), slow);
    return address;
  }

  // ---- The operation, and what the loop leaves behind

  private bulk(bytes: Value): void {
    const { shape } = this;
    const to = this.make("wrap", "i32", this.to);
    const count = this.make("wrap", "i32", bytes);
    const source = this.from ? this.make("wrap", "i32", this.from) : this.pattern();
    const op = newValue(
      this.func,
      this.at,
      this.from ? "memory_copy" : "memory_fill",
      null,
      [to, source, count],
      shape.store.loc,
    );
    if (!this.from) op.mem = { bits: shape.store.mem?.bits as 8, signed: false, offset: 0, atomic: false };
    this.at.body.push(op);
  }

  /** The stored value, no wider than the store. */
  private pattern(): Value {
    const value = this.initial(this.shape.store.args[1] as Value);
    return value.type === "i64" && this.shape.bytes < 8 ? this.make("wrap", "i32", value) : value;
  }

  private mergeResults(done: Block): void {
    const { block } = this.shape;
    const merged = new Map<Value, Value>();
    for (const phi of done.phis) phi.args.push(this.lastOf(phi.args[0] as Value));
    const merge = (v: Value): Value => {
      if (v.block !== block) return v;
      let phi = merged.get(v);
      if (!phi) {
        phi = newValue(this.func, done, "phi", v.type, [v, this.lastOf(v)], v.loc);
        merged.set(v, phi);
      }
      return phi;
    };
    this.rewriteOutside(done, merge);
    done.phis.push(...merged.values());
  }

  private lastOf(v: Value): Value {
    return v.block === this.shape.block ? this.last(v, this.count) : v;
  }

  private rewriteOutside(done: Block, merge: (v: Value) => Value): void {
    for (const b of this.func.blocks) {
      if (b === this.shape.block) continue;
      if (b !== done) {
        for (const phi of b.phis) phi.args = phi.args.map(merge);
      }
      for (const v of b.body) v.args = v.args.map(merge);
      rewriteTerminator(b, merge);
    }
  }
}

function rewriteTerminator(block: Block, map: (v: Value) => Value): void {
  const t = block.terminator;
  if (t.kind === "branch") t.condition = map(t.condition);
  else if (t.kind === "switch") t.index = map(t.index);
  else if (t.kind === "return") t.values = t.values.map(map);
}

/** Values of the loop that are read behind it. */
function escapes(func: Func, block: Block): Value[] {
  const found: Value[] = [];
  const look = (v: Value): void => {
    if (v.block === block && v.op !== "const") found.push(v);
  };
  for (const b of func.blocks) {
    if (b === block) continue;
    for (const v of [...b.phis, ...b.body]) v.args.forEach(look);
    terminatorArgs(b.terminator).forEach(look);
  }
  return found;
}
