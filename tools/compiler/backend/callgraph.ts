/**
 * Who calls whom, callees first. An indirect call may reach every function of its type in the
 * table. Functions on a cycle keep a convention that needs no knowledge of the callee.
 */

import type { Func, Module } from "../ir.ts";

export interface CallGraph {
  /** Functions, callees before callers; a cycle's functions stand together. */
  order: Func[];
  /** Functions on a cycle. */
  cyclic: Set<Func>;
  callees: Map<Func, Set<Func>>;
  /** Functions that an indirect call of this canonical type may reach. */
  byType: Map<number, Func[]>;
}

export function buildCallGraph(module: Module): CallGraph {
  const byIndex = new Map(module.funcs.map((f) => [f.index, f]));
  const byType = new Map<number, Func[]>();
  for (const index of new Set(module.table)) {
    const func = index === null ? undefined : byIndex.get(index);
    if (func) byType.set(func.type, [...(byType.get(func.type) ?? []), func]);
  }
  const callees = new Map(module.funcs.map((f) => [f, calleesOf(f, byIndex, byType)]));
  return { callees, byType, ...components(module.funcs, callees) };
}

function calleesOf(func: Func, byIndex: Map<number, Func>, byType: Map<number, Func[]>): Set<Func> {
  const set = new Set<Func>();
  for (const block of func.blocks) {
    for (const v of block.body) {
      if (v.op === "call") {
        const callee = byIndex.get(v.index as number);
        if (callee) set.add(callee);
      } else if (v.op === "call_indirect") for (const f of byType.get(v.index as number) ?? []) set.add(f);
    }
  }
  return set;
}

/** Tarjan's strongly connected components, without recursion: they come out callees first. */
function components(funcs: Func[], callees: Map<Func, Set<Func>>): { order: Func[]; cyclic: Set<Func> } {
  const index = new Map<Func, number>();
  const low = new Map<Func, number>();
  const stack: Func[] = [];
  const onStack = new Set<Func>();
  const order: Func[] = [];
  const cyclic = new Set<Func>();
  const enter = (f: Func): { func: Func; rest: Func[] } => {
    index.set(f, index.size);
    low.set(f, index.size - 1);
    stack.push(f);
    onStack.add(f);
    return { func: f, rest: [...(callees.get(f) ?? [])] };
  };
  const lower = (f: Func, n: number): void => {
    low.set(f, Math.min(low.get(f) as number, n));
  };
  const finish = (f: Func): void => {
    if (low.get(f) !== index.get(f)) return;
    const component = stack.splice(stack.indexOf(f));
    for (const member of component) {
      onStack.delete(member);
      order.push(member);
      if (component.length > 1 || callees.get(member)?.has(member)) cyclic.add(member);
    }
  };
  for (const root of funcs) {
    if (index.has(root)) continue;
    const frames = [enter(root)];
    while (frames.length > 0) {
      const top = frames[frames.length - 1] as { func: Func; rest: Func[] };
      const next = top.rest.shift();
      if (!next) {
        finish(top.func);
        frames.pop();
        const parent = frames[frames.length - 1];
        if (parent) lower(parent.func, low.get(top.func) as number);
      } else if (!index.has(next)) frames.push(enter(next));
      else if (onStack.has(next)) lower(top.func, index.get(next) as number);
    }
  }
  return { order, cyclic };
}
