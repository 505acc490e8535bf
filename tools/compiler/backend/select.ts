/**
 * Instruction selection: walks each block backwards, so that a value is met after all its uses and
 * is emitted only if somebody asked for it in a register. What a user folds into its own
 * instruction (a load, an address, a comparison) is never asked for.
 */

import { effectsOf } from "../intrinsics.ts";
import type { Block, Func, Loc, Module, Signature, Value } from "../ir.ts";
import { analyseFlow, type Flow } from "./flow.ts";
import {
  type Inst,
  imm,
  type MBlock,
  type MemOperand,
  type MFunc,
  newInst,
  type Opcode,
  type Operand,
  type RegOperand,
  reg,
} from "./machine.ts";
import { FIRST_VIRTUAL, type Reg, type RegSet, type Size } from "./registers.ts";
import { linearAddress } from "./select/address.ts";
import { ConstantPool } from "./select/constants.ts";
import { lowerEntry, lowerTerminator } from "./select/control.ts";
import { lowering } from "./select/table.ts";
import { knownZeroUpper } from "./select/upper.ts";

export interface SelectContext {
  module: Module;
  target: "metal" | "hosted";
  window: "low" | "gs";
  /** Instructions beyond the baseline: "popcnt", "lzcnt", "bmi". */
  march: ReadonlySet<string>;
  noJumpTables: boolean;
  labelOf(index: number): string;
  signatureOf(index: number): Signature;
  /** Registers that a call may change. */
  clobbersOf(index: number): RegSet;
  clobbersOfType(type: number): RegSet;
}

export function sizeOf(v: Value): Size {
  return v.type === "i64" ? 8 : 4;
}

/** Are a number's 64 bits the sign extension of its low 32? Then it can be an immediate operand. */
export function fitsImm32(value: bigint): boolean {
  return BigInt.asIntN(32, value) === value;
}

/** The constant as a signed number of its own width. */
export function constantOf(v: Value): bigint | null {
  if (v.op !== "const") return null;
  return BigInt.asIntN(v.type === "i64" ? 64 : 32, v.imm as bigint);
}

export class Selector {
  readonly flow: Flow;
  readonly mfunc: MFunc;
  readonly pool: ConstantPool;
  readonly blockOf = new Map<Block, MBlock>();
  /** How often a value is an operand. */
  readonly useCount: Map<Value, number>;
  /** How many of these are addresses of loads and stores. */
  readonly addressUses = new Map<Value, number>();
  /** Results of calls that have several. */
  readonly projections = new Map<Value, Value[]>();
  readonly params: Value[] = [];
  readonly zeroUpper: (v: Value) => boolean;
  private readonly registers = new Map<Value, Reg>();
  private readonly livePhis: Set<Value>;
  private readonly folded = new Set<Value>();
  /** Position of each value in its block, and per block how many values before a position block the sinking of loads. */
  private readonly index = new Map<Value, number>();
  private readonly stoppers = new Map<Block, number[]>();
  private sequence: Inst[] = [];
  private loc: Loc | null = null;
  /** The place in the current block at which the current sequence runs. */
  block!: Block;
  anchor = 0;
  foldingAllowed = true;

  constructor(
    readonly context: SelectContext,
    readonly func: Func,
    mfunc: MFunc,
  ) {
    this.mfunc = mfunc;
    this.flow = analyseFlow(func);
    this.useCount = countUses(this.flow.order);
    this.livePhis = findLivePhis(this.flow.order);
    this.pool = new ConstantPool(this);
    this.zeroUpper = knownZeroUpper(context, func, this.flow.order);
    this.survey();
  }

  run(): void {
    for (const block of this.flow.order) this.blockOf.set(block, this.newBlock(block));
    const extra = new Map<Block, MBlock[]>();
    for (const block of [...this.flow.order].reverse()) {
      const before = this.mfunc.blocks.length;
      this.selectBlock(block);
      extra.set(block, this.mfunc.blocks.slice(before));
    }
    this.pool.place();
    // Edges and decision trees stand behind the block they belong to.
    this.mfunc.blocks = this.flow.order.flatMap((b) => [this.blockOf.get(b) as MBlock, ...(extra.get(b) as MBlock[])]);
    this.linkPredecessors();
  }

  private survey(): void {
    for (const block of this.flow.order) {
      const stoppers = [0];
      block.body.forEach((v, i) => {
        this.index.set(v, i);
        stoppers.push((stoppers[i] as number) + (stopsLoads(v) ? 1 : 0));
        if ((v.op === "load" || v.op === "store") && v.args[0]) this.countAddress(v.args[0]);
        if (v.op === "proj")
          this.projections.set(v.args[0] as Value, [...(this.projections.get(v.args[0] as Value) ?? []), v]);
        if (v.op === "param") this.params.push(v);
      });
      this.stoppers.set(block, stoppers);
    }
  }

  private countAddress(v: Value): void {
    this.addressUses.set(v, (this.addressUses.get(v) ?? 0) + 1);
  }

