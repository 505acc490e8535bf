// The readable text form of the SSA: for --dump and golden tests.
//
//   func kernel/lib/bits/isAligned(i32, i32) -> i32
//   b0: depth 0, frequency 1
//     v0 = param.i32 0
//     v4 = load.i32 u8 [v0 + 16]
//     branch v4 -> b1, b2

import type { Block, Func, Mem, Module, Terminator, Value } from "./ir.ts";
import { TrapKind } from "./ir.ts";

const TRAP_NAMES: Record<number, string> = {
  [TrapKind.UNREACHABLE]: "unreachable",
  [TrapKind.DIVIDE_BY_ZERO]: "divide_by_zero",
  [TrapKind.INTEGER_OVERFLOW]: "integer_overflow",
  [TrapKind.MEMORY_OUT_OF_BOUNDS]: "memory_out_of_bounds",
  [TrapKind.INDIRECT_CALL_TYPE]: "indirect_call_type",
  [TrapKind.TABLE_OUT_OF_BOUNDS]: "table_out_of_bounds",
  [TrapKind.UNALIGNED_ATOMIC]: "unaligned_atomic",
  [TrapKind.STACK_OVERFLOW]: "stack_overflow",
  [TrapKind.UNSUPPORTED]: "unsupported",
};

export function trapName(kind: number): string {
  return TRAP_NAMES[kind] ?? `trap${kind}`;
}

export function printFunc(func: Func, module?: Module): string {
  const lines = [`func ${func.name}(${func.params.join(", ")}) -> ${func.results.join(", ") || "nothing"}`];
  for (const block of func.blocks) lines.push(...printBlock(block, module));
  return `${lines.join("\n")}\n`;
}

function printBlock(block: Block, module?: Module): string[] {
  const preds = block.preds.length > 0 ? ` from ${block.preds.map(name).join(", ")};` : "";
  const frequency = Number(block.frequency.toPrecision(3));
  return [
    `${name(block)}:${preds} depth ${block.loopDepth}, frequency ${frequency}`,
    ...block.phis.map((v) => `  ${printValue(v, module)}`),
    ...block.body.map((v) => `  ${printValue(v, module)}`),
    `  ${printTerminator(block.terminator)}`,
  ];
}

function name(block: Block): string {
  return `b${block.id}`;
}

function ref(value: Value): string {
  return `v${value.id}`;
}

export function printValue(value: Value, module?: Module): string {
  const operands = describe(value, module);
  const left = value.op === "proj" || value.type !== null || value.results ? `${ref(value)} = ` : "";
  const type = value.type === null ? "" : `.${value.type}`;
  return `${left}${value.op}${type}${operands === "" ? "" : ` ${operands}`}`;
}

function describe(value: Value, module?: Module): string {
  const args = value.args.map(ref).join(", ");
  switch (value.op) {
    case "const":
      return constant(value);
    case "param":
      return `${value.imm}`;
    case "proj":
      return `${args}.${value.imm}`;
    case "load":
    case "store":
    case "atomic_rmw":
    case "atomic_cmpxchg":
      return access(value);
    case "call":
      return `${module?.funcs.find((f) => f.index === value.index)?.name ?? value.index}(${args})`;
    case "call_indirect":
      return `type ${value.index} (${args})`;
    case "intrinsic":
      return `${value.name}(${args})`;
    case "global_get":
    case "global_set":
      return [module?.globals[value.index as number]?.name ?? `${value.index}`, args].filter(Boolean).join(", ");
    case "memory_init":
    case "data_drop":
      return [`segment ${value.index}`, args].filter(Boolean).join(", ");
    default:
      return args;
  }
}

function constant(value: Value): string {
  const signed = BigInt.asIntN(value.type === "i32" ? 32 : 64, value.imm as bigint);
  return signed >= -4096n && signed < 4096n ? `${signed}` : `0x${(value.imm as bigint).toString(16)}`;
}

function access(value: Value): string {
  const mem = value.mem as Mem;
  const [address, ...rest] = value.args;
  const offset = mem.offset === 0 ? "" : ` + ${mem.offset}`;
  const shape = `${mem.atomic ? "atomic " : ""}${value.rmw ? `${value.rmw} ` : ""}${mem.signed ? "s" : "u"}${mem.bits}`;
  return [`${shape} [${ref(address as Value)}${offset}]`, ...rest.map(ref)].join(", ");
}

function printTerminator(t: Terminator): string {
  switch (t.kind) {
    case "jump":
      return `jump ${name(t.target)}`;
    case "branch": {
      const likely = t.likely === undefined ? "" : t.likely ? " (likely)" : " (unlikely)";
      return `branch ${ref(t.condition)} -> ${name(t.then)}, ${name(t.otherwise)}${likely}`;
    }
    case "switch":
      return `switch ${ref(t.index)} -> [${t.targets.map(name).join(", ")}], ${name(t.fallback)}`;
    case "return":
      return `return ${t.values.map(ref).join(", ")}`.trimEnd();
    case "trap":
      return `trap ${trapName(t.trap)}`;
  }
}
