// Division and remainder by constants become multiplication and shifts.
//
// Unsigned: x / d = x * m >> p, with m the next number above 2^p / d. For all x < 2^n that is exact if
// m * d - 2^p <= 2^(p - n). Granlund and Montgomery, "Division by Invariant Integers using
// Multiplication". What is known of x's upper bits makes n, and with it m, smaller.

import type { Block, Func, Loc, Op, Type, Value } from "../ir.ts";
import { KnownBits } from "../known-bits.ts";
import { newConst, newValue, Replacements, widthOf } from "../ssa.ts";

export function divideByConstants(func: Func): boolean {
  const replacements = new Replacements();
  let bits: KnownBits | null = null;
  for (const block of func.blocks) {
    const body: Value[] = [];
    for (const value of block.body) {
      if (isCandidate(value)) {
        bits ??= new KnownBits(func);
        const better = new Expansion(func, block, body, value.loc).expand(value, bits);
        if (better !== null) {
          replacements.set(value, better);
          continue;
        }
      }
      body.push(value);
    }
    block.body = body;
  }
  replacements.apply(func);
  return replacements.size > 0;
}

function isCandidate(value: Value): boolean {
  if (value.op !== "div_u" && value.op !== "rem_u" && value.op !== "div_s" && value.op !== "rem_s") return false;
  const divisor = value.args[1] as Value;
  return divisor.op === "const" && divisor.imm !== 0n;
}

interface Magic {
  multiplier: bigint;
  shift: bigint;
}

/** m and p for dividends below 2^bits; `inclusive`: 2^bits itself too. */
function magic(divisor: bigint, bits: bigint, inclusive: boolean): Magic {
  for (let p = bits; ; p++) {
    const multiplier = (1n << p) / divisor + 1n;
    const error = multiplier * divisor - (1n << p);
    const most = 1n << (p - bits);
    if (error < most || (error === most && !inclusive)) return { multiplier, shift: p };
  }
}

class Expansion {
  private readonly func: Func;
  private readonly block: Block;
  private readonly out: Value[];
  private readonly loc: Loc | null;

  constructor(func: Func, block: Block, out: Value[], loc: Loc | null) {
    this.func = func;
    this.block = block;
    this.out = out;
    this.loc = loc;
  }

  private make(op: Op, type: Type, ...args: Value[]): Value {
    const value = newValue(this.func, this.block, op, type, args, this.loc);
    this.out.push(value);
    return value;
  }

  private constant(type: Type, value: bigint): Value {
    const result = newConst(this.func, this.block, type, value, this.loc);
    this.out.push(result);
    return result;
  }

  expand(value: Value, bits: KnownBits): Value | null {
    const [x, d] = value.args as [Value, Value];
    const type = value.type as Type;
    const signed = value.op.endsWith("_s");
    const quotient = signed
      ? this.signedQuotient(x, BigInt.asIntN(widthOf(type), d.imm as bigint), type)
      : this.unsignedQuotient(x, d.imm as bigint, type, bits.of(x));
    if (quotient === null || value.op.startsWith("div")) return quotient;
    return this.make("sub", type, x, this.make("mul", type, quotient, d));
  }

  private unsignedQuotient(x: Value, d: bigint, type: Type, possible: bigint): Value | null {
    if ((d & (d - 1n)) === 0n) return null; // simplify.ts makes a shift of it
    const width = BigInt(widthOf(type));
    const known = BigInt(possible.toString(2).length);
    if (d > possible) return this.constant(type, 0n);
    const { multiplier, shift } = magic(d, known, false);
    if (multiplier >> width === 0n) return this.highProduct(x, multiplier, shift, type, known);
    // An even divisor: shift first, the rest has a smaller multiplier.
    if ((d & 1n) === 0n) {
      const half = this.make("shr_u", type, x, this.constant(type, 1n));
      return this.unsignedQuotient(half, d >> 1n, type, possible >> 1n);
    }
    // m has one bit more than a register: q = (((x - t) >> 1) + t) >> (p - w - 1), t = x * (m - 2^w) >> w.
    const t = this.highProduct(x, multiplier - (1n << width), width, type, known);
    const rest = this.make("shr_u", type, this.make("sub", type, x, t), this.constant(type, 1n));
    return this.make("shr_u", type, this.make("add", type, rest, t), this.constant(type, shift - width - 1n));
  }

  /** (x * m) >> p, without overflow, for x < 2^known. */
  private highProduct(x: Value, m: bigint, p: bigint, type: Type, known: bigint): Value {
    if (type === "i32") {
      // One multiplication of 64 bits holds the whole product.
      const product = this.make("mul", "i64", this.make("zext", "i64", x), this.constant("i64", m));
      return this.make("wrap", "i32", this.make("shr_u", "i64", product, this.constant("i64", p)));
    }
    if (p < 64n && known + BigInt(m.toString(2).length) <= 64n) {
      return this.make("shr_u", "i64", this.make("mul", "i64", x, this.constant("i64", m)), this.constant("i64", p));
    }
    const scaled = p < 64n ? m << (64n - p) : m;
    const high = this.make("mulh_u", "i64", x, this.constant("i64", scaled));
    return p <= 64n ? high : this.make("shr_u", "i64", high, this.constant("i64", p - 64n));
  }

  private signedQuotient(x: Value, d: bigint, type: Type): Value | null {
    const size = d < 0n ? -d : d;
    if (size === 1n) return null;
    const width = BigInt(widthOf(type));
    const quotient =
      (size & (size - 1n)) === 0n ? this.signedShift(x, size, type) : this.signedProduct(x, size, type, width);
    return d < 0n ? this.make("sub", type, this.constant(type, 0n), quotient) : quotient;
  }

  /** Division by 2^k rounds towards zero: a negative dividend gets 2^k - 1 first. */
  private signedShift(x: Value, size: bigint, type: Type): Value {
    const k = BigInt(size.toString(2).length - 1);
    const width = BigInt(widthOf(type));
    const sign = k === 1n ? x : this.make("shr_s", type, x, this.constant(type, width - 1n));
    const bias = this.make("shr_u", type, sign, this.constant(type, width - k));
    return this.make("shr_s", type, this.make("add", type, x, bias), this.constant(type, k));
  }

  private signedProduct(x: Value, size: bigint, type: Type, width: bigint): Value {
    const { multiplier, shift } = magic(size, width - 1n, true);
    const negative = this.make("shr_u", type, x, this.constant(type, width - 1n));
    if (type === "i32") {
      // |x| * m < 2^63: the product keeps its sign in 64 bits.
      const product = this.make("mul", "i64", this.make("sext", "i64", x), this.constant("i64", multiplier));
      const high = this.make("wrap", "i32", this.make("shr_s", "i64", product, this.constant("i64", shift)));
      return this.make("add", type, high, negative);
    }
    let high = this.make("mulh_s", type, x, this.constant(type, multiplier));
    if (multiplier >> (width - 1n) !== 0n) high = this.make("add", type, high, x);
    const shifted = shift > width ? this.make("shr_s", type, high, this.constant(type, shift - width)) : high;
    return this.make("add", type, shifted, negative);
  }
}
