/** Live ranges of virtual registers, and the positions at which machine registers are taken. */

import { type Inst, type MBlock, visitRegisters } from "../machine.ts";
import { FIRST_VIRTUAL, has, type Reg, type RegSet } from "../registers.ts";
import type { Line, Segments, Use } from "./interval.ts";

export interface Liveness {
  /** By virtual register, counted from 0. */
  segments: Segments[];
  uses: Use[][];
  /** By machine register. */
  fixed: Segments[];
}

type Bits = Uint32Array;

interface Sets {
  /** Read before written in the block. */
  exposed: Bits;
  written: Bits;
  liveIn: Bits;
  liveOut: Bits;
}

export function findLiveness(line: Line): Liveness {
  const count = line.func.virtuals.length;
  const sets = solve(line, count);
  const ranges = new RangeBuilder(count);
  for (let i = line.func.blocks.length - 1; i >= 0; i--) {
    const block = line.func.blocks[i] as MBlock;
    ranges.block(line, block, (sets.get(block) as Sets).liveOut);
  }
  return ranges.finish();
}

function solve(line: Line, count: number): Map<MBlock, Sets> {
  const words = (count + 31) >> 5;
  const make = (): Bits => new Uint32Array(words);
  const sets = new Map<MBlock, Sets>();
  for (const block of line.func.blocks) {
    const s: Sets = { exposed: make(), written: make(), liveIn: make(), liveOut: make() };
    for (const inst of block.insts) gather(inst, s);
    s.liveIn.set(s.exposed);
    sets.set(block, s);
  }
  const work = [...line.func.blocks];
  const queued = new Set(work);
  for (let block = work.pop(); block; block = work.pop()) {
    queued.delete(block);
    if (!update(block, sets)) continue;
    for (const pred of block.preds) {
      if (queued.has(pred)) continue;
      queued.add(pred);
      work.push(pred);
    }
  }
  return sets;
}

function gather(inst: Inst, s: Sets): void {
  visitRegisters(inst, (r, role) => {
    const v = r - FIRST_VIRTUAL;
    if (v < 0) return;
    const word = v >> 5;
    const bit = 1 << (v & 31);
    if (role !== "w" && !((s.written[word] as number) & bit)) s.exposed[word] = (s.exposed[word] as number) | bit;
  });
  visitRegisters(inst, (r, role) => {
    const v = r - FIRST_VIRTUAL;
    if (v >= 0 && role !== "r") s.written[v >> 5] = (s.written[v >> 5] as number) | (1 << (v & 31));
  });
}

/** Recomputes liveOut and liveIn; true when liveIn grew. */
function update(block: MBlock, sets: Map<MBlock, Sets>): boolean {
  const s = sets.get(block) as Sets;
  for (const succ of block.succs) {
    const from = (sets.get(succ) as Sets).liveIn;
    for (let w = 0; w < from.length; w++) s.liveOut[w] = (s.liveOut[w] as number) | (from[w] as number);
  }
  let grew = false;
  for (let w = 0; w < s.liveIn.length; w++) {
    const next =
      ((s.liveOut[w] as number) & ~(s.written[w] as number)) | (s.exposed[w] as number) | (s.liveIn[w] as number);
    if (next >>> 0 !== s.liveIn[w]) {
      s.liveIn[w] = next;
      grew = true;
    }
  }
  return grew;
}

/** Collects segments from the last instruction to the first, so every list is in falling order until the end. */
class RangeBuilder {
  private readonly ranges: Segments[];
  private readonly uses: Use[][];
  private readonly fixedRanges: Segments[] = Array.from({ length: 16 }, () => []);
  /** End of the segment that is open at the current position; 0: dead. */
  private readonly open: Int32Array;
  private readonly fixedOpen = new Int32Array(16);

  constructor(count: number) {
    this.ranges = Array.from({ length: count }, () => []);
    this.uses = Array.from({ length: count }, () => []);
    this.open = new Int32Array(count);
  }

