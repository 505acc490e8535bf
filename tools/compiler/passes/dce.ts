// Dead code: values that nobody reads and that do nothing else. What may trap stays.

import { isPure } from "../effects.ts";
import type { Func, Value } from "../ir.ts";
import { terminatorArgs } from "../ssa.ts";

/** `covered`: loads that another load of the same bytes makes superfluous. */
export function eliminateDeadCode(func: Func, covered?: Set<Value>): boolean {
  const live = new Uint8Array(func.nextId);
  const work: Value[] = [];
  const mark = (value: Value) => {
    if (live[value.id]) return;
    live[value.id] = 1;
    work.push(value);
  };
  for (const block of func.blocks) {
    for (const value of block.body) if (!isRemovable(value) && !covered?.has(value)) mark(value);
    terminatorArgs(block.terminator).forEach(mark);
  }
  for (let value = work.pop(); value !== undefined; value = work.pop()) value.args.forEach(mark);
  let changed = false;
  const isLive = (value: Value) => live[value.id] === 1;
  for (const block of func.blocks) {
    const before = block.phis.length + block.body.length;
    block.phis = block.phis.filter(isLive);
    block.body = block.body.filter(isLive);
    changed = changed || block.phis.length + block.body.length !== before;
  }
  return changed;
}

function isRemovable(value: Value): boolean {
  return isPure(value) || value.op === "global_get" || value.op === "memory_size";
}
