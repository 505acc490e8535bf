/** Small improvements once registers are known; each rule is a function. Flags never live across blocks. */

import {
  type Cond,
  fitsImm,
  type Inst,
  imm,
  isCopy,
  type MBlock,
  type MemOperand,
  type MFunc,
  opInfo,
} from "./machine.ts";
import { NONE, type Reg, RSP } from "./registers.ts";

export function peephole(func: MFunc): void {
  for (const block of func.blocks) {
    moveAndAddToLea(block);
    leaToAdd(block);
    dropTests(block);
    zeroByXor(block);
  }
}

/** For each instruction: does somebody after it read flags that it, or one before it, set? */
function flagsLiveAfter(block: MBlock): boolean[] {
  const live: boolean[] = [];
  let now = false;
  for (let i = block.insts.length - 1; i >= 0; i--) {
    live[i] = now;
    const info = opInfo((block.insts[i] as Inst).op);
    if (info.setsFlags) now = false;
    if (info.readsFlags) now = true;
  }
  return live;
}

/** MOV a, b; ADD a, c -> LEA a, [b + c]: one instruction, and b stays. */
function moveAndAddToLea(block: MBlock): void {
  const live = flagsLiveAfter(block);
  for (let i = 0; i + 1 < block.insts.length; i++) {
    const move = block.insts[i] as Inst;
    const add = block.insts[i + 1] as Inst;
    if (!isCopy(move) || live[i + 1]) continue;
    const address = sumOperand(registerOf(move, 0), registerOf(move, 1), add);
    if (!address || (move.size === 4 && add.size === 8)) continue;
    block.insts.splice(i, 2, { ...add, op: "lea", operands: [{ kind: "reg", reg: registerOf(move, 0) }, address] });
    live.splice(i, 1);
  }
}

function registerOf(inst: Inst, i: number): Reg {
  const operand = inst.operands[i];
  return operand?.kind === "reg" ? operand.reg : NONE;
}

/** The address that `add to, x` computes when `to` was copied from `from`. */
function sumOperand(to: Reg, from: Reg, add: Inst): MemOperand | null {
  if (registerOf(add, 0) !== to || add.size < 4) return null;
  const second = add.operands[1];
  const address = (index: Reg, disp: bigint): MemOperand => ({
    kind: "mem",
    form: "host",
    base: from,
    index,
    scale: 1,
    disp: Number(disp),
  });
  if (add.op === "shl" && second?.kind === "imm" && second.value === 1n) return address(from, 0n);
  if (add.op === "add" && second?.kind === "reg") return address(second.reg === to ? from : second.reg, 0n);
  if (second?.kind !== "imm" || !fitsImm(-second.value, 8) || !fitsImm(second.value, 8)) return null;
  if (add.op === "add") return address(NONE, BigInt.asIntN(32, second.value));
  return add.op === "sub" ? address(NONE, BigInt.asIntN(32, -second.value)) : null;
}

/** LEA r, [r + x] -> ADD r, x where flags are free: shorter, and it may save a TEST. */
function leaToAdd(block: MBlock): void {
  const live = flagsLiveAfter(block);
  block.insts.forEach((inst, i) => {
    const [to, from] = inst.operands;
    if (inst.op !== "lea" || live[i] || to?.kind !== "reg" || from?.kind !== "mem" || from.form !== "host") return;
    const other = otherAddend(to.reg, from);
    if (other === null) return;
    const source = other === NONE ? imm(from.disp) : ({ kind: "reg", reg: other } as const);
    block.insts[i] = { ...inst, op: "add", operands: [to, source] };
  });
}

/** What is added to `reg` by the address; NONE: the displacement; null: it is no such sum. */
function otherAddend(reg: Reg, m: MemOperand): Reg | null {
  if (m.base === reg && m.index === NONE) return NONE;
  if (m.disp !== 0 || m.scale !== 1 || m.index === NONE || m.base === NONE) return null;
  if (m.base === reg) return m.index;
  return m.index === reg ? m.base : null;
}

const RESULT_CONDITIONS: ReadonlySet<Cond> = new Set(["e", "ne", "s", "ns"]);

/** TEST r, r right after an instruction that left the flags of r. */
function dropTests(block: MBlock): void {
  for (let i = block.insts.length - 1; i > 0; i--) {
    const test = block.insts[i] as Inst;
    const reg = registerOf(test, 0);
    if (test.op !== "test" || reg === NONE || registerOf(test, 1) !== reg) continue;
    const maker = flagMaker(block, i, reg, test.size);
    if (maker && readers(block, i).every((c) => RESULT_CONDITIONS.has(c) || isLogic(maker))) block.insts.splice(i, 1);
  }
}

function isLogic(inst: Inst): boolean {
  return inst.op === "and" || inst.op === "or" || inst.op === "xor";
}

/** ZF and SF are those of the result. A shift by none, as its count is masked, leaves all flags as they were. */
function leavesResult(inst: Inst): boolean {
  if (opInfo(inst.op).resultFlags) return true;
  if (inst.op !== "shl" && inst.op !== "shr" && inst.op !== "sar") return false;
  const count = inst.operands[1];
  return count?.kind === "imm" && (count.value & (inst.size === 8 ? 63n : 31n)) !== 0n;
}

/** The instruction before `i` that set the flags by the value of `reg`, if nothing in between touches either. */
function flagMaker(block: MBlock, i: number, reg: Reg, size: number): Inst | null {
  for (let j = i - 1; j >= 0; j--) {
    const inst = block.insts[j] as Inst;
    if (leavesResult(inst) && inst.size === size && registerOf(inst, 0) === reg) return inst;
    const isPlainMove = (inst.op === "mov" || inst.op === "movzx" || inst.op === "lea") && registerOf(inst, 0) !== reg;
    if (!isPlainMove) return null;
  }
  return null;
}

/** Conditions read after instruction `i`, until flags are set again. */
function readers(block: MBlock, i: number): Cond[] {
  const list: Cond[] = [];
  for (const inst of block.insts.slice(i + 1)) {
    const info = opInfo(inst.op);
    if (info.readsFlags) list.push(inst.cond ?? "b");
    if (info.setsFlags) break;
  }
  return list;
}

/** MOV r, 0 -> XOR r, r, where nobody reads the flags that XOR changes. */
function zeroByXor(block: MBlock): void {
  const live = flagsLiveAfter(block);
  block.insts.forEach((inst, i) => {
    const [to, value] = inst.operands;
    if (
      live[i] ||
      inst.op !== "mov" ||
      to?.kind !== "reg" ||
      to.reg === RSP ||
      value?.kind !== "imm" ||
      value.value !== 0n
    )
      return;
    block.insts[i] = { ...inst, op: "xor", size: 4, operands: [to, to], remat: false };
  });
}
