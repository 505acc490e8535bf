/** How blocks end, edges with phis, decision trees and jump tables, the function's entry. */

import type { Block, Terminator, Value } from "../../ir.ts";
import { type Place, placeRegisters, places } from "../abi.ts";
import { successors } from "../flow.ts";
import { imm, type MBlock, mem, type RegOperand, reg } from "../machine.ts";
import type { Reg } from "../registers.ts";
import { type Selector, sizeOf } from "../select.ts";
import { condition, type invert } from "./compare.ts";

export function lowerTerminator(s: Selector, block: Block, machine: MBlock): void {
  const t = block.terminator;
  switch (t.kind) {
    case "jump":
      copyPhis(s, block, t.target);
      jump(s, machine, s.blockOf.get(t.target) as MBlock);
      break;
    case "branch":
      lowerBranch(s, block, machine, t);
      break;
    case "switch":
      lowerSwitch(s, block, machine, t);
      break;
    case "return":
      lowerReturn(s, t.values);
      break;
    case "trap":
      s.emit("ud2", 4).trap = t.trap;
      break;
  }
}

function jump(s: Selector, from: MBlock, to: MBlock): void {
  s.emit("jmp", 8).target = to;
  from.succs.push(to);
}

function jumpIf(s: Selector, from: MBlock, cond: ReturnType<typeof invert>, to: MBlock): void {
  const inst = s.emit("jcc", 8);
  inst.cond = cond;
  inst.target = to;
  from.succs.push(to);
}

function lowerBranch(s: Selector, block: Block, machine: MBlock, t: Extract<Terminator, { kind: "branch" }>): void {
  const then = edge(s, block, t.then);
  const otherwise = edge(s, block, t.otherwise);
  const cond = condition(s, t.condition);
  jumpIf(s, machine, cond, then);
  jump(s, machine, otherwise);
}

/** The block that the edge leads to: one of its own where phis of the target need copies. */
function edge(s: Selector, from: Block, to: Block): MBlock {
  const target = s.blockOf.get(to) as MBlock;
  if (successors(from.terminator).length < 2 || !to.phis.some((p) => s.isLivePhi(p))) return target;
  const probability = s.flow.probability(from, to);
  const depth = Math.min(s.flow.depth.get(from) as number, s.flow.depth.get(to) as number);
  const block = s.addBlock((s.flow.frequency.get(from) as number) * probability, depth);
  s.emitInto(block, () => {
    copyPhis(s, from, to);
    jump(s, block, target);
  });
  return block;
}

// ---- Phis

interface Copy {
  to: RegOperand;
  value: Value;
  from: Reg | null;
}

/** The copies of an edge happen at once: each goes first whose target nobody still has to read. */
function copyPhis(s: Selector, from: Block, to: Block): void {
  const which = to.preds.indexOf(from);
  let copies: Copy[] = to.phis
    .filter((p) => s.isLivePhi(p))
    .map((p) => ({ p, value: p.args[which] as Value }))
    .filter(({ p, value }) => value !== p)
    .map(({ p, value }) => ({ to: s.result(p), value, from: value.op === "const" ? null : s.reg(value).reg }));
  copies = copies.filter((c) => c.from !== c.to.reg);
  while (copies.length > 0) {
    const next = copies.find((c) => !copies.some((other) => other !== c && other.from === c.to.reg));
    if (next) {
      emitCopy(s, next);
      copies = copies.filter((c) => c !== next);
    } else breakCycle(s, copies[0] as Copy, copies);
  }
}

function emitCopy(s: Selector, copy: Copy): void {
  if (copy.from === null) s.move(copy.to, copy.value);
  else s.emit("mov", sizeOf(copy.value), copy.to, reg(copy.from));
}

/** Saves what the copy would overwrite, so that the others read the saved one. */
function breakCycle(s: Selector, copy: Copy, copies: Copy[]): void {
  const saved = s.temp(true);
  s.emit("mov", 8, saved, copy.to);
  for (const other of copies) if (other.from === copy.to.reg) other.from = saved.reg;
}

// ---- Switches

interface Range {
  low: number;
  /** Last index of the range. */
  high: number;
  target: MBlock;
}

const TREE_RANGES = 4;

