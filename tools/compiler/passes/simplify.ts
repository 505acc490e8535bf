// Constant folding and algebraic simplification, value by value in execution order. Each rule looks
// at one operation and its operands and gives a simpler value, or null. What a rule makes is itself
// simplified, so rules stay small.
//
// Canonical forms that later rules and selection rely on: constants stand right; `x - c` is
// `x + (-c)`; rotations are `rotl` if constant; compares with constants are lt, ge, eq, ne; a condition is never
// `ne x, 0`; 64-bit masks of the low half are zext(wrap(x)).

import { evaluate, isPureOp } from "../fold.ts";
import type { Block, Func, Loc, Op, Terminator, Type, Value } from "../ir.ts";
import { KnownBits } from "../known-bits.ts";
import { countUses, newConst, newValue, Replacements } from "../ssa.ts";
import { RULES } from "./simplify-rules.ts";

const MAX_ROUNDS = 4;

export function simplify(func: Func): boolean {
  let any = false;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    if (!new Simplifier(func).run()) break;
    any = true;
  }
  return any;
}

/** What a rule may ask and do. */
export class Simplifier {
  readonly bits: KnownBits;
  /** How often each value is used, or more: uses that went away are not counted down. */
  private readonly uses: number[];
  private readonly replacements = new Replacements();
  private readonly func: Func;
  private block: Block;
  private out: Value[] = [];
  private loc: Loc | null = null;
  private changed = false;
  private depth = 0;

  constructor(func: Func) {
    this.func = func;
    this.bits = new KnownBits(func);
    this.uses = [...countUses(func)];
    this.block = func.blocks[0] as Block;
  }

  run(): boolean {
    for (const block of this.func.blocks) {
      this.block = block;
      this.out = [];
      for (const value of block.body) this.visit(value);
      block.body = this.out;
      this.terminator(block.terminator);
    }
    this.replacements.apply(this.func);
    return this.changed;
  }

  private visit(value: Value): void {
    this.loc = value.loc;
    for (let i = 0; i < value.args.length; i++) value.args[i] = this.replacements.resolve(value.args[i] as Value);
    const better = this.apply(value);
    if (better === null || better === value) this.out.push(value);
    else {
      this.replacements.set(value, better);
      this.count(better, this.uses[value.id] ?? 0);
      this.changed = true;
    }
  }

  private terminator(t: Terminator): void {
    if (t.kind !== "branch") return;
    t.condition = this.replacements.resolve(t.condition);
    const plain = this.conditionOf(t.condition);
    if (plain === t.condition) return;
    t.condition = plain;
    this.changed = true;
  }

  /** A value that is non-zero exactly if `condition` is. */
  conditionOf(condition: Value): Value {
    let plain = condition;
    while (plain.op === "ne" && plain.type === "i32" && isZero(plain.args[1]) && plain.args[0]?.type === "i32") {
      plain = plain.args[0] as Value;
    }
    return plain;
  }

  private apply(value: Value): Value | null {
    if (value.type === null) return RULES[value.op]?.(value, this) ?? null;
    const folded = this.fold(value);
    if (folded !== null) return folded;
    return RULES[value.op]?.(value, this) ?? null;
  }

  private fold(value: Value): Value | null {
    if (!isPureOp(value.op) || !value.args.every((arg) => arg.op === "const")) return null;
    const operand = value.args[0]?.type as Type;
    const args = value.args.map((arg) => arg.imm as bigint);
    const result = evaluate(value.op, operand, value.type as Type, args);
    return result === null ? null : this.constant(value.type as Type, result);
  }

  // ---- For rules

  constant(type: Type, value: bigint): Value {
    const result = newConst(this.func, this.block, type, value, this.loc);
    this.out.push(result);
    return result;
  }

  /** A new value before the current one, simplified. */
  make(op: Op, type: Type, ...args: Value[]): Value {
    const value = newValue(this.func, this.block, op, type, args, this.loc);
    if (this.depth < 8) {
      this.depth++;
      const better = this.apply(value);
      this.depth--;
      if (better !== null) return better;
    }
    for (const arg of args) this.count(arg, 1);
    this.out.push(value);
    return value;
  }

  /** A rule changed an operand in place, perhaps to `used`; it then returns null. */
  touch(used?: Value): void {
    this.changed = true;
    if (used !== undefined) this.count(used, 1);
  }

  /** A rule changed the load `value`, whose only use is the operation in hand: its old bits do not hold. */
  reload(value: Value): Value {
    this.changed = true;
    this.bits.forget(value);
    return value;
  }

  private count(value: Value, uses: number): void {
    this.uses[value.id] = (this.uses[value.id] ?? 0) + uses;
  }

  /** Is `value` used once only, so that it goes away if its use does? */
  isOnly(value: Value): boolean {
    return (this.uses[value.id] ?? 0) <= 1;
  }
}

export function isZero(value: Value | undefined): boolean {
  return value?.op === "const" && value.imm === 0n;
}
