// From a Wasm function body to SSA, in one walk over its instructions. Locals are renamed on the fly
// (Braun et al., "Simple and Efficient Construction of Static Single Assignment Form"): a block asks
// its predecessors for a local when it first reads it. Dead code is skipped without being built.

import { refuse } from "./diagnostic.ts";
import type { Block, Func, Loc, Mem, Module, Op, RmwOp, Signature, Terminator, Type, Value } from "./ir.ts";
import { TrapKind } from "./ir.ts";
import type { SourcePlaces } from "./sourcemap.ts";
import { newBlock, newConst, newValue, Replacements } from "./ssa.ts";
import type { RawBody, RawModule, RawType } from "./wasm.ts";
import { Reader, ValType } from "./wasm.ts";

/** Why a function cannot be compiled: `feature` is what it uses. */
export class Unsupported extends Error {
  readonly feature: string;
  readonly loc: Loc | null;
  constructor(feature: string, loc: Loc | null) {
    super(feature);
    this.feature = feature;
    this.loc = loc;
  }
}

export const FLOATS = "floating point";
const SIMD = "SIMD";
const REFERENCES = "a reference type";
export const GROWTH = "memory.grow (AssemblyScript's `new` and run-time strings need it)";

// ---- Opcode tables

type Pure = [op: Op, operand: Type, result: Type];

const COMPARES: Op[] = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"];
const ARITHMETIC: Op[] = [
  "clz",
  "ctz",
  "popcnt",
  "add",
  "sub",
  "mul",
  "div_s",
  "div_u",
  "rem_s",
  "rem_u",
  "and",
  "or",
  "xor",
  "shl",
  "shr_s",
  "shr_u",
  "rotl",
  "rotr",
];
const UNARY = new Set<Op>([
  "eqz",
  "clz",
  "ctz",
  "popcnt",
  "wrap",
  "zext",
  "sext",
  "extend8_s",
  "extend16_s",
  "extend32_s",
]);

const PURE = new Map<number, Pure>([
  [0x45, ["eqz", "i32", "i32"]],
  ...COMPARES.map((op, i): [number, Pure] => [0x46 + i, [op, "i32", "i32"]]),
  [0x50, ["eqz", "i64", "i32"]],
  ...COMPARES.map((op, i): [number, Pure] => [0x51 + i, [op, "i64", "i32"]]),
  ...ARITHMETIC.map((op, i): [number, Pure] => [0x67 + i, [op, "i32", "i32"]]),
  ...ARITHMETIC.map((op, i): [number, Pure] => [0x79 + i, [op, "i64", "i64"]]),
  [0xa7, ["wrap", "i64", "i32"]],
  [0xac, ["sext", "i32", "i64"]],
  [0xad, ["zext", "i32", "i64"]],
  [0xc0, ["extend8_s", "i32", "i32"]],
  [0xc1, ["extend16_s", "i32", "i32"]],
  [0xc2, ["extend8_s", "i64", "i64"]],
  [0xc3, ["extend16_s", "i64", "i64"]],
  [0xc4, ["extend32_s", "i64", "i64"]],
]);

type Access = [type: Type, bits: Mem["bits"], signed: boolean];

const LOADS = new Map<number, Access>([
  [0x28, ["i32", 32, false]],
  [0x29, ["i64", 64, false]],
  [0x2c, ["i32", 8, true]],
  [0x2d, ["i32", 8, false]],
  [0x2e, ["i32", 16, true]],
  [0x2f, ["i32", 16, false]],
  [0x30, ["i64", 8, true]],
  [0x31, ["i64", 8, false]],
  [0x32, ["i64", 16, true]],
  [0x33, ["i64", 16, false]],
  [0x34, ["i64", 32, true]],
  [0x35, ["i64", 32, false]],
]);

const STORES = new Map<number, Access>([
  [0x36, ["i32", 32, false]],
  [0x37, ["i64", 64, false]],
  [0x3a, ["i32", 8, false]],
  [0x3b, ["i32", 16, false]],
  [0x3c, ["i64", 8, false]],
  [0x3d, ["i64", 16, false]],
  [0x3e, ["i64", 32, false]],
]);

