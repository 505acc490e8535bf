/**
 * Turns the allocation into code: registers for virtual ones, spill slots where operands may be in
 * memory, and moves where a value changes its place, between instructions and on edges.
 */

import { type Inst, type MBlock, mapRegisters, mem, newInst, type Operand, opInfo, reg } from "../machine.ts";
import { FIRST_VIRTUAL, type Reg } from "../registers.ts";
import { isIdentity } from "./coalesce.ts";
import type { Problem } from "./greedy.ts";
import { type Bundle, covers, type Line, overlaps, type Piece } from "./interval.ts";
import { slotOperand } from "./spill.ts";
import { edgeFrequency } from "./split.ts";

interface Move {
  bundle: Bundle;
  from: Piece | null;
  to: Piece | null;
}

type Gaps = Map<number, Move[]>;

export function rewrite(problem: Problem): void {
  new Rewriter(problem).run();
}

class Rewriter {
  private readonly line: Line;
  private readonly gaps: Gaps = new Map();
  private readonly edges: { from: MBlock; to: MBlock; moves: Move[] }[] = [];
  /** Stores that follow definitions, by the number of the instruction after which they stand. */
  private readonly stores = new Map<number, Piece[]>();
  private readonly split: Bundle[];

  constructor(private readonly problem: Problem) {
    this.line = problem.line;
    this.split = [...new Set(problem.bundles)].filter((b) => b.segments.length > 0 && !isWhole(b));
  }

  run(): void {
    for (const bundle of this.split) this.findMoves(bundle);
    this.assignSlots();
    for (const block of this.line.func.blocks) block.insts = this.rewriteBlock(block);
    for (const edge of this.edges) this.placeOnEdge(edge.from, edge.to, edge.moves);
  }

  // ---- Where values change place

  private findMoves(bundle: Bundle): void {
    const moves: { move: Move; gap?: number; from?: MBlock; to?: MBlock; frequency: number }[] = [];
    for (const piece of bundle.pieces) {
      for (let i = 0; i < piece.segments.length; i += 2) {
        const start = piece.segments[i] as number;
        const end = piece.segments[i + 1] as number;
        if (this.isInside(bundle, start))
          moves.push({
            move: { bundle, from: pieceAt(bundle, start - 1), to: piece },
            gap: start,
            frequency: this.frequencyAt(start),
          });
        if (this.isInside(bundle, end) && !pieceAt(bundle, end))
          moves.push({ move: { bundle, from: piece, to: null }, gap: end, frequency: this.frequencyAt(end) });
      }
    }
    for (const to of this.line.func.blocks) {
      const start = (this.line.first.get(to) as number) * 2;
      if (!covers(bundle.segments, start)) continue;
      for (const from of new Set(to.preds)) {
        const move = {
          bundle,
          from: pieceAt(bundle, (this.line.last.get(from) as number) * 2 - 1),
          to: pieceAt(bundle, start),
        };
        moves.push({ move, from, to, frequency: edgeFrequency(from, to) });
      }
    }
    const changing = moves.filter((m) => m.move.from !== m.move.to && !sameRegister(m.move));
    const keep = this.planStores(
      bundle,
      moves.map((m) => m.move),
      changing,
    );
    for (const m of changing) {
      if (!m.move.to && !keep(m.move)) continue;
      if (m.gap !== undefined) this.gaps.set(m.gap, [...(this.gaps.get(m.gap) ?? []), m.move]);
      else this.addToEdge(m.from as MBlock, m.to as MBlock, m.move);
    }
  }

  /** Is `position` between two instructions of a block over which the bundle is live? */
  private isInside(bundle: Bundle, position: number): boolean {
    if (position % 2 !== 0 || !covers(bundle.segments, position) || !covers(bundle.segments, position - 1))
      return false;
    return this.line.blockOf[position >> 1] === this.line.blockOf[(position >> 1) - 1];
  }

  private frequencyAt(position: number): number {
    return this.line.blockOf[position >> 1]?.frequency ?? 1;
  }

