/** For each machine register, the pieces and fixed uses that hold it, in order of position. */

import { ALLOCATABLE, members, type Reg } from "../registers.ts";
import { firstEndingAfter, overlaps, type Piece, type Segments } from "./interval.ts";

interface Slot {
  start: number;
  end: number;
  piece: Piece;
}

export class Occupancy {
  private readonly taken: Slot[][] = Array.from({ length: 16 }, () => []);

  constructor(private readonly fixed: Segments[]) {}

  /** Is the register taken by something that cannot move? */
  meetsFixed(reg: Reg, segments: Segments): boolean {
    return overlaps(this.fixed[reg] as Segments, segments);
  }

  isFixedWithin(reg: Reg, from: number, to: number): boolean {
    const list = this.fixed[reg] as Segments;
    const i = firstEndingAfter(list, from);
    return i < list.length && (list[i] as number) < to;
  }

  /** Pieces in `reg` that are live where `segments` are; stops at the first for which `enough` says so. */
  visitConflicts(reg: Reg, segments: Segments, visit: (piece: Piece, start: number, end: number) => boolean): void {
    const list = this.taken[reg] as Slot[];
    let at = firstSlotEndingAfter(list, segments[0] ?? 0);
    for (let i = 0; i < segments.length; i += 2) {
      const start = segments[i] as number;
      const end = segments[i + 1] as number;
      while (at < list.length && (list[at] as Slot).end <= start) at++;
      for (let j = at; j < list.length && (list[j] as Slot).start < end; j++) {
        const slot = list[j] as Slot;
        if (visit(slot.piece, Math.max(start, slot.start), Math.min(end, slot.end))) return;
      }
    }
  }

  isFree(reg: Reg, segments: Segments): boolean {
    if (this.meetsFixed(reg, segments)) return false;
    let free = true;
    this.visitConflicts(reg, segments, () => {
      free = false;
      return true;
    });
    return free;
  }

  add(piece: Piece, reg: Reg): void {
    piece.reg = reg;
    const list = this.taken[reg] as Slot[];
    for (let i = 0; i < piece.segments.length; i += 2) {
      const start = piece.segments[i] as number;
      list.splice(firstSlotEndingAfter(list, start), 0, { start, end: piece.segments[i + 1] as number, piece });
    }
  }

  remove(piece: Piece): void {
    const list = this.taken[piece.reg] as Slot[];
    for (let i = 0; i < piece.segments.length; i += 2) {
      const at = firstSlotEndingAfter(list, piece.segments[i] as number);
      list.splice(at, 1);
    }
    piece.reg = -1;
  }

  /** Registers in the order in which to try them. */
  static readonly all: Reg[] = members(ALLOCATABLE);
}

function firstSlotEndingAfter(list: Slot[], position: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as Slot).end > position) high = middle;
    else low = middle + 1;
  }
  return low;
}
