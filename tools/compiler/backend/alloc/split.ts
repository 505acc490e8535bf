/**
 * Splitting. A piece that found no register is cut, first into the blocks where some register is
 * free for it and the rest, then into single blocks, then into runs of uses within a block, at last
 * into single instructions. What lies between the parts is in memory.
 */

import type { Inst, MBlock, Operand, RegOperand } from "../machine.ts";
import type { Reg } from "../registers.ts";
import { FIRST_VIRTUAL } from "../registers.ts";
import { type Allocator, benefit } from "./greedy.ts";
import { clip, type Piece, type Segments, Stage, type Use } from "./interval.ts";
import { canUseSlot } from "./spill.ts";

export function splitPiece(allocator: Allocator, piece: Piece): void {
  allocator.discard(piece);
  const parts = partsByBlock(allocator, piece);
  if (piece.stage === Stage.WHOLE && parts.length > 1 && splitByRegion(allocator, piece, parts)) return;
  if (piece.stage <= Stage.REGION && parts.length > 1) return splitByBlock(allocator, piece, parts);
  splitWithinBlock(allocator, piece);
}

/** What of a piece lies in one block. */
interface Part {
  block: MBlock;
  segments: Segments;
  uses: Use[];
}

function partsByBlock(allocator: Allocator, piece: Piece): Part[] {
  const { line } = allocator.problem;
  const parts: Part[] = [];
  let useIndex = 0;
  for (let i = 0; i < piece.segments.length; i += 2) {
    const end = piece.segments[i + 1] as number;
    for (let at = piece.segments[i] as number; at < end; ) {
      const block = line.blockOf[at >> 1] as MBlock;
      const blockEnd = (line.last.get(block) as number) * 2;
      let part = parts[parts.length - 1];
      if (part?.block !== block) {
        part = { block, segments: [], uses: [] };
        parts.push(part);
      }
      part.segments.push(at, Math.min(end, blockEnd));
      at = blockEnd;
    }
  }
  for (const part of parts) {
    const last = line.last.get(part.block) as number;
    while (useIndex < piece.uses.length && (piece.uses[useIndex] as Use).inst < last)
      part.uses.push(piece.uses[useIndex++] as Use);
  }
  return parts;
}

// ---- By region

interface Region {
  reg: Reg;
  inside: Set<Part>;
  gain: number;
}

function splitByRegion(allocator: Allocator, piece: Piece, parts: Part[]): boolean {
  const edges = liveEdges(allocator, parts);
  const touching = edgesByPart(edges);
  let best: Region | null = null;
  for (const reg of allocator.problem.order) {
    const region = regionFor(allocator, piece, parts, edges, touching, reg);
    if (region && region.gain > (best?.gain ?? 0)) best = region;
  }
  if (!best || best.inside.size === parts.length) return false;
  const inside = best.inside;
  make(
    allocator,
    piece,
    parts.filter((p) => inside.has(p)),
    Stage.WHOLE,
    best.reg,
  );
  make(
    allocator,
    piece,
    parts.filter((p) => !inside.has(p)),
    Stage.WHOLE,
  );
  return true;
}

function make(allocator: Allocator, piece: Piece, parts: Part[], stage: Stage, hint: Reg = -1): void {
  if (parts.length === 0) return;
  const segments = joinTouching(parts.flatMap((p) => p.segments));
  const uses = parts.flatMap((p) => p.uses);
  if (uses.length === 0) return;
  allocator.enqueue(allocator.newPiece(piece.bundle, segments, uses, stage, hint));
}

function joinTouching(segments: Segments): Segments {
  const out: Segments = [];
  for (let i = 0; i < segments.length; i += 2) {
    if (out.length > 0 && out[out.length - 1] === segments[i]) out[out.length - 1] = segments[i + 1] as number;
    else out.push(segments[i] as number, segments[i + 1] as number);
  }
  return out;
}

interface Edge {
  from: Part;
  to: Part;
  cost: number;
}