  /** Either every definition is followed by a store, or stores stand where the value leaves a register: what runs less often. */
  private planStores(
    bundle: Bundle,
    all: Move[],
    changing: { move: Move; frequency: number }[],
  ): (move: Move) => boolean {
    if (bundle.remat) return () => false;
    const dirty = dirtyPieces(bundle, all);
    const leaving = changing.filter((m) => !m.move.to && m.move.from && dirty.has(m.move.from));
    const definitions = bundle.pieces.flatMap((piece) =>
      piece.uses.filter((u) => u.writes).map((use) => ({ piece, use })),
    );
    const cost = (list: { frequency: number }[]): number => list.reduce((sum, m) => sum + m.frequency, 0);
    const endsEarly = bundle.pieces.some((p) => endsWithinInstruction(bundle, p));
    if (!endsEarly && cost(leaving) <= cost(definitions.map((d) => d.use)))
      return (move) => move.from !== null && dirty.has(move.from);
    for (const { piece, use } of definitions) this.stores.set(use.inst, [...(this.stores.get(use.inst) ?? []), piece]);
    return () => false;
  }

  private addToEdge(from: MBlock, to: MBlock, move: Move): void {
    const known = this.edges.find((e) => e.from === from && e.to === to);
    if (known) known.moves.push(move);
    else this.edges.push({ from, to, moves: [move] });
  }

  // ---- Slots

  /** Bundles that are never live together share a slot. */
  private assignSlots(): void {
    const slots: Bundle[][] = [];
    for (const bundle of this.split) {
      if (bundle.remat) continue;
      let slot = slots.findIndex((list) => !list.some((other) => overlaps(other.segments, bundle.segments)));
      if (slot < 0) slot = slots.push([]) - 1;
      slots[slot]?.push(bundle);
      bundle.slot = slot;
    }
    this.line.func.slots = slots.length;
  }

  // ---- Code

  private rewriteBlock(block: MBlock): Inst[] {
    const out: Inst[] = [];
    const first = this.line.first.get(block) as number;
    const last = this.line.last.get(block) as number;
    for (let i = first; i < last; i++) {
      const moves = this.gaps.get(2 * i);
      if (moves) emitMoves(out, moves);
      const inst = this.line.insts[i] as Inst;
      if (this.isDropped(inst, i)) continue;
      this.rewriteInst(inst, i);
      if (!isNothing(inst)) out.push(inst);
      for (const piece of this.stores.get(i) ?? []) out.push(storeInst(piece));
    }
    return out;
  }

  private bundleOf(r: Reg): Bundle {
    return this.problem.bundles[r - FIRST_VIRTUAL] as Bundle;
  }

  /** A copy of a value to itself, a constant whose register nobody got. */
  private isDropped(inst: Inst, i: number): boolean {
    if (isIdentity(inst, this.problem.bundles)) return true;
    const to = inst.operands[0];
    if (!inst.remat || to?.kind !== "reg" || to.reg < FIRST_VIRTUAL) return false;
    const bundle = this.bundleOf(to.reg);
    return bundle.remat === inst && pieceAt(bundle, 2 * i + 1) === null;
  }

  private rewriteInst(inst: Inst, i: number): void {
    const roles = opInfo(inst.op).roles;
    inst.operands = inst.operands.map((operand, n) => {
      if (operand.kind !== "reg" || operand.reg < FIRST_VIRTUAL) return operand;
      return this.place(inst, operand.reg, roles[n] === "w" ? 2 * i + 1 : 2 * i);
    });
    mapRegisters(inst, (r) => (r < FIRST_VIRTUAL ? r : this.register(r, i)));
  }

  private place(inst: Inst, r: Reg, position: number): Operand {
    const bundle = this.bundleOf(r);
    const piece = pieceAt(bundle, position);
    if (piece) return reg(piece.reg);
    return slotOperand(inst, bundle);
  }

  /** Addresses and operands of inlined text: always in a register, read or written by instruction `i`. */
  private register(r: Reg, i: number): Reg {
    const bundle = this.bundleOf(r);
    const piece = pieceAt(bundle, 2 * i) ?? pieceAt(bundle, 2 * i + 1);
    if (!piece) throw new Error(`${this.line.func.name}: a value has no register where it needs one`);
    return piece.reg;
  }

  private placeOnEdge(from: MBlock, to: MBlock, moves: Move[]): void {
    const out: Inst[] = [];
    emitMoves(out, moves);
    if (from.succs.length === 1) from.insts.splice(terminatorsStart(from), 0, ...out);
    else if (to.preds.length === 1) to.insts.splice(to.insts[0]?.op === "entry" ? 1 : 0, 0, ...out);
    else splitEdge(this.line.func, from, to, out);
  }
}

function terminatorsStart(block: MBlock): number {
  const last = block.insts[block.insts.length - 1];
  return last?.op === "jmp" ? block.insts.length - 1 : block.insts.length;
}

