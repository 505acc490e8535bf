// The rules of simplify.ts, by operation. A rule gives a value that computes the same, or null.

import { maskOf, toSigned } from "../fold.ts";
import type { Op, Type, Value } from "../ir.ts";
import { widthOf } from "../ssa.ts";
import type { Simplifier } from "./simplify.ts";

type Rule = (v: Value, s: Simplifier) => Value | null;

// ---- Small questions

function arg(v: Value, i: number): Value {
  return v.args[i] as Value;
}

function constOf(v: Value): bigint | null {
  return v.op === "const" ? (v.imm as bigint) : null;
}

function isConst(v: Value, imm: bigint): boolean {
  return v.op === "const" && v.imm === imm;
}

/** Tries rules in order. */
function first(...rules: Rule[]): Rule {
  return (v, s) => {
    for (const rule of rules) {
      const better = rule(v, s);
      if (better !== null) return better;
    }
    return null;
  };
}

/** Constants stand right. Reorders in place; the rules after it see the new order. */
const constantRight: Rule = (v, s) => {
  if (arg(v, 0).op === "const" && arg(v, 1).op !== "const") {
    v.args.reverse();
    s.touch();
  }
  return null;
};

/** op(op(x, c1), c2) = op(x, op(c1, c2)) */
const reassociate: Rule = (v, s) => {
  const [inner, c] = [arg(v, 0), arg(v, 1)];
  if (c.op !== "const" || inner.op !== v.op || arg(inner, 1).op !== "const") return null;
  const type = v.type as Type;
  return s.make(v.op, type, arg(inner, 0), s.make(v.op, type, arg(inner, 1), c));
};

/** op(op(x, c), y) = op(op(x, y), c): constants drift outwards, where addresses fold them. */
const constantOutwards: Rule = (v, s) => {
  const type = v.type as Type;
  for (const [a, b] of [
    [arg(v, 0), arg(v, 1)],
    [arg(v, 1), arg(v, 0)],
  ] as [Value, Value][]) {
    if (a.op !== v.op || b.op === "const" || arg(a, 1).op !== "const" || !s.isOnly(a)) continue;
    return s.make(v.op, type, s.make(v.op, type, arg(a, 0), b), arg(a, 1));
  }
  return null;
};

// ---- Arithmetic

const add: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const type = v.type as Type;
  if (isConst(y, 0n)) return x;
  if (x.op === "sub" && isConst(arg(x, 0), 0n)) return s.make("sub", type, y, arg(x, 1));
  if (y.op === "sub" && isConst(arg(y, 0), 0n)) return s.make("sub", type, x, arg(y, 1));
  if (x.op === "sub" && arg(x, 1) === y) return arg(x, 0);
  if (y.op === "sub" && arg(y, 1) === x) return arg(y, 0);
  // (c1 - x) + c2
  if (y.op === "const" && x.op === "sub" && arg(x, 0).op === "const") {
    return s.make("sub", type, s.make("add", type, arg(x, 0), y), arg(x, 1));
  }
  return null;
};

const sub: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const type = v.type as Type;
  if (x === y) return s.constant(type, 0n);
  if (y.op === "const") return s.make("add", type, x, s.constant(type, -(y.imm as bigint)));
  if (x.op === "add" && arg(x, 1) === y) return arg(x, 0);
  if (x.op === "add" && arg(x, 0) === y) return arg(x, 1);
  if (y.op === "sub" && isConst(arg(y, 0), 0n)) return s.make("add", type, x, arg(y, 1));
  // (x + c1) - (y + c2) and its halves: constants outwards
  if (x.op === "add" && arg(x, 1).op === "const" && s.isOnly(x)) {
    return s.make("add", type, s.make("sub", type, arg(x, 0), y), arg(x, 1));
  }
  if (y.op === "add" && arg(y, 1).op === "const" && x.op === "const") {
    return s.make("sub", type, s.make("sub", type, x, arg(y, 1)), arg(y, 0));
  }
  if (y.op === "add" && arg(y, 1).op === "const" && s.isOnly(y)) {
    return s.make("add", type, s.make("sub", type, x, arg(y, 0)), s.constant(type, -(arg(y, 1).imm as bigint)));
  }
  return null;
};