/** Edges over which the value is live, with what a move there would cost. */
function liveEdges(allocator: Allocator, parts: Part[]): Edge[] {
  const { line } = allocator.problem;
  const byBlock = new Map(parts.map((p) => [p.block, p]));
  const edges: Edge[] = [];
  for (const to of parts) {
    if (to.segments[0] !== (line.first.get(to.block) as number) * 2) continue;
    for (const pred of to.block.preds) {
      const from = byBlock.get(pred);
      if (!from || from.segments[from.segments.length - 1] !== (line.last.get(pred) as number) * 2) continue;
      edges.push({ from, to, cost: edgeFrequency(pred, to.block) });
    }
  }
  return edges;
}

/** The edges that begin or end at each part. */
function edgesByPart(edges: Edge[]): Map<Part, Edge[]> {
  const touching = new Map<Part, Edge[]>();
  for (const edge of edges) {
    for (const part of edge.from === edge.to ? [edge.from] : [edge.from, edge.to]) {
      const list = touching.get(part);
      if (list) list.push(edge);
      else touching.set(part, [edge]);
    }
  }
  return touching;
}

export function edgeFrequency(from: MBlock, to: MBlock): number {
  if (from.succs.length === 1) return from.frequency;
  if (to.preds.length === 1) return to.frequency;
  return Math.min(from.frequency, to.frequency) / 2;
}

/**
 * The set of blocks in which `reg` serves, chosen so that saved memory accesses outweigh the moves
 * on its borders: starts with every free block and improves one block at a time.
 */
function regionFor(
  allocator: Allocator,
  piece: Piece,
  parts: Part[],
  edges: Edge[],
  touching: Map<Part, Edge[]>,
  reg: Reg,
): Region | null {
  const open = new Set(parts.filter((p) => !isBlocked(allocator, piece, p.segments, reg)));
  if (open.size === 0) return null;
  const scale = piece.bundle.remat ? 0.4 : 1;
  const inside = new Set(open);
  for (let round = 0, changed = true; changed && round < 8; round++) {
    changed = false;
    for (const part of open) {
      const wanted = pull(part, inside, touching.get(part) ?? NO_EDGES) * scale + benefit(part.uses) * scale > 0;
      if (wanted === inside.has(part)) continue;
      if (wanted) inside.add(part);
      else inside.delete(part);
      changed = true;
    }
  }
  let gain = 0;
  for (const part of inside) gain += benefit(part.uses) * scale;
  for (const e of edges) if (inside.has(e.from) !== inside.has(e.to)) gain -= e.cost * scale;
  return inside.size > 0 ? { reg, inside, gain } : null;
}

const NO_EDGES: Edge[] = [];

/** What the neighbours say: positive if moves fall away when the part is inside. */
function pull(part: Part, inside: Set<Part>, edges: Edge[]): number {
  let sum = 0;
  for (const e of edges) {
    const other = e.from === part ? e.to : e.from;
    if (other !== part) sum += inside.has(other) ? e.cost : -e.cost;
  }
  return sum;
}

function isBlocked(allocator: Allocator, piece: Piece, segments: Segments, reg: Reg): boolean {
  if (allocator.occupancy.meetsFixed(reg, segments)) return true;
  let blocked = false;
  allocator.occupancy.visitConflicts(reg, segments, (other) => {
    blocked = other.weight >= piece.weight;
    return blocked;
  });
  return blocked;
}

// ---- By block and within

function splitByBlock(allocator: Allocator, piece: Piece, parts: Part[]): void {
  for (const part of parts) make(allocator, piece, [part], Stage.BLOCK);
}

function splitWithinBlock(allocator: Allocator, piece: Piece): void {
  const uses = piece.uses.filter((u) => !isMaker(allocator, piece, u));
  const run = uses.length > 1 ? longestRun(allocator, piece, uses) : null;
  if (!run) {
    for (const use of uses) minimal(allocator, piece, use);
    return;
  }
  makeRun(allocator, piece, uses.slice(0, run.from));
  makeRun(allocator, piece, uses.slice(run.from, run.to + 1), run.reg);
  makeRun(allocator, piece, uses.slice(run.to + 1));
}

/** What can be made anywhere is not made where nobody reads it from a register. */
function isMaker(allocator: Allocator, piece: Piece, use: Use): boolean {
  return piece.bundle.remat !== null && allocator.problem.line.insts[use.inst] === piece.bundle.remat;
}

