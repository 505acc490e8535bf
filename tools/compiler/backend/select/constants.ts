/**
 * Constants that need a register. One register holds a constant for a whole function, defined where
 * it runs least often; the allocator makes it again nearer to its uses when registers are short.
 */

import type { Block, Value } from "../../ir.ts";
import { dominates } from "../flow.ts";
import { type Inst, imm, type MBlock, newInst, type RegOperand } from "../machine.ts";
import type { Size } from "../registers.ts";
import { constantOf, fitsImm32, type Selector } from "../select.ts";

interface Entry {
  value: bigint;
  size: Size;
  register: RegOperand;
  blocks: Set<Block>;
}

export class ConstantPool {
  private readonly entries = new Map<string, Entry>();

  constructor(private readonly s: Selector) {}

  register(v: Value): RegOperand {
    return this.number(constantOf(v) as bigint, v.type === "i64");
  }

  /** `value`, sign-extended to 64 bits if `wide`. */
  number(value: bigint, wide: boolean): RegOperand {
    const inLoop = (this.s.flow.depth.get(this.s.block) ?? 0) > 0;
    if (fitsImm32(value) && !inLoop) return this.local(value, wide);
    return this.shared(value, wide ? 8 : 4);
  }

  private local(value: bigint, wide: boolean): RegOperand {
    const t = this.s.temp(wide);
    this.s.constant(t, value, wide ? 8 : 4);
    return t;
  }

  private shared(value: bigint, size: Size): RegOperand {
    const key = `${size}:${value}`;
    let entry = this.entries.get(key);
    if (!entry) {
      entry = { value, size, register: this.s.temp(size === 8), blocks: new Set() };
      this.entries.set(key, entry);
    }
    entry.blocks.add(this.s.block);
    return entry.register;
  }

  /** Puts each shared constant into the nearest block above all its uses, and out of loops. */
  place(): void {
    for (const entry of this.entries.values()) {
      const block = this.bestBlock([...entry.blocks]);
      const machine = this.s.blockOf.get(block) as MBlock;
      const inst: Inst = newInst("mov", entry.size, [entry.register, imm(entry.value)], null);
      inst.remat = true;
      // Arguments leave their registers first; later blocks have nothing before their first instruction.
      const at = machine.insts[0]?.op === "entry" ? machine.insts.findIndex((i) => !isArrival(i)) : 0;
      machine.insts.splice(at, 0, inst);
    }
  }

  private bestBlock(blocks: Block[]): Block {
    const { idom, frequency } = this.s.flow;
    let block = blocks.reduce((a, b) => {
      let common = a;
      while (!dominates(idom, common, b)) common = idom.get(common) as Block;
      return common;
    });
    for (let up = block; up !== idom.get(up); ) {
      up = idom.get(up) as Block;
      if ((frequency.get(up) as number) < (frequency.get(block) as number)) block = up;
    }
    return block;
  }
}

/** entry, and the copies out of argument registers. */
function isArrival(inst: Inst): boolean {
  if (inst.op === "entry") return true;
  const from = inst.operands[1];
  return inst.op === "mov" && ((from?.kind === "reg" && from.reg < 16) || (from?.kind === "mem" && from.form === "in"));
}
