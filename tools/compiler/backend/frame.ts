/**
 * Stack frames. RSP moves in the prologue and the epilogue only, so the function's row in the table
 * (bytes between RSP and the return address) is all that a backtrace needs.
 *
 *   RSP + 0                 outgoing arguments and results beyond registers
 *       + outgoing          scratch of intrinsics, 16 bytes
 *       + ...               spill slots
 *       + bytes             saved registers, the return address
 *       + bytes + pushed    incoming arguments
 */

import { type Frame, type MemOperand, type MFunc, opInfo } from "./machine.ts";
import { members, type Reg, type RegSet, RSP, registerName, setOf } from "./registers.ts";

const SCRATCH_BYTES = 16;
const PAGE_BYTES = 4096;

/** Every register that the code of the function writes, by itself or through calls. */
export function writtenRegisters(func: MFunc): RegSet {
  let set = 0;
  const add = (r: Reg): void => {
    if (r >= 0 && r < 16) set |= 1 << r;
  };
  for (const block of func.blocks) {
    for (const inst of block.insts) {
      if (inst.op === "entry") continue;
      set |= inst.defs | inst.clobbers;
      const roles = opInfo(inst.op).roles;
      inst.operands.forEach((o, i) => {
        if (o.kind === "reg" && roles[i] !== "r") add(o.reg);
      });
      for (const a of inst.asmOperands ?? [])
        if (a.operand.kind === "reg" && a.role !== "r" && a.role !== "late") add(a.operand.reg);
    }
  }
  return set & ~setOf(RSP);
}

export function layFrame(func: MFunc): void {
  const written = writtenRegisters(func);
  const pushed = members(written & func.preserved);
  const body = func.outgoingBytes + (func.usesScratch ? SCRATCH_BYTES : 0) + func.slots * 8;
  const misaligned = (body + pushed.length * 8 + 8) % 16 !== 0;
  func.frame = { pushed, bytes: body + (misaligned && func.alignStack && func.makesCalls ? 8 : 0) };
  func.clobbers = written & ~setOf(...pushed);
}

/** Bytes from RSP in the body to the return address. */
export function frameBytes(frame: Frame): number {
  return frame.bytes + frame.pushed.length * 8;
}

/** Displacement from RSP of what a stack operand names. */
export function stackDisplacement(func: MFunc, operand: MemOperand): number {
  const scratch = func.outgoingBytes;
  switch (operand.form) {
    case "out":
      return operand.disp;
    case "scratch":
      return scratch + operand.disp;
    case "slot":
      return scratch + (func.usesScratch ? SCRATCH_BYTES : 0) + operand.disp * 8;
    default:
      return frameBytes(func.frame) + 8 + operand.disp;
  }
}

/** NASM lines that open and close the frame. Each page of a large one is touched, so that a guard page is met. */
export function prologue(frame: Frame): string[] {
  const lines = frame.pushed.map((r) => `push ${name(r)}`);
  let rest = frame.bytes;
  for (; rest > PAGE_BYTES; rest -= PAGE_BYTES) lines.push(`sub rsp, ${PAGE_BYTES}`, "test [rsp], esp");
  if (rest > 0) lines.push(`sub rsp, ${rest}`);
  return lines;
}

export function epilogue(frame: Frame): string[] {
  const lines = frame.bytes > 0 ? [`add rsp, ${frame.bytes}`] : [];
  return [...lines, ...[...frame.pushed].reverse().map((r) => `pop ${name(r)}`)];
}

function name(r: Reg): string {
  return registerName(r, 8);
}