  // ---- Blocks

  private newBlock(block: Block): MBlock {
    return this.addBlock(this.flow.frequency.get(block) as number, this.flow.depth.get(block) as number);
  }

  addBlock(frequency: number, loopDepth: number): MBlock {
    const id = this.mfunc.blocks.length;
    const block: MBlock = { id, insts: [], preds: [], succs: [], loopDepth, frequency, label: `.b${id}`, cold: false };
    this.mfunc.blocks.push(block);
    return block;
  }

  private selectBlock(block: Block): void {
    const machine = this.blockOf.get(block) as MBlock;
    const sequences: Inst[][] = [];
    this.block = block;
    this.anchor = block.body.length;
    sequences.push(this.collect(block.terminator.loc, () => lowerTerminator(this, block, machine)));
    for (let i = block.body.length - 1; i >= 0; i--) {
      const v = block.body[i] as Value;
      this.anchor = i;
      if (this.isWanted(v)) sequences.push(this.collect(v.loc, () => lowering(v)(this, v)));
    }
    if (block === this.flow.order[0]) sequences.push(this.collect(this.func.loc, () => lowerEntry(this)));
    machine.insts = sequences.reverse().flat();
  }

  private collect(loc: Loc | null, lower: () => void): Inst[] {
    this.sequence = [];
    this.loc = loc;
    lower();
    return this.sequence;
  }

  /** Does anything but phis that nobody reads read this phi? */
  isLivePhi(phi: Value): boolean {
    return this.livePhis.has(phi);
  }

  private isWanted(v: Value): boolean {
    return this.registers.has(v) || (hasEffect(v) && !this.folded.has(v));
  }

  private linkPredecessors(): void {
    for (const block of this.mfunc.blocks) for (const s of block.succs) s.preds.push(block);
  }

  // ---- Emission

  emit(op: Opcode, size: Size, ...operands: Operand[]): Inst {
    const inst = newInst(op, size, operands, this.loc);
    this.sequence.push(inst);
    return inst;
  }

  /** Emits into a block of its own (edges, decision trees). */
  emitInto(block: MBlock, lower: () => void): void {
    const saved = this.sequence;
    this.sequence = block.insts;
    lower();
    this.sequence = saved;
  }

  temp(wide: boolean): RegOperand {
    this.mfunc.virtuals.push({ wide });
    return reg(FIRST_VIRTUAL + this.mfunc.virtuals.length - 1);
  }

  // ---- Values

  /** The register that holds `v`, which is thereby asked for. Constants are made here or hoisted. */
  reg(v: Value): RegOperand {
    if (v.op === "const") return this.pool.register(v);
    const source = this.alias(v);
    if (source) return this.reg(source);
    return reg(this.demand(v));
  }

  /** The value whose register serves for `v` too: wrap never needs an instruction, zext not above a cleared half. */
  private alias(v: Value): Value | null {
    const arg = v.args[0] as Value;
    if (v.op === "wrap") return arg;
    if (v.op === "zext" && this.zeroUpper(arg) && arg.op !== "const") return arg;
    return null;
  }

  private demand(v: Value): Reg {
    let r = this.registers.get(v);
    if (r === undefined) {
      r = this.temp(v.type === "i64").reg;
      this.registers.set(v, r);
    }
    return r;
  }

  /** Where the instruction for `v` puts its result (also when nobody reads it). */
  result(v: Value): RegOperand {
    return reg(this.demand(v));
  }

  isDemanded(v: Value): boolean {
    if (v.op === "const") return true;
    const source = this.alias(v);
    return source ? this.isDemanded(source) : this.registers.has(v);
  }

  /** Is the current place the last that reads `v`? */
  dies(v: Value): boolean {
    if (v.op === "const") return true;
    const source = this.alias(v);
    if (source) return this.dies(source);
    return !this.registers.has(v) && this.flow.header.get(v.block) === this.flow.header.get(this.block);
  }

  /** Register or immediate. */
  regOrImm(v: Value): Operand {
    const value = constantOf(v);
    return value !== null && fitsImm32(value) ? imm(value) : this.reg(v);
  }

  /** Register, immediate or folded load: a source operand of `size`. */
  source(v: Value, size: Size = sizeOf(v)): Operand {
    return this.tryLoad(v, size) ?? this.regOrImm(v);
  }

  /** Register or folded load. */
  rm(v: Value, size: Size = sizeOf(v)): Operand {
    return this.tryLoad(v, size) ?? this.reg(v);
  }

  /** `to` = v, as one instruction. */
  move(to: RegOperand, v: Value): void {
    const value = constantOf(v);
    const size = sizeOf(v);
    if (value !== null) this.constant(to, value, size);
    else this.emit("mov", size, to, this.reg(v));
  }

  constant(to: RegOperand, value: bigint, size: Size): void {
    this.emit("mov", size, to, imm(value)).remat = true;
  }