/** A block of its own for what must happen between two blocks. */
function splitEdge(func: Line["func"], from: MBlock, to: MBlock, insts: Inst[]): void {
  const id = func.blocks.reduce((max, b) => Math.max(max, b.id), 0) + 1;
  const jump = newInst("jmp", 8, [], null);
  jump.target = to;
  const block: MBlock = {
    id,
    insts: [...insts, jump],
    preds: [from],
    succs: [to],
    loopDepth: Math.min(from.loopDepth, to.loopDepth),
    frequency: edgeFrequency(from, to),
    label: `.b${id}`,
    cold: false,
  };
  for (const inst of from.insts) if (inst.target === to) inst.target = block;
  for (const table of func.jumpTables)
    if (table.label === from.table) table.targets = table.targets.map((t) => (t === to ? block : t));
  from.succs = from.succs.map((s) => (s === to ? block : s));
  to.preds = to.preds.map((p) => (p === from ? block : p));
  func.blocks.splice(func.blocks.indexOf(from) + 1, 0, block);
}

/** One piece in one register everywhere. */
function isWhole(bundle: Bundle): boolean {
  const only = bundle.pieces[0];
  return bundle.pieces.length === 1 && only !== undefined && only.segments === bundle.segments;
}

function pieceAt(bundle: Bundle, position: number): Piece | null {
  for (const piece of bundle.pieces) if (covers(piece.segments, position)) return piece;
  return null;
}

function sameRegister(move: Move): boolean {
  return move.from !== null && move.to !== null && move.from.reg === move.to.reg;
}

/** Pieces whose value may be newer than the slot's. */
function dirtyPieces(bundle: Bundle, moves: Move[]): Set<Piece> {
  const dirty = new Set(bundle.pieces.filter((p) => p.uses.some((u) => u.writes)));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { from, to } of moves) {
      if (!from || !to || !dirty.has(from) || dirty.has(to)) continue;
      dirty.add(to);
      changed = true;
    }
  }
  return dirty;
}

/** The register is given up before the instruction ends although the value lives on: no place for a store. */
function endsWithinInstruction(bundle: Bundle, piece: Piece): boolean {
  const end = piece.segments[piece.segments.length - 1] as number;
  return end % 2 === 1 && covers(bundle.segments, end);
}

function isNothing(inst: Inst): boolean {
  const [to, from] = inst.operands;
  return inst.op === "mov" && to?.kind === "reg" && from?.kind === "reg" && to.reg === from.reg;
}

// ---- Moves that happen at once

/** Stores first, then register to register, then loads: a slot is never both. */
function emitMoves(out: Inst[], moves: Move[]): void {
  for (const m of moves) if (m.from && !m.to) out.push(storeInst(m.from));
  emitRegisterMoves(
    out,
    moves.filter((m) => m.from && m.to),
  );
  for (const m of moves) if (!m.from && m.to) out.push(loadInst(m.to));
}

function emitRegisterMoves(out: Inst[], moves: Move[]): void {
  let rest = moves.map((m) => ({
    from: (m.from as Piece).reg,
    to: (m.to as Piece).reg,
    size: m.bundle.wide ? (8 as const) : (4 as const),
  }));
  while (rest.length > 0) {
    const next = rest.find((m) => !rest.some((other) => other !== m && other.from === m.to));
    if (next) {
      out.push(newInst("mov", next.size, [reg(next.to), reg(next.from)], null));
      rest = rest.filter((m) => m !== next);
      continue;
    }
    const { from, to } = rest[0] as { from: Reg; to: Reg };
    out.push(newInst("xchg", 8, [reg(to), reg(from)], null));
    // What was in `to` is now in `from`.
    rest = rest.slice(1).map((m) => (m.from === to ? { ...m, from } : m));
    rest = rest.filter((m) => m.from !== m.to);
  }
}

function storeInst(piece: Piece): Inst {
  return newInst("mov", piece.bundle.wide ? 8 : 4, [mem("slot", { disp: piece.bundle.slot }), reg(piece.reg)], null);
}

function loadInst(piece: Piece): Inst {
  const { bundle } = piece;
  if (bundle.remat) {
    const copy = newInst(
      bundle.remat.op,
      bundle.remat.size,
      [reg(piece.reg), bundle.remat.operands[1] as Operand],
      null,
    );
    copy.remat = true;
    return copy;
  }
  return newInst("mov", bundle.wide ? 8 : 4, [reg(piece.reg), mem("slot", { disp: bundle.slot })], null);
}