function log2(value: bigint): bigint | null {
  return value !== 0n && (value & (value - 1n)) === 0n ? BigInt(value.toString(2).length - 1) : null;
}

const mul: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const type = v.type as Type;
  const c = constOf(y);
  if (c === null) return null;
  if (c === 0n) return y;
  if (c === 1n) return x;
  if (c === maskOf(type)) return s.make("sub", type, s.constant(type, 0n), x);
  const shift = log2(c);
  if (shift !== null) return s.make("shl", type, x, s.constant(type, shift));
  // (x << k) * c
  if (x.op === "shl" && arg(x, 1).op === "const" && s.isOnly(x)) {
    const k = (arg(x, 1).imm as bigint) % BigInt(widthOf(type));
    return s.make("mul", type, arg(x, 0), s.constant(type, c << k));
  }
  return null;
};

const divU: Rule = (v, s) => {
  const c = constOf(arg(v, 1));
  if (c === null || c === 0n) return null;
  if (c === 1n) return arg(v, 0);
  const shift = log2(c);
  return shift === null ? null : s.make("shr_u", v.type as Type, arg(v, 0), s.constant(v.type as Type, shift));
};

const remU: Rule = (v, s) => {
  const c = constOf(arg(v, 1));
  if (c === null || c === 0n) return null;
  if (log2(c) !== null) return s.make("and", v.type as Type, arg(v, 0), s.constant(v.type as Type, c - 1n));
  return s.bits.of(arg(v, 0)) < c ? arg(v, 0) : null;
};

/** Signed division of what cannot be negative, by what cannot be, is unsigned. */
const unsignedDivision =
  (op: Op): Rule =>
  (v, s) => {
    const [x, y] = [arg(v, 0), arg(v, 1)];
    const c = constOf(y);
    if (c === null || c === 0n) return null;
    if (v.op === "div_s" && c === 1n) return x;
    if (v.op === "rem_s" && (c === 1n || c === maskOf(v.type as Type))) return s.constant(v.type as Type, 0n);
    return s.bits.isNonNegative(x) && s.bits.isNonNegative(y) ? s.make(op, v.type as Type, x, y) : null;
  };

// ---- Bits

/** No bit that the mask clears can be set. */
const maskUseless: Rule = (v, s) => {
  const c = constOf(arg(v, 1));
  const x = arg(v, 0);
  if (c === null) return null;
  const possible = s.bits.of(x);
  if ((possible & c) === 0n) return s.constant(v.type as Type, 0n);
  return (possible & ~c) === 0n ? x : null;
};

const and: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const type = v.type as Type;
  if (x === y) return x;
  const c = constOf(y);
  if (c !== null && type === "i64") {
    // A mask of the low half is an operation of 32 bits, which clears the rest.
    if (c === 0xffff_ffffn) return s.make("zext", "i64", s.make("wrap", "i32", x));
    if (x.op === "zext" || c <= 0xffff_ffffn) {
      return s.make("zext", "i64", s.make("and", "i32", s.make("wrap", "i32", x), s.constant("i32", c & 0xffff_ffffn)));
    }
  }
  if (c !== null && x.op === "load" && x.mem?.signed && s.isOnly(x) && c === maskOfBits(x.mem.bits) && !x.mem.atomic) {
    // The mask undoes the sign extension: the load extends with zeros instead.
    x.mem = { ...x.mem, signed: false };
    return s.reload(x);
  }
  if (c !== null && SIGN_EXTENSIONS[x.op] !== undefined && c <= maskOfBits(SIGN_EXTENSIONS[x.op] as number)) {
    return s.make("and", type, arg(x, 0), y);
  }
  if (
    c !== null &&
    (x.op === "or" || x.op === "xor") &&
    arg(x, 1).op === "const" &&
    ((arg(x, 1).imm as bigint) & c) === 0n
  ) {
    return s.make("and", type, arg(x, 0), y);
  }
  return andOfRange(v, s);
};