/** Shapes in the order in which each family of atomic instructions lists them. */
const ATOMIC_SHAPES: [Type, Mem["bits"]][] = [
  ["i32", 32],
  ["i64", 64],
  ["i32", 8],
  ["i32", 16],
  ["i64", 8],
  ["i64", 16],
  ["i64", 32],
];
const ATOMIC_FAMILIES: ("load" | "store" | RmwOp | "cmpxchg")[] = [
  "load",
  "store",
  "add",
  "sub",
  "and",
  "or",
  "xor",
  "xchg",
  "cmpxchg",
];

// ---- Control stack

interface Frame {
  kind: "block" | "loop" | "if" | "body";
  /** Target of a branch to this label; null for the function's body, where a branch returns. */
  label: Block | null;
  params: Type[];
  results: Type[];
  /** Height of the value stack below the parameters. */
  height: number;
  /** Opened in dead code: nothing of it is built. */
  dead: boolean;
  /** if: the block of the false side and the parameters it starts with. */
  otherwise?: { block: Block; params: Value[] };
}

export interface BuildContext {
  raw: RawModule;
  module: Module;
  places: SourcePlaces;
}

/** Builds the blocks of `func` from its body. Throws Unsupported. */
export function buildFunc(context: BuildContext, func: Func, type: RawType, body: RawBody): void {
  new Builder(context, func, type, body).build();
  removeTrivialPhis(func);
}

class Builder {
  private readonly reader: Reader;
  private readonly localTypes: Type[];
  private readonly stack: Value[] = [];
  private readonly frames: Frame[] = [];
  private readonly entry: Block;
  /** null in dead code. */
  private current: Block | null;
  private loc: Loc | null = null;
  /** Definitions of locals by block id. */
  private readonly definitions = new Map<Block, (Value | undefined)[]>();
  /** Loop headers whose back edges are still to come: the phis that wait for them. */
  private readonly waiting = new Map<Block, Map<number, Value>>();
  private readonly zeros = new Map<Type, Value>();
  private readonly context: BuildContext;
  private readonly func: Func;
  private readonly body: RawBody;

  constructor(context: BuildContext, func: Func, type: RawType, body: RawBody) {
    this.context = context;
    this.func = func;
    this.body = body;
    this.reader = new Reader(context.raw.bytes, body.start, body.end);
    this.loc = this.placeAt(body.entry);
    this.localTypes = [...type.params, ...body.locals].map((t) => this.valueType(t));
    this.entry = newBlock(func);
    this.current = this.entry;
    func.loc = this.placeAt(body.start);
    func.blocks = [this.entry];
  }

  build(): void {
    const func = this.func;
    func.params.forEach((type, i) => {
      const param = this.emit("param", type, []);
      param.imm = BigInt(i);
      this.define(this.entry, i, param);
    });
    this.frames.push({ kind: "body", label: null, params: [], results: func.results, height: 0, dead: false });
    while (this.frames.length > 0) this.instruction();
  }

  // ---- Values and blocks

  private placeAt(offset: number): Loc | null {
    return this.context.places.at(offset, this.body.entry);
  }

  private fail(feature: string): never {
    throw new Unsupported(feature, this.loc);
  }

  private valueType(type: number): Type {
    if (type === ValType.I32) return "i32";
    if (type === ValType.I64) return "i64";
    if (type === ValType.F32 || type === ValType.F64) return this.fail(FLOATS);
    return this.fail(type === ValType.V128 ? SIMD : REFERENCES);
  }

  private block(): Block {
    const block = newBlock(this.func);
    this.func.blocks.push(block);
    return block;
  }

  private emit(op: Op, type: Type | null, args: Value[]): Value {
    const block = this.current as Block;
    const value = newValue(this.func, block, op, type, args, this.loc);
    block.body.push(value);
    return value;
  }

