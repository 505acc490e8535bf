/** Integer arithmetic: two-address forms, LEA where it saves a copy, multiplication and division. */

import { TrapKind, type Value } from "../../ir.ts";
import { type Cond, imm, type Opcode, type RegOperand, reg } from "../machine.ts";
import { NONE, RAX, RCX, RDX, setOf } from "../registers.ts";
import { constantOf, fitsImm32, type Selector, sizeOf } from "../select.ts";
import { leaOperand, scaleOf } from "./address.ts";

type Two = "add" | "sub" | "and" | "or" | "xor" | "imul";

/** result = a op b, with the operation on a copy of `a`. */
function twoAddress(s: Selector, op: Two, v: Value, a: Value, b: Value): void {
  const size = sizeOf(v);
  const result = s.result(v);
  const source = s.source(b);
  s.move(result, a);
  s.emit(op, size, result, source);
}

/** The operand that the result replaces first: the one that nobody else reads. */
function ordered(s: Selector, v: Value): [Value, Value] {
  const [a, b] = v.args as [Value, Value];
  if (b.op === "const") return [a, b];
  if (a.op === "const") return [b, a];
  if (accumulates(s, v, a)) return [a, b];
  if (accumulates(s, v, b)) return [b, a];
  if (s.canSink(a) && !s.canSink(b)) return [b, a];
  return s.dies(a) || !s.dies(b) || s.canSink(b) ? [a, b] : [b, a];
}

/** Steps from a loop's sum to its next value over which it keeps its register. */
const MAX_STEPS = 3;

/** Is `a` a loop's sum, product or the like, and `v` on the way to its next value? It stays in its register. */
function accumulates(s: Selector, v: Value, a: Value): boolean {
  const leads = (next: Value, steps: number): boolean =>
    next === v || (steps > 0 && STEPS.has(next.op) && s.uses(next) === 1 && next.args.some((x) => leads(x, steps - 1)));
  return a.op === "phi" && a.args.some((next) => next.block === v.block && leads(next, MAX_STEPS));
}

const STEPS = new Set(["add", "sub", "and", "or", "xor", "mul", "shl", "shr_u", "rotl"]);

export function lowerAdd(s: Selector, v: Value): void {
  const [a, b] = ordered(s, v);
  const value = constantOf(b);
  if (value !== null) return addConstant(s, v, a, value);
  if (scaledAdd(s, v, a, b) || scaledAdd(s, v, b, a)) return;
  if (multipleAdd(s, v, a, b) || multipleAdd(s, v, b, a)) return;
  if (s.canSink(b) && b.mem?.bits === sizeOf(v) * 8) return twoAddress(s, "add", v, a, b);
  if (s.dies(a) || accumulates(s, v, a)) return twoAddress(s, "add", v, a, b);
  s.emit("lea", sizeOf(v), s.result(v), leaOperand(s.reg(a).reg, s.reg(b).reg, 1, 0n));
}

/** a + (b << 1..3), and + constant, as one LEA. */
function scaledAdd(s: Selector, v: Value, a: Value, shifted: Value): boolean {
  const scale = scaleOf(s, shifted);
  if (!scale) return false;
  const index = s.reg(shifted.args[0] as Value).reg;
  s.emit("lea", sizeOf(v), s.result(v), leaOperand(s.reg(a).reg, index, scale, 0n));
  return true;
}

/** a + x * (3, 5 or 9) * (2, 4 or 8), as two LEAs. */
function multipleAdd(s: Selector, v: Value, a: Value, product: Value): boolean {
  const factor = product.op === "mul" && s.uses(product) === 1 ? constantOf(product.args[1] as Value) : null;
  if (factor === null) return false;
  for (const step of [3n, 5n, 9n]) {
    const rest: bigint = factor / step;
    if (rest * step !== factor || (rest !== 2n && rest !== 4n && rest !== 8n)) continue;
    const x = s.reg(product.args[0] as Value).reg;
    const t = s.temp(sizeOf(v) === 8);
    s.emit("lea", sizeOf(v), t, leaOperand(x, x, Number(step - 1n) as 2 | 4 | 8, 0n));
    s.emit("lea", sizeOf(v), s.result(v), leaOperand(s.reg(a).reg, t.reg, Number(rest) as 2 | 4 | 8, 0n));
    return true;
  }
  return false;
}