function maskOfBits(bits: number): bigint {
  return (1n << BigInt(bits)) - 1n;
}

const SIGN_EXTENSIONS: Partial<Record<Op, number>> = { extend8_s: 8, extend16_s: 16, extend32_s: 32 };

const or: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  if (x === y || isConst(y, 0n)) return x;
  if (isConst(y, maskOf(v.type as Type))) return y;
  return first(rotation, orOfRange)(v, s);
};

const xor: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const type = v.type as Type;
  if (x === y) return s.constant(type, 0n);
  if (isConst(y, 0n)) return x;
  if (isConst(y, 1n) && s.bits.of(x) <= 1n && type === "i32") return s.make("eqz", "i32", x);
  if (x.op === "xor" && arg(x, 1) === y) return arg(x, 0);
  if (x.op === "xor" && arg(x, 0) === y) return arg(x, 1);
  return rotation(v, s);
};

/** (x << c) op (x >>> (w - c)), for or, xor and add, is a rotation; so is it with a variable count. */
const rotation: Rule = (v, s) => {
  const type = v.type as Type;
  for (const [l, r] of [
    [arg(v, 0), arg(v, 1)],
    [arg(v, 1), arg(v, 0)],
  ] as [Value, Value][]) {
    if (l.op !== "shl" || r.op !== "shr_u" || arg(l, 0) !== arg(r, 0)) continue;
    const count = rotationCount(v.op, arg(l, 1), arg(r, 1), type);
    if (count === null) continue;
    return s.make(count.op, type, arg(l, 0), count.by);
  }
  return null;
};

function rotationCount(op: Op, left: Value, right: Value, type: Type): { op: Op; by: Value } | null {
  const width = BigInt(widthOf(type));
  const [a, b] = [constOf(left), constOf(right)];
  if (a !== null && b !== null) {
    const nontrivial = a % width !== 0n && (a + b) % width === 0n;
    return nontrivial ? { op: "rotl", by: left } : null;
  }
  // With a count of 0 both shifts give x: right for or only.
  if (op !== "or") return null;
  if (isNegated(right, left, width)) return { op: "rotl", by: left };
  if (isNegated(left, right, width)) return { op: "rotr", by: right };
  return null;
}

/** Is `a` equal to -b modulo the width? */
function isNegated(a: Value, b: Value, width: bigint): boolean {
  return a.op === "sub" && a.args[1] === b && a.args[0]?.op === "const" && (a.args[0].imm as bigint) % width === 0n;
}

/** The complement of a value, as Wasm writes it: x ^ -1. */
function complementOf(v: Value): Value | null {
  return v.op === "xor" && isConst(arg(v, 1), maskOf(v.type as Type)) ? arg(v, 0) : null;
}

function pairs(v: Value): [Value, Value][] {
  return [
    [arg(v, 0), arg(v, 1)],
    [arg(v, 1), arg(v, 0)],
  ];
}

/** (x & m) op (y & ~m), for or, xor and add, is ((x ^ y) & m) ^ y: no complement, and m joins late. */
const merge: Rule = (v, s) => {
  const type = v.type as Type;
  for (const [a, b] of pairs(v)) {
    if (a.op !== "and" || b.op !== "and" || !s.isOnly(a) || !s.isOnly(b)) continue;
    for (const [y, notM] of pairs(b)) {
      const m = complementOf(notM);
      if (m === null || (arg(a, 0) !== m && arg(a, 1) !== m)) continue;
      const x = arg(a, 0) === m ? arg(a, 1) : arg(a, 0);
      return s.make("xor", type, s.make("and", type, s.make("xor", type, x, y), m), y);
    }
  }
  return null;
};

