// Global value numbering over the dominator tree: a value that was computed before on every path is
// not computed again. Loads take part: memory has versions, and a load is equal to an earlier one of
// the same place in the same version, or to what was stored there. Stores to other fields of the same base are
// seen through. Calls, barriers, atomics and joins of different versions begin a new one.

import { Dominators } from "../dominators.ts";
import { isPlainLoad, isPlainStore, isPure, type Summaries, type Summary } from "../effects.ts";
import { evaluate } from "../fold.ts";
import type { Block, Func, Op, Terminator, Type, Value } from "../ir.ts";
import { findLoops, type Loop } from "../loops.ts";
import { mapTerminatorArgs, newConst, Replacements, widthOf } from "../ssa.ts";
import { INVERSE } from "./simplify-rules.ts";

export function numberValues(func: Func, summaries: Summaries): boolean {
  return new Numbering(func, summaries).run();
}

/** Memory, or the globals, between two changes. */
interface Version {
  id: number;
  /** The plain store or global_set that made it; null: anything may have happened. */
  store: Value | null;
  previous: Version | null;
}

interface State {
  memory: Version;
  globals: Version;
}

const COMMUTATIVE = new Set(["add", "mul", "and", "or", "xor", "eq", "ne", "mulh_u", "mulh_s"]);
/** a > b is b < a: one key for both. */
const MIRRORED: Partial<Record<Op, Op>> = { gt_s: "lt_s", gt_u: "lt_u", le_s: "ge_s", le_u: "ge_u" };
/** How many stores a load looks through. */
const MAX_LOOK = 16;
/** Ways into a block whose tests are compared. */
const MAX_WAYS = 4;

class Numbering {
  private readonly dominators: Dominators;
  private readonly replacements = new Replacements();
  /** Values by key; the first of each list is the innermost. */
  private readonly table = new Map<string, Value>();
  private readonly undo: [string, Value | undefined][] = [];
  private readonly atStart = new Map<Block, State>();
  private readonly atEnd = new Map<Block, State>();
  /** Headers of loops that write no memory, no globals. */
  private readonly quiet: Record<keyof State, Set<Block>> = { memory: new Set(), globals: new Set() };
  private readonly constants = new Map<string, Value>();
  private nextVersion = 0;
  private changed = false;
  private readonly func: Func;
  private readonly summaries: Summaries;

  constructor(func: Func, summaries: Summaries) {
    this.func = func;
    this.summaries = summaries;
    this.dominators = new Dominators(func);
    for (const loop of findLoops(func, this.dominators)) {
      const written = this.written(loop);
      if (!written.some((summary) => summary.writesMemory)) this.quiet.memory.add(loop.header);
      if (!written.some((summary) => summary.writesGlobals)) this.quiet.globals.add(loop.header);
    }
  }

  private written(loop: Loop): Summary[] {
    return [...loop.blocks].flatMap((block) => block.body.map((value) => this.summaries.of(value)));
  }