  private constant(type: Type, value: bigint): Value {
    const block = this.current as Block;
    const result = newConst(this.func, block, type, value, this.loc);
    block.body.push(result);
    return result;
  }

  private push(value: Value): void {
    this.stack.push(value);
  }

  private pop(): Value {
    const value = this.stack.pop();
    if (value === undefined) throw new Error(`value stack underflow in ${this.func.name}`);
    return value;
  }

  private popMany(count: number): Value[] {
    return count === 0 ? [] : this.stack.splice(this.stack.length - count, count);
  }

  // ---- Locals

  private define(block: Block, local: number, value: Value): void {
    let locals = this.definitions.get(block);
    if (locals === undefined) {
      locals = [];
      this.definitions.set(block, locals);
    }
    locals[local] = value;
  }

  private read(start: Block, local: number): Value {
    // Follow single predecessors without recursion: chains of them can be long.
    let block = start;
    let value = this.definitions.get(block)?.[local];
    while (value === undefined && block.preds.length === 1 && !this.waiting.has(block)) {
      block = block.preds[0] as Block;
      value = this.definitions.get(block)?.[local];
    }
    if (value === undefined) value = this.readAtJoin(block, local);
    if (block !== start) this.define(start, local, value);
    return value;
  }

  private readAtJoin(block: Block, local: number): Value {
    if (block.preds.length === 0 && !this.waiting.has(block)) {
      const zero = this.zero(this.localTypes[local] as Type);
      this.define(block, local, zero);
      return zero;
    }
    const phi = this.phi(block, this.localTypes[local] as Type);
    this.define(block, local, phi);
    const pending = this.waiting.get(block);
    if (pending !== undefined) pending.set(local, phi);
    else for (const pred of block.preds) phi.args.push(this.read(pred, local));
    return phi;
  }

  private phi(block: Block, type: Type): Value {
    const phi = newValue(this.func, block, "phi", type, [], this.loc);
    block.phis.push(phi);
    return phi;
  }

  /** The initial value of a local, at the top of the entry block. */
  private zero(type: Type): Value {
    let zero = this.zeros.get(type);
    if (zero === undefined) {
      zero = newConst(this.func, this.entry, type, 0n);
      this.entry.body.unshift(zero);
      this.zeros.set(type, zero);
    }
    return zero;
  }

  /** All back edges of a loop are known: completes the phis that wait. */
  private seal(header: Block): void {
    const pending = this.waiting.get(header) as Map<number, Value>;
    this.waiting.delete(header);
    for (const [local, phi] of pending) {
      for (const pred of header.preds) phi.args.push(this.read(pred, local));
    }
  }

  // ---- Edges

  /** Adds an edge that carries `values` to the parameters of a label. */
  private edge(from: Block, to: Block, values: Value[]): void {
    to.preds.push(from);
    values.forEach((value, i) => {
      (to.phis[i] as Value).args.push(value);
    });
  }

  private terminate(terminator: Terminator): void {
    (this.current as Block).terminator = terminator;
    this.current = null;
  }

  private jump(target: Block, values: Value[]): void {
    this.edge(this.current as Block, target, values);
    this.terminate({ kind: "jump", target, loc: this.loc });
  }

  private frameAt(depth: number): Frame {
    return this.frames[this.frames.length - 1 - depth] as Frame;
  }

  /** Types that a branch to the frame carries. */
  private labelTypes(frame: Frame): Type[] {
    return frame.kind === "loop" ? frame.params : frame.results;
  }

  private peek(count: number): Value[] {
    return this.stack.slice(this.stack.length - count);
  }

  /** Ends the current block with a branch to the frame's label, which takes its operands from the stack. */
  private branchTo(frame: Frame): void {
    const values = this.peek(this.labelTypes(frame).length);
    if (frame.label === null) this.terminate({ kind: "return", values, loc: this.loc });
    else this.jump(frame.label, values);
  }