/** (a & b) op (a & c), for or and xor, is a & (b op c). */
const factor: Rule = (v, s) => {
  const [l, r] = [arg(v, 0), arg(v, 1)];
  if (l.op !== "and" || r.op !== "and" || !s.isOnly(l) || !s.isOnly(r)) return null;
  const type = v.type as Type;
  for (const [a, b] of pairs(l)) {
    for (const [other, c] of pairs(r)) {
      if (a === other && a.op !== "const") return s.make("and", type, a, s.make(v.op, type, b, c));
    }
  }
  return null;
};

// ---- Shifts and extensions

/** The machine masks shift counts as Wasm does. */
const shiftCountMask: Rule = (v, s) => {
  const count = arg(v, 1);
  const width = BigInt(widthOf(v.type as Type));
  const c = constOf(count);
  if (c !== null) {
    if (c % width === 0n) return arg(v, 0);
    if (c >= width) return s.make(v.op, v.type as Type, arg(v, 0), s.constant(v.type as Type, c % width));
    return null;
  }
  const plain = unmasked(count, width - 1n, s);
  return plain === count ? null : s.make(v.op, v.type as Type, arg(v, 0), plain);
};

/** A value with the same bits under `mask`, without masks and casts that only matter outside of it. */
function unmasked(value: Value, mask: bigint, s: Simplifier): Value {
  if (value.op === "and" && ((constOf(arg(value, 1)) ?? 0n) & mask) === mask) return unmasked(arg(value, 0), mask, s);
  if (value.op !== "zext" && value.op !== "sext") return value;
  const inner = unmasked(arg(value, 0), mask, s);
  if (inner.op === "wrap") return unmasked(arg(inner, 0), mask, s);
  return inner === arg(value, 0) ? value : s.make("zext", "i64", inner);
}

function counts(v: Value): [Value, bigint, bigint] | null {
  const inner = arg(v, 0);
  const outer = constOf(arg(v, 1));
  const c = inner.args.length === 2 ? constOf(arg(inner, 1)) : null;
  return outer === null || c === null ? null : [inner, c, outer];
}

const shl: Rule = (v, s) => {
  const type = v.type as Type;
  const width = BigInt(widthOf(type));
  const pair = counts(v);
  if (pair === null) return null;
  const [inner, a, b] = pair;
  if (inner.op === "shl") {
    return a + b >= width ? s.constant(type, 0n) : s.make("shl", type, arg(inner, 0), s.constant(type, a + b));
  }
  if ((inner.op === "shr_u" || inner.op === "shr_s") && a === b) {
    return s.make("and", type, arg(inner, 0), s.constant(type, maskOf(type) << b));
  }
  if (inner.op === "add" && s.isOnly(inner)) {
    return s.make("add", type, s.make("shl", type, arg(inner, 0), arg(v, 1)), s.constant(type, a << b));
  }
  return null;
};

const shrU: Rule = (v, s) => {
  const type = v.type as Type;
  const width = BigInt(widthOf(type));
  const x = arg(v, 0);
  const b = constOf(arg(v, 1));
  if (b === null) return null;
  if (s.bits.of(x) >> b === 0n) return s.constant(type, 0n);
  if (x.op === "zext" && b < 32n) return s.make("zext", "i64", s.make("shr_u", "i32", arg(x, 0), s.constant("i32", b)));
  const pair = counts(v);
  if (pair === null) return null;
  const [inner, a] = pair;
  // A field: shift first, so that the mask is small.
  if (inner.op === "and" && s.isOnly(inner)) {
    return s.make("and", type, s.make("shr_u", type, arg(inner, 0), arg(v, 1)), s.constant(type, a >> b));
  }
  if (inner.op === "shr_u") {
    return a + b >= width ? s.constant(type, 0n) : s.make("shr_u", type, arg(inner, 0), s.constant(type, a + b));
  }
  if (inner.op === "shl" && a === b) return s.make("and", type, arg(inner, 0), s.constant(type, maskOf(type) >> b));
  return null;
};

