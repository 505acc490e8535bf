// Which bits of each value may be one. A mask is kept for every value, found optimistically: values
// in loops start at zero and grow until nothing changes.

import { maskOf, trailingZeros } from "./fold.ts";
import type { Block, Func, Type, Value } from "./ir.ts";

/** After so many rounds a phi that still grows is taken to be anything. */
const MAX_ROUNDS = 4;

export class KnownBits {
  private readonly masks: (bigint | undefined)[] = [];

  constructor(func: Func) {
    for (const block of func.blocks) for (const phi of block.phis) this.masks[phi.id] = 0n;
    if (!this.round(func, false) || !hasBackEdge(func)) return;
    for (let round = 1; this.round(func, round >= MAX_ROUNDS); round++);
  }

  private round(func: Func, widen: boolean): boolean {
    let changed = false;
    for (const block of func.blocks) {
      for (const phi of block.phis) {
        const old = this.masks[phi.id] as bigint;
        let mask = old;
        for (const arg of phi.args) mask |= this.masks[arg.id] ?? 0n;
        if (mask === old) continue;
        this.masks[phi.id] = widen ? maskOf(phi.type as Type) : mask;
        changed = true;
      }
      for (const value of block.body) {
        if (value.type === null) continue;
        const mask = this.transfer(value);
        if (mask === this.masks[value.id]) continue;
        this.masks[value.id] = mask;
        changed = true;
      }
    }
    return changed;
  }

  /** Bits that may be one. Values made since are worked out when they are asked for. */
  of(value: Value): bigint {
    const known = this.masks[value.id];
    if (known !== undefined) return known;
    if (value.type === null) return 0n;
    const mask = value.op === "phi" ? maskOf(value.type) : this.transfer(value);
    this.masks[value.id] = mask;
    return mask;
  }

  forget(value: Value): void {
    this.masks[value.id] = undefined;
  }

  /** Is the sign bit known to be zero? */
  isNonNegative(value: Value): boolean {
    const type = value.type as Type;
    return this.of(value) <= maskOf(type) >> 1n;
  }

  private transfer(value: Value): bigint {
    const type = value.type as Type;
    const rule = RULES[value.op];
    if (rule === undefined) return maskOf(type);
    return rule(value, (i) => this.of(value.args[i] as Value), type) & maskOf(type);
  }
}

/** In reverse postorder, what a block reads has been seen unless it comes around a loop. */
function hasBackEdge(func: Func): boolean {
  const seen = new Set<Block>();
  return func.blocks.some((block) => {
    seen.add(block);
    return block.preds.some((pred) => pred === block || !seen.has(pred));
  });
}

/** All ones up to the highest one of `value`. */
export function fill(value: bigint): bigint {
  // Most masks are of this kind already.
  return (value & (value + 1n)) === 0n ? value : (1n << BigInt(value.toString(2).length)) - 1n;
}

/** All ones from the lowest one of `value` up. */
function above(value: bigint, type: Type): bigint {
  return value === 0n ? 0n : maskOf(type) & ~((1n << trailingZeros(type, value)) - 1n);
}

type Rule = (value: Value, arg: (i: number) => bigint, type: Type) => bigint;

/** A constant shift count, or null. */
function shiftCount(value: Value, type: Type): bigint | null {
  const count = value.args[1] as Value;
  return count.op === "const" ? (count.imm as bigint) % (type === "i32" ? 32n : 64n) : null;
}

const compare: Rule = () => 1n;
const access: Rule = (value, _, type) => {
  const mem = value.mem as NonNullable<Value["mem"]>;
  return mem.signed ? maskOf(type) : (1n << BigInt(mem.bits)) - 1n;
};
const sum: Rule = (_, arg, type) => {
  const [a, b] = [arg(0), arg(1)];
  return fill(a + b) & above(a | b, type);
};
const extend =
  (bits: bigint): Rule =>
  (_, arg, type) => {
    const a = arg(0) & ((1n << bits) - 1n);
    return (a >> (bits - 1n)) & 1n ? a | (maskOf(type) & ~((1n << bits) - 1n)) : a;
  };

const RULES: Partial<Record<Value["op"], Rule>> = {
  const: (value) => value.imm as bigint,
  and: (_, arg) => arg(0) & arg(1),
  or: (_, arg) => arg(0) | arg(1),
  xor: (_, arg) => arg(0) | arg(1),
  add: sum,
  mul: (_, arg, type) => {
    const [a, b] = [arg(0), arg(1)];
    return fill(a * b) & (maskOf(type) << (trailingZeros(type, a) + trailingZeros(type, b)));
  },
  shl: (value, arg, type) => {
    const count = shiftCount(value, type);
    return count === null ? above(arg(0), type) : arg(0) << count;
  },
  shr_u: (value, arg, type) => {
    const count = shiftCount(value, type);
    return count === null ? fill(arg(0)) : arg(0) >> count;
  },
  shr_s: (value, arg, type) => {
    const a = arg(0);
    if (a > maskOf(type) >> 1n) return maskOf(type);
    const count = shiftCount(value, type);
    return count === null ? fill(a) : a >> count;
  },
  rotl: (value, arg, type) => {
    const count = shiftCount(value, type);
    if (count === null) return arg(0) === 0n ? 0n : maskOf(type);
    const width = type === "i32" ? 32n : 64n;
    return (arg(0) << count) | (arg(0) >> (width - count));
  },
  div_u: (value, arg) => {
    const divisor = value.args[1] as Value;
    return divisor.op === "const" && divisor.imm ? fill(arg(0) / divisor.imm) : fill(arg(0));
  },
  rem_u: (value, arg) => {
    const divisor = value.args[1] as Value;
    const below = divisor.op === "const" && divisor.imm ? divisor.imm - 1n : arg(1);
    return fill(below) & fill(arg(0));
  },
  mulh_u: (_, arg, type) => fill((arg(0) * arg(1)) >> (type === "i32" ? 32n : 64n)),
  zext: (_, arg) => arg(0),
  wrap: (_, arg) => arg(0),
  sext: (_, arg) => (arg(0) >> 31n ? arg(0) | 0xffff_ffff_0000_0000n : arg(0)),
  extend8_s: extend(8n),
  extend16_s: extend(16n),
  extend32_s: extend(32n),
  bswap: (_, arg, type) => {
    let result = 0n;
    for (let byte = 0n; byte < (type === "i32" ? 4n : 8n); byte++)
      result = (result << 8n) | ((arg(0) >> (byte * 8n)) & 0xffn);
    return result;
  },
  clz: (_, __, type) => (type === "i32" ? 63n : 127n),
  ctz: (_, __, type) => (type === "i32" ? 63n : 127n),
  popcnt: (_, arg) => fill(BigInt(arg(0).toString(2).length)),
  select: (_, arg) => arg(1) | arg(2),
  eqz: compare,
  eq: compare,
  ne: compare,
  lt_s: compare,
  lt_u: compare,
  le_s: compare,
  le_u: compare,
  gt_s: compare,
  gt_u: compare,
  ge_s: compare,
  ge_u: compare,
  load: access,
  atomic_rmw: access,
  atomic_cmpxchg: access,
};
