// What the harness asks an executor to do with modules, and what comes back. Two executors exist:
// V8 (oracle.ts) and our machine code in a Linux process (native.ts).

import { TrapKind } from "../../../tools/compiler/ir.ts";

export type Window = "low" | "gs";

/** `module` is an index into the group's modules; values are unsigned numbers of their type's width. */
export type Action =
  /** Fresh memory and globals, active segments, then the start function. */
  | { type: "open"; module: number }
  | { type: "call"; module: number; name: string; args: bigint[]; params: number[]; results: number[] }
  /** Of linear memory from index `from` (bytes, a multiple of 4) to its end. */
  | { type: "hash"; module: number; from: number }
  | { type: "global"; module: number; name: string; valtype: number }
  /** Before open: resolves function import `index` by an export of an open module, or by a host function. */
  | { type: "link"; module: number; index: number; from: number; name: string }
  | { type: "host"; module: number; index: number; host: HostFunction }
  | { type: "close"; module: number };

export const hostFunctions = ["nothing", "mix", "poke"] as const;
export type HostFunction = (typeof hostFunctions)[number];

export type Outcome =
  | { status: "ok"; values: bigint[] }
  | { status: "trap"; kind: TrapKind }
  /** The compiler said no. */
  | { status: "refused"; message: string }
  /** No such export, the process died, ran out of time, or the group died before. */
  | { status: "broken"; message: string };

export interface Group {
  modules: Uint8Array[];
  actions: Action[];
}

export interface Executor {
  /** One list of outcomes for each group, one outcome for each action. */
  run(groups: Group[]): Promise<Outcome[][]>;
}

export const trapNames: Record<TrapKind, string> = {
  [TrapKind.UNREACHABLE]: "unreachable",
  [TrapKind.DIVIDE_BY_ZERO]: "divide by zero",
  [TrapKind.INTEGER_OVERFLOW]: "integer overflow",
  [TrapKind.MEMORY_OUT_OF_BOUNDS]: "memory out of bounds",
  [TrapKind.INDIRECT_CALL_TYPE]: "indirect call type",
  [TrapKind.TABLE_OUT_OF_BOUNDS]: "table out of bounds",
  [TrapKind.UNALIGNED_ATOMIC]: "unaligned atomic",
  [TrapKind.STACK_OVERFLOW]: "stack overflow",
  [TrapKind.UNSUPPORTED]: "unsupported",
};

export function show(outcome: Outcome): string {
  switch (outcome.status) {
    case "ok":
      return `ok(${outcome.values.map((v) => `0x${v.toString(16)}`).join(", ")})`;
    case "trap":
      return `trap: ${trapNames[outcome.kind]}`;
    default:
      return `${outcome.status}: ${outcome.message}`;
  }
}

export const same = (a: Outcome, b: Outcome): boolean => show(a) === show(b);
