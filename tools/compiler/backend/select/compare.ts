/** Conditions: what sets the flags, and which condition code then says yes. */

import type { CompareOp, Value } from "../../ir.ts";
import { type Cond, imm, type Operand } from "../machine.ts";
import type { Size } from "../registers.ts";
import { constantOf, fitsImm32, type Selector, sizeOf } from "../select.ts";

const CODES: Record<CompareOp, Cond> = {
  eq: "e",
  ne: "ne",
  lt_s: "l",
  le_s: "le",
  gt_s: "g",
  ge_s: "ge",
  lt_u: "b",
  le_u: "be",
  gt_u: "a",
  ge_u: "ae",
};

const INVERSE: Record<Cond, Cond> = {
  e: "ne",
  ne: "e",
  l: "ge",
  ge: "l",
  le: "g",
  g: "le",
  b: "ae",
  ae: "b",
  be: "a",
  a: "be",
  s: "ns",
  ns: "s",
  c: "nc",
  nc: "c",
};
const SWAPPED: Partial<Record<Cond, Cond>> = { l: "g", g: "l", le: "ge", ge: "le", b: "a", a: "b", be: "ae", ae: "be" };
/** For operands that are never negative. */
const UNSIGNED: Partial<Record<Cond, Cond>> = { l: "b", le: "be", g: "a", ge: "ae" };

export function invert(cond: Cond): Cond {
  return INVERSE[cond];
}

export function isCompare(v: Value): boolean {
  return v.op in CODES || v.op === "eqz";
}

/** Emits what sets the flags for "v is not zero" and returns the code for it. */
export function condition(s: Selector, v: Value): Cond {
  if (v.op === "eqz") return eqzCondition(s, v);
  const code = CODES[v.op as CompareOp];
  // A comparison that several instructions repeat must not take a load with it.
  if (code)
    return s.withFolding(s.uses(v) === 1 && v.block === s.block, () =>
      compare(s, code, v.args[0] as Value, v.args[1] as Value),
    );
  return testNonZero(s, v);
}

function eqzCondition(s: Selector, v: Value): Cond {
  const arg = v.args[0] as Value;
  const single = s.uses(v) === 1 && v.block === s.block;
  return s.withFolding(single, () => invert(isCompare(arg) ? condition(s, arg) : testNonZero(s, arg)));
}

function compare(s: Selector, code: Cond, a: Value, b: Value): Cond {
  const left = constantOf(a);
  const right = constantOf(b);
  if (left !== null && right === null) return compare(s, SWAPPED[code] ?? code, b, a);
  if (right === 0n && (code === "e" || code === "ne")) {
    const nonZero = testNonZero(s, a);
    return code === "ne" ? nonZero : invert(nonZero);
  }
  if (right === 0n && !s.canSink(a)) {
    s.emit("test", sizeOf(a), s.reg(a), s.reg(a));
    return code;
  }
  if (right !== null) {
    const narrow = narrowCompare(s, code, a, right);
    if (narrow) return narrow;
  }
  return wideCompare(s, code, a, b);
}

function wideCompare(s: Selector, code: Cond, a: Value, b: Value): Cond {
  const size = sizeOf(a);
  const right = s.regOrImmIfConstant(b) ?? s.tryLoad(b, size);
  if (right?.kind === "mem") {
    s.emit("cmp", size, s.reg(a), right);
    return code;
  }
  const memory = s.tryLoad(a, size);
  s.emit("cmp", size, memory ?? s.reg(a), right ?? s.reg(b));
  return code;
}

/** A byte in memory against a constant; words only with 8-bit constants (a 16-bit one stalls decoders). */
function narrowCompare(s: Selector, code: Cond, a: Value, right: bigint): Cond | null {
  if (a.op !== "load" || (a.mem?.bits !== 8 && a.mem?.bits !== 16) || !s.canSink(a)) return null;
  const bits = a.mem.bits;
  const signed = a.mem.signed;
  const [low, high] = signed ? [-(1n << BigInt(bits - 1)), 1n << BigInt(bits - 1)] : [0n, 1n << BigInt(bits)];
  const operand = BigInt.asIntN(bits, right);
  if (right < low || right >= high || (bits === 16 && BigInt.asIntN(8, operand) !== operand)) return null;
  const isUnsignedCode = code === "b" || code === "be" || code === "a" || code === "ae";
  if (signed && isUnsignedCode) return null;
  s.emit("cmp", (bits / 8) as Size, s.fold(a), imm(operand));
  return signed ? code : (UNSIGNED[code] ?? code);
}

