/**
 * Where the frame opens. A recursive function often returns at once; what it does until then should
 * not save registers. Blocks from the entry on that need no frame go without one; the prologue stands
 * on the edges that leave them. Only for functions that preserve registers: the others have no pushes,
 * and the table of frames (metal) knows one frame a function.
 */

import { type Inst, isCopy, type MBlock, type MFunc, mapRegisters, newInst, visitRegisters } from "./machine.ts";
import { has, type Reg, type RegSet, setOf } from "./registers.ts";

const RETURN_BLOCK_INSTS = 6;

export function placePrologue(func: MFunc): void {
  const entry = func.blocks[0] as MBlock;
  const bare = func.preserved === 0 ? new Set<MBlock>() : new Shrinker(func).run();
  if (!bare.has(entry)) {
    entry.insts.splice(1, 0, prologueInst());
    return;
  }
  for (const block of bare) for (const inst of block.insts) if (inst.op === "ret") inst.frameless = true;
  openOnEdges(func, bare);
}

function prologueInst(): Inst {
  return newInst("prologue", 8, [], null);
}

function openOnEdges(func: MFunc, bare: Set<MBlock>): void {
  const opened = new Set<MBlock>();
  for (const from of bare) {
    for (const to of from.succs) {
      if (bare.has(to) || opened.has(to)) continue;
      if (to.preds.every((p) => bare.has(p))) {
        to.insts.unshift(prologueInst());
        opened.add(to);
      } else insertOnEdge(func, from, to);
    }
  }
}

function insertOnEdge(func: MFunc, from: MBlock, to: MBlock): void {
  const jump = newInst("jmp", 8, [], null);
  jump.target = to;
  const frequency = Math.min(from.frequency, to.frequency);
  const block = addBlock(func, from, [prologueInst(), jump], frequency);
  redirect(from, to, block);
  block.succs = [to];
  to.preds = to.preds.map((p) => (p === from ? block : p));
}

function addBlock(func: MFunc, after: MBlock, insts: Inst[], frequency: number): MBlock {
  const id = func.blocks.reduce((max, b) => Math.max(max, b.id), 0) + 1;
  const block: MBlock = {
    id,
    insts,
    preds: [after],
    succs: [],
    loopDepth: after.loopDepth,
    frequency,
    label: `.b${id}`,
    cold: false,
  };
  func.blocks.splice(func.blocks.indexOf(after) + 1, 0, block);
  return block;
}

function redirect(from: MBlock, to: MBlock, block: MBlock): void {
  for (const inst of from.insts) if (inst.target === to) inst.target = block;
  from.succs = from.succs.map((s) => (s === to ? block : s));
}

class Shrinker {
  private readonly pushed: RegSet;
  private readonly bare = new Set<MBlock>();

  constructor(private readonly func: MFunc) {
    this.pushed = setOf(...func.frame.pushed);
  }

  run(): Set<MBlock> {
    const work = [this.func.blocks[0] as MBlock];
    for (let block = work.shift(); block; block = work.shift()) {
      if (this.bare.has(block) || !block.preds.every((p) => this.bare.has(p)) || block.table) continue;
      this.copyReturns(block);
      this.sinkCopies(block);
      if (block.insts.some((inst) => this.needsFrame(inst))) continue;
      this.bare.add(block);
      work.push(...block.succs);
    }
    return this.bare;
  }

  private needsFrame(inst: Inst): boolean {
    if (inst.op === "call" || inst.op === "callr" || inst.op === "asm") return true;
    let needs = (inst.defs & this.pushed) !== 0;
    visitRegisters(inst, (r) => {
      if (has(this.pushed, r)) needs = true;
    });
    const usesStack = (form: string): boolean =>
      form === "slot" || form === "in" || form === "out" || form === "scratch";
    return needs || inst.operands.some((o) => o.kind === "mem" && usesStack(o.form));
  }

  /** Gives the block its own copy of a short block that returns and that others reach too. */
  private copyReturns(block: MBlock): void {
    for (const to of [...block.succs]) {
      const last = to.insts[to.insts.length - 1];
      if (to.preds.length < 2 || last?.op !== "ret" || to.insts.length > RETURN_BLOCK_INSTS) continue;
      const copy = addBlock(
        this.func,
        block,
        to.insts.map((inst) => ({ ...inst, operands: [...inst.operands] })),
        Math.min(block.frequency, to.frequency),
      );
      redirect(block, to, copy);
      to.preds = to.preds.filter((p) => p !== block);
    }
  }

  /** MOV saved, argument: the block reads the argument instead, and the copy moves on to where the saved register is needed. */
  private sinkCopies(block: MBlock): void {
    for (let i = 0; i < block.insts.length; i++) {
      const inst = block.insts[i] as Inst;
      const [to, from] = inst.operands;
      if (
        !isCopy(inst) ||
        to?.kind !== "reg" ||
        from?.kind !== "reg" ||
        !has(this.pushed, to.reg) ||
        has(this.pushed, from.reg)
      )
        continue;
      if (this.sink(block, i, to.reg, from.reg)) i--;
    }
  }

  private sink(block: MBlock, at: number, to: Reg, from: Reg): boolean {
    const rest = block.insts.slice(at + 1);
    if (rest.some((inst) => writes(inst, to) || writes(inst, from) || inst.asmOperands)) return false;
    const wanting = block.succs.filter((s) => this.isLiveIn(s, to));
    if (wanting.some((s) => s.preds.length > 1)) return false;
    const copy = block.insts[at] as Inst;
    block.insts.splice(at, 1);
    for (const inst of rest) mapRegisters(inst, (r) => (r === to ? from : r));
    for (const s of wanting) s.insts.unshift({ ...copy, operands: [...copy.operands] });
    return true;
  }

  /** Is the register read from here on before it is written? */
  private isLiveIn(block: MBlock, reg: Reg): boolean {
    const seen = new Set<MBlock>();
    const work = [block];
    for (let at = work.pop(); at; at = work.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      const first = at.insts.find((inst) => reads(inst, reg) || writes(inst, reg));
      if (first && reads(first, reg)) return true;
      if (!first) work.push(...at.succs);
    }
    return false;
  }
}

function reads(inst: Inst, reg: Reg): boolean {
  let found = has(inst.uses, reg);
  visitRegisters(inst, (r, role) => {
    if (r === reg && role !== "w") found = true;
  });
  return found;
}

function writes(inst: Inst, reg: Reg): boolean {
  let found = has(inst.defs | inst.clobbers, reg);
  visitRegisters(inst, (r, role) => {
    if (r === reg && role !== "r") found = true;
  });
  return found;
}
