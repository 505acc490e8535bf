/**
 * Where values live. Instruction number i (over all blocks in order) has two positions: 2i, where
 * operands are read, and 2i+1, where results are written. A live range is a sorted list of half-open
 * segments of positions.
 */

import type { Inst, MBlock, MFunc } from "../machine.ts";
import type { Reg } from "../registers.ts";

/** start, end, start, end ... */
export type Segments = number[];

export interface Use {
  /** Number of the instruction. */
  inst: number;
  reads: boolean;
  writes: boolean;
  frequency: number;
}

/** All positions at which one value (after coalescing: several registers) is live. */
export interface Bundle {
  id: number;
  segments: Segments;
  uses: Use[];
  wide: boolean;
  /** The one instruction that makes it, if it can be made anywhere. */
  remat: Inst | null;
  pieces: Piece[];
  /** Spill slot; -1: none yet. */
  slot: number;
  /** Machine registers that copies connect it with, and other bundles, each with its frequency. */
  hints: Map<Reg, number>;
  friends: Map<Bundle, number>;
}

/** A part of a bundle that wants one register. What no piece covers is in memory. */
export interface Piece {
  bundle: Bundle;
  segments: Segments;
  uses: Use[];
  /** -1: none. */
  reg: Reg;
  weight: number;
  stage: Stage;
  hint: Reg;
  /** Number of pieces made before it: makes the order total. */
  serial: number;
}

/** WHOLE may be split by regions, REGION into blocks, BLOCK within one, MINIMAL belongs to one instruction. */
export const enum Stage {
  WHOLE = 0,
  REGION = 1,
  BLOCK = 2,
  MINIMAL = 3,
}

/** The function as one line of instructions. */
export interface Line {
  func: MFunc;
  insts: Inst[];
  /** Of each instruction. */
  blockOf: MBlock[];
  /** Of each block: number of its first instruction and of the one after its last. */
  first: Map<MBlock, number>;
  last: Map<MBlock, number>;
}

export function lineUp(func: MFunc): Line {
  const line: Line = { func, insts: [], blockOf: [], first: new Map(), last: new Map() };
  for (const block of func.blocks) {
    line.first.set(block, line.insts.length);
    for (const inst of block.insts) {
      line.insts.push(inst);
      line.blockOf.push(block);
    }
    line.last.set(block, line.insts.length);
  }
  return line;
}

export function overlaps(a: Segments, b: Segments): boolean {
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if ((a[i + 1] as number) <= (b[j] as number)) i += 2;
    else if ((b[j + 1] as number) <= (a[i] as number)) j += 2;
    else return true;
  }
  return false;
}

/** Union of two lists that do not overlap; touching segments join. */
export function merged(a: Segments, b: Segments): Segments {
  const out: Segments = [];
  const push = (start: number, end: number): void => {
    if (out.length > 0 && out[out.length - 1] === start) out[out.length - 1] = end;
    else out.push(start, end);
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (j >= b.length || (i < a.length && (a[i] as number) < (b[j] as number))) {
      push(a[i] as number, a[i + 1] as number);
      i += 2;
    } else {
      push(b[j] as number, b[j + 1] as number);
      j += 2;
    }
  }
  return out;
}

/** The part of `segments` within [from, to). */
export function clip(segments: Segments, from: number, to: number): Segments {
  const out: Segments = [];
  for (let i = firstEndingAfter(segments, from); i < segments.length; i += 2) {
    const start = Math.max(segments[i] as number, from);
    const end = Math.min(segments[i + 1] as number, to);
    if (start >= to) break;
    if (start < end) out.push(start, end);
  }
  return out;
}

/** Index of the first segment that ends after `position`. */
export function firstEndingAfter(segments: Segments, position: number): number {
  let low = 0;
  let high = segments.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((segments[middle * 2 + 1] as number) > position) high = middle;
    else low = middle + 1;
  }
  return low * 2;
}

export function covers(segments: Segments, position: number): boolean {
  const i = firstEndingAfter(segments, position);
  return i < segments.length && (segments[i] as number) <= position;
}

export function lengthOf(segments: Segments): number {
  let sum = 0;
  for (let i = 0; i < segments.length; i += 2) sum += (segments[i + 1] as number) - (segments[i] as number);
  return sum;
}
