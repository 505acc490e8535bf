/** Worst-case stack depth over the call graph, from every function and from the whole. */

import type { Func, Module } from "../ir.ts";
import type { CallGraph } from "./callgraph.ts";
import type { Emitted } from "./emit.ts";
import { frameBytes } from "./frame.ts";

export interface StackStep {
  name: string;
  /** Frame and return address, in bytes. */
  bytes: number;
}

export interface StackReport {
  /** Of each exported function: bytes from its caller's RSP down, and the deepest path. null: a call cycle lies below. */
  entries: { export: string; bytes: number | null; path: StackStep[] }[];
}

const RETURN_ADDRESS_BYTES = 8;

export function stackReport(_module: Module, graph: CallGraph, compiled: Emitted[]): StackReport {
  const frames = new Map(compiled.map((e) => [e.func, frameBytes(e.machine.frame) + RETURN_ADDRESS_BYTES]));
  const depth = new Map<Func, number | null>();
  const deepest = new Map<Func, Func>();
  // Callees come first in the order, so theirs are known.
  for (const func of graph.order) {
    let below: number | null = graph.cyclic.has(func) ? null : 0;
    for (const callee of graph.callees.get(func) ?? []) {
      const d = depth.get(callee) ?? null;
      if (below === null || d === null) below = null;
      else if (d > below) {
        below = d;
        deepest.set(func, callee);
      }
    }
    depth.set(func, below === null ? null : below + (frames.get(func) as number));
  }
  const entries = graph.order.flatMap((func) =>
    func.exports.map((name) => ({ export: name, bytes: depth.get(func) ?? null, path: path(func, deepest, frames) })),
  );
  return { entries };
}

function path(from: Func, deepest: Map<Func, Func>, frames: Map<Func, number>): StackStep[] {
  const steps: StackStep[] = [];
  for (let at: Func | undefined = from; at; at = deepest.get(at))
    steps.push({ name: at.name, bytes: frames.get(at) as number });
  return steps;
}