  block(line: Line, block: MBlock, liveOut: Bits): void {
    const first = line.first.get(block) as number;
    const last = line.last.get(block) as number;
    for (let v = 0; v < this.open.length; v++) {
      if (((liveOut[v >> 5] as number) >>> (v & 31)) & 1) this.open[v] = last * 2;
    }
    for (let i = last - 1; i >= first; i--) this.inst(line.insts[i] as Inst, i, block.frequency);
    for (let v = 0; v < this.open.length; v++) if (this.open[v]) this.close(v, first * 2);
    for (let r = 0; r < 16; r++) if (this.fixedOpen[r]) this.closeFixed(r, first * 2);
  }

  private inst(inst: Inst, i: number, frequency: number): void {
    visitRegisters(inst, (r, role, early) => {
      if (role === "r") return;
      // What is written and not read again is still taken while it is written.
      if (r < FIRST_VIRTUAL) this.defineFixed(r, role === "rw" ? -1 : 2 * i + (early ? 0 : 1), 2 * i + 2);
      else this.define(r - FIRST_VIRTUAL, role === "rw" ? -1 : 2 * i + (early ? 0 : 1), 2 * i + 2);
    });
    this.fixedSet(inst.defs | inst.clobbers, 2 * i + (inst.earlyDefs ? 0 : 1), 2 * i + 2);
    visitRegisters(inst, (r, role, late) => {
      if (role === "w") return;
      const end = late ? 2 * i + 2 : 2 * i + 1;
      if (r < FIRST_VIRTUAL) this.fixedOpen[r] = Math.max(this.fixedOpen[r] as number, end);
      else if (!this.open[r - FIRST_VIRTUAL]) this.open[r - FIRST_VIRTUAL] = end;
      else if ((this.open[r - FIRST_VIRTUAL] as number) < end) this.open[r - FIRST_VIRTUAL] = end;
    });
    for (let r = 0; r < 16; r++)
      if (has(inst.uses, r)) this.fixedOpen[r] = Math.max(this.fixedOpen[r] as number, 2 * i + 1);
    this.record(inst, i, frequency);
  }

  private fixedSet(set: RegSet, start: number, end: number): void {
    for (let r = 0; r < 16; r++) if (has(set, r)) this.defineFixed(r, start, end);
  }

  /** start -1: the register is also read, so it stays live. */
  private define(v: number, start: number, end: number): void {
    if (!this.open[v]) this.open[v] = end;
    if (start >= 0) this.close(v, start);
  }

  private defineFixed(r: Reg, start: number, end: number): void {
    if (!this.fixedOpen[r]) this.fixedOpen[r] = end;
    if (start >= 0) this.closeFixed(r, start);
  }

  private close(v: number, start: number): void {
    addFalling(this.ranges[v] as Segments, start, this.open[v] as number);
    this.open[v] = 0;
  }

  private closeFixed(r: Reg, start: number): void {
    addFalling(this.fixedRanges[r] as Segments, start, this.fixedOpen[r] as number);
    this.fixedOpen[r] = 0;
  }

  private record(inst: Inst, i: number, frequency: number): void {
    visitRegisters(inst, (r, role) => {
      if (r < FIRST_VIRTUAL) return;
      const list = this.uses[r - FIRST_VIRTUAL] as Use[];
      const last = list[list.length - 1];
      if (last?.inst === i) {
        last.reads ||= role !== "w";
        last.writes ||= role !== "r";
      } else list.push({ inst: i, reads: role !== "w", writes: role !== "r", frequency });
    });
  }

  finish(): Liveness {
    return {
      segments: this.ranges.map(rising),
      uses: this.uses.map((list) => list.reverse()),
      fixed: this.fixedRanges.map(rising),
    };
  }
}

function addFalling(list: Segments, start: number, end: number): void {
  // Kept as end, start; reversed as a whole when done.
  const lastStart = list[list.length - 1];
  if (lastStart !== undefined && end >= lastStart) list[list.length - 1] = Math.min(start, lastStart);
  else list.push(end, start);
}

function rising(list: Segments): Segments {
  return list.reverse();
}