  /** A block of its own for one side of a branch: jumps to the frame's label. */
  private sideBlock(frame: Frame): Block {
    const block = this.block();
    const saved = this.current as Block;
    block.preds.push(saved);
    this.current = block;
    this.branchTo(frame);
    this.current = saved;
    return block;
  }

  // ---- Instructions

  private instruction(): void {
    this.loc = this.placeAt(this.reader.offset);
    const opcode = this.reader.byte();
    const control = CONTROL[opcode];
    if (control !== undefined) control(this);
    else if (this.current === null) this.skip(opcode);
    else this.plain(opcode);
  }

  private plain(opcode: number): void {
    const pure = PURE.get(opcode);
    if (pure !== undefined) {
      this.pure(pure);
      return;
    }
    const load = LOADS.get(opcode);
    if (load !== undefined) {
      this.load(load, this.memory(load[1], load[2], false));
      return;
    }
    const store = STORES.get(opcode);
    if (store !== undefined) {
      this.store(this.memory(store[1], false, false));
      return;
    }
    const other = OTHER[opcode];
    if (other !== undefined) {
      other(this);
      return;
    }
    this.fail(featureOf(opcode));
  }

  private pure([op, , result]: Pure): void {
    const args = this.popMany(UNARY.has(op) ? 1 : 2);
    this.push(this.emit(op, result, args));
  }

  private memory(bits: Mem["bits"], signed: boolean, atomic: boolean): Mem {
    this.reader.u32(); // alignment is a hint
    return { bits, signed, offset: this.reader.u32(), atomic };
  }

  private load([type]: Access, mem: Mem): void {
    const value = this.emit("load", type, [this.pop()]);
    value.mem = mem;
    this.push(value);
  }

  private store(mem: Mem): void {
    this.emit("store", null, this.popMany(2)).mem = mem;
  }

  /** Steps over the immediates of an instruction in dead code. */
  private skip(opcode: number): void {
    const r = this.reader;
    if (opcode === 0x41) r.s32();
    else if (opcode === 0x42) r.s64();
    else if (opcode === 0x43) r.skip(4);
    else if (opcode === 0x44) r.skip(8);
    else if (opcode >= 0x28 && opcode <= 0x3e) {
      r.u32();
      r.u32();
    } else if (opcode === 0x3f || opcode === 0x40 || opcode === 0xd0) r.byte();
    else if (opcode === 0x1c) r.list((item) => item.byte());
    else if (opcode === 0x11) {
      r.u32();
      r.u32();
    } else if (SKIP_ONE.has(opcode)) r.u32();
    else if (opcode === 0xfc) this.skipMiscellaneous(r.u32());
    else if (opcode === 0xfe) {
      if (r.u32() === 0x03) r.byte();
      else {
        r.u32();
        r.u32();
      }
    } else if (opcode > 0xc4 && opcode !== 0xd1) this.fail(featureOf(opcode));
  }

  private skipMiscellaneous(sub: number): void {
    const immediates = sub < 8 ? 0 : [2, 1, 2, 1, 2, 1, 2, 1, 1, 1][sub - 8];
    for (let i = 0; i < (immediates ?? 0); i++) this.reader.u32();
  }

  // ---- Calls, globals, locals, bulk memory, atomics

  call(): void {
    const index = this.reader.u32();
    const imported = this.context.module.imports[index];
    const raw = this.context.raw;
    const count = raw.importedFuncs.length;
    const typeIndex = index < count ? raw.importedFuncs[index]?.type : raw.funcs[index - count];
    const signature = this.signature(typeIndex as number);
    const args = this.popMany(signature.params.length);
    if (imported?.module === "insn") {
      const value = this.emit("intrinsic", signature.results[0] ?? null, args);
      value.name = imported.name;
      if (signature.results.length > 0) this.push(value);
    } else this.results("call", args, index, signature);
  }

  callIndirect(): void {
    const index = this.reader.u32();
    if (this.reader.u32() !== 0) this.fail("a second table");
    const signature = this.signature(index);
    const args = this.popMany(signature.params.length + 1);
    this.results("call_indirect", args, canonicalType(this.context.raw, index), signature);
  }

