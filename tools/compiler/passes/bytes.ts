// Values put together from bytes: shifts, rotations, masks and ors are followed to see where each byte
// of the result comes from. All bytes of one value in reverse order are a bswap; bytes of memory in
// sequence are one load, in reverse sequence one load and a bswap.

import { isPure } from "../effects.ts";
import type { Block, Func, Mem, Op, Type, Value } from "../ir.ts";
import { countUses, newConst, newValue, Replacements, widthOf } from "../ssa.ts";
import { eliminateDeadCode } from "./dce.ts";

export function combineBytes(func: Func): boolean {
  const combiner = new Combiner(func);
  for (const block of func.blocks) combiner.block(block);
  return combiner.finish();
}

/** Where a byte comes from: byte `index` of `source`, or zero. For loads, index is the offset of its address. */
type Origin = { source: Value; index: number } | null;

const ROOTS = new Set<Op>(["or", "xor", "add", "rotl", "and"]);
const MAX_DEPTH = 24;

class Combiner {
  private readonly replacements = new Replacements();
  private readonly uses: Uint32Array;
  private readonly memo = new Map<Value, Origin[] | null>();
  /** How many effects came before each load of this block. */
  private effectsBefore = new Map<Value, number>();
  /** Inner values of trees that were combined. */
  private readonly inside = new Set<Value>();
  /** Loads that another one covers: they go if nothing uses them. */
  private readonly covered = new Set<Value>();
  private readonly func: Func;

  constructor(func: Func) {
    this.func = func;
    this.uses = countUses(func);
  }

  block(block: Block): void {
    this.effectsBefore = new Map();
    let effects = 0;
    for (const value of block.body) {
      if (value.op === "load") this.effectsBefore.set(value, effects);
      else if (!isPure(value)) effects++;
    }
    // From the end: the largest trees come first, what is inside them needs no look of its own.
    for (const value of [...block.body].reverse()) {
      if (!ROOTS.has(value.op) || this.inside.has(value)) continue;
      const better = this.combine(block, value);
      if (better === null) continue;
      block.body.splice(block.body.indexOf(value), 1, ...better.values);
      this.replacements.set(value, better.result);
      this.enclose(value, MAX_DEPTH);
    }
  }

  finish(): boolean {
    if (this.replacements.size === 0) return false;
    this.replacements.apply(this.func);
    eliminateDeadCode(this.func, this.covered);
    return true;
  }

  private enclose(value: Value, depth: number): void {
    if (depth === 0) return;
    for (const arg of value.args) {
      if (arg.op === "load" || arg.op === "phi" || this.inside.has(arg)) continue;
      this.inside.add(arg);
      this.enclose(arg, depth - 1);
    }
  }

  private combine(block: Block, value: Value): Combined | null {
    const bytes = this.origins(value, MAX_DEPTH);
    const first = bytes?.[0];
    if (!bytes || !first) return null;
    return first.source.op === "load" ? this.asLoad(block, value, bytes) : this.asSwap(block, value, bytes);
  }

  /** The low bytes of one value of the same type, reversed. */
  private asSwap(block: Block, value: Value, bytes: Origin[]): Combined | null {
    const source = bytes[0]?.source as Value;
    const length = lengthOf(bytes);
    if (source.type !== value.type || length < 2) return null;
    const reversed = bytes
      .slice(0, length)
      .every((byte, i) => byte?.source === source && byte.index === length - 1 - i);
    return reversed ? this.swapped(block, source, length) : null;
  }

  // ---- Loads

  private asLoad(block: Block, value: Value, bytes: Origin[]): Combined | null {
    const swap = this.asSwap(block, value, bytes); // a whole word of memory, reversed
    if (swap !== null) return swap;
    const length = lengthOf(bytes);
    const used = bytes.slice(0, length);
    if (
      (length !== 2 && length !== 4 && length !== 8) ||
      used.some((byte) => byte === null || byte.source.op !== "load")
    )
      return null;
    const places = (used as NonNullable<Origin>[]).map((byte) => this.place(byte));
    const address = (places[0] as BytePlace).address;
    const offset = Math.min(...places.map((p) => p.offset));
    const forward = places.every((p, i) => p.address === address && p.offset === offset + i);
    const backward = places.every((p, i) => p.address === address && p.offset === offset + length - 1 - i);
    const loads = [...new Set(places.map((p) => p.load))];
    if ((!forward && !backward) || loads.length < 2 || !this.mayMerge(block, loads)) return null;
    const load = this.makeLoad(block, value, address, offset, length, loads);
    return forward ? { result: load, values: [] } : this.swapped(block, load, length);
  }

  private place(byte: NonNullable<Origin>): BytePlace {
    const mem = byte.source.mem as Mem;
    return { load: byte.source, address: byte.source.args[0] as Value, offset: mem.offset + byte.index };
  }

  /** Loads of this block with no effect between them, used for nothing else. */
  private mayMerge(block: Block, loads: Value[]): boolean {
    const effects = this.effectsBefore.get(loads[0] as Value);
    return loads.every(
      (load) => load.block === block && this.effectsBefore.get(load) === effects && this.uses[load.id] === 1,
    );
  }

