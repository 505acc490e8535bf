// Results and status flags of the integer instructions that exit/emulate.ts executes. Operands and
// results are zero-extended; sizes are in bytes (1, 2, 4, 8). Flags that the manual leaves undefined
// keep what today's processors give where they agree, else their old value.
// Intel SDM Vol. 2, each instruction's "Flags Affected".

import { udiv128, umulh } from "../cpu/insn";

export const enum Flag {
  CF = 0x001,
  PF = 0x004,
  AF = 0x010,
  ZF = 0x040,
  SF = 0x080,
  DF = 0x400,
  OF = 0x800,
}
const STATUS: u64 = 0x8d5; // OF SF ZF AF PF CF

/** One operation: the flags go in and come out; `high` is the upper half of a product, or a remainder. */
@unmanaged
export class Alu {
  flags: u64;
  high: u64;
}

export function maskOf(bytes: u32): u64 {
  return bytes == 8 ? 0xffff_ffff_ffff_ffff : ((<u64>1) << (bytes << 3)) - 1;
}

export function signExtend(value: u64, bytes: u32): u64 {
  const shift: u64 = 64 - (bytes << 3);
  return <u64>(<i64>(value << shift) >> shift);
}

function topBit(value: u64, bytes: u32): u64 {
  return (value >> ((bytes << 3) - 1)) & 1;
}

/** SF, ZF and PF of a result. */
function resultFlags(result: u64, bytes: u32): u64 {
  const parity: u64 = (popcnt<u32>(<u32>result & 0xff) & 1) == 0 ? Flag.PF : 0;
  return parity | (result == 0 ? Flag.ZF : 0) | (topBit(result, bytes) << 7);
}

function setStatus(alu: Alu, affected: u64, flags: u64): void {
  alu.flags = (alu.flags & ~affected) | (flags & affected);
}

function add(alu: Alu, a: u64, b: u64, carry: u64, bytes: u32): u64 {
  const r = (a + b + carry) & maskOf(bytes);
  const cf = topBit((a & b) | ((a | b) & ~r), bytes);
  const overflow = topBit((a ^ r) & (b ^ r), bytes);
  setStatus(alu, STATUS, resultFlags(r, bytes) | cf | ((a ^ b ^ r) & Flag.AF) | (overflow << 11));
  return r;
}

function subtract(alu: Alu, a: u64, b: u64, borrow: u64, bytes: u32): u64 {
  const r = (a - b - borrow) & maskOf(bytes);
  const cf = topBit((~a & b) | ((~a | b) & r), bytes);
  const overflow = topBit((a ^ b) & (a ^ r), bytes);
  setStatus(alu, STATUS, resultFlags(r, bytes) | cf | ((a ^ b ^ r) & Flag.AF) | (overflow << 11));
  return r;
}

/** AND, OR, XOR, TEST: CF and OF are cleared; AF (undefined) too, as processors do. */
export function logic(alu: Alu, result: u64, bytes: u32): u64 {
  setStatus(alu, STATUS, resultFlags(result, bytes));
  return result;
}

/** ADD OR ADC SBB AND SUB XOR CMP by number; CMP returns `a`. */
export function arithmetic(alu: Alu, operation: u32, a: u64, b: u64, bytes: u32): u64 {
  const carry = alu.flags & Flag.CF;
  switch (operation) {
    case 0:
      return add(alu, a, b, 0, bytes);
    case 1:
      return logic(alu, a | b, bytes);
    case 2:
      return add(alu, a, b, carry, bytes);
    case 3:
      return subtract(alu, a, b, carry, bytes);
    case 4:
      return logic(alu, a & b, bytes);
    case 5:
      return subtract(alu, a, b, 0, bytes);
    case 6:
      return logic(alu, a ^ b, bytes);
    default:
      subtract(alu, a, b, 0, bytes);
      return a;
  }
}

/** INC and DEC leave CF alone. */
export function increment(alu: Alu, a: u64, bytes: u32): u64 {
  const carry = alu.flags & Flag.CF;
  const r = add(alu, a, 1, 0, bytes);
  alu.flags = (alu.flags & ~(<u64>Flag.CF)) | carry;
  return r;
}

export function decrement(alu: Alu, a: u64, bytes: u32): u64 {
  const carry = alu.flags & Flag.CF;
  const r = subtract(alu, a, 1, 0, bytes);
  alu.flags = (alu.flags & ~(<u64>Flag.CF)) | carry;
  return r;
}

export function negate(alu: Alu, a: u64, bytes: u32): u64 {
  return subtract(alu, 0, a, 0, bytes);
}