  run(): boolean {
    this.versions();
    const entry = this.func.blocks[0] as Block;
    const stack: { block: Block; children: Block[]; mark: number }[] = [];
    const open = (block: Block) => {
      stack.push({ block, children: this.dominators.children(block), mark: this.undo.length });
      this.number(block);
    };
    open(entry);
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as (typeof stack)[0];
      const child = top.children.shift();
      if (child !== undefined) open(child);
      else {
        this.rollback(top.mark);
        stack.pop();
      }
    }
    (this.func.blocks[0] as Block).body.unshift(...this.constants.values());
    this.replacements.apply(this.func);
    return this.changed;
  }

  private rollback(mark: number): void {
    while (this.undo.length > mark) {
      const [key, old] = this.undo.pop() as [string, Value | undefined];
      if (old === undefined) this.table.delete(key);
      else this.table.set(key, old);
    }
  }

  // ---- Versions

  private fresh(): Version {
    return { id: this.nextVersion++, store: null, previous: null };
  }

  /** States at block starts and ends, in reverse postorder. */
  private versions(): void {
    for (const block of this.dominators.order) {
      const start = { memory: this.startVersion(block, "memory"), globals: this.startVersion(block, "globals") };
      this.atStart.set(block, start);
      let state: State = start;
      for (const value of block.body) state = this.after(state, value);
      this.atEnd.set(block, state);
    }
    this.atEnd.clear();
  }

  private startVersion(block: Block, kind: keyof State): Version {
    let common: Version | null = null;
    for (const pred of block.preds) {
      const version = this.atEnd.get(pred)?.[kind];
      if (version === undefined) {
        if (this.quiet[kind].has(block) || !this.dominators.isReachable(pred)) continue;
        return this.fresh();
      }
      if (common !== null && common !== version) return this.fresh();
      common = version;
    }
    return common ?? this.fresh();
  }

  private after(state: State, value: Value): State {
    const { memory, globals } = state;
    if (isPlainStore(value)) return { memory: this.behind(memory, value), globals };
    if (value.op === "global_set") return { memory, globals: this.behind(globals, value) };
    const summary = this.summaries.of(value);
    if (!summary.writesMemory && !summary.writesGlobals) return state;
    return {
      memory: summary.writesMemory ? this.fresh() : memory,
      globals: summary.writesGlobals ? this.fresh() : globals,
    };
  }

  private behind(previous: Version, store: Value): Version {
    return { id: this.nextVersion++, store, previous };
  }

  // ---- Numbering

  private number(block: Block): void {
    let state = this.atStart.get(block) as State;
    this.assume(block);
    this.phis(block);
    for (const value of block.body) {
      for (let i = 0; i < value.args.length; i++) value.args[i] = this.resolve(value.args[i] as Value);
      const equal = this.find(value, state);
      if (equal !== null) {
        this.replacements.set(value, equal);
        this.changed = true;
      }
      state = this.after(state, value);
    }
    mapTerminatorArgs(block.terminator, (value) => this.resolve(value));
  }

  /** What stands for the value here: an equal one, or the constant that a branch has proved it to be. */
  private resolve(value: Value): Value {
    const equal = this.replacements.resolve(value);
    const proved = equal.op === "const" ? undefined : this.table.get(`fact ${equal.id}`);
    if (proved === undefined) return equal;
    this.changed = true;
    return proved;
  }

  // ---- What the way into a block says

  /** A block behind one side of a branch knows how its condition came out. */
  private assume(block: Block): void {
    const t = block.preds[0]?.terminator;
    if (block.preds.length > 1) return this.assumeJoint(block);
    if (t === undefined) return;
    if (t.kind === "branch") this.assumeCondition(t.condition, t.then === block);
    else if (t.kind === "switch") this.assumeCase(t, block);
  }

  /** What is true of a phi because each way in says it of its argument: a loop's condition at its header. */
  private assumeJoint(block: Block): void {
    if (block.phis.length === 0 || block.preds.length > MAX_WAYS) return;
    for (const [edge, pred] of block.preds.entries()) {
      const test = testOf(pred, block);
      const phi = block.phis.find((p) => p.args[edge] === test?.condition.args[0]);
      if (test === null || phi === undefined || this.replacements.has(phi)) continue;
      if (!block.preds.every((other, i) => says(other, block, phi.args[i] as Value, test))) continue;
      const condition = { ...test.condition, args: [phi, test.condition.args[1] as Value] };
      this.enter(this.keyOf(condition), this.constant("i32", test.holds ? 1n : 0n));
      const opposite = this.oppositeKey(condition);
      if (opposite !== null) this.enter(opposite, this.constant("i32", test.holds ? 0n : 1n));
    }
  }

  private assumeCondition(value: Value, holds: boolean): void {
    const condition = this.replacements.resolve(value);
    if (condition.op === "const") return;
    if (!holds) this.prove(condition, 0n);
    else if (INVERSE[condition.op] !== undefined || condition.op === "eqz") this.prove(condition, 1n);
    const opposite = this.oppositeKey(condition);
    if (opposite !== null) this.enter(opposite, this.constant("i32", holds ? 0n : 1n));
    const [x, c] = condition.args.map((arg) => this.replacements.resolve(arg));
    const equal = holds ? condition.op === "eq" : condition.op === "ne";
    if (equal && x && c?.op === "const") this.prove(x, c.imm as bigint);
    if (holds && condition.op === "eqz" && x) this.prove(x, 0n);
  }

  /** A block that one case alone leads to. */
  private assumeCase(t: Terminator & { kind: "switch" }, block: Block): void {
    const at = t.targets.indexOf(block);
    if (at >= 0 && t.fallback !== block) this.prove(this.replacements.resolve(t.index), BigInt(at));
  }

  private prove(value: Value, imm: bigint): void {
    if (value.op !== "const") this.enter(`fact ${value.id}`, this.constant(value.type as Type, imm));
  }

  /** Key of the compare that is true exactly if this one is false. */
  private oppositeKey(condition: Value): string | null {
    const inverse = INVERSE[condition.op];
    return inverse === undefined ? null : this.keyOf({ ...condition, op: inverse });
  }

  /** A constant at the start of the function. */
  private constant(type: Type, imm: bigint): Value {
    const key = `${type} ${imm}`;
    let value = this.constants.get(key);
    if (value === undefined) {
      value = newConst(this.func, this.func.blocks[0] as Block, type, imm);
      this.constants.set(key, value);
    }
    return value;
  }

  // ---- Equal values

  /** Two phis of one block with equal arguments are one. */
  private phis(block: Block): void {
    for (const phi of block.phis) {
      const args = phi.args.map((arg) => this.replacements.resolve(arg).id);
      const key = `phi ${block.id} ${phi.type} ${args}`;
      const known = this.table.get(key);
      if (known === undefined) this.enter(key, phi);
      else {
        this.replacements.set(phi, known);
        this.changed = true;
      }
    }
  }

  private enter(key: string, value: Value): void {
    this.undo.push([key, this.table.get(key)]);
    this.table.set(key, value);
  }

  private find(value: Value, { memory, globals }: State): Value | null {
    if (isPlainLoad(value)) return this.findLoad(value, memory);
    if (value.op === "global_get") return this.findGlobal(value, globals);
    if (value.type === null || !this.mayMerge(value)) return null;
    return this.known(this.keyOf(value), value);
  }

  /** A division that traps is equal to an earlier one that did not. */
  private mayMerge(value: Value): boolean {
    if (value.op === "phi" || value.op === "param" || value.op === "proj") return false;
    return isPure(value) || value.op.startsWith("div") || value.op.startsWith("rem") || value.op === "memory_size";
  }

  private known(key: string, value: Value): Value | null {
    const known = this.table.get(key);
    if (known === undefined) this.enter(key, value);
    return known ?? null;
  }

  private keyOf(value: Value): string {
    if (value.op === "const") return `const ${value.type} ${value.imm}`;
    // Equal constants are equal wherever they stand.
    const ids = value.args.map((arg) => {
      const equal = this.replacements.resolve(arg);
      return equal.op === "const" ? `#${equal.imm}` : `${equal.id}`;
    });
    const operand = value.args[0]?.type;
    const mirrored = MIRRORED[value.op];
    if (mirrored !== undefined) return `${mirrored}  i32 ${operand} ${ids.reverse()}`;
    if (COMMUTATIVE.has(value.op)) ids.sort();
    return `${value.op} ${value.name ?? ""} ${value.type} ${operand} ${ids}`;
  }

  private findLoad(load: Value, start: Version): Value | null {
    const place = placeOf(load);
    let version = start;
    for (let i = 0; i < MAX_LOOK && version.store !== null; i++) {
      const { store } = version;
      const other = placeOf(store);
      if (samePlace(place, other)) return forwarded(load, store) ?? this.load(load, version, place);
      if (mayOverlap(place, other)) break;
      version = version.previous as Version;
    }
    return this.load(load, version, place);
  }

  private load(load: Value, version: Version, place: Place): Value | null {
    const mem = load.mem as NonNullable<Value["mem"]>;
    const isWhole = mem.bits === widthOf(load.type as Type);
    // The offset as written takes part: x + 8 and x with offset 8 differ where x + 8 wraps.
    const key = (type: Type): string =>
      `load ${version.id} ${place.address.id} ${mem.offset} ${mem.bits} ${mem.signed && !isWhole} ${type}`;
    const known = this.table.get(key(load.type as Type));
    if (known !== undefined) return known;
    const other = mem.signed && !isWhole ? undefined : this.table.get(key(load.type === "i32" ? "i64" : "i32"));
    if (other !== undefined) this.convert(load, other);
    this.enter(key(load.type as Type), load);
    return null;
  }

  /** The load becomes what another one of the same bytes, but of the other width, gave. */
  private convert(load: Value, other: Value): void {
    load.op = load.type === "i64" ? "zext" : "wrap";
    load.args = [other];
    load.mem = undefined;
    this.changed = true;
  }

  private findGlobal(get: Value, start: Version): Value | null {
    let version = start;
    for (let i = 0; i < MAX_LOOK && version.store !== null; i++) {
      const { store } = version;
      if (store.index === get.index) return this.replacements.resolve(store.args[0] as Value);
      version = version.previous as Version;
    }
    return this.known(`global ${version.id} ${get.index}`, get);
  }
}

