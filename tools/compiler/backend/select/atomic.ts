/**
 * Sequentially consistent atomics. On x86 a plain load and a locked read-modify-write are; a store
 * takes XCHG. Addresses must be aligned to the access, or it traps.
 */

import { type RmwOp, TrapKind, type Value } from "../../ir.ts";
import { imm, mem, type Opcode, reg } from "../machine.ts";
import { NONE, RAX, type Size, setOf } from "../registers.ts";
import { constantOf, type Selector, sizeOf } from "../select.ts";

/** Traps as UNALIGNED_ATOMIC unless the effective address of `v` is a multiple of its bytes. */
export function requireAligned(s: Selector, v: Value): void {
  const bytes = (v.mem?.bits as number) / 8;
  const offset = v.mem?.offset as number;
  const address = v.args[0] as Value;
  const mask = bytes - 1;
  if (bytes === 1 || isMultiple(address, offset, bytes)) return;
  if (offset % bytes === 0) s.emit("test", 1, s.reg(address), imm(mask));
  else {
    const t = s.temp(false);
    s.emit("lea", 4, t, mem("host", { base: s.reg(address).reg, index: NONE, disp: offset & mask }));
    s.emit("test", 1, t, imm(mask));
  }
  const trap = s.emit("trapif", 4);
  trap.cond = "ne";
  trap.trap = TrapKind.UNALIGNED_ATOMIC;
}

function isMultiple(address: Value, offset: number, bytes: number): boolean {
  const constant = constantOf(address);
  if (constant !== null) return (Number(BigInt.asUintN(32, constant)) + offset) % bytes === 0;
  if (offset % bytes !== 0) return false;
  const right = address.args[1] ? constantOf(address.args[1]) : null;
  if (right === null) return false;
  if (address.op === "and") return (right & BigInt(bytes - 1)) === 0n;
  return address.op === "shl" && 1 << Number(right & 31n) >= bytes;
}

const UNUSED: Record<RmwOp, Opcode | null> = {
  add: "lock_add",
  sub: "lock_sub",
  and: "lock_and",
  or: "lock_or",
  xor: "lock_xor",
  xchg: null,
};

export function lowerRmw(s: Selector, v: Value): void {
  requireAligned(s, v);
  const rmw = v.rmw as RmwOp;
  const inPlace = UNUSED[rmw];
  if (inPlace && !s.isDemanded(v)) inMemory(s, v, inPlace);
  else if (rmw === "xchg" || rmw === "add" || rmw === "sub") exchange(s, v, rmw);
  else compareLoop(s, v, rmw);
}

function bytesOf(v: Value): Size {
  return ((v.mem?.bits as number) / 8) as Size;
}

function inMemory(s: Selector, v: Value, op: Opcode): void {
  const operand = s.reg(v.args[1] as Value);
  s.emit(op, bytesOf(v), s.address(v.args[0] as Value, v.mem?.offset as number), operand);
}

/** XCHG, XADD; subtraction adds the negative. */
function exchange(s: Selector, v: Value, rmw: "xchg" | "add" | "sub"): void {
  const result = s.result(v);
  const bytes = bytesOf(v);
  s.move(result, v.args[1] as Value);
  if (rmw === "sub") s.emit("neg", sizeOf(v), result);
  s.emit(rmw === "xchg" ? "xchg" : "lock_xadd", bytes, s.address(v.args[0] as Value, v.mem?.offset as number), result);
  zeroExtendResult(s, v);
}

function zeroExtendResult(s: Selector, v: Value): void {
  const bytes = bytesOf(v);
  const result = s.result(v);
  if (bytes < 4) s.emit("movzx", 4, result, result).sourceSize = bytes;
  else if (bytes === 4 && sizeOf(v) === 8) s.emit("movzxd", 4, result, result);
}

const SUFFIX: Record<Size, string> = { 1: "b", 2: "w", 4: "d", 8: "" };
const TYPE: Record<Size, string> = { 1: "byte", 2: "word", 4: "dword", 8: "qword" };

/** AND, OR, XOR with the old value wanted: compute on a copy, try to swap it in. */
function compareLoop(s: Selector, v: Value, rmw: RmwOp): void {
  const bytes = bytesOf(v);
  const operand = s.reg(v.args[1] as Value);
  const memory = s.address(v.args[0] as Value, v.mem?.offset as number);
  const t = s.temp(true);
  const inst = s.emit("asm", bytes);
  const accumulator = { 1: "al", 2: "ax", 4: "eax", 8: "rax" }[bytes];
  inst.template = [
    bytes < 4 ? `movzx eax, ${TYPE[bytes]} %0` : `mov ${accumulator}, %0`,
    "%l_retry:",
    "mov %2, rax",
    `${rmw} %2${SUFFIX[bytes]}, %1${SUFFIX[bytes]}`,
    `lock cmpxchg %0, %2${SUFFIX[bytes]}`,
    "jne %l_retry",
  ];
  inst.asmOperands = [
    { operand: memory, role: "late" },
    { operand, role: "late" },
    { operand: t, role: "early" },
  ];
  inst.defs = setOf(RAX);
  inst.clobbers = 0;
  inst.earlyDefs = true;
  s.emit("mov", 8, s.result(v), reg(RAX));
}

/** Narrow forms compare and store the low bytes of their operands. */
export function lowerCmpxchg(s: Selector, v: Value): void {
  requireAligned(s, v);
  const [address, expected, replacement] = v.args as [Value, Value, Value];
  const bytes = bytesOf(v);
  const source = s.reg(replacement);
  const memory = s.address(address, v.mem?.offset as number);
  s.move(reg(RAX), expected);
  const inst = s.emit("lock_cmpxchg", bytes, memory, source);
  inst.uses = setOf(RAX);
  inst.defs = setOf(RAX);
  s.emit("mov", 8, s.result(v), reg(RAX));
  zeroExtendResult(s, v);
}

export function lowerFence(s: Selector): void {
  s.emit("mfence", 4);
}