/** ROL ROR RCL RCR SHL SHR SAL SAR by number; `count` is CL or an immediate, not yet masked. */
export function shift(alu: Alu, operation: u32, a: u64, count: u32, bytes: u32): u64 {
  const bits = bytes << 3;
  const masked = count & (bytes == 8 ? 63 : 31);
  if (masked == 0) return a;
  if (operation < 2) return rotate(alu, operation == 0, a, masked, bytes);
  if (operation < 4) return rotateThroughCarry(alu, operation == 2, a, masked % (bits + 1), bytes);
  if (operation == 5) return shiftRight(alu, a, masked, bytes);
  return operation == 7 ? shiftArithmetic(alu, a, masked, bytes) : shiftLeft(alu, a, masked, bytes);
}

/** CF and OF change; the rest stays. For counts other than 1 OF is undefined: computed the same way. */
function rotate(alu: Alu, left: bool, a: u64, count: u32, bytes: u32): u64 {
  const bits = bytes << 3;
  const n = count & (bits - 1);
  const by = left ? n : (bits - n) & (bits - 1);
  const r = by == 0 ? a : ((a << by) | (a >> (bits - by))) & maskOf(bytes);
  const top = topBit(r, bytes);
  const cf = left ? r & 1 : top;
  const overflow = left ? top ^ cf : top ^ ((r >> (bits - 2)) & 1);
  setStatus(alu, Flag.CF | Flag.OF, cf | (overflow << 11));
  return r;
}

function rotateThroughCarry(alu: Alu, left: bool, a: u64, count: u32, bytes: u32): u64 {
  let r = a;
  let cf = alu.flags & Flag.CF;
  for (let i: u32 = 0; i < count; i++) {
    const out = left ? topBit(r, bytes) : r & 1;
    r = left ? ((r << 1) | cf) & maskOf(bytes) : (r >> 1) | (cf << ((bytes << 3) - 1));
    cf = out;
  }
  const top = topBit(r, bytes);
  const overflow = left ? top ^ cf : top ^ ((r >> ((bytes << 3) - 2)) & 1);
  setStatus(alu, Flag.CF | Flag.OF, cf | (overflow << 11));
  return r;
}

function shiftLeft(alu: Alu, a: u64, count: u32, bytes: u32): u64 {
  const r = (a << count) & maskOf(bytes);
  const bits = bytes << 3;
  const cf = count <= bits ? (a >> (bits - count)) & 1 : 0;
  const overflow = topBit(r, bytes) ^ cf;
  setStatus(alu, STATUS, resultFlags(r, bytes) | cf | (overflow << 11));
  return r;
}

function shiftRight(alu: Alu, a: u64, count: u32, bytes: u32): u64 {
  const r = a >> count;
  setStatus(alu, STATUS, resultFlags(r, bytes) | ((a >> (count - 1)) & 1) | (topBit(a, bytes) << 11));
  return r;
}

function shiftArithmetic(alu: Alu, a: u64, count: u32, bytes: u32): u64 {
  const wide = <i64>signExtend(a, bytes);
  const r = <u64>(wide >> count) & maskOf(bytes);
  setStatus(alu, STATUS, resultFlags(r, bytes) | (<u64>(wide >> (count - 1)) & 1));
  return r;
}

/** SHLD (`left`) and SHRD. A count beyond the operand (16-bit only) is undefined: taken modulo the size. */
export function doubleShift(alu: Alu, left: bool, a: u64, b: u64, count: u32, bytes: u32): u64 {
  const bits = bytes << 3;
  let n = count & (bytes == 8 ? 63 : 31);
  if (n == 0) return a;
  if (n >= bits) n %= bits;
  if (n == 0) return a;
  const joined = left ? (a << n) | (b >> (bits - n)) : (a >> n) | (b << (bits - n));
  const r = joined & maskOf(bytes);
  const cf = left ? (a >> (bits - n)) & 1 : (a >> (n - 1)) & 1;
  const overflow = topBit(r ^ a, bytes);
  setStatus(alu, STATUS, resultFlags(r, bytes) | cf | (overflow << 11));
  return r;
}

/** MUL: returns the low half, `alu.high` the upper one. CF and OF tell whether it is not zero. */
export function multiply(alu: Alu, a: u64, b: u64, bytes: u32): u64 {
  const low = (a * b) & maskOf(bytes);
  alu.high = bytes == 8 ? umulh(a, b) : ((a * b) >> (bytes << 3)) & maskOf(bytes);
  setStatus(alu, STATUS, resultFlags(low, bytes) | (alu.high != 0 ? Flag.CF | Flag.OF : 0));
  return low;
}

/** IMUL, one-operand and two-operand: the low half; `alu.high` the upper one. */
export function multiplySigned(alu: Alu, a: u64, b: u64, bytes: u32): u64 {
  const x = signExtend(a, bytes);
  const y = signExtend(b, bytes);
  const low = (x * y) & maskOf(bytes);
  if (bytes == 8) alu.high = umulh(x, y) - (<i64>x < 0 ? y : 0) - (<i64>y < 0 ? x : 0);
  else alu.high = ((x * y) >> (bytes << 3)) & maskOf(bytes);
  const fits = alu.high == (topBit(low, bytes) != 0 ? maskOf(bytes) : 0);
  setStatus(alu, STATUS, resultFlags(low, bytes) | (fits ? 0 : Flag.CF | Flag.OF));
  return low;
}