  private signature(typeIndex: number): Signature {
    const type = this.context.raw.types[typeIndex] as RawType;
    return {
      params: type.params.map((t) => this.valueType(t)),
      results: type.results.map((t) => this.valueType(t)),
    };
  }

  private results(op: "call" | "call_indirect", args: Value[], index: number, signature: Signature): void {
    const single = signature.results.length === 1 ? (signature.results[0] as Type) : null;
    const call = this.emit(op, single, args);
    call.index = index;
    if (single !== null) this.push(call);
    else if (signature.results.length > 1) {
      call.results = signature.results;
      signature.results.forEach((type, i) => {
        const part = this.emit("proj", type, [call]);
        part.imm = BigInt(i);
        this.push(part);
      });
    }
  }

  localGet(): void {
    this.push(this.read(this.current as Block, this.reader.u32()));
  }

  localSet(): void {
    this.define(this.current as Block, this.reader.u32(), this.pop());
  }

  localTee(): void {
    const value = this.pop();
    this.define(this.current as Block, this.reader.u32(), value);
    this.push(value);
  }

  globalGet(): void {
    const index = this.reader.u32();
    const global = this.context.module.globals[index];
    const type = this.valueType(this.context.raw.globals[index]?.type as number);
    if (global !== undefined && !global.mutable && global.import === undefined) {
      this.push(this.constant(type, global.init));
      return;
    }
    const value = this.emit("global_get", type, []);
    value.index = index;
    this.push(value);
  }

  globalSet(): void {
    const index = this.reader.u32();
    this.valueType(this.context.raw.globals[index]?.type as number);
    this.emit("global_set", null, [this.pop()]).index = index;
  }

  drop(): void {
    this.pop();
  }

  select(): void {
    const condition = this.pop();
    const [first, second] = this.popMany(2) as [Value, Value];
    this.push(this.emit("select", first.type, [condition, first, second]));
  }

  typedSelect(): void {
    this.reader.list((item) => this.valueType(item.byte()));
    this.select();
  }

  constI32(): void {
    this.push(this.constant("i32", BigInt(this.reader.s32())));
  }

  constI64(): void {
    this.push(this.constant("i64", this.reader.s64()));
  }

  memorySize(): void {
    this.reader.byte();
    const pages = this.context.module.memoryPages;
    const fixed = pages !== null && this.context.module.memoryImport === undefined;
    this.push(fixed ? this.constant("i32", BigInt(pages.initial)) : this.emit("memory_size", "i32", []));
  }

  memoryGrow(): void {
    this.fail(GROWTH);
  }

  miscellaneous(): void {
    const sub = this.reader.u32();
    if (sub === 8) {
      const segment = this.reader.u32();
      this.reader.u32();
      this.emit("memory_init", null, this.popMany(3)).index = segment;
    } else if (sub === 9) this.emit("data_drop", null, []).index = this.reader.u32();
    else if (sub === 10 || sub === 11) {
      for (let i = sub; i < 12; i++) this.reader.u32();
      this.emit(sub === 10 ? "memory_copy" : "memory_fill", null, this.popMany(3));
    } else this.fail(sub < 8 ? FLOATS : "table instructions");
  }

  atomic(): void {
    const sub = this.reader.u32();
    if (sub === 0x03) {
      this.reader.byte();
      this.emit("fence", null, []);
      return;
    }
    const family = ATOMIC_FAMILIES[Math.floor((sub - 0x10) / 7)];
    const shape = ATOMIC_SHAPES[(sub - 0x10) % 7];
    if (family === undefined || shape === undefined) this.fail("atomic wait and notify");
    const [type, bits] = shape;
    const mem = this.memory(bits, false, true);
    if (family === "load") this.load([type, bits, false], mem);
    else if (family === "store") this.store(mem);
    else {
      const exchange = family === "cmpxchg";
      const value = this.emit(exchange ? "atomic_cmpxchg" : "atomic_rmw", type, this.popMany(exchange ? 3 : 2));
      value.mem = mem;
      if (!exchange) value.rmw = family;
      this.push(value);
    }
  }