const shrS: Rule = (v, s) => {
  const type = v.type as Type;
  if (s.bits.isNonNegative(arg(v, 0))) return s.make("shr_u", type, arg(v, 0), arg(v, 1));
  const pair = counts(v);
  if (pair === null) return null;
  const [inner, a, b] = pair;
  const width = BigInt(widthOf(type));
  if (inner.op === "shr_s") {
    const total = a + b >= width ? width - 1n : a + b;
    return s.make("shr_s", type, arg(inner, 0), s.constant(type, total));
  }
  if (inner.op !== "shl" || a !== b) return null;
  if (width - a === 8n) return s.make("extend8_s", type, arg(inner, 0));
  if (width - a === 16n) return s.make("extend16_s", type, arg(inner, 0));
  if (width - a === 32n) return s.make("sext", "i64", s.make("wrap", "i32", arg(inner, 0)));
  return null;
};

const rotr: Rule = (v, s) => {
  const c = constOf(arg(v, 1));
  if (c === null) return null;
  const type = v.type as Type;
  return s.make("rotl", type, arg(v, 0), s.constant(type, BigInt(widthOf(type)) - c));
};

const signExtend: Rule = (v, s) => {
  const bits = SIGN_EXTENSIONS[v.op] as number;
  const x = arg(v, 0);
  const type = v.type as Type;
  if (v.op === "extend32_s") return s.make("sext", "i64", s.make("wrap", "i32", x));
  if (s.bits.of(x) <= maskOfBits(bits - 1)) return x;
  if (x.op === "and" && ((constOf(arg(x, 1)) ?? 0n) & maskOfBits(bits)) === maskOfBits(bits)) {
    return s.make(v.op, type, arg(x, 0));
  }
  if (x.op === "load" && x.mem && !x.mem.atomic && x.mem.bits === bits) {
    if (x.mem.signed) return x;
    if (s.isOnly(x)) {
      x.mem = { ...x.mem, signed: true };
      return s.reload(x);
    }
  }
  return (SIGN_EXTENSIONS[x.op] ?? 64) <= bits ? x : null;
};

const NARROWING = new Set<Op>(["add", "sub", "mul", "and", "or", "xor"]);

const wrap: Rule = (v, s) => {
  const x = arg(v, 0);
  if (x.op === "zext" || x.op === "sext") return arg(x, 0);
  if (!s.isOnly(x)) return null;
  const low = (value: Value) => s.make("wrap", "i32", value);
  if (NARROWING.has(x.op)) return s.make(x.op, "i32", low(arg(x, 0)), low(arg(x, 1)));
  const c = x.op === "shl" ? constOf(arg(x, 1)) : null;
  if (c !== null) {
    return c >= 32n ? s.constant("i32", 0n) : s.make("shl", "i32", low(arg(x, 0)), s.constant("i32", c));
  }
  if (x.op === "select") return s.make("select", "i32", arg(x, 0), low(arg(x, 1)), low(arg(x, 2)));
  if ((x.op === "extend8_s" || x.op === "extend16_s") && x.type === "i64") return s.make(x.op, "i32", low(arg(x, 0)));
  return null;
};

const zext: Rule = (v, s) => {
  const x = arg(v, 0);
  return x.op === "wrap" && s.bits.of(arg(x, 0)) <= 0xffff_ffffn ? arg(x, 0) : null;
};

const sext: Rule = (v, s) => (s.bits.isNonNegative(arg(v, 0)) ? s.make("zext", "i64", arg(v, 0)) : null);

// ---- Compares

export const INVERSE: Partial<Record<Op, Op>> = {
  eq: "ne",
  ne: "eq",
  lt_s: "ge_s",
  ge_s: "lt_s",
  gt_s: "le_s",
  le_s: "gt_s",
  lt_u: "ge_u",
  ge_u: "lt_u",
  gt_u: "le_u",
  le_u: "gt_u",
};