function lowerSwitch(s: Selector, block: Block, machine: MBlock, t: Extract<Terminator, { kind: "switch" }>): void {
  const edges = new Map<Block, MBlock>(successors(t).map((to) => [to, edge(s, block, to)]));
  const fallback = edges.get(t.fallback) as MBlock;
  const targets = t.targets.map((to) => edges.get(to) as MBlock);
  const ranges = rangesOf(targets, fallback);
  if (ranges.length <= TREE_RANGES || s.context.noJumpTables) decisionTree(s, machine, t.index, ranges);
  else jumpTable(s, machine, t.index, targets, fallback);
}

function rangesOf(targets: MBlock[], fallback: MBlock): Range[] {
  const ranges: Range[] = [];
  [...targets, fallback].forEach((target, i) => {
    const last = ranges[ranges.length - 1];
    if (last?.target === target) last.high = i;
    else ranges.push({ low: i, high: i, target });
  });
  (ranges[ranges.length - 1] as Range).high = 0xffff_ffff;
  return ranges;
}

/** Binary search over the ranges; each comparison is against the first index of the upper half. */
function decisionTree(s: Selector, from: MBlock, index: Value, ranges: Range[]): void {
  if (ranges.length === 1) return jump(s, from, (ranges[0] as Range).target);
  const middle = ranges.length >> 1;
  const [low, high] = [ranges.slice(0, middle), ranges.slice(middle)];
  const first = high[0] as Range;
  const below = subtree(s, from, index, low);
  const above = subtree(s, from, index, high);
  const single = low.length === 1 && (low[0] as Range).low === 0 && first.low === 1;
  if (single) s.emit("test", 4, s.reg(index), s.reg(index));
  else s.emit("cmp", 4, s.reg(index), imm(BigInt.asIntN(32, BigInt(first.low))));
  jumpIf(s, from, single ? "e" : "b", below);
  jump(s, from, above);
}

function subtree(s: Selector, from: MBlock, index: Value, ranges: Range[]): MBlock {
  if (ranges.length === 1) return (ranges[0] as Range).target;
  const block = s.addBlock(from.frequency / 2, from.loopDepth);
  s.emitInto(block, () => decisionTree(s, block, index, ranges));
  return block;
}

/** Bounds check, then a jump over a table of 32-bit distances from the table itself. */
function jumpTable(s: Selector, from: MBlock, index: Value, targets: MBlock[], fallback: MBlock): void {
  const register = s.zeroExtended(index);
  const dispatch = s.addBlock(from.frequency, from.loopDepth);
  s.emit("cmp", 4, register, imm(targets.length));
  jumpIf(s, from, "ae", fallback);
  jump(s, from, dispatch);
  s.emitInto(dispatch, () => {
    const label = `.table${s.mfunc.jumpTables.length}`;
    s.mfunc.jumpTables.push({ label, targets });
    dispatch.table = label;
    const table = s.temp(true);
    const distance = s.temp(true);
    s.emit("lea", 8, table, mem("symbol", { symbol: label })).remat = true;
    s.emit("movsx", 8, distance, mem("host", { base: table.reg, index: register.reg, scale: 4 })).sourceSize = 4;
    s.emit("add", 8, distance, table);
    s.emit("jmpr", 8, distance);
    dispatch.succs.push(...new Set(targets));
  });
}

// ---- Entry and return

export function lowerEntry(s: Selector): void {
  const { arguments: list } = places(s.func);
  const entry = s.emit("entry", 8);
  entry.defs = placeRegisters(list);
  for (const v of s.params) {
    if (!s.isDemanded(v)) continue;
    const place = list[Number(v.imm)] as Place;
    s.emit("mov", sizeOf(v), s.result(v), "reg" in place ? reg(place.reg) : mem("in", { disp: place.stack }));
  }
}

function lowerReturn(s: Selector, values: Value[]): void {
  const { results } = places(s.func);
  values.forEach((v, i) => {
    const place = results[i] as Place;
    if ("stack" in place)
      s.emit("mov", 8, mem("in", { disp: place.stack }), v.type === "i64" ? s.regOrImm(v) : s.zeroExtended(v));
  });
  values.forEach((v, i) => {
    const place = results[i] as Place;
    if ("reg" in place) s.moveZeroExtended(reg(place.reg), v);
  });
  s.emit("ret", 8).uses = placeRegisters(results);
}
