// A program as actions, and the first difference between what two executors say of it.

import {
  type Action,
  type Executor,
  type Group,
  type HostFunction,
  type Outcome,
  show,
  type Window,
} from "../native/actions.ts";
import { ValType } from "../wasm/binary.ts";
import type { IntType } from "./opcodes.ts";
import { encode, type Program } from "./tree.ts";

const valtypes = (types: IntType[]): number[] => types.map((type) => (type === "i32" ? ValType.i32 : ValType.i64));

/** Opens the program, makes its calls, then hashes memory and reads every global. */
export function groupOf(program: Program, window: Window): Group {
  const actions: Action[] = [];
  program.imports
    .filter((item) => item.module === "env")
    .forEach(({ name }, index) => {
      actions.push({ type: "host", module: 0, index, host: name as HostFunction });
    });
  actions.push({ type: "open", module: 0 });
  for (const { callee, args } of program.calls) {
    const { params, results } = program.functions[callee];
    const types = { params: valtypes(params), results: valtypes(results) };
    actions.push({ type: "call", module: 0, name: `f${callee}`, args, ...types });
  }
  actions.push({ type: "hash", module: 0, from: window === "low" ? 0x1_0000 : 0 });
  program.globals.forEach(({ type }, i) => {
    actions.push({ type: "global", module: 0, name: `g${i}`, valtype: valtypes([type])[0] });
  });
  actions.push({ type: "close", module: 0 });
  return { modules: [encode(program)], actions };
}

export interface Difference {
  action: number;
  what: string;
  expected: string;
  got: string;
}

function describe(action: Action): string {
  if (action.type === "call") return `${action.name}(${action.args.map((a) => `0x${a.toString(16)}`).join(", ")})`;
  return action.type === "global" ? `global ${action.name}` : action.type;
}

/** An atomic access that is both misaligned and out of bounds may be called either. */
const bothNames = (expected: string, got: string): boolean =>
  expected === "trap: memory out of bounds" && got === "trap: unaligned atomic";

/** null: equal. A stack overflow on either side proves nothing. */
export function difference(group: Group, expected: Outcome[], got: Outcome[]): Difference | null {
  for (let action = 0; action < group.actions.length; action++) {
    const [a, b] = [show(expected[action]), show(got[action])];
    if (a.includes("stack overflow")) return null;
    if (a !== b && !bothNames(a, b)) return { action, what: describe(group.actions[action]), expected: a, got: b };
  }
  return null;
}

/** Runs each group on both and returns the differences by group. */
export async function compare(groups: Group[], oracle: Executor, subject: Executor): Promise<(Difference | null)[]> {
  const [expected, got] = [await oracle.run(groups), await subject.run(groups)];
  return groups.map((group, i) => difference(group, expected[i], got[i]));
}
