/** Intrinsics: operands to where their row wants them, then the row's text. */

import {
  type Constraint,
  type FixedRegister,
  type Intrinsic,
  intrinsic,
  isWindow,
  usesScratch,
  type WindowName,
} from "../../intrinsics.ts";
import type { Value } from "../../ir.ts";
import { ARGUMENT_REGISTERS } from "../abi.ts";
import { type AsmOperand, type Inst, type RegOperand, reg } from "../machine.ts";
import { ALLOCATABLE, R8, RAX, RBX, RCX, RDI, RDX, type Reg, RSI, setOf } from "../registers.ts";
import { type Selector, sizeOf } from "../select.ts";
import { windowAddress } from "./address.ts";

/** As in kernel/config.ts; test/unit/config.test.ts compares. */
export const WINDOWS: Record<WindowName, bigint> = {
  table: BigInt.asIntN(64, 0xffff_b000_0000_0000n),
  guest: BigInt.asIntN(64, 0xffff_8000_0000_0000n),
  device: BigInt.asIntN(64, 0xffff_c000_0000_0000n),
};

const FIXED: Record<FixedRegister, Reg> = { rax: RAX, rcx: RCX, rdx: RDX, rbx: RBX, rsi: RSI, rdi: RDI, r8: R8 };

export function lowerIntrinsic(s: Selector, v: Value): void {
  const row = intrinsic(v.name ?? "");
  if (!row) throw new Error(`no intrinsic named ${v.name}`);
  if (row.routine) lowerRoutine(s, v, row);
  else lowerInline(s, v, row);
}

function lowerRoutine(s: Selector, v: Value, row: Intrinsic): void {
  const used = ARGUMENT_REGISTERS.slice(0, row.params.length);
  v.args.forEach((arg, i) => s.moveZeroExtended(reg(used[i] as Reg), arg));
  const call = s.emit("call", 8);
  call.symbol = `insn_${row.name}`;
  call.uses = setOf(...used);
  call.defs = row.result ? setOf(RAX) : 0;
  call.clobbers = ALLOCATABLE & ~call.defs;
  s.mfunc.makesCalls = true;
  if (row.result && s.isDemanded(v)) s.emit("mov", sizeOf(v), s.result(v), reg(RAX));
}

function lowerInline(s: Selector, v: Value, row: Intrinsic): void {
  const several = row.template.length > 1;
  const fixed: [Reg, Value, boolean][] = [];
  // Anything that needs instructions of its own comes before the fixed registers fill up.
  const operands = v.args.map((arg, i): AsmOperand => {
    const constraint = row.operands[i] as Constraint;
    const register = FIXED[constraint.split(":")[0] as FixedRegister];
    if (register !== undefined) fixed.push([register, arg, constraint.endsWith(":z")]);
    return { operand: operandFor(s, constraint, register, arg), role: several ? "late" : "r" };
  });
  const output = outputOf(s, v, row);
  for (const [register, arg, zero] of fixed) zero ? s.moveZeroExtended(reg(register), arg) : s.move(reg(register), arg);
  const inst = s.emit("asm", 8);
  inst.template = row.template;
  inst.asmOperands = operands.filter((o) => !(o.operand.kind === "reg" && o.operand.reg < 16));
  inst.templateOperands = operands.map((o) => o.operand);
  describe(s, inst, row, fixed);
  takeOutput(s, v, row, inst, output, several);
}

function operandFor(s: Selector, constraint: Constraint, register: Reg | undefined, arg: Value): AsmOperand["operand"] {
  if (isWindow(constraint)) return windowAddress(s, WINDOWS[constraint], arg);
  if (register !== undefined) return reg(register);
  return constraint === "z" ? s.zeroExtended(arg) : s.reg(arg);
}

function describe(s: Selector, inst: Inst, row: Intrinsic, fixed: [Reg, Value, boolean][]): void {
  const output = row.output && row.output !== "r" ? setOf(FIXED[row.output]) : 0;
  inst.uses = setOf(...fixed.map(([register]) => register));
  inst.defs = output;
  inst.clobbers = setOf(...row.clobbers.map((c) => FIXED[c])) & ~output;
  inst.earlyDefs = row.template.length > 1;
  inst.name = row.name;
  if (usesScratch(row)) s.mfunc.usesScratch = true;
}

function outputOf(s: Selector, v: Value, row: Intrinsic): RegOperand | null {
  return row.output === "r" ? s.result(v) : null;
}

function takeOutput(
  s: Selector,
  v: Value,
  row: Intrinsic,
  inst: Inst,
  output: RegOperand | null,
  several: boolean,
): void {
  if (output) inst.asmOperands?.push({ operand: output, role: several ? "early" : "w" });
  inst.outputOperand = output ?? (row.output ? reg(FIXED[row.output as FixedRegister]) : undefined);
  if (row.output && row.output !== "r" && s.isDemanded(v))
    s.emit("mov", sizeOf(v), s.result(v), reg(FIXED[row.output]));
}