  /** `to` = v with bits 63..32 clear. */
  moveZeroExtended(to: RegOperand, v: Value): void {
    if (v.op !== "const" && v.type === "i32" && !this.zeroUpper(v)) this.emit("movzxd", 4, to, this.reg(v));
    else this.move(to, v);
  }

  /** A register whose bits 63..32 are known to be clear. */
  zeroExtended(v: Value): RegOperand {
    if (v.op === "const" || this.zeroUpper(v)) return this.reg(v);
    const t = this.temp(true);
    this.emit("movzxd", 4, t, this.reg(v));
    return t;
  }

  /** An immediate, if `v` is a constant that fits one. */
  regOrImmIfConstant(v: Value): Operand | null {
    return v.op === "const" ? this.regOrImm(v) : null;
  }

  // ---- Folding

  /** Runs `lower` with loads folded only if `allowed` (and allowed so far). */
  withFolding<T>(allowed: boolean, lower: () => T): T {
    const saved = this.foldingAllowed;
    this.foldingAllowed = saved && allowed;
    try {
      return lower();
    } finally {
      this.foldingAllowed = saved;
    }
  }

  uses(v: Value): number {
    return this.useCount.get(v) ?? 0;
  }

  /** A memory operand for `v`, if it is a plain load of just `size` bytes that may run here instead of at its place. */
  tryLoad(v: Value, size: Size): MemOperand | null {
    if (v.op === "wrap" && v.args[0] && this.uses(v) === 1 && size <= 4) return this.tryLoad(v.args[0], size);
    if (v.op !== "load" || v.mem?.bits !== size * 8 || !this.canSink(v)) return null;
    return this.fold(v);
  }

  /** May the load `v`, used once, move down to the current place? */
  canSink(v: Value): boolean {
    if (
      !this.foldingAllowed ||
      v.op !== "load" ||
      v.mem?.atomic ||
      v.block !== this.block ||
      this.uses(v) !== 1 ||
      this.registers.has(v)
    )
      return false;
    const stoppers = this.stoppers.get(this.block) as number[];
    const from = (this.index.get(v) as number) + 1;
    return stoppers[from] === stoppers[Math.max(from, this.anchor)];
  }

  /** Takes the load `v` into the current instruction. */
  fold(v: Value): MemOperand {
    this.folded.add(v);
    return this.address(v.args[0] as Value, v.mem?.offset as number);
  }

  /** Marks a value as done by somebody else's instruction. */
  absorb(v: Value): void {
    this.folded.add(v);
  }

  /** Does nothing between `v` and the current place write memory, call or trap otherwise? */
  isQuietSince(v: Value): boolean {
    const stoppers = this.stoppers.get(this.block) as number[];
    return v.block === this.block && stoppers[(this.index.get(v) as number) + 1] === stoppers[this.anchor];
  }

  /** The operand for linear memory at `v` + `offset`. */
  address(v: Value, offset: number): MemOperand {
    return linearAddress(this, v, offset);
  }
}

/** A load may not move down across these. */
function stopsLoads(v: Value): boolean {
  switch (v.op) {
    case "load":
      return v.mem?.atomic ?? false;
    case "store":
    case "atomic_rmw":
    case "atomic_cmpxchg":
    case "fence":
    case "memory_copy":
    case "memory_fill":
    case "memory_init":
    case "call":
    case "call_indirect":
    case "div_s":
    case "div_u":
    case "rem_s":
    case "rem_u":
      return true;
    case "intrinsic":
      return !effectsOf(v.name ?? "").pure;
    default:
      return false;
  }
}

/** Must it run even if nobody reads the result? */
function hasEffect(v: Value): boolean {
  if (v.op === "intrinsic") return !effectsOf(v.name ?? "").pure;
  return v.op === "load" || v.op === "data_drop" || v.op === "global_set" || stopsLoads(v);
}

function countUses(order: Block[]): Map<Value, number> {
  const count = new Map<Value, number>();
  const use = (v: Value): void => {
    count.set(v, (count.get(v) ?? 0) + 1);
  };
  for (const block of order) {
    for (const v of [...block.phis, ...block.body]) v.args.forEach(use);
    const t = block.terminator;
    if (t.kind === "branch") use(t.condition);
    if (t.kind === "switch") use(t.index);
    if (t.kind === "return") t.values.forEach(use);
  }
  return count;
}

function findLivePhis(order: Block[]): Set<Value> {
  const live = new Set<Value>();
  const work: Value[] = [];
  const need = (v: Value): void => {
    if (v.op !== "phi" || live.has(v)) return;
    live.add(v);
    work.push(v);
  };
  for (const block of order) {
    for (const v of block.body) v.args.forEach(need);
    const t = block.terminator;
    if (t.kind === "branch") need(t.condition);
    if (t.kind === "switch") need(t.index);
    if (t.kind === "return") t.values.forEach(need);
  }
  for (let phi = work.pop(); phi; phi = work.pop()) phi.args.forEach(need);
  return live;
}
