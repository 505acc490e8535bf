/** Small improvements once registers are known: see each rule. */

import { type Inst, type MBlock, type MFunc, opInfo } from "./machine.ts";

export function peephole(func: MFunc): void {
  for (const block of func.blocks) zeroByXor(block);
}

/** MOV r, 0 -> XOR r, r, where nobody reads the flags that XOR changes. */
function zeroByXor(block: MBlock): void {
  let flagsLive = false;
  for (let i = block.insts.length - 1; i >= 0; i--) {
    const inst = block.insts[i] as Inst;
    const info = opInfo(inst.op);
    if (info.setsFlags) flagsLive = false;
    if (info.readsFlags) flagsLive = true;
    const [to, value] = inst.operands;
    if (flagsLive || inst.op !== "mov" || to?.kind !== "reg" || value?.kind !== "imm" || value.value !== 0n) continue;
    block.insts[i] = { ...inst, op: "xor", size: 4, operands: [to, to], remat: false };
  }
}
