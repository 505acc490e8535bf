/**
 * The allocator. Pieces are taken by size, largest first, and get a free register if there is one;
 * else they push out pieces that matter less; else they are split, and what cannot be placed stays
 * in memory. A piece that belongs to one instruction pushes out anything else, so this ends.
 */

import type { Reg, RegSet } from "../registers.ts";
import { type Bundle, type Line, lengthOf, type Piece, type Segments, Stage, type Use } from "./interval.ts";
import type { Liveness } from "./liveness.ts";
import { Occupancy } from "./occupancy.ts";
import { splitPiece } from "./split.ts";

export interface Problem {
  line: Line;
  live: Liveness;
  bundles: Bundle[];
  /** Registers in order of preference. */
  order: Reg[];
  /** Using one of these for the first time costs a push and a pop. */
  preserved: RegSet;
}

export class Allocator {
  readonly occupancy: Occupancy;
  readonly queue = new PieceQueue();
  /** Instructions one of whose operands is a spill slot. */
  readonly memoryTaken = new Set<number>();
  usedPreserved: RegSet = 0;
  private serial = 0;

  constructor(readonly problem: Problem) {
    this.occupancy = new Occupancy(problem.live.fixed);
  }

  run(): void {
    for (const bundle of new Set(this.problem.bundles)) {
      if (bundle.segments.length > 0) this.enqueue(this.newPiece(bundle, bundle.segments, bundle.uses, Stage.WHOLE));
    }
    for (let piece = this.queue.pop(); piece; piece = this.queue.pop()) this.place(piece);
  }

  newPiece(bundle: Bundle, segments: Segments, uses: Use[], stage: Stage, hint: Reg = -1): Piece {
    const piece: Piece = { bundle, segments, uses, reg: -1, weight: 0, stage, hint, serial: this.serial++ };
    piece.weight = stage === Stage.MINIMAL ? Number.POSITIVE_INFINITY : weightOf(piece);
    bundle.pieces.push(piece);
    return piece;
  }

  enqueue(piece: Piece): void {
    this.queue.push(piece, piece.stage === Stage.MINIMAL ? 0 : lengthOf(piece.segments));
  }

  discard(piece: Piece): void {
    const pieces = piece.bundle.pieces;
    pieces.splice(pieces.indexOf(piece), 1);
  }

  private place(piece: Piece): void {
    const order = this.orderFor(piece);
    const free = order.find((r) => this.occupancy.isFree(r, piece.segments) && this.isWorth(piece, r));
    if (free !== undefined) return this.assign(piece, free);
    const victim = this.cheapestEviction(piece, order);
    if (victim) {
      for (const other of victim.pieces) {
        this.occupancy.remove(other);
        this.enqueue(other);
      }
      return this.assign(piece, victim.reg);
    }
    splitPiece(this, piece);
  }

  private assign(piece: Piece, reg: Reg): void {
    this.occupancy.add(piece, reg);
    this.usedPreserved |= this.problem.preserved & (1 << reg);
  }

  /** Is a register that must be saved first worth it for this piece? */
  private isWorth(piece: Piece, reg: Reg): boolean {
    if (!((this.problem.preserved >> reg) & 1) || (this.usedPreserved >> reg) & 1) return true;
    return piece.stage === Stage.MINIMAL || benefit(piece.uses) > 2;
  }

  /** Wanted registers first: where copies would vanish. */
  private orderFor(piece: Piece): Reg[] {
    const wish = new Map<Reg, number>();
    const add = (reg: Reg, amount: number): void => {
      if (reg >= 0 && this.problem.order.includes(reg)) wish.set(reg, (wish.get(reg) ?? 0) + amount);
    };
    for (const [reg, frequency] of piece.bundle.hints) add(reg, frequency);
    for (const [friend, frequency] of piece.bundle.friends) for (const p of friend.pieces) add(p.reg, frequency);
    for (const sibling of piece.bundle.pieces) if (sibling !== piece) add(sibling.reg, 0.5);
    add(piece.hint, 1);
    if (wish.size === 0) return this.problem.order;
    const wished = [...wish].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([reg]) => reg);
    return [...wished, ...this.problem.order.filter((r) => !wish.has(r))];
  }

  private cheapestEviction(piece: Piece, order: Reg[]): { reg: Reg; pieces: Set<Piece> } | null {
    let best: { reg: Reg; pieces: Set<Piece> } | null = null;
    let bestWeight = piece.weight;
    for (const reg of order) {
      if (this.occupancy.meetsFixed(reg, piece.segments) || !this.isWorth(piece, reg)) continue;
      const pieces = new Set<Piece>();
      let worst = 0;
      this.occupancy.visitConflicts(reg, piece.segments, (other) => {
        pieces.add(other);
        worst = Math.max(worst, other.weight);
        return worst >= bestWeight;
      });
      if (worst < bestWeight) {
        best = { reg, pieces };
        bestWeight = worst;
      }
    }
    return best;
  }
}

export function benefit(uses: Use[]): number {
  let sum = 0;
  for (const use of uses) sum += use.frequency * ((use.reads ? 1 : 0) + (use.writes ? 1 : 0));
  return sum;
}

function weightOf(piece: Piece): number {
  const cost = benefit(piece.uses) * (piece.bundle.remat ? 0.4 : 1);
  return cost / (lengthOf(piece.segments) / 2 + 12);
}

/** Largest first; of equals the one made first. A binary heap. */
class PieceQueue {
  private readonly heap: { piece: Piece; size: number }[] = [];

  push(piece: Piece, size: number): void {
    this.heap.push({ piece, size });
    let i = this.heap.length - 1;
    while (i > 0 && this.before(i, (i - 1) >> 1)) {
      this.swap(i, (i - 1) >> 1);
      i = (i - 1) >> 1;
    }
  }

  pop(): Piece | undefined {
    const top = this.heap[0];
    const last = this.heap.pop();
    if (!top || !last || top === last) return top?.piece;
    this.heap[0] = last;
    for (let i = 0; ; ) {
      let first = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < this.heap.length && this.before(child, first)) first = child;
      if (first === i) return top.piece;
      this.swap(i, first);
      i = first;
    }
  }

  private before(a: number, b: number): boolean {
    const [x, y] = [this.heap[a], this.heap[b]];
    if (!x || !y) return false;
    return x.size !== y.size ? x.size > y.size : x.piece.serial < y.piece.serial;
  }

  private swap(a: number, b: number): void {
    const x = this.heap[a];
    this.heap[a] = this.heap[b] as { piece: Piece; size: number };
    this.heap[b] = x as { piece: Piece; size: number };
  }
}