function makeRun(allocator: Allocator, piece: Piece, uses: Use[], hint: Reg = -1): void {
  if (uses.length === 0) return;
  if (uses.length === 1) return minimal(allocator, piece, uses[0] as Use);
  const segments = clip(piece.segments, startOf(uses[0] as Use), endOf(uses[uses.length - 1] as Use));
  allocator.enqueue(allocator.newPiece(piece.bundle, segments, uses, Stage.BLOCK, hint));
}

function minimal(allocator: Allocator, piece: Piece, use: Use): void {
  if (staysInMemory(allocator, piece, use)) return;
  const inst = allocator.problem.line.insts[use.inst] as Inst;
  // A register that is only read is free again before the instruction changes others.
  const frees = !use.writes && (inst.clobbers | inst.defs) !== 0 && !inst.earlyDefs;
  const segments = clip(piece.segments, startOf(use), 2 * use.inst + (frees ? 1 : 2));
  allocator.enqueue(allocator.newPiece(piece.bundle, segments, [use], Stage.MINIMAL));
}

function startOf(use: Use): number {
  return 2 * use.inst;
}

/** Parts end between instructions, so that a move can stand there. */
function endOf(use: Use): number {
  return 2 * use.inst + 2;
}

/** The most uses in a row over which one register is free, or held by what matters less; shorter than all of them. */
function longestRun(allocator: Allocator, piece: Piece, uses: Use[]): { from: number; to: number; reg: Reg } | null {
  let best: { from: number; to: number; reg: Reg; gain: number } | null = null;
  for (const reg of allocator.problem.order) {
    for (let from = 0; from < uses.length - 1; ) {
      let to = from;
      while (to + 1 < uses.length && !isBlocked(allocator, piece, between(piece, uses, from, to + 1), reg)) to++;
      const gain = runGain(allocator, piece, uses.slice(from, to + 1));
      const whole = from === 0 && to === uses.length - 1;
      if (to > from && !whole && gain > (best?.gain ?? 0)) best = { from, to, reg, gain };
      if (whole && gain > 0 && shrinks(piece, uses)) return { from, to, reg };
      from = to + 1;
    }
  }
  return best;
}

/** Accesses that the register saves, less the one that fills it. */
function runGain(allocator: Allocator, piece: Piece, uses: Use[]): number {
  const { line } = allocator.problem;
  const cost = (u: Use): number =>
    (u.writes ? 1 : canUseSlotCheaply(line.insts[u.inst] as Inst) ? 0.4 : 1) * u.frequency;
  return uses.reduce((sum, u) => sum + cost(u), 0) - (uses[0] as Use).frequency * 0.9 * (piece.bundle.remat ? 0.4 : 1);
}

/** Reading the slot as an operand costs hardly more than a register would. */
function canUseSlotCheaply(inst: Inst): boolean {
  return inst.op !== "lea" && inst.op !== "asm" && !inst.operands.some((o) => o.kind === "mem");
}

function between(piece: Piece, uses: Use[], from: number, to: number): Segments {
  return clip(piece.segments, startOf(uses[from] as Use), endOf(uses[to] as Use));
}

/** Are the uses closer together than the piece is long? */
function shrinks(piece: Piece, uses: Use[]): boolean {
  const first = piece.segments[0] as number;
  const last = piece.segments[piece.segments.length - 1] as number;
  return startOf(uses[0] as Use) > first || endOf(uses[uses.length - 1] as Use) < last;
}

/** The instruction works on the spill slot, where a register would need a load or a store of its own. */
function staysInMemory(allocator: Allocator, piece: Piece, use: Use): boolean {
  const { line, bundles } = allocator.problem;
  const inst = line.insts[use.inst] as Inst;
  if (allocator.memoryTaken.has(use.inst)) return false;
  const isMine = (o: Operand): o is RegOperand =>
    o.kind === "reg" && o.reg >= FIRST_VIRTUAL && bundles[o.reg - FIRST_VIRTUAL] === piece.bundle;
  const mine = inst.operands.filter(isMine);
  if (mine.length !== 1 || !canUseSlot(inst, (mine[0] as RegOperand).reg, piece.bundle)) return false;
  if (!piece.bundle.remat) allocator.memoryTaken.add(use.inst);
  return true;
}
