// Loop rotation: a loop that tests at its top becomes a test before the loop and a test at its bottom.
// One jump fewer an iteration, and what the body computes first is computed whenever the loop is
// entered, which lets licm.ts hoist loads.

import { duplicateFor } from "../duplicate.ts";
import type { Block, Func } from "../ir.ts";
import { findLoops, type Loop } from "../loops.ts";
import { successors } from "../ssa.ts";
import { simplifyCfg } from "./simplify-cfg.ts";

/** Values in a header beyond which its test is not worth a copy. */
const MAX_HEADER = 16;

export function rotateLoops(func: Func): boolean {
  const done = new Set<Block>();
  let changed = false;
  for (;;) {
    const loop = findLoops(func).find((l) => !done.has(l.header) && canRotate(func, l));
    if (loop === undefined) break;
    done.add(loop.header);
    duplicateFor(func, loop.header, (pred) => !loop.blocks.has(pred));
    changed = true;
  }
  if (changed) simplifyCfg(func);
  return changed;
}

function canRotate(func: Func, loop: Loop): boolean {
  const { header } = loop;
  const exits = (block: Block) => successors(block.terminator).some((target) => !loop.blocks.has(target));
  if (header === func.blocks[0] || !exits(header) || loop.latches.some(exits)) return false;
  if (header.terminator.kind !== "branch") return false;
  return header.body.filter((value) => value.op !== "const").length <= MAX_HEADER;
}