// ---- What the ways into a block say

/** A comparison with a constant and how it comes out. */
interface Test {
  condition: Value;
  holds: boolean;
}

/** The test that leads from `pred` to `block` and not elsewhere. */
function testOf(pred: Block, block: Block): Test | null {
  const t = pred.terminator;
  if (t.kind !== "branch" || INVERSE[t.condition.op] === undefined) return null;
  if (t.condition.args[1]?.op !== "const" || (t.then === block) === (t.otherwise === block)) return null;
  return { condition: t.condition, holds: t.then === block };
}

/** Is `test`, asked of `value`, true on the way from `pred` to `block`? */
function says(pred: Block, block: Block, value: Value, { condition, holds }: Test): boolean {
  const constant = condition.args[1] as Value;
  if (value.op === "const") {
    const args = [value.imm as bigint, constant.imm as bigint];
    return evaluate(condition.op, value.type as Type, "i32", args) === (holds ? 1n : 0n);
  }
  const own = testOf(pred, block);
  if (own === null || own.condition.op !== condition.op || own.holds !== holds) return false;
  return own.condition.args[0] === value && own.condition.args[1]?.imm === constant.imm;
}

// ---- Places

interface Place {
  address: Value;
  /** The address is root + constant modulo 2^32. */
  root: Value | null;
  constant: number;
  bytes: number;
}