  /** The new load stands where the first old one was: its address is known there and nothing else has happened. */
  private makeLoad(block: Block, value: Value, address: Value, offset: number, length: number, loads: Value[]): Value {
    const load = newValue(this.func, block, "load", value.type, [address], value.loc);
    load.mem = { bits: (length * 8) as Mem["bits"], signed: false, offset, atomic: false };
    block.body.splice(
      block.body.findIndex((v) => loads.includes(v)),
      0,
      load,
    );
    for (const old of loads) this.covered.add(old);
    return load;
  }

  /** The low `length` bytes of `source`, reversed. */
  private swapped(block: Block, source: Value, length: number): Combined {
    const type = source.type as Type;
    const values: Value[] = [];
    const make = (op: Op, of: Type, ...args: Value[]) => {
      const value = newValue(this.func, block, op, of, args, source.loc);
      values.push(value);
      return value;
    };
    let result: Value;
    if (type === "i64" && length === 4) result = make("zext", "i64", make("bswap", "i32", make("wrap", "i32", source)));
    else {
      result = make("bswap", type, source);
      const rest = widthOf(type) - length * 8;
      if (rest > 0) {
        const count = newConst(this.func, block, type, BigInt(rest), source.loc);
        values.push(count);
        result = make("shr_u", type, result, count);
      }
    }
    return { result, values };
  }

  // ---- Origins

  private origins(value: Value, depth: number): Origin[] | null {
    const known = this.memo.get(value);
    if (known !== undefined) return known;
    const result = this.find(value, depth);
    this.memo.set(value, result);
    return result;
  }

  private leaf(value: Value): Origin[] {
    return Array.from({ length: widthOf(value.type as Type) / 8 }, (_, index) => ({ source: value, index }));
  }

  private find(value: Value, depth: number): Origin[] | null {
    if (depth === 0 || value.type === null) return null;
    const bytes = widthOf(value.type) / 8;
    const inner = (i: number) => this.origins(value.args[i] as Value, depth - 1);
    switch (value.op) {
      case "const":
        return value.imm === 0n ? new Array(bytes).fill(null) : null;
      case "load":
        return this.ofLoad(value, bytes);
      case "zext":
        return extend(inner(0), bytes);
      case "wrap":
        return inner(0)?.slice(0, bytes) ?? null;
      case "or":
      case "xor":
      case "add":
        return unite(inner(0), inner(1)) ?? this.leaf(value);
      case "and":
        return mask(inner(0), value.args[1] as Value) ?? this.leaf(value);
      case "shl":
      case "shr_u":
      case "rotl":
        return shift(value.op, inner(0), value.args[1] as Value) ?? this.leaf(value);
      case "bswap":
        return inner(0)?.slice().reverse() ?? null;
      default:
        return this.leaf(value);
    }
  }

  private ofLoad(load: Value, bytes: number): Origin[] {
    const mem = load.mem as Mem;
    if (mem.atomic || mem.signed) return this.leaf(load);
    return Array.from({ length: bytes }, (_, index) => (index < mem.bits / 8 ? { source: load, index } : null));
  }
}

interface Combined {
  result: Value;
  /** What is new and stands where the tree stood. */
  values: Value[];
}

interface BytePlace {
  load: Value;
  address: Value;
  offset: number;
}

/** Without zeros at the end. */
function lengthOf(bytes: Origin[]): number {
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === null) length--;
  return length;
}

function extend(bytes: Origin[] | null, length: number): Origin[] | null {
  return bytes === null ? null : [...bytes, ...new Array(length - bytes.length).fill(null)];
}

/** Of an or, where no byte is set on both sides. */
function unite(a: Origin[] | null, b: Origin[] | null): Origin[] | null {
  if (a === null || b === null || a.some((byte, i) => byte !== null && b[i] !== null)) return null;
  return a.map((byte, i) => byte ?? (b[i] as Origin));
}

/** Of an and with whole bytes. */
function mask(bytes: Origin[] | null, by: Value): Origin[] | null {
  if (bytes === null || by.op !== "const") return null;
  const kept = bytes.map((_, i) => ((by.imm as bigint) >> BigInt(8 * i)) & 0xffn);
  if (kept.some((byte) => byte !== 0n && byte !== 0xffn)) return null;
  return bytes.map((byte, i) => (kept[i] === 0n ? null : byte));
}

function shift(op: Op, bytes: Origin[] | null, by: Value): Origin[] | null {
  if (bytes === null || by.op !== "const") return null;
  const bits = Number((by.imm as bigint) % BigInt(bytes.length * 8));
  if (bits % 8 !== 0) return null;
  const n = bits / 8;
  const zeros: Origin[] = new Array(n).fill(null);
  if (op === "shl") return [...zeros, ...bytes.slice(0, bytes.length - n)];
  if (op === "shr_u") return [...bytes.slice(n), ...zeros];
  return [...bytes.slice(bytes.length - n), ...bytes.slice(0, bytes.length - n)];
}