export const SWAPPED: Partial<Record<Op, Op>> = {
  eq: "eq",
  ne: "ne",
  lt_s: "gt_s",
  gt_s: "lt_s",
  le_s: "ge_s",
  ge_s: "le_s",
  lt_u: "gt_u",
  gt_u: "lt_u",
  le_u: "ge_u",
  ge_u: "le_u",
};

const eqz: Rule = (v, s) => {
  const x = arg(v, 0);
  const inverse = INVERSE[x.op];
  if (inverse !== undefined) return s.make(inverse, "i32", arg(x, 0), arg(x, 1));
  if (x.op === "eqz") return s.make("ne", "i32", arg(x, 0), s.constant(arg(x, 0).type as Type, 0n));
  if (x.op === "zext" || x.op === "sext") return s.make("eqz", "i32", arg(x, 0));
  if (!s.isOnly(x)) return null; // its flags are as good as a compare
  if (x.op === "sub" || x.op === "xor") return s.make("eq", "i32", arg(x, 0), arg(x, 1));
  if (x.op === "add" && arg(x, 1).op === "const") {
    return s.make("eq", "i32", arg(x, 0), s.constant(x.type as Type, -(arg(x, 1).imm as bigint)));
  }
  return null;
};

/** Constants right, operand order fixed, and equal operands decided. */
const compareOrder: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  if (x === y) return s.constant("i32", v.op === "eq" || v.op.startsWith("le") || v.op.startsWith("ge") ? 1n : 0n);
  if (x.op === "const") return s.make(SWAPPED[v.op] as Op, "i32", y, x);
  return null;
};

/** Both operands extended the same way, or one extended and one constant: compare the narrow ones. */
const compareNarrow: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  if (x.op !== "zext" && x.op !== "sext") return null;
  // What is extended with zeros compares without sign.
  const signed = v.op.endsWith("_s");
  const op = x.op === "zext" && signed ? (`${v.op.slice(0, -1)}u` as Op) : v.op;
  if (y.op === x.op && (x.op === "zext" || !v.op.endsWith("_u"))) return s.make(op, "i32", arg(x, 0), arg(y, 0));
  const c = constOf(y);
  if (c !== null && x.op === "zext" && c <= 0xffff_ffffn) return s.make(op, "i32", arg(x, 0), s.constant("i32", c));
  return null;
};

const equality: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const c = constOf(y);
  if (c === null) return null;
  const type = x.type as Type;
  if (c === 0n) {
    if (v.op === "eq") return s.make("eqz", "i32", x);
    if (type === "i32" && s.bits.of(x) <= 1n) return x;
    if (x.op === "zext" || x.op === "sext") return s.make("ne", "i32", arg(x, 0), s.constant("i32", 0n));
    if ((x.op === "sub" || x.op === "xor") && s.isOnly(x)) return s.make("ne", "i32", arg(x, 0), arg(x, 1));
  }
  if ((s.bits.of(x) & c) !== c) return s.constant("i32", v.op === "eq" ? 0n : 1n);
  if (c === 1n && s.bits.of(x) === 1n) {
    if (v.op === "ne") return s.make("eqz", "i32", x);
    if (type === "i32") return x;
  }
  // A test of a single bit is a test against zero.
  if (s.bits.of(x) === c && (c & (c - 1n)) === 0n && x.op === "and") {
    return v.op === "ne" ? s.make("eqz", "i32", x) : s.make("ne", "i32", x, s.constant(type, 0n));
  }
  if (x.op === "add" && arg(x, 1).op === "const" && s.isOnly(x)) {
    return s.make(v.op, "i32", arg(x, 0), s.constant(type, c - (arg(x, 1).imm as bigint)));
  }
  if (x.op === "xor" && s.isOnly(x) && arg(x, 1).op === "const") {
    return s.make(v.op, "i32", arg(x, 0), s.constant(type, c ^ (arg(x, 1).imm as bigint)));
  }
  return null;
};

