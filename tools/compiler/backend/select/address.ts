/**
 * Memory operands. The rules are those of the address space (docs/architecture.md):
 *
 *   window low   offset up to 64 KiB      [a32 base + index*scale + disp]  all arithmetic modulo 2^32; a wrap of address
 *                                         + offset lands in the unmapped first 64 KiB
 *                up to 2 GiB              [zero-extended register + disp]  reaches into the unmapped 4..8 GiB
 *                beyond                   the sum in a register
 *   window gs    offset 0                 [gs: a32 base + index*scale + disp]
 *                up to 2 GiB              [gs: zero-extended register + disp]
 *                beyond                   the sum in a register
 */

import type { Value } from "../../ir.ts";
import { imm, type MemOperand, mem } from "../machine.ts";
import { NONE, type Reg } from "../registers.ts";
import { constantOf, fitsImm32, type Selector } from "../select.ts";

const FOLDABLE_OFFSET = 0x1_0000;
const DISP_LIMIT = 0x8000_0000;

export function linearAddress(s: Selector, v: Value, offset: number): MemOperand {
  const constant = constantOf(v);
  if (constant !== null) return constantAddress(s, Number(BigInt.asUintN(32, constant)) + offset);
  const limit = s.context.window === "low" ? FOLDABLE_OFFSET : 0;
  if (offset <= limit) return foldedAddress(s, v, offset);
  if (offset < DISP_LIMIT) return mem("linear64", { base: s.zeroExtended(v).reg, disp: offset });
  const sum = s.temp(true);
  s.emit("mov", 8, sum, imm(offset));
  s.emit("add", 8, sum, s.zeroExtended(v));
  return mem("linear64", { base: sum.reg });
}

/** An address below 2 GiB needs no register; one beyond 4 GiB lies in the unmapped 4..8 GiB all the same. */
function constantAddress(s: Selector, address: number): MemOperand {
  if (address < DISP_LIMIT) return mem("linear64", { disp: address });
  return mem("linear64", { base: s.pool.number(BigInt(address), true).reg });
}

interface Parts {
  base: Value | null;
  index: Value | null;
  scale: 1 | 2 | 4 | 8;
  disp: bigint;
}

function foldedAddress(s: Selector, v: Value, offset: number): MemOperand {
  const parts: Parts = { base: null, index: null, scale: 1, disp: BigInt(offset) };
  collect(s, v, parts, true);
  const get = (x: Value | null): Reg => (x ? s.reg(x).reg : NONE);
  return mem("linear32", {
    base: get(parts.base),
    index: get(parts.index),
    scale: parts.scale,
    disp: Number(BigInt.asIntN(32, parts.disp)),
  });
}

/** Adds the tree of `v` to `parts` if it fits; whoever calls has made sure that a plain register would. */
function collect(s: Selector, v: Value, parts: Parts, root: boolean): void {
  const constant = constantOf(v);
  if (constant !== null) parts.disp += constant;
  else if (v.op === "add" && mayOpen(s, v, root)) collectSum(s, v, parts);
  else if (!collectScaled(s, v, parts)) addRegister(v, parts);
}

function collectSum(s: Selector, v: Value, parts: Parts): void {
  const [a, b] = v.args as [Value, Value];
  const value = constantOf(b);
  if (value !== null) {
    parts.disp += value;
    collect(s, a, parts, false);
  } else if (freeSlots(parts) < 2) {
    addRegister(v, parts);
  } else {
    // The side that can be scaled goes first, while the index is free.
    const scaledFirst = scaleOf(s, b) ? [b, a] : [a, b];
    collectOne(s, scaledFirst[0] as Value, parts);
    collect(s, scaledFirst[1] as Value, parts, false);
  }
}

/** Takes exactly one of the two slots. */
function collectOne(s: Selector, v: Value, parts: Parts): void {
  if (!collectScaled(s, v, parts)) addRegister(v, parts);
}

function freeSlots(parts: Parts): number {
  return (parts.base ? 0 : 1) + (parts.index ? 0 : 1);
}

function addRegister(v: Value, parts: Parts): void {
  if (!parts.base) parts.base = v;
  else parts.index = v;
}

function collectScaled(s: Selector, v: Value, parts: Parts): boolean {
  const scale = scaleOf(s, v);
  if (!scale || parts.index) return false;
  parts.index = v.args[0] as Value;
  parts.scale = scale;
  return true;
}

/** 2, 4 or 8 if `v` is a shift that an index can do, and that nothing else needs. */
export function scaleOf(s: Selector, v: Value): 2 | 4 | 8 | null {
  if (v.op !== "shl" || v.args[1]?.op !== "const" || !isFree(s, v)) return null;
  const count = Number((v.args[1].imm as bigint) & (v.type === "i64" ? 63n : 31n));
  return count >= 1 && count <= 3 ? ((1 << count) as 2 | 4 | 8) : null;
}

/** Folding `v` into the address saves its instruction, or costs none. */
function mayOpen(s: Selector, v: Value, root: boolean): boolean {
  const [a, b] = v.args as [Value, Value];
  const sameLoop = s.flow.header.get(v.block) === s.flow.header.get(s.block);
  if (b.op === "const") return sameLoop || s.uses(v) === 1 || !s.isDemanded(v);
  if (!sameLoop || s.isDemanded(v)) return false;
  void a;
  const addressOnly = root && s.addressUses.get(v) === s.uses(v);
  return s.uses(v) === 1 || (addressOnly && s.uses(v) <= 3);
}

function isFree(s: Selector, v: Value): boolean {
  const sameLoop = s.flow.header.get(v.block) === s.flow.header.get(s.block);
  return sameLoop && !s.isDemanded(v);
}

/** An address in a window: `base` is the window's constant; the arithmetic is that of 64 bits. */
export function windowAddress(s: Selector, base: bigint, v: Value): MemOperand {
  const register = s.pool.number(base, true).reg;
  const constant = constantOf(v);
  if (constant !== null && fitsImm32(constant)) return mem("host", { base: register, disp: Number(constant) });
  const addend = v.op === "add" ? constantOf(v.args[1] as Value) : null;
  if (addend !== null && fitsImm32(addend) && !s.isDemanded(v)) {
    return mem("host", { base: register, index: s.reg(v.args[0] as Value).reg, disp: Number(addend) });
  }
  return mem("host", { base: register, index: s.reg(v).reg });
}

/** LEA operand for a sum or a shift, in 64-bit registers: only the low half of a 32-bit result is used. */
export function leaOperand(base: Reg, index: Reg, scale: 1 | 2 | 4 | 8, disp: bigint): MemOperand {
  return mem("host", { base, index, scale, disp: Number(disp) });
}