export function placeOf(access: Value): Place {
  const mem = access.mem as NonNullable<Value["mem"]>;
  const address = access.args[0] as Value;
  const bytes = mem.bits / 8;
  if (address.op === "const") return { address, root: null, constant: Number(address.imm) + mem.offset, bytes };
  const [base, c] = address.args;
  if (address.op === "add" && c?.op === "const") {
    return { address, root: base as Value, constant: Number(c.imm) + mem.offset, bytes };
  }
  return { address, root: address, constant: mem.offset, bytes };
}

function samePlace(a: Place, b: Place): boolean {
  return a.address === b.address && a.constant === b.constant && a.bytes === b.bytes;
}

/** May two accesses that do not trap touch a common byte? */
export function mayOverlap(a: Place, b: Place): boolean {
  if (a.root !== b.root) return true;
  const distance = (b.constant - a.constant) >>> 0;
  const back = (a.constant - b.constant) >>> 0;
  return distance < a.bytes || back < b.bytes;
}

/** The stored value, if the load reads all of it and needs no conversion. */
function forwarded(load: Value, store: Value): Value | null {
  const value = store.args[1] as Value;
  const mem = load.mem as NonNullable<Value["mem"]>;
  return mem.bits === (load.type === "i32" ? 32 : 64) && value.type === load.type ? value : null;
}