/** DIV of high:low; the quotient, with the remainder in `alu.high`. The caller raises #DE if `divides` is false. */
export function divide(alu: Alu, high: u64, low: u64, divisor: u64, bytes: u32): u64 {
  if (bytes == 8) {
    const quotient = udiv128(high, low, divisor);
    alu.high = low - quotient * divisor;
    return quotient;
  }
  const dividend = (high << (bytes << 3)) | low;
  alu.high = dividend % divisor;
  return dividend / divisor;
}

/** True if the unsigned quotient exists and fits. */
export function divides(high: u64, divisor: u64): bool {
  return divisor != 0 && high < divisor;
}

/**
 * IDIV of high:low. `alu.flags` is untouched. Returns false for #DE; else alu.high is the remainder
 * and `out` holds the quotient (u64).
 */
export function divideSigned(alu: Alu, high: u64, low: u64, divisor: u64, bytes: u32, out: usize): bool {
  const negativeDivisor = topBit(divisor, bytes) != 0;
  const magnitude = (negativeDivisor ? 0 - divisor : divisor) & maskOf(bytes);
  const negative = topBit(high, bytes) != 0;
  let h = high;
  let l = low;
  if (negative) {
    l = (0 - low) & maskOf(bytes);
    h = (~high + (low == 0 ? 1 : 0)) & maskOf(bytes);
  }
  if (!divides(h, magnitude)) return false;
  const quotient = divide(alu, h, l, magnitude, bytes);
  const remainder = alu.high;
  const limit = (<u64>1) << ((bytes << 3) - 1);
  const differ = negative != negativeDivisor;
  if (quotient > limit || (quotient == limit && !differ)) return false;
  store<u64>(out, (differ ? 0 - quotient : quotient) & maskOf(bytes));
  alu.high = (negative ? 0 - remainder : remainder) & maskOf(bytes);
  return true;
}

/** BT BTS BTR BTC by number; `bit` is already within the operand. CF takes the old bit. */
export function bitTest(alu: Alu, operation: u32, a: u64, bit: u32): u64 {
  const one = (<u64>1) << bit;
  setStatus(alu, Flag.CF, (a >> bit) & 1);
  if (operation == 1) return a | one;
  if (operation == 2) return a & ~one;
  return operation == 3 ? a ^ one : a;
}

/** BSF (`forward`) and BSR. ZF tells that `a` is zero; then the destination keeps `old`. */
export function bitScan(alu: Alu, forward: bool, a: u64, old: u64): u64 {
  setStatus(alu, Flag.ZF, a == 0 ? Flag.ZF : 0);
  if (a == 0) return old;
  return forward ? ctz<u64>(a) : 63 - clz<u64>(a);
}

/** POPCNT, TZCNT, LZCNT (0, 1, 2) of `bytes` bytes. */
export function countBits(alu: Alu, operation: u32, a: u64, bytes: u32): u64 {
  const bits: u64 = (<u64>bytes) << 3;
  if (operation == 0) {
    setStatus(alu, STATUS, a == 0 ? Flag.ZF : 0);
    return popcnt<u64>(a);
  }
  const count = a == 0 ? bits : operation == 1 ? ctz<u64>(a) : clz<u64>(a) - (64 - bits);
  setStatus(alu, Flag.CF | Flag.ZF, (a == 0 ? Flag.CF : 0) | (count == 0 ? Flag.ZF : 0));
  return count;
}

/** Condition 0..15 of Jcc, SETcc, CMOVcc. */
export function condition(flags: u64, code: u32): bool {
  const sign = ((flags >> 7) ^ (flags >> 11)) & 1;
  let holds: bool;
  switch (code >> 1) {
    case 0:
      holds = (flags & Flag.OF) != 0;
      break;
    case 1:
      holds = (flags & Flag.CF) != 0;
      break;
    case 2:
      holds = (flags & Flag.ZF) != 0;
      break;
    case 3:
      holds = (flags & (Flag.CF | Flag.ZF)) != 0;
      break;
    case 4:
      holds = (flags & Flag.SF) != 0;
      break;
    case 5:
      holds = (flags & Flag.PF) != 0;
      break;
    case 6:
      holds = sign != 0;
      break;
    default:
      holds = sign != 0 || (flags & Flag.ZF) != 0;
      break;
  }
  return (code & 1) != 0 ? !holds : holds;
}

export function swapBytes(value: u64, bytes: u32): u64 {
  let r: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) r |= ((value >> (i << 3)) & 0xff) << ((bytes - 1 - i) << 3);
  return r;
}