function addConstant(s: Selector, v: Value, a: Value, value: bigint): void {
  const size = sizeOf(v);
  const result = s.result(v);
  if (!fitsImm32(value)) {
    const register = s.pool.number(value, size === 8);
    if (!s.dies(a)) {
      s.emit("lea", size, result, leaOperand(s.reg(a).reg, register.reg, 1, 0n));
      return;
    }
    s.move(result, a);
    s.emit("add", size, result, register);
    return;
  }
  if (addressOfSum(s, v, a, value)) return;
  if (s.dies(a)) {
    s.move(result, a);
    s.emit("add", size, result, imm(value));
  } else s.emit("lea", size, result, leaOperand(s.reg(a).reg, NONE, 1, value));
}

/** (x + y) + c with an inner sum that nobody else needs: LEA with three parts costs what ADD and ADD cost, less a copy. */
function addressOfSum(s: Selector, v: Value, a: Value, value: bigint): boolean {
  const size = sizeOf(v);
  const scale = scaleOf(s, a);
  if (scale && s.uses(a) === 1) {
    s.emit("lea", size, s.result(v), leaOperand(NONE, s.reg(a.args[0] as Value).reg, scale, value));
    return true;
  }
  return false;
}

export function lowerSub(s: Selector, v: Value): void {
  const [a, b] = v.args as [Value, Value];
  const left = constantOf(a);
  const right = constantOf(b);
  if (right !== null && fitsImm32(-right)) return addConstant(s, v, a, -right);
  if (left === 0n) {
    s.move(s.result(v), b);
    s.emit("neg", sizeOf(v), s.result(v));
  } else if (left !== null && fitsImm32(left)) {
    s.move(s.result(v), b);
    s.emit("neg", sizeOf(v), s.result(v));
    s.emit("add", sizeOf(v), s.result(v), imm(left));
  } else twoAddress(s, "sub", v, a, b);
}

export function lowerAnd(s: Selector, v: Value): void {
  const [a, b] = ordered(s, v);
  const size = sizeOf(v);
  const mask = b.op === "const" ? BigInt.asUintN(64, b.imm as bigint) : null;
  const result = s.result(v);
  if (mask === 0xffn) s.emit("movzx", 4, result, s.reg(a)).sourceSize = 1;
  else if (mask === 0xffffn) s.emit("movzx", 4, result, s.reg(a)).sourceSize = 2;
  else if (mask === 0xffff_ffffn && size === 8) s.emit("movzxd", 4, result, s.reg(a));
  else if (mask !== null && size === 8 && mask < 0x8000_0000n) {
    // A 32-bit AND clears the upper half as the 64-bit mask would, in a shorter form.
    s.move(result, a);
    s.emit("and", 4, result, imm(mask));
  } else twoAddress(s, "and", v, a, b);
}

export function lowerBitwise(op: "or" | "xor"): (s: Selector, v: Value) => void {
  return (s, v) => {
    const [a, b] = ordered(s, v);
    if (op === "xor" && constantOf(b) === -1n) {
      s.move(s.result(v), a);
      s.emit("not", sizeOf(v), s.result(v));
    } else twoAddress(s, op, v, a, b);
  };
}

// ---- Multiplication

export function lowerMul(s: Selector, v: Value): void {
  const [a, b] = ordered(s, v);
  const factor = constantOf(b);
  if (factor !== null && multiplyByConstant(s, v, a, factor)) return;
  twoAddress(s, "imul", v, a, b);
}

function multiplyByConstant(s: Selector, v: Value, a: Value, factor: bigint): boolean {
  const size = sizeOf(v);
  const result = s.result(v);
  if (factor === 3n || factor === 5n || factor === 9n) {
    const r = s.reg(a).reg;
    s.emit("lea", size, result, leaOperand(r, r, Number(factor - 1n) as 2 | 4 | 8, 0n));
    return true;
  }
  const power = powerOfTwo(factor);
  if (power !== null) {
    s.move(result, a);
    s.emit("shl", size, result, imm(power));
    return true;
  }
  for (const step of [3n, 5n, 9n]) {
    const rest = factor % step === 0n ? powerOfTwo(factor / step) : null;
    const second = factor % step === 0n ? factor / step : 0n;
    if (rest === null && second !== 3n && second !== 5n && second !== 9n) continue;
    const r = s.reg(a).reg;
    const t = s.temp(size === 8);
    s.emit("lea", size, t, leaOperand(r, r, Number(step - 1n) as 2 | 4 | 8, 0n));
    if (rest === null) s.emit("lea", size, result, leaOperand(t.reg, t.reg, Number(second - 1n) as 2 | 4 | 8, 0n));
    else {
      s.emit("mov", size, result, t);
      s.emit("shl", size, result, imm(rest));
    }
    return true;
  }
  if (!fitsImm32(factor)) return false;
  s.emit("imul3", size, result, s.rm(a), imm(factor));
  return true;
}

