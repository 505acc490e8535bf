// What each pure operation computes: for constant folding and for the interpreter. Values are unsigned
// numbers of their width.

import type { Op, Type } from "./ir.ts";

const MASK32 = 0xffff_ffffn;
const MASK64 = 0xffff_ffff_ffff_ffffn;

export function maskOf(type: Type): bigint {
  return type === "i32" ? MASK32 : MASK64;
}

export function toSigned(type: Type, value: bigint): bigint {
  return BigInt.asIntN(type === "i32" ? 32 : 64, value);
}

function bitsOf(type: Type): bigint {
  return type === "i32" ? 32n : 64n;
}

function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}

function popcount(value: bigint): bigint {
  let count = 0n;
  for (let rest = value; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}

export function trailingZeros(type: Type, value: bigint): bigint {
  if (value & 1n) return 0n;
  return value === 0n ? bitsOf(type) : BigInt(bitLength(value & -value) - 1);
}

function swapBytes(type: Type, value: bigint): bigint {
  let result = 0n;
  for (let shift = 0n; shift < bitsOf(type); shift += 8n) result = (result << 8n) | ((value >> shift) & 0xffn);
  return result;
}

function signExtend(type: Type, bits: number, value: bigint): bigint {
  return BigInt.asIntN(bits, value) & maskOf(type);
}

type Binary = (a: bigint, b: bigint, type: Type) => bigint | null;

/** Results before reduction to the width; null: traps. */
const BINARY: Partial<Record<Op, Binary>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  shl: (a, b, t) => a << (b % bitsOf(t)),
  shr_u: (a, b, t) => a >> (b % bitsOf(t)),
  shr_s: (a, b, t) => toSigned(t, a) >> (b % bitsOf(t)),
  rotl: (a, b, t) => (a << (b % bitsOf(t))) | (a >> (bitsOf(t) - (b % bitsOf(t)))),
  rotr: (a, b, t) => (a >> (b % bitsOf(t))) | (a << (bitsOf(t) - (b % bitsOf(t)))),
  div_u: (a, b) => (b === 0n ? null : a / b),
  rem_u: (a, b) => (b === 0n ? null : a % b),
  div_s: (a, b, t) => {
    if (b === 0n) return null;
    const quotient = toSigned(t, a) / toSigned(t, b);
    return toSigned(t, quotient & maskOf(t)) === quotient ? quotient : null;
  },
  rem_s: (a, b, t) => (b === 0n ? null : toSigned(t, a) % toSigned(t, b)),
  mulh_u: (a, b, t) => (a * b) >> bitsOf(t),
  mulh_s: (a, b, t) => (toSigned(t, a) * toSigned(t, b)) >> bitsOf(t),
};

const COMPARE: Partial<Record<Op, (a: bigint, b: bigint) => boolean>> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt_u: (a, b) => a < b,
  le_u: (a, b) => a <= b,
  gt_u: (a, b) => a > b,
  ge_u: (a, b) => a >= b,
};

const SIGNED_COMPARE: Partial<Record<Op, (a: bigint, b: bigint) => boolean>> = {
  lt_s: (a, b) => a < b,
  le_s: (a, b) => a <= b,
  gt_s: (a, b) => a > b,
  ge_s: (a, b) => a >= b,
};

/** `from` is the operand's type, `to` the result's. */
const UNARY: Partial<Record<Op, (a: bigint, from: Type, to: Type) => bigint>> = {
  eqz: (a) => (a === 0n ? 1n : 0n),
  clz: (a, t) => bitsOf(t) - BigInt(bitLength(a)),
  ctz: (a, t) => trailingZeros(t, a),
  popcnt: popcount,
  wrap: (a) => a & MASK32,
  zext: (a) => a,
  sext: (a) => signExtend("i64", 32, a),
  extend8_s: (a, _, t) => signExtend(t, 8, a),
  extend16_s: (a, _, t) => signExtend(t, 16, a),
  extend32_s: (a, _, t) => signExtend(t, 32, a),
  bswap: (a, t) => swapBytes(t, a),
};

/** Is this an operation that `evaluate` knows? */
export function isPureOp(op: Op): boolean {
  return op in BINARY || op in COMPARE || op in SIGNED_COMPARE || op in UNARY;
}

/** The result of a pure operation; `operand` is the type of its first argument. null: it traps. */
export function evaluate(op: Op, operand: Type, result: Type, args: bigint[]): bigint | null {
  const [a, b] = args as [bigint, bigint];
  const binary = BINARY[op];
  if (binary !== undefined) {
    const value = binary(a, b, operand);
    return value === null ? null : value & maskOf(operand);
  }
  const compare = COMPARE[op];
  if (compare !== undefined) return compare(a, b) ? 1n : 0n;
  const signed = SIGNED_COMPARE[op];
  if (signed !== undefined) return signed(toSigned(operand, a), toSigned(operand, b)) ? 1n : 0n;
  const unary = UNARY[op];
  if (unary !== undefined) return unary(a, operand, result);
  throw new Error(`${op} is no pure operation`);
}
