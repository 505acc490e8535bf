/**
 * Spill slots after allocation: a load of what a register still holds becomes a move, a store of
 * what the slot holds already goes, and so does a store that no load reads.
 */

import { type Inst, type MBlock, type MFunc, memoryOperand, type Operand, opInfo } from "./machine.ts";
import type { Reg } from "./registers.ts";

export function cleanSlots(func: MFunc): void {
  if (func.slots === 0) return;
  for (const block of func.blocks) forward(block);
  dropDeadStores(func);
}

/** Which register holds a slot's value, within a block. */
class Known {
  private readonly bySlot = new Map<number, { reg: Reg; size: number }>();

  reg(slot: number, size: number): Reg | null {
    const entry = this.bySlot.get(slot);
    return entry && entry.size === size ? entry.reg : null;
  }

  set(slot: number, reg: Reg, size: number): void {
    this.bySlot.set(slot, { reg, size });
  }

  forgetSlot(slot: number): void {
    this.bySlot.delete(slot);
  }

  forgetRegister(reg: Reg): void {
    for (const [slot, entry] of this.bySlot) if (entry.reg === reg) this.bySlot.delete(slot);
  }
}

function forward(block: MBlock): void {
  const known = new Known();
  const out: Inst[] = [];
  for (const inst of block.insts) {
    const store = slotStore(inst);
    if (store && known.reg(store.slot, inst.size) === store.reg) continue;
    replaceLoad(inst, known);
    const isNothing = inst.op === "mov" && sameRegister(inst.operands[0], inst.operands[1]) && inst.size === 8;
    if (!isNothing) out.push(inst);
    forgetWritten(inst, known);
    if (store) known.set(store.slot, store.reg, inst.size);
    const load = slotLoad(inst);
    if (load) known.set(load.slot, load.reg, inst.size);
  }
  block.insts = out;
}

function sameRegister(a: Operand | undefined, b: Operand | undefined): boolean {
  return a?.kind === "reg" && b?.kind === "reg" && a.reg === b.reg;
}

function slotStore(inst: Inst): { slot: number; reg: Reg } | null {
  const [to, from] = inst.operands;
  if (inst.op !== "mov" || to?.kind !== "mem" || to.form !== "slot" || from?.kind !== "reg") return null;
  return { slot: to.disp, reg: from.reg };
}

function slotLoad(inst: Inst): { slot: number; reg: Reg } | null {
  const [to, from] = inst.operands;
  if (inst.op !== "mov" || from?.kind !== "mem" || from.form !== "slot" || to?.kind !== "reg") return null;
  return { slot: from.disp, reg: to.reg };
}

/** A slot that is read, and only read, becomes the register that holds the same. */
function replaceLoad(inst: Inst, known: Known): void {
  const roles = opInfo(inst.op).roles;
  inst.operands = inst.operands.map((operand, i) => {
    if (operand.kind !== "mem" || operand.form !== "slot" || roles[i] !== "r" || inst.sourceSize) return operand;
    const reg = known.reg(operand.disp, inst.size);
    return reg === null ? operand : { kind: "reg", reg };
  });
}

function forgetWritten(inst: Inst, known: Known): void {
  const roles = opInfo(inst.op).roles;
  inst.operands.forEach((operand, i) => {
    if (roles[i] === "r") return;
    if (operand.kind === "reg") known.forgetRegister(operand.reg);
    if (operand.kind === "mem" && operand.form === "slot") known.forgetSlot(operand.disp);
  });
  for (const a of inst.asmOperands ?? [])
    if (a.operand.kind === "reg" && (a.role === "w" || a.role === "early")) known.forgetRegister(a.operand.reg);
  for (let reg = 0; reg < 16; reg++) if (((inst.defs | inst.clobbers) >> reg) & 1) known.forgetRegister(reg);
}

/** Backward liveness of slots over the whole function. */
function dropDeadStores(func: MFunc): void {
  const liveIn = new Map<MBlock, Set<number>>(func.blocks.map((b) => [b, new Set()]));
  const after = (block: MBlock): Set<number> =>
    new Set(block.succs.flatMap((s) => [...(liveIn.get(s) as Set<number>)]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of [...func.blocks].reverse()) {
      const live = after(block);
      for (let i = block.insts.length - 1; i >= 0; i--) step(block.insts[i] as Inst, live);
      if (live.size === liveIn.get(block)?.size) continue;
      liveIn.set(block, live);
      changed = true;
    }
  }
  for (const block of func.blocks) {
    const live = after(block);
    const kept: Inst[] = [];
    for (let i = block.insts.length - 1; i >= 0; i--) {
      const inst = block.insts[i] as Inst;
      const store = slotStore(inst);
      if (store && !live.has(store.slot)) continue;
      step(inst, live);
      kept.push(inst);
    }
    block.insts = kept.reverse();
  }
}

function step(inst: Inst, live: Set<number>): void {
  const memory = memoryOperand(inst);
  if (memory?.form !== "slot") return;
  if (inst.op === "mov" && inst.operands[0] === memory) live.delete(memory.disp);
  else live.add(memory.disp);
}