/** TEST, BT or a comparison with memory for "v is not zero". */
function testNonZero(s: Selector, v: Value): Cond {
  if (v.op === "and" && !s.isDemanded(v)) return testAnd(s, v);
  if (v.op === "load" && s.canSink(v)) {
    s.emit("cmp", ((v.mem?.bits as number) / 8) as Size, s.fold(v), imm(0));
    return "ne";
  }
  const r = s.reg(v);
  s.emit("test", sizeOf(v), r, r);
  return "ne";
}

function testAnd(s: Selector, v: Value): Cond {
  const single = s.uses(v) === 1 && v.block === s.block;
  return s.withFolding(single && s.foldingAllowed, () => bitTest(s, v) ?? testMask(s, v));
}

function testMask(s: Selector, v: Value): Cond {
  const [a, b] = v.args as [Value, Value];
  const mask = constantOf(b);
  const size = sizeOf(v);
  if (mask !== null && mask > 0n && mask <= 0xffn) {
    const narrow = a.op === "load" && a.mem?.bits === 8 && s.canSink(a) ? s.fold(a) : s.reg(a);
    s.emit("test", 1, narrow, imm(BigInt.asIntN(8, mask)));
  } else if (mask !== null && size === 8 && mask > 0n && mask < 0x8000_0000n) {
    s.emit("test", 4, s.reg(a), imm(mask));
  } else {
    const right: Operand = mask !== null && fitsImm32(mask) ? imm(mask) : s.reg(b);
    s.emit("test", size, s.tryLoad(a, size) ?? s.reg(a), right);
  }
  return "ne";
}

/** (x >> n) & 1, x & (1 << n), and x & a single high bit: BT puts the bit into CF. */
function bitTest(s: Selector, v: Value): Cond | null {
  const [a, b] = v.args as [Value, Value];
  const size = sizeOf(v);
  const mask = constantOf(b);
  if (mask === 1n && a.op === "shr_u" && constantOf(a.args[1] as Value) === null && !s.isDemanded(a)) {
    s.emit("bt", size, s.reg(a.args[0] as Value), s.reg(a.args[1] as Value));
    return "c";
  }
  for (const [x, bit] of [
    [a, b],
    [b, a],
  ] as const) {
    if (bit.op !== "shl" || constantOf(bit.args[0] as Value) !== 1n || s.isDemanded(bit)) continue;
    s.emit("bt", size, s.reg(x), s.reg(bit.args[1] as Value));
    return "c";
  }
  if (mask === null || size !== 8 || fitsImm32(mask)) return null;
  const unsigned = BigInt.asUintN(64, mask);
  if ((unsigned & (unsigned - 1n)) !== 0n) return null;
  s.emit("bt", 8, s.reg(a), imm(unsigned.toString(2).length - 1));
  return "c";
}

/** A comparison as 0 or 1. The register is cleared first, because SETcc writes eight bits. */
export function lowerCompare(s: Selector, v: Value): void {
  const result = s.result(v);
  if (v.op === "lt_s" && constantOf(v.args[1] as Value) === 0n) {
    const size = sizeOf(v.args[0] as Value);
    const t = size === 8 ? s.temp(true) : result;
    s.move(t, v.args[0] as Value);
    s.emit("shr", size, t, imm(size * 8 - 1));
    if (size === 8) s.emit("mov", 4, result, t);
    return;
  }
  s.constant(result, 0n, 4);
  const code = s.withFolding(true, () => condition(s, v));
  s.emit("setcc", 1, result).cond = code;
}

/** Both sides are computed; CMOV picks. */
export function lowerSelect(s: Selector, v: Value): void {
  const [cond, yes, no] = v.args as [Value, Value, Value];
  const size = sizeOf(v);
  const result = s.result(v);
  // A memory operand of CMOV is read in any case, as the load was.
  const swap = no.op !== "const" && yes.op === "const";
  const [kept, taken] = swap ? [yes, no] : [no, yes];
  const source = taken.op !== "const" ? s.rm(taken, size) : s.reg(taken);
  const ready = kept.op === "const";
  if (ready) s.move(result, kept);
  const code = condition(s, cond);
  if (!ready) s.move(result, kept);
  s.emit("cmovcc", size, result, source).cond = swap ? invert(code) : code;
}
