// Executes the SSA form directly: what every pass must preserve, without the back end. For tests.

import { evaluate, isPureOp, maskOf } from "./fold.ts";
import type { Block, Func, Mem, Module, Value } from "./ir.ts";
import { TrapKind } from "./ir.ts";
import { trapName } from "./print.ts";

export class Trap extends Error {
  readonly kind: TrapKind;
  constructor(kind: TrapKind) {
    super(trapName(kind));
    this.kind = kind;
  }
}

/** Thrown when a run takes more steps than allowed. */
export class OutOfSteps extends Error {}

export interface Host {
  /** An imported function or intrinsic. */
  call?: (module: string, name: string, args: bigint[]) => bigint;
}

const RMW: Record<string, (old: bigint, operand: bigint) => bigint> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  xchg: (_, b) => b,
};

/** One instance of a module. */
export class Interpreter {
  readonly memory: Uint8Array;
  readonly globals: bigint[];
  private readonly view: DataView;
  private readonly dropped = new Set<number>();
  private readonly byIndex: Map<number, Func>;
  private readonly module: Module;
  private readonly host: Host;
  private depth = 0;
  steps: number;

  constructor(module: Module, host: Host = {}, steps = 1_000_000) {
    this.module = module;
    this.host = host;
    this.steps = steps;
    this.memory = new Uint8Array((module.memoryPages?.initial ?? 0) * 65536);
    this.view = new DataView(this.memory.buffer);
    this.globals = module.globals.map((g) => g.init);
    this.byIndex = new Map(module.funcs.map((f) => [f.index, f]));
    module.data.forEach((segment, i) => {
      if (segment.address === null) return;
      this.memory.set(segment.bytes, segment.address);
      this.dropped.add(i);
    });
  }

  callExport(name: string, args: bigint[]): bigint[] {
    const func = this.module.funcs.find((f) => f.exports.includes(name));
    if (func === undefined) throw new Error(`no function is exported as ${name}`);
    return this.call(func, args);
  }

  call(func: Func, args: bigint[]): bigint[] {
    if (++this.depth > 200) {
      this.depth = 0;
      throw new Trap(TrapKind.STACK_OVERFLOW);
    }
    const results = new Frame(this, func, args).run();
    this.depth--;
    return results;
  }

  callIndex(index: number, args: bigint[]): bigint[] {
    const func = this.byIndex.get(index);
    if (func !== undefined) return this.call(func, args);
    const imported = this.module.imports[index];
    if (imported === undefined || this.host.call === undefined) throw new Error(`no function ${index}`);
    return [this.host.call(imported.module, imported.name, args)];
  }

  callIndirect(type: number, slot: bigint, args: bigint[]): bigint[] {
    const { table } = this.module;
    if (slot >= BigInt(table.length)) throw new Trap(TrapKind.TABLE_OUT_OF_BOUNDS);
    const index = table[Number(slot)] ?? null;
    if (index === null) throw new Trap(TrapKind.INDIRECT_CALL_TYPE);
    const callee = this.byIndex.get(index) ?? this.module.imports[index];
    if (callee?.type !== type) throw new Trap(TrapKind.INDIRECT_CALL_TYPE);
    return this.callIndex(index, args);
  }

  intrinsic(name: string, args: bigint[]): bigint {
    if (name === "umulh") return evaluate("mulh_u", "i64", "i64", args) as bigint;
    if (this.host.call === undefined) throw new Error(`no host for ${name}`);
    return this.host.call("insn", name, args);
  }

  /** The checked address of an access. */
  private at(address: bigint, mem: Mem): number {
    const effective = Number(address) + mem.offset;
    if (effective + mem.bits / 8 > this.memory.length) throw new Trap(TrapKind.MEMORY_OUT_OF_BOUNDS);
    if (mem.atomic && effective % (mem.bits / 8) !== 0) throw new Trap(TrapKind.UNALIGNED_ATOMIC);
    return effective;
  }

  load(address: bigint, mem: Mem): bigint {
    const at = this.at(address, mem);
    if (mem.bits === 8) return BigInt(this.view.getUint8(at));
    if (mem.bits === 16) return BigInt(this.view.getUint16(at, true));
    if (mem.bits === 32) return BigInt(this.view.getUint32(at, true));
    return this.view.getBigUint64(at, true);
  }

  store(address: bigint, mem: Mem, value: bigint): void {
    const at = this.at(address, mem);
    if (mem.bits === 64) this.view.setBigUint64(at, value, true);
    else if (mem.bits === 8) this.view.setUint8(at, Number(value & 0xffn));
    else if (mem.bits === 16) this.view.setUint16(at, Number(value & 0xffffn), true);
    else this.view.setUint32(at, Number(value & 0xffff_ffffn), true);
  }

  private range(start: bigint, bytes: bigint, limit: number): [number, number] {
    if (start + bytes > BigInt(limit)) throw new Trap(TrapKind.MEMORY_OUT_OF_BOUNDS);
    return [Number(start), Number(start + bytes)];
  }