function powerOfTwo(value: bigint): bigint | null {
  if (value <= 0n || (value & (value - 1n)) !== 0n) return null;
  return BigInt(value.toString(2).length - 1);
}

/** MUL and IMUL with one operand: RDX gets the high half. */
export function lowerMulHigh(op: "mul" | "imul1"): (s: Selector, v: Value) => void {
  return (s, v) => {
    const size = sizeOf(v);
    const [a, b] = ordered(s, v);
    const factor = s.reg(b);
    s.move(reg(RAX), a);
    const inst = s.emit(op, size, factor);
    inst.uses = setOf(RAX);
    inst.defs = setOf(RDX);
    inst.clobbers = setOf(RAX);
    s.emit("mov", size, s.result(v), reg(RDX));
  };
}

// ---- Shifts

const SHIFTS: Record<string, Opcode> = { shl: "shl", shr_s: "sar", shr_u: "shr", rotl: "rol", rotr: "ror" };

export function lowerShift(s: Selector, v: Value): void {
  const [a, b] = v.args as [Value, Value];
  const size = sizeOf(v);
  const op = SHIFTS[v.op] as Opcode;
  const result = s.result(v);
  const count = constantOf(b);
  if (count === null) return shiftByRegister(s, v, op);
  const bits = count & BigInt(size * 8 - 1);
  if (v.op === "shl" && bits >= 1n && bits <= 3n && !s.dies(a)) {
    const r = s.reg(a).reg;
    // x*2 as x+x: without a base the displacement would take four bytes.
    s.emit(
      "lea",
      size,
      result,
      bits === 1n ? leaOperand(r, r, 1, 0n) : leaOperand(NONE, r, (1 << Number(bits)) as 4 | 8, 0n),
    );
    return;
  }
  s.move(result, a);
  if (bits !== 0n) s.emit(op, size, result, imm(bits));
}

function shiftByRegister(s: Selector, v: Value, op: Opcode): void {
  const [a, b] = v.args as [Value, Value];
  const result = s.result(v);
  const count = withoutCountMask(b, sizeOf(v));
  s.move(result, a);
  s.emit("mov", sizeOf(count), reg(RCX), s.reg(count));
  s.emit(op, sizeOf(v), result, reg(RCX)).uses = 0;
}

/** The processor masks the count itself. */
function withoutCountMask(count: Value, size: number): Value {
  const mask = count.op === "and" ? constantOf(count.args[1] as Value) : null;
  const needed = BigInt(size * 8 - 1);
  return mask !== null && (mask & needed) === needed ? (count.args[0] as Value) : count;
}

// ---- Division

export function lowerUnsignedDivision(s: Selector, v: Value): void {
  const size = sizeOf(v);
  const divisor = s.reg(v.args[1] as Value);
  s.move(reg(RAX), v.args[0] as Value);
  s.constant(reg(RDX), 0n, 4);
  divide(s, v, "div", divisor);
  s.emit("mov", size, s.result(v), reg(v.op === "div_u" ? RAX : RDX));
}

function divide(s: Selector, v: Value, op: "div" | "idiv", divisor: RegOperand): void {
  const inst = s.emit(op, sizeOf(v), divisor);
  inst.uses = setOf(RAX, RDX);
  inst.defs = v.op === "div_u" || v.op === "div_s" ? setOf(RAX) : setOf(RDX);
  inst.clobbers = setOf(RAX, RDX) & ~inst.defs;
  inst.trap = TrapKind.DIVIDE_BY_ZERO;
  if (op === "idiv") inst.trapDetail = "divide";
}

export function lowerSignedDivision(s: Selector, v: Value): void {
  const size = sizeOf(v);
  const divisor = v.op === "rem_s" ? remainderDivisor(s, v) : s.reg(v.args[1] as Value);
  s.move(reg(RAX), v.args[0] as Value);
  const extend = s.emit(size === 8 ? "cqo" : "cdq", size);
  extend.uses = setOf(RAX);
  extend.defs = setOf(RDX, RAX);
  divide(s, v, "idiv", divisor);
  s.emit("mov", size, s.result(v), reg(v.op === "div_s" ? RAX : RDX));
}

