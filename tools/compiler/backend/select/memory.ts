/** Loads, stores, read-modify-write in one instruction, globals. */

import type { Value } from "../../ir.ts";
import { imm, type MemOperand, mem, type Opcode, type Operand } from "../machine.ts";
import type { Size } from "../registers.ts";
import { constantOf, fitsImm32, type Selector, sizeOf } from "../select.ts";
import { requireAligned } from "./atomic.ts";

function bytesOf(v: Value): Size {
  return ((v.mem?.bits as number) / 8) as Size;
}

export function lowerLoad(s: Selector, v: Value): void {
  if (v.mem?.atomic) requireAligned(s, v);
  const from = s.address(v.args[0] as Value, v.mem?.offset as number);
  emitLoad(s, v, from);
}

function emitLoad(s: Selector, v: Value, from: MemOperand): void {
  const bytes = bytesOf(v);
  const result = s.result(v);
  if (v.mem?.signed && bytes < sizeOf(v)) s.emit("movsx", sizeOf(v), result, from).sourceSize = bytes;
  else if (bytes < 4) s.emit("movzx", 4, result, from).sourceSize = bytes;
  else s.emit("mov", bytes, result, from);
}

export function lowerStore(s: Selector, v: Value): void {
  const [address, value] = v.args as [Value, Value];
  const offset = v.mem?.offset as number;
  if (v.mem?.atomic) {
    // XCHG with memory is a full barrier: what a sequentially consistent store needs.
    requireAligned(s, v);
    const t = s.temp(true);
    s.move(t, value);
    s.emit("xchg", bytesOf(v), s.address(address, offset), t);
    return;
  }
  if (readModifyWrite(s, v)) return;
  const source = storedValue(s, value, bytesOf(v));
  s.emit("mov", bytesOf(v), s.address(address, offset), source);
}

/** What need not be computed because the store drops it: masks and extensions of the low bytes. */
function storedValue(s: Selector, value: Value, bytes: Size): Operand {
  const constant = constantOf(value);
  if (constant !== null) {
    const stored = BigInt.asIntN(bytes * 8, constant);
    return fitsImm32(stored) ? imm(stored) : s.reg(value);
  }
  return s.reg(withoutNarrowing(s, value, bytes));
}

function withoutNarrowing(s: Selector, value: Value, bytes: Size): Value {
  const arg = value.args[0] as Value;
  const bits = BigInt(bytes * 8);
  const low = (1n << bits) - 1n;
  const mask = value.op === "and" ? value.args[1] : undefined;
  const keepsLow =
    (mask?.op === "const" && ((mask.imm as bigint) & low) === low) ||
    (value.op === "extend8_s" && bytes === 1) ||
    (value.op === "extend16_s" && bytes <= 2) ||
    (value.op === "extend32_s" && bytes <= 4) ||
    value.op === "wrap" ||
    ((value.op === "zext" || value.op === "sext") && bytes <= 4);
  return keepsLow && !s.isDemanded(value) && arg.op !== "const" ? withoutNarrowing(s, arg, bytes) : value;
}

const IN_PLACE: Partial<Record<string, Opcode>> = {
  add: "add",
  sub: "sub",
  and: "and",
  or: "or",
  xor: "xor",
  shl: "shl",
  shr_u: "shr",
  shr_s: "sar",
  rotl: "rol",
  rotr: "ror",
};
const COMMUTATIVE = new Set(["add", "and", "or", "xor"]);
const NARROWABLE = new Set(["add", "sub", "and", "or", "xor"]);

/** store(p, load(p) op x) as `op [p], x`. */
function readModifyWrite(s: Selector, v: Value): boolean {
  const value = v.args[1] as Value;
  const op = IN_PLACE[value.op];
  if (!op || s.uses(value) !== 1 || value.block !== s.block || s.isDemanded(value)) return false;
  const [a, b] = value.args as [Value, Value];
  const bytes = bytesOf(v);
  if (isSamePlace(s, v, a) && isOperand(value, b, bytes)) return modify(s, v, op, a, b);
  if (COMMUTATIVE.has(value.op) && isSamePlace(s, v, b) && isOperand(value, a, bytes)) return modify(s, v, op, b, a);
  return false;
}

function isSamePlace(s: Selector, store: Value, load: Value): boolean {
  if (load.op !== "load" || !s.canSink(load) || load.mem?.bits !== store.mem?.bits) return false;
  return load.args[0] === store.args[0] && load.mem?.offset === store.mem?.offset;
}

/** Narrow operations in memory agree with wide ones only where high bits do not come down. */
function isOperand(value: Value, other: Value, bytes: Size): boolean {
  const isShift =
    value.op === "shl" || value.op === "shr_u" || value.op === "shr_s" || value.op === "rotl" || value.op === "rotr";
  if (isShift) return other.op === "const" && bytes === sizeOf(value);
  return NARROWABLE.has(value.op) && (other.op !== "load" || other !== value.args[0]);
}

function modify(s: Selector, v: Value, op: Opcode, load: Value, other: Value): boolean {
  const bytes = bytesOf(v);
  const source =
    op === "shl" || op === "shr" || op === "sar" || op === "rol" || op === "ror"
      ? imm((constantOf(other) as bigint) & BigInt(bytes * 8 - 1))
      : storedValue(s, other, bytes);
  s.absorb(load);
  s.emit(op, bytes, s.address(v.args[0] as Value, v.mem?.offset as number), source);
  return true;
}

export function globalOperand(index: number): MemOperand {
  return mem("symbol", { symbol: `basalt_global_${index}` });
}

export function lowerGlobalGet(s: Selector, v: Value): void {
  s.emit("mov", sizeOf(v), s.result(v), globalOperand(v.index as number));
}

export function lowerGlobalSet(s: Selector, v: Value): void {
  const value = v.args[0] as Value;
  s.emit("mov", sizeOf(value), globalOperand(v.index as number), s.regOrImm(value));
}

export function lowerMemorySize(s: Selector, v: Value): void {
  s.constant(s.result(v), BigInt(s.context.module.memoryPages?.initial ?? 0), 4);
}