  // ---- Control

  private blockType(): { params: Type[]; results: Type[] } {
    const code = this.reader.s33();
    if (code >= 0) return this.signature(code);
    return code === -64 ? { params: [], results: [] } : { params: [], results: [this.valueType(code & 0x7f)] };
  }

  /** Opens a frame; in dead code only its nesting matters. */
  private open(kind: Frame["kind"]): Frame {
    const dead = this.current === null;
    let type: { params: Type[]; results: Type[] } = { params: [], results: [] };
    if (dead) this.reader.s33();
    else type = this.blockType();
    const frame: Frame = { kind, label: null, ...type, height: 0, dead };
    this.frames.push(frame);
    return frame;
  }

  private join(types: Type[]): Block {
    const block = newBlock(this.func);
    for (const type of types) this.phi(block, type);
    return block;
  }

  openBlock(): void {
    const frame = this.open("block");
    if (frame.dead) return;
    frame.label = this.join(frame.results);
    frame.height = this.stack.length - frame.params.length;
  }

  openLoop(): void {
    const frame = this.open("loop");
    if (frame.dead) return;
    const header = this.block();
    for (const type of frame.params) this.phi(header, type);
    frame.label = header;
    const values = this.popMany(frame.params.length);
    frame.height = this.stack.length;
    this.jump(header, values);
    this.waiting.set(header, new Map());
    this.current = header;
    this.stack.push(...header.phis);
  }

  openIf(): void {
    const condition = this.current === null ? null : this.pop();
    const frame = this.open("if");
    if (condition === null) return;
    frame.label = this.join(frame.results);
    frame.height = this.stack.length - frame.params.length;
    const then = this.block();
    const otherwise = this.block();
    const from = this.current as Block;
    then.preds.push(from);
    otherwise.preds.push(from);
    frame.otherwise = { block: otherwise, params: this.peek(frame.params.length) };
    this.terminate({ kind: "branch", condition, then, otherwise, loc: this.loc });
    this.current = then;
  }

  openElse(): void {
    const frame = this.frameAt(0);
    if (frame.dead) return;
    if (this.current !== null) this.branchTo(frame);
    this.startOtherwise(frame);
  }

  private startOtherwise(frame: Frame): void {
    const otherwise = frame.otherwise as { block: Block; params: Value[] };
    frame.otherwise = undefined;
    this.stack.length = frame.height;
    this.stack.push(...otherwise.params);
    this.current = otherwise.block;
  }

  end(): void {
    const frame = this.frameAt(0);
    if (frame.dead) {
      this.frames.pop();
      return;
    }
    if (frame.otherwise !== undefined) this.openElse(); // an if without an else passes its parameters on
    if (frame.kind === "loop") this.seal(frame.label as Block);
    else if (this.current !== null) this.branchTo(frame);
    this.frames.pop();
    if (frame.kind === "loop") return;
    this.stack.length = frame.height;
    const label = frame.label;
    if (label === null || label.preds.length === 0) return;
    this.func.blocks.push(label);
    this.current = label;
    this.stack.push(...label.phis.slice(0, frame.results.length));
  }

  branch(): void {
    const depth = this.reader.u32();
    if (this.current !== null) this.branchTo(this.frameAt(depth));
  }

  branchIf(): void {
    const depth = this.reader.u32();
    if (this.current === null) return;
    const condition = this.pop();
    const then = this.sideBlock(this.frameAt(depth));
    const otherwise = this.block();
    otherwise.preds.push(this.current);
    this.terminate({ kind: "branch", condition, then, otherwise, loc: this.loc });
    this.current = otherwise;
  }