/** x % -1 is 0 and must not fault for the smallest x: 1 as the divisor gives the same. */
function remainderDivisor(s: Selector, v: Value): RegOperand {
  const b = v.args[1] as Value;
  const constant = constantOf(b);
  if (constant !== null && constant !== -1n) return s.reg(b);
  const size = sizeOf(v);
  const divisor = s.temp(size === 8);
  const one = s.temp(size === 8);
  s.constant(one, 1n, size);
  s.move(divisor, b);
  s.emit("cmp", size, divisor, imm(-1));
  s.emit("cmovcc", size, divisor, one).cond = "e";
  return divisor;
}

// ---- Bits

export function lowerExtend(bits: 8 | 16 | 32): (s: Selector, v: Value) => void {
  return (s, v) => {
    s.emit(
      "movsx",
      sizeOf(v),
      s.result(v),
      s.rm(v.args[0] as Value, bits === 32 ? 4 : ((bits / 8) as 1 | 2)),
    ).sourceSize = (bits / 8) as 1 | 2 | 4;
  };
}

export function lowerSext(s: Selector, v: Value): void {
  s.emit("movsx", 8, s.result(v), s.rm(v.args[0] as Value, 4)).sourceSize = 4;
}

/** Only where the source's upper half is not clear: see Selector.alias. */
export function lowerZext(s: Selector, v: Value): void {
  const arg = v.args[0] as Value;
  const value = constantOf(arg);
  if (value !== null) s.constant(s.result(v), BigInt.asUintN(32, value), 4);
  else s.emit("movzxd", 4, s.result(v), s.reg(arg));
}

export function lowerBswap(s: Selector, v: Value): void {
  s.move(s.result(v), v.args[0] as Value);
  s.emit("bswap", sizeOf(v), s.result(v));
}

/** BSR and BSF leave ZF set and nothing useful for 0: a conditional move supplies the bit count. */
export function lowerCountZeros(s: Selector, v: Value): void {
  const size = sizeOf(v);
  const x = v.args[0] as Value;
  const result = s.result(v);
  if (s.context.march.has(v.op === "clz" ? "lzcnt" : "bmi")) {
    s.emit(v.op === "clz" ? "lzcnt" : "tzcnt", size, result, s.rm(x));
    return;
  }
  const bits = BigInt(size * 8);
  const none = s.pool.number(v.op === "clz" ? 2n * bits - 1n : bits, size === 8);
  s.emit(v.op === "clz" ? "bsr" : "bsf", size, result, s.rm(x));
  s.emit("cmovcc", size, result, none).cond = "e" satisfies Cond;
  if (v.op === "clz") s.emit("xor", size, result, imm(bits - 1n));
}

/** Adds neighbouring fields of 1, 2, 4 bits, then all bytes by one multiplication. */
export function lowerPopcount(s: Selector, v: Value): void {
  const size = sizeOf(v);
  const x = v.args[0] as Value;
  const result = s.result(v);
  if (s.context.march.has("popcnt")) {
    s.emit("popcnt", size, result, s.rm(x));
    return;
  }
  const wide = size === 8;
  const repeat = (byte: bigint): bigint => BigInt.asIntN(size * 8, byte * (wide ? 0x0101010101010101n : 0x01010101n));
  const mask = (byte: bigint) => (wide ? s.pool.number(repeat(byte), true) : imm(repeat(byte)));
  const t = s.temp(wide);
  s.move(result, x);
  s.move(t, x);
  s.emit("shr", size, t, imm(1));
  s.emit("and", size, t, mask(0x55n));
  s.emit("sub", size, result, t);
  const u = s.temp(wide);
  s.emit("mov", size, u, result);
  s.emit("shr", size, u, imm(2));
  s.emit("and", size, u, mask(0x33n));
  s.emit("and", size, result, mask(0x33n));
  s.emit("add", size, result, u);
  const w = s.temp(wide);
  s.emit("mov", size, w, result);
  s.emit("shr", size, w, imm(4));
  s.emit("add", size, result, w);
  s.emit("and", size, result, mask(0x0fn));
  if (wide) s.emit("imul", size, result, mask(0x01n));
  else s.emit("imul3", size, result, result, imm(repeat(0x01n)));
  s.emit("shr", size, result, imm(wide ? 56 : 24));
}