/** Compares with constants: decided by known bits, or brought to lt and ge. */
const unsignedConstant: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const c = constOf(y);
  if (c === null) return null;
  const type = x.type as Type;
  const most = s.bits.of(x);
  if (v.op === "lt_u") {
    if (c === 0n) return s.constant("i32", 0n);
    if (c === 1n) return s.make("eqz", "i32", x);
    if (most < c) return s.constant("i32", 1n);
  } else if (v.op === "ge_u") {
    if (c === 0n) return s.constant("i32", 1n);
    if (c === 1n) return s.make("ne", "i32", x, s.constant(type, 0n));
    if (most < c) return s.constant("i32", 0n);
  } else if (v.op === "le_u") {
    return c === maskOf(type) ? s.constant("i32", 1n) : s.make("lt_u", "i32", x, s.constant(type, c + 1n));
  } else if (v.op === "gt_u") {
    return c === maskOf(type) ? s.constant("i32", 0n) : s.make("ge_u", "i32", x, s.constant(type, c + 1n));
  }
  return null;
};

const signedConstant: Rule = (v, s) => {
  const [x, y] = [arg(v, 0), arg(v, 1)];
  const c = constOf(y);
  if (c === null) return null;
  const type = x.type as Type;
  if (s.bits.isNonNegative(x)) {
    if (toSigned(type, c) >= 0n) return s.make(`${v.op.slice(0, -1)}u` as Op, "i32", x, y);
    return s.constant("i32", v.op === "lt_s" || v.op === "le_s" ? 0n : 1n);
  }
  const most = maskOf(type) >> 1n;
  if (v.op === "le_s") return c === most ? s.constant("i32", 1n) : s.make("lt_s", "i32", x, s.constant(type, c + 1n));
  if (v.op === "gt_s") return c === most ? s.constant("i32", 0n) : s.make("ge_s", "i32", x, s.constant(type, c + 1n));
  return null;
};

const equalityCompare = first(compareOrder, compareNarrow, equality);
const unsignedCompare = first(compareOrder, compareNarrow, unsignedConstant);
const signedCompare = first(compareOrder, compareNarrow, signedConstant);

// ---- Ranges: lo <= x && x <= hi is x - lo < hi - lo + 1

interface Bound {
  x: Value;
  signed: boolean;
  /** x >= low (or, outside, x < low). */
  low?: bigint;
  /** x < high (or, outside, x >= high). */
  high?: bigint;
}

function boundOf(v: Value, lowOp: string, highOp: string): Bound | null {
  const c = v.args.length === 2 ? constOf(arg(v, 1)) : null;
  if (c === null) return null;
  const signed = v.op.endsWith("_s");
  const kind = v.op.slice(0, -2);
  const number = signed ? toSigned(arg(v, 1).type as Type, c) : c;
  if (kind === lowOp) return { x: arg(v, 0), signed, low: number };
  return kind === highOp ? { x: arg(v, 0), signed, high: number } : null;
}

function rangeOf(v: Value, lowOp: string, highOp: string): { x: Value; low: bigint; size: bigint } | null {
  const a = boundOf(arg(v, 0), lowOp, highOp);
  const b = boundOf(arg(v, 1), lowOp, highOp);
  if (a === null || b === null || a.x !== b.x || a.signed !== b.signed) return null;
  const low = a.low ?? b.low;
  const high = a.high ?? b.high;
  if (low === undefined || high === undefined || low >= high) return null;
  return { x: a.x, low, size: high - low };
}

const andOfRange: Rule = (v, s) => {
  if (!s.isOnly(arg(v, 0)) || !s.isOnly(arg(v, 1))) return null;
  const range = rangeOf(v, "ge", "lt");
  if (range === null) return null;
  const type = range.x.type as Type;
  const shifted = s.make("add", type, range.x, s.constant(type, -range.low));
  return s.make("lt_u", "i32", shifted, s.constant(type, range.size));
};

