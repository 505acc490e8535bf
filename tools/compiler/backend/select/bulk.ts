/**
 * memory.copy, fill and init. Small constant sizes become moves: all bytes are read first, both ends
 * of the destination are touched before anything changes. Others call a routine (routines.ts), which
 * checks both ranges before its first write and answers with the carry flag.
 */

import { TrapKind, type Value } from "../../ir.ts";
import { imm, mem, type RegOperand, reg } from "../machine.ts";
import { R8, R9, R10, R11, RAX, RCX, RDI, RDX, type RegSet, RSI, type Size, setOf } from "../registers.ts";
import { constantOf, fitsImm32, type Selector } from "../select.ts";

const INLINE_COPY_BYTES = 32;
const INLINE_FILL_BYTES = 64;

interface Chunk {
  offset: number;
  bytes: Size;
}

/** Moves of 8, 4, 2, 1 bytes that cover `bytes`; the last may overlap the one before. */
function chunks(bytes: number): Chunk[] {
  const list: Chunk[] = [];
  const largest = ([8, 4, 2, 1] as const).find((n) => n <= bytes) as Size;
  let offset = 0;
  for (; offset + largest <= bytes; offset += largest) list.push({ offset, bytes: largest });
  if (offset < bytes) {
    const rest = ([1, 2, 4, 8] as const).find((n) => n >= bytes - offset) as Size;
    list.push({ offset: bytes - rest, bytes: rest });
  }
  return list;
}

export function lowerCopy(s: Selector, v: Value): void {
  const [to, from, count] = v.args as [Value, Value, Value];
  const bytes = constantOf(count);
  if (bytes !== null && bytes > 0n && bytes <= INLINE_COPY_BYTES) return copyInline(s, to, from, Number(bytes));
  callRoutine(s, "basalt_memory_copy", v.args);
}

function copyInline(s: Selector, to: Value, from: Value, bytes: number): void {
  const parts = chunks(bytes);
  const values = parts.map((part) => {
    const t = s.temp(part.bytes === 8);
    const source = s.address(from, part.offset);
    if (part.bytes < 4) s.emit("movzx", 4, t, source).sourceSize = part.bytes;
    else s.emit("mov", part.bytes, t, source);
    return t;
  });
  storeAll(s, to, parts, values);
}

/** Reads the first byte, so that a destination that begins outside faults; then writes from the end. */
function storeAll(s: Selector, to: Value, parts: Chunk[], values: (RegOperand | bigint)[]): void {
  if (parts.length > 1) s.emit("cmp", 1, s.address(to, 0), imm(0));
  for (let i = parts.length - 1; i >= 0; i--) {
    const part = parts[i] as Chunk;
    const value = values[i] as RegOperand | bigint;
    s.emit("mov", part.bytes, s.address(to, part.offset), typeof value === "bigint" ? imm(value) : value);
  }
}

export function lowerFill(s: Selector, v: Value): void {
  const [to, byte, count] = v.args as [Value, Value, Value];
  const bytes = constantOf(count);
  if (v.mem && v.mem.bits > 8) return fillPattern(s, v);
  if (bytes !== null && bytes > 0n && bytes <= INLINE_FILL_BYTES) return fillInline(s, to, byte, Number(bytes));
  callRoutine(s, "basalt_memory_fill", v.args);
}

function fillInline(s: Selector, to: Value, byte: Value, bytes: number): void {
  const parts = chunks(bytes);
  const constant = constantOf(byte);
  if (constant !== null) {
    const pattern = (constant & 0xffn) * 0x0101010101010101n;
    const value = (part: Chunk): RegOperand | bigint => {
      const stored = BigInt.asIntN(part.bytes * 8, pattern);
      return fitsImm32(stored) ? stored : s.pool.number(BigInt.asIntN(64, pattern), true);
    };
    return storeAll(s, to, parts, parts.map(value));
  }
  const spread = s.temp(true);
  s.emit("movzx", 4, spread, s.reg(byte)).sourceSize = 1;
  s.emit("imul", 8, spread, s.pool.number(0x0101010101010101n, true));
  storeAll(
    s,
    to,
    parts,
    parts.map(() => spread),
  );
}

/** RSI: the value, repeated to 64 bits. */
function fillPattern(s: Selector, v: Value): void {
  const [to, value, count] = v.args as [Value, Value, Value];
  const factor = { 8: 0n, 16: 0x0001_0001_0001_0001n, 32: 0x1_0000_0001n, 64: 1n }[v.mem?.bits ?? 8];
  const spread = s.temp(true);
  if (v.mem?.bits === 16) s.emit("movzx", 4, spread, s.reg(value)).sourceSize = 2;
  else if (v.mem?.bits === 32) s.moveZeroExtended(spread, value);
  else s.move(spread, value);
  if (factor !== 1n) s.emit("imul", 8, spread, s.pool.number(factor, true));
  s.moveZeroExtended(reg(RDI), to);
  s.emit("mov", 8, reg(RSI), spread);
  s.moveZeroExtended(reg(RDX), count);
  finishRoutine(s, "basalt_memory_pattern", setOf(RDI, RSI, RDX));
}

export function lowerInit(s: Selector, v: Value): void {
  const index = v.index as number;
  const segment = (what: string) => mem("symbol", { symbol: `basalt_segment_${index}_${what}` });
  callRoutine(s, "basalt_memory_init", v.args, () => {
    s.emit("lea", 8, reg(RCX), segment("bytes"));
    s.emit("mov", 4, reg(RAX), segment("size"));
  });
}

export function lowerDataDrop(s: Selector, v: Value): void {
  s.emit("mov", 4, mem("symbol", { symbol: `basalt_segment_${v.index}_size` }), imm(0));
}

/** RDI, RSI, RDX: the three operands, zero-extended. The routine may change these, RAX, RCX, R8 to R11 and the flags. */
function callRoutine(s: Selector, symbol: string, args: Value[], more: () => void = () => {}): void {
  const registers = [RDI, RSI, RDX];
  args.forEach((arg, i) => s.moveZeroExtended(reg(registers[i] as number), arg));
  more();
  finishRoutine(s, symbol, setOf(...registers) | (symbol === "basalt_memory_init" ? setOf(RCX, RAX) : 0));
}

function finishRoutine(s: Selector, symbol: string, uses: RegSet): void {
  const call = s.emit("call", 8);
  call.symbol = symbol;
  call.uses = uses;
  call.clobbers = setOf(RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11);
  s.mfunc.makesCalls = true;
  const trap = s.emit("trapif", 4);
  trap.cond = "b";
  trap.trap = TrapKind.MEMORY_OUT_OF_BOUNDS;
}
