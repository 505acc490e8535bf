// The executor that we believe: V8 runs the same Wasm.

import { TrapKind } from "../../../tools/compiler/ir.ts";
import { ValType } from "../wasm/binary.ts";
import type { Action, Executor, Group, HostFunction, Outcome } from "./actions.ts";

const unsigned = (value: unknown): bigint =>
  typeof value === "bigint" ? BigInt.asUintN(64, value) : BigInt((value as number) >>> 0);

const toJs = (value: bigint, type: number): number | bigint =>
  type === ValType.i64 ? BigInt.asIntN(64, value) : Number(BigInt.asIntN(32, value));

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/** The host functions of runner.c. */
const hosts: Record<HostFunction, (memory: () => DataView | null, ...args: never[]) => unknown> = {
  nothing: () => {},
  poke: (memory, address: number, value: bigint) => {
    const aligned = (address & ~7) >>> 0;
    if (aligned < 0x2_0000) memory()?.setBigUint64(aligned, u64(value), true);
  },
  mix: (_, a: number, b: bigint) => {
    const x = u64((u64(b) ^ BigInt(a >>> 0)) * 0x9e3779b97f4a7c15n);
    return x ^ (x >> 29n);
  },
};

export type Intrinsics = Record<string, (a: bigint, b: bigint, c: bigint) => unknown>;

/** The pure intrinsics and barriers, which hosted objects inline. */
const intrinsics: Intrinsics = {
  umulh: (a, b) => (u64(a) * u64(b)) >> 64n,
  udiv128: (high, low, divisor) => ((u64(high) << 64n) | u64(low)) / u64(divisor),
  barrier: () => {},
  mfence: () => {},
  lfence: () => {},
  sfence: () => {},
  pause: () => {},
};

/** A host function or intrinsic on unsigned values. */
export function hostCall(name: string, args: bigint[]): bigint {
  if (name === "mix") return hosts.mix(() => null, Number(args[0]) as never, args[1] as never) as bigint;
  return (intrinsics[name]?.(args[0], args[1], args[2]) as bigint | undefined) ?? 0n;
}

const messages: [RegExp, TrapKind][] = [
  [/unreachable/, TrapKind.UNREACHABLE],
  [/by zero/, TrapKind.DIVIDE_BY_ZERO],
  [/unrepresentable/, TrapKind.INTEGER_OVERFLOW],
  [/data segment|memory access out of bounds/, TrapKind.MEMORY_OUT_OF_BOUNDS],
  [/signature mismatch/, TrapKind.INDIRECT_CALL_TYPE],
  [/table|element segment/, TrapKind.TABLE_OUT_OF_BOUNDS],
  [/unaligned/, TrapKind.UNALIGNED_ATOMIC],
  [/call stack/, TrapKind.STACK_OVERFLOW],
];

function failure(error: unknown): Outcome {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError)
    for (const [pattern, kind] of messages) if (pattern.test(message)) return { status: "trap", kind };
  return { status: error instanceof WebAssembly.CompileError ? "refused" : "broken", message };
}

/** The hash of runner.c over linear memory from byte `from`. */
export function hashMemory(buffer: ArrayBufferLike, from: number): bigint {
  const words = new Uint32Array(buffer);
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = from / 4; i < words.length; i++) {
    const word = words[i];
    a = Math.imul(a ^ word, 0x01000193);
    b = Math.imul(b + word, 0x85ebca6b) ^ (b >>> 15);
  }
  return (BigInt(b >>> 0) << 32n) | BigInt(a >>> 0);
}

class V8Group {
  private readonly compiled: (WebAssembly.Module | undefined)[] = [];
  private readonly instances: (WebAssembly.Instance | undefined)[] = [];
  private readonly links = new Map<string, unknown>();
  constructor(
    private readonly group: Group,
    private readonly intrinsics: Intrinsics,
  ) {}

  perform(action: Action): Outcome {
    try {
      return { status: "ok", values: this.attempt(action) };
    } catch (error) {
      return failure(error);
    }
  }

  private attempt(action: Action): bigint[] {
    const exports = this.instances[action.module]?.exports ?? {};
    switch (action.type) {
      case "open":
        this.instances[action.module] = this.instantiate(action.module);
        return [];
      case "host":
        this.links.set(`${action.module} ${action.index}`, (...args: never[]) =>
          hosts[action.host](() => this.memoryOf(action.module), ...args),
        );
        return [];
      case "link":
        this.links.set(`${action.module} ${action.index}`, this.instances[action.from]?.exports[action.name]);
        return [];
      case "call": {
        const callee = exports[action.name] as (...args: unknown[]) => unknown;
        const result = callee(...action.args.map((value, i) => toJs(value, action.params[i])));
        if (action.results.length === 0) return [];
        return (action.results.length === 1 ? [result] : (result as unknown[])).map(unsigned);
      }
      case "hash": {
        const memory = this.memoryOf(action.module);
        if (!memory) throw new Error("no memory is exported");
        return [hashMemory(memory.buffer, action.from)];
      }
      case "global":
        return [unsigned((exports[action.name] as WebAssembly.Global).value)];
      case "close":
        this.instances[action.module] = undefined;
        return [];
    }
  }

  private memoryOf(module: number): DataView | null {
    const exports = Object.values(this.instances[module]?.exports ?? {});
    const memory = exports.find((e) => e instanceof WebAssembly.Memory);
    return memory ? new DataView(memory.buffer) : null;
  }

  private instantiate(index: number): WebAssembly.Instance {
    this.compiled[index] ??= new WebAssembly.Module(this.group.modules[index] as BufferSource);
    const imports: Record<string, Record<string, unknown>> = {};
    let functionIndex = 0;
    for (const { module, name } of WebAssembly.Module.imports(this.compiled[index])) {
      imports[module] ??= {};
      imports[module][name] = module === "insn" ? this.intrinsics[name] : this.links.get(`${index} ${functionIndex}`);
      functionIndex += module === "insn" ? 0 : 1;
    }
    return new WebAssembly.Instance(this.compiled[index], imports as WebAssembly.Imports);
  }
}

/** V8 with some intrinsics replaced, for tests of the harness. */
export function v8With(replaced: Intrinsics): Executor {
  return {
    async run(groups) {
      return groups.map((group) => {
        const state = new V8Group(group, { ...intrinsics, ...replaced });
        return group.actions.map((action) => state.perform(action));
      });
    },
  };
}

export const v8: Executor = v8With({});
