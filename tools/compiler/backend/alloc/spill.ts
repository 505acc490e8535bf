/** Which operands may stay in memory (or be a constant) when their value has no register. */

import { fitsImm, type Inst, type Operand, opInfo } from "../machine.ts";
import type { Reg } from "../registers.ts";
import type { Bundle } from "./interval.ts";

/** Operations whose register operand at this position may be a memory operand instead. */
const MEMORY_FIRST = new Set([
  "mov",
  "add",
  "sub",
  "and",
  "or",
  "xor",
  "cmp",
  "test",
  "shl",
  "shr",
  "sar",
  "rol",
  "ror",
  "neg",
  "not",
]);
const MEMORY_SECOND = new Set([
  "mov",
  "add",
  "sub",
  "and",
  "or",
  "xor",
  "cmp",
  "imul",
  "imul3",
  "movzx",
  "movsx",
  "movzxd",
  "cmovcc",
  "bsf",
  "bsr",
  "lzcnt",
  "tzcnt",
  "popcnt",
]);
const MEMORY_ONLY = new Set(["mul", "imul1", "div", "callr"]);
const IMMEDIATE_SECOND = new Set(["mov", "add", "sub", "and", "or", "xor", "cmp"]);

/** Can `inst` take all its operands in `reg` from the spill slot of `bundle`? */
export function canUseSlot(inst: Inst, reg: Reg, bundle: Bundle): boolean {
  const at = soleOperand(inst, reg);
  if (at < 0 || inst.operands.some((o) => o.kind === "mem")) return false;
  if (inst.operands.some((o) => o.kind === "imm" && !fitsImm(o.value, inst.size))) return false;
  if (bundle.remat) return canUseConstant(inst, at, bundle);
  const role = opInfo(inst.op).roles[at];
  // A narrow write would leave the rest of a wide slot as it was.
  if (role !== "r" && (bundle.wide ? inst.size !== 8 : inst.size !== 4)) return false;
  // The upper half of a narrow slot was never written: a load into a register clears it instead.
  if (role !== "w" && inst.size === 8 && !bundle.wide) return false;
  if (at === 0 && opInfo(inst.op).roles.length === 1)
    return MEMORY_ONLY.has(inst.op) || inst.op === "neg" || inst.op === "not";
  if (at === 0) return MEMORY_FIRST.has(inst.op);
  return at === 1 && MEMORY_SECOND.has(inst.op);
}

function canUseConstant(inst: Inst, at: number, bundle: Bundle): boolean {
  const value = constantFor(inst, bundle);
  if (value === null || at !== 1 || !IMMEDIATE_SECOND.has(inst.op)) return false;
  return (inst.op === "mov" && inst.operands[0]?.kind === "reg") || fitsImm(value, inst.size);
}

/** What `inst` sees of the constant in the bundle's register: a wide one cut to its size, a narrow one without a sign above. */
function constantFor(inst: Inst, { remat }: Bundle): bigint | null {
  const value = remat?.operands[1];
  if (!remat || value?.kind !== "imm") return null;
  const seen = remat.size === 8 ? value.value : BigInt.asUintN(8 * remat.size, value.value);
  return BigInt.asIntN(8 * inst.size, seen);
}

/** Position of the only operand that mentions the register; -1 if there are more, or it is inside an address. */
function soleOperand(inst: Inst, reg: Reg): number {
  if (inst.asmOperands) return -1;
  const hits = inst.operands.flatMap((o, i) => (o.kind === "reg" && o.reg === reg ? [i] : []));
  return hits.length === 1 ? (hits[0] as number) : -1;
}

/** What stands for the register in `inst`: the constant, or the slot. */
export function slotOperand(inst: Inst, bundle: Bundle): Operand {
  const value = constantFor(inst, bundle);
  if (value !== null) return { kind: "imm", value };
  return { kind: "mem", form: "slot", base: -1, index: -1, scale: 1, disp: bundle.slot };
}