const orOfRange: Rule = (v, s) => {
  if (!s.isOnly(arg(v, 0)) || !s.isOnly(arg(v, 1))) return null;
  const range = rangeOf(v, "lt", "ge");
  if (range === null) return null;
  const type = range.x.type as Type;
  const shifted = s.make("add", type, range.x, s.constant(type, -range.low));
  return s.make("ge_u", "i32", shifted, s.constant(type, range.size));
};

// ---- Select, memory

const select: Rule = (v, s) => {
  const [condition, x, y] = v.args as [Value, Value, Value];
  const type = v.type as Type;
  if (x === y) return x;
  const c = constOf(condition);
  if (c !== null) return c !== 0n ? x : y;
  if (condition.op === "eqz" && arg(condition, 0).type === "i32")
    return s.make("select", type, arg(condition, 0), y, x);
  const plain = s.conditionOf(condition);
  if (plain !== condition) return s.make("select", type, plain, x, y);
  if (x.op === "const" && y.op === "const") {
    const widen = (value: Value) => (type === "i64" ? s.make("zext", "i64", value) : value);
    if (x.imm === 1n && y.imm === 0n) return widen(s.make("ne", "i32", condition, s.constant("i32", 0n)));
    if (x.imm === 0n && y.imm === 1n) return widen(s.make("eqz", "i32", condition));
  }
  return null;
};

/** What a narrow store drops need not be computed. */
const store: Rule = (v, s) => {
  const mem = v.mem as NonNullable<Value["mem"]>;
  const value = arg(v, 1);
  const plain = lowBits(value, mem.bits);
  if (plain === value) return null;
  v.args[1] = plain;
  s.touch(plain);
  return null;
};

/** A value with the same low bits, without masks and extensions. */
function lowBits(value: Value, bits: number): Value {
  let v = value;
  for (;;) {
    const inner = v.args[0];
    const mask = v.op === "and" ? constOf(arg(v, 1)) : null;
    if (inner === undefined) return v;
    if (mask !== null && (mask & maskOfBits(bits)) === maskOfBits(bits)) v = inner;
    else if ((v.op === "zext" || v.op === "sext") && bits <= 32) v = inner;
    else if ((SIGN_EXTENSIONS[v.op] ?? 0) >= bits) v = inner;
    else return v;
  }
}

const commutative = (...rules: Rule[]) => first(constantRight, ...rules);

export const RULES: Partial<Record<Op, Rule>> = {
  add: commutative(add, reassociate, constantOutwards, rotation, merge),
  sub,
  mul: commutative(mul, reassociate),
  and: commutative(maskUseless, reassociate, and),
  or: commutative(reassociate, or, merge, factor),
  xor: commutative(reassociate, xor, merge, factor),
  div_u: divU,
  rem_u: remU,
  div_s: unsignedDivision("div_u"),
  rem_s: unsignedDivision("rem_u"),
  shl: first(shiftCountMask, shl),
  shr_u: first(shiftCountMask, shrU),
  shr_s: first(shiftCountMask, shrS),
  rotl: shiftCountMask,
  rotr: first(shiftCountMask, rotr),
  extend8_s: signExtend,
  extend16_s: signExtend,
  extend32_s: signExtend,
  wrap,
  zext,
  sext,
  bswap: (v) => (arg(v, 0).op === "bswap" ? arg(arg(v, 0), 0) : null),
  eqz,
  eq: equalityCompare,
  ne: equalityCompare,
  lt_u: unsignedCompare,
  le_u: unsignedCompare,
  gt_u: unsignedCompare,
  ge_u: unsignedCompare,
  lt_s: signedCompare,
  le_s: signedCompare,
  gt_s: signedCompare,
  ge_s: signedCompare,
  select,
  store,
};