  branchTable(): void {
    const depths = this.reader.list((item) => item.u32());
    depths.push(this.reader.u32());
    if (this.current === null) return;
    const index = this.pop();
    // One block for each label, so that an edge that occurs twice needs no care.
    const from = this.current;
    const blocks = new Map<number, Block>();
    const targets = depths.map((depth) => {
      let block = blocks.get(depth);
      if (block === undefined) {
        block = this.sideBlock(this.frameAt(depth));
        blocks.set(depth, block);
      } else block.preds.push(from);
      return block;
    });
    const fallback = targets.pop() as Block;
    this.terminate({ kind: "switch", index, targets, fallback, loc: this.loc });
  }

  return(): void {
    if (this.current !== null) this.branchTo(this.frames[0] as Frame);
  }

  unreachable(): void {
    if (this.current !== null) this.terminate({ kind: "trap", trap: TrapKind.UNREACHABLE, loc: this.loc });
  }
}

/** Instructions that also count in dead code, where they keep the nesting. */
const CONTROL: Record<number, (b: Builder) => void> = {
  0: (b) => b.unreachable(),
  1: () => {},
  2: (b) => b.openBlock(),
  3: (b) => b.openLoop(),
  4: (b) => b.openIf(),
  5: (b) => b.openElse(),
  11: (b) => b.end(),
  12: (b) => b.branch(),
  13: (b) => b.branchIf(),
  14: (b) => b.branchTable(),
  15: (b) => b.return(),
};

const OTHER: Record<number, (b: Builder) => void> = {
  16: (b) => b.call(),
  17: (b) => b.callIndirect(),
  26: (b) => b.drop(),
  27: (b) => b.select(),
  28: (b) => b.typedSelect(),
  32: (b) => b.localGet(),
  33: (b) => b.localSet(),
  34: (b) => b.localTee(),
  35: (b) => b.globalGet(),
  36: (b) => b.globalSet(),
  63: (b) => b.memorySize(),
  64: (b) => b.memoryGrow(),
  65: (b) => b.constI32(),
  66: (b) => b.constI64(),
  252: (b) => b.miscellaneous(),
  254: (b) => b.atomic(),
};

/** Opcodes with one index as their immediate. */
const SKIP_ONE = new Set([0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0xd2]);

/** What an opcode outside the subset belongs to. */
function featureOf(opcode: number): string {
  if (opcode === 0xfd) return SIMD;
  if (opcode === 0x25 || opcode === 0x26) return "table instructions";
  if (opcode >= 0xd0 && opcode <= 0xd6) return REFERENCES;
  if (opcode === 0x12 || opcode === 0x13) return "tail calls";
  if ((opcode >= 0x06 && opcode <= 0x0a) || (opcode >= 0x18 && opcode <= 0x1f)) return "exceptions";
  const float = (opcode >= 0x2a && opcode <= 0x44) || (opcode >= 0x5b && opcode <= 0xbf);
  return float ? FLOATS : `opcode 0x${opcode.toString(16)}`;
}

/** Index of the first type equal to type `index`. */
export function canonicalType(raw: RawModule, index: number): number {
  const key = typeKey(raw.types[index]);
  return raw.types.findIndex((type) => typeKey(type) === key);
}

function typeKey(type: RawType | undefined): string {
  if (type === undefined) refuse("a type index is out of range");
  return `${type.params}>${type.results}`;
}

/** A phi whose arguments are all one value, or itself, is that value. */
export function removeTrivialPhis(func: Func): boolean {
  const replacements = new Replacements();
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of func.blocks) {
      for (const phi of block.phis) {
        if (replacements.has(phi)) continue;
        const same = onlyArgument(phi, replacements);
        if (same === null) continue;
        replacements.set(phi, same);
        changed = true;
      }
    }
  }
  replacements.apply(func);
  return replacements.size > 0;
}

function onlyArgument(phi: Value, replacements: Replacements): Value | null {
  let same: Value | null = null;
  for (const arg of phi.args) {
    const value = replacements.resolve(arg);
    if (value === phi || value === same) continue;
    if (same !== null) return null;
    same = value;
  }
  return same;
}