  bulk(value: Value, [destination, source, bytes]: [bigint, bigint, bigint]): void {
    const size = this.memory.length;
    if (value.op === "memory_fill") {
      const [from, to] = this.range(destination, bytes, size);
      const width = (value.mem?.bits ?? 8) / 8;
      for (let at = from; at < to; at++)
        this.memory[at] = Number((source >> BigInt(((at - from) % width) * 8)) & 0xffn);
      return;
    }
    const segment = this.module.data[value.index ?? -1];
    const from = value.op === "memory_copy" ? this.memory : (segment?.bytes ?? new Uint8Array());
    const limit = value.op === "memory_init" && this.dropped.has(value.index as number) ? 0 : from.length;
    const [start, end] = this.range(source, bytes, limit);
    const [to] = this.range(destination, bytes, size);
    this.memory.set(from.slice(start, end), to);
  }

  drop(segment: number): void {
    this.dropped.add(segment);
  }
}

/** One activation. */
class Frame {
  private readonly values = new Map<Value, bigint>();
  /** Results of calls that have several. */
  private readonly several = new Map<Value, bigint[]>();
  private readonly machine: Interpreter;
  private readonly func: Func;
  private readonly args: bigint[];

  constructor(machine: Interpreter, func: Func, args: bigint[]) {
    this.machine = machine;
    this.func = func;
    this.args = args;
  }

  run(): bigint[] {
    let block = this.func.blocks[0] as Block;
    for (;;) {
      if (this.machine.steps-- <= 0) throw new OutOfSteps();
      for (const value of block.body) {
        const result = this.execute(value);
        if (value.type !== null) this.values.set(value, result & maskOf(value.type));
      }
      const t = block.terminator;
      if (t.kind === "return") return t.values.map((v) => this.get(v));
      if (t.kind === "trap") throw new Trap(t.trap);
      const next = this.next(block);
      this.enter(next, block);
      block = next;
    }
  }

  private get(value: Value): bigint {
    const result = this.values.get(value);
    if (result === undefined) throw new Error(`v${value.id} has no value in ${this.func.name}`);
    return result;
  }

  private next(block: Block): Block {
    const t = block.terminator;
    if (t.kind === "jump") return t.target;
    if (t.kind === "branch") return this.get(t.condition) !== 0n ? t.then : t.otherwise;
    if (t.kind === "switch") return t.targets[Number(this.get(t.index))] ?? t.fallback;
    throw new Error(`${t.kind} has no successor`);
  }

  /** All phis read before any is written. */
  private enter(block: Block, from: Block): void {
    const edge = block.preds.indexOf(from);
    const incoming = block.phis.map((phi) => this.get(phi.args[edge] as Value));
    block.phis.forEach((phi, i) => {
      this.values.set(phi, incoming[i] as bigint);
    });
  }

  private execute(value: Value): bigint {
    const args = value.op === "proj" ? [] : value.args.map((arg) => this.get(arg));
    if (isPureOp(value.op)) return this.pure(value, args);
    const m = this.machine;
    switch (value.op) {
      case "const":
        return value.imm as bigint;
      case "param":
        return this.args[Number(value.imm)] as bigint;
      case "select":
        return (args[0] !== 0n ? args[1] : args[2]) as bigint;
      case "load": {
        const raw = m.load(args[0] as bigint, value.mem as Mem);
        return value.mem?.signed ? BigInt.asIntN(value.mem.bits, raw) : raw;
      }
      case "store":
        m.store(args[0] as bigint, value.mem as Mem, args[1] as bigint);
        return 0n;
      case "atomic_rmw":
      case "atomic_cmpxchg":
        return this.atomic(value, args);
      case "memory_copy":
      case "memory_fill":
      case "memory_init":
        m.bulk(value, args as [bigint, bigint, bigint]);
        return 0n;
      case "data_drop":
        m.drop(value.index as number);
        return 0n;
      case "memory_size":
        return BigInt(m.memory.length / 65536);
      case "global_get":
        return m.globals[value.index as number] as bigint;
      case "global_set":
        m.globals[value.index as number] = args[0] as bigint;
        return 0n;
      case "intrinsic":
        return m.intrinsic(value.name as string, args);
      case "call":
        return this.results(value, m.callIndex(value.index as number, args));
      case "call_indirect":
        return this.results(
          value,
          m.callIndirect(value.index as number, args[args.length - 1] as bigint, args.slice(0, -1)),
        );
      case "proj":
        return (this.several.get(value.args[0] as Value) as bigint[])[Number(value.imm)] as bigint;
      case "fence":
        return 0n;
      default:
        throw new Error(`${value.op} is not interpreted`);
    }
  }

  private pure(value: Value, args: bigint[]): bigint {
    const operand = value.args[0]?.type ?? "i32";
    const result = evaluate(value.op, operand, value.type ?? "i32", args);
    if (result !== null) return result;
    throw new Trap(args[1] === 0n ? TrapKind.DIVIDE_BY_ZERO : TrapKind.INTEGER_OVERFLOW);
  }

  private results(value: Value, results: bigint[]): bigint {
    this.several.set(value, results);
    return results[0] ?? 0n;
  }

  private atomic(value: Value, args: bigint[]): bigint {
    const mem = value.mem as Mem;
    const [address, operand, replacement] = args as [bigint, bigint, bigint];
    const old = this.machine.load(address, mem);
    if (value.op === "atomic_rmw") {
      this.machine.store(
        address,
        mem,
        BigInt.asUintN(64, (RMW[value.rmw as string] as (a: bigint, b: bigint) => bigint)(old, operand)),
      );
    } else if (old === BigInt.asUintN(mem.bits, operand)) this.machine.store(address, mem, replacement);
    return old;
  }
}
