/**
 * Machine code before and after register allocation: x86-64 instructions with operands that may be
 * virtual registers. Two-address instructions read and write their first operand (role "rw"), so a
 * virtual register may have several definitions.
 */

import type { Loc, TrapKind } from "../ir.ts";
import { NONE, type Reg, type RegSet, type Size } from "./registers.ts";

export type Cond = "e" | "ne" | "l" | "le" | "g" | "ge" | "b" | "be" | "a" | "ae" | "s" | "ns" | "c" | "nc";

/**
 * linear32: linear memory, address arithmetic modulo 2^32 (67h). linear64: linear memory, a
 * zero-extended register plus a constant below 2 GiB. host: any 64-bit address (windows, tables).
 * slot: spill slot `disp`. out: outgoing stack argument at byte `disp`. in: incoming one. symbol: RIP-relative.
 */
export type MemForm = "linear32" | "linear64" | "host" | "slot" | "out" | "in" | "scratch" | "symbol";

export interface MemOperand {
  kind: "mem";
  form: MemForm;
  base: Reg;
  index: Reg;
  scale: 1 | 2 | 4 | 8;
  disp: number;
  symbol?: string;
}
export interface RegOperand {
  kind: "reg";
  reg: Reg;
}
export interface ImmOperand {
  kind: "imm";
  value: bigint;
}
export type Operand = RegOperand | ImmOperand | MemOperand;

export type Role = "r" | "w" | "rw";
/** r: read before anything is written; late: read to the very end; w: written at the end; early: written while inputs are still needed. */
export type AsmRole = "r" | "late" | "w" | "early";

interface OpInfo {
  /** Roles of the operands in NASM's order. */
  roles: Role[];
  setsFlags?: boolean;
  readsFlags?: boolean;
  /** Leaves the flags of the result (ZF, SF) as TEST would. */
  resultFlags?: boolean;
}

const rw = (extra: Partial<OpInfo> = {}): OpInfo => ({ roles: ["rw", "r"], setsFlags: true, ...extra });

/** Every machine operation that selection and later steps use. Unlisted fields: no effect on flags. */
export const OPS = {
  mov: { roles: ["w", "r"] },
  /** Copies 32 bits and clears the rest: never merged away like mov. */
  movzxd: { roles: ["w", "r"] },
  movzx: { roles: ["w", "r"] },
  movsx: { roles: ["w", "r"] },
  lea: { roles: ["w", "r"] },
  add: rw({ resultFlags: true }),
  sub: rw({ resultFlags: true }),
  and: rw({ resultFlags: true }),
  or: rw({ resultFlags: true }),
  xor: rw({ resultFlags: true }),
  adc: rw({ readsFlags: true }),
  sbb: rw({ readsFlags: true }),
  imul: rw(),
  /** imul r, r/m, imm */
  imul3: { roles: ["w", "r", "r"], setsFlags: true },
  shl: rw(),
  shr: rw(),
  sar: rw(),
  rol: rw(),
  ror: rw(),
  neg: { roles: ["rw"], setsFlags: true, resultFlags: true },
  not: { roles: ["rw"] },
  inc: { roles: ["rw"], setsFlags: true, resultFlags: true },
  dec: { roles: ["rw"], setsFlags: true, resultFlags: true },
  bswap: { roles: ["rw"] },
  /** One operand; RDX:RAX implied. */
  mul: { roles: ["r"], setsFlags: true },
  imul1: { roles: ["r"], setsFlags: true },
  div: { roles: ["r"], setsFlags: true },
  idiv: { roles: ["r"], setsFlags: true },
  cdq: { roles: [] },
  cqo: { roles: [] },
  cmp: { roles: ["r", "r"], setsFlags: true },
  test: { roles: ["r", "r"], setsFlags: true },
  bt: { roles: ["r", "r"], setsFlags: true },
  bsf: { roles: ["w", "r"], setsFlags: true },
  bsr: { roles: ["w", "r"], setsFlags: true },
  lzcnt: { roles: ["w", "r"], setsFlags: true },
  tzcnt: { roles: ["w", "r"], setsFlags: true },
  popcnt: { roles: ["w", "r"], setsFlags: true },
  /** Writes the low byte of a register that was zeroed before. */
  setcc: { roles: ["rw"], readsFlags: true },
  cmovcc: { roles: ["rw", "r"], readsFlags: true },
  xchg: { roles: ["rw", "rw"] },
  lock_xadd: { roles: ["rw", "rw"], setsFlags: true },
  lock_add: rw(),
  lock_sub: rw(),
  lock_and: rw(),
  lock_or: rw(),
  lock_xor: rw(),
  lock_cmpxchg: { roles: ["rw", "r"], setsFlags: true },
  mfence: { roles: [] },
  /** Inlined text: see Inst.template. */
  asm: { roles: [], setsFlags: true },
  /** Defines the registers in which arguments arrive. */
  entry: { roles: [] },
  /** Opens the frame. */
  prologue: { roles: [], setsFlags: true },
  call: { roles: [], setsFlags: true },
  /** call r/m */
  callr: { roles: ["r"], setsFlags: true },
  ret: { roles: [] },
  jmp: { roles: [] },
  jcc: { roles: [], readsFlags: true },
  jmpr: { roles: ["r"] },
  ud2: { roles: [] },
  /** Jumps to an out-of-line UD2 if the condition holds; goes on otherwise. */
  trapif: { roles: [], readsFlags: true },
  /** Keeps a register alive; no code. */
  use: { roles: ["r"] },
} as const satisfies Record<string, OpInfo>;

export type Opcode = keyof typeof OPS;

export function opInfo(op: Opcode): OpInfo {
  return OPS[op];
}

export interface AsmOperand {
  operand: Operand;
  role: AsmRole;
}

export interface Inst {
  op: Opcode;
  size: Size;
  operands: Operand[];
  /** movzx, movsx: width of the source. */
  sourceSize?: Size;
  cond?: Cond;
  /** jmp, jcc: where to; call: symbol. */
  target?: MBlock;
  symbol?: string;
  /** Machine registers read, written (and live after), destroyed. */
  uses: RegSet;
  defs: RegSet;
  clobbers: RegSet;
  /** asm: text with %0.. for asmOperands; the operand marked w or early first is the result. */
  template?: string[];
  asmOperands?: AsmOperand[];
  /** asm: defs and clobbers are written while operands are still needed. */
  earlyDefs?: boolean;
  /** asm: what %0, %1 ... and %r stand for; default: asmOperands in order. */
  templateOperands?: Operand[];
  outputOperand?: Operand;
  /** asm: the intrinsic. */
  name?: string;
  /** Lines of the template that may fault, or 0 for a plain instruction that may. */
  trap?: TrapKind;
  /** idiv: tells the two reasons of #DE apart. */
  trapDetail?: "divide";
  /** This instruction may be made again anywhere: a constant or an address. */
  remat?: boolean;
  /** calls: index of the callee, or type of an indirect one, for the stack report. */
  callee?: number;
  calleeType?: number;
  /** ret: the frame was not opened on the way here. */
  frameless?: boolean;
  loc: Loc | null;
}

export interface MBlock {
  id: number;
  insts: Inst[];
  preds: MBlock[];
  succs: MBlock[];
  loopDepth: number;
  frequency: number;
  /** Set where an address is needed (jump tables) or branches lead. */
  label: string;
  /** The jump table over which the block ends. */
  table?: string;
  cold: boolean;
}

export interface VirtualInfo {
  /** Some value in it is 64 bits wide: copies must be too. */
  wide: boolean;
}

export interface JumpTable {
  label: string;
  targets: MBlock[];
}

export interface MFunc {
  index: number;
  name: string;
  label: string;
  blocks: MBlock[];
  virtuals: VirtualInfo[];
  jumpTables: JumpTable[];
  /** 8-byte stack slots. */
  slots: number;
  /** Bytes for arguments and results of calls beyond registers. */
  outgoingBytes: number;
  usesScratch: boolean;
  makesCalls: boolean;
  /** Must this function keep RSP 16-byte aligned at calls? */
  alignStack: boolean;
  /** Registers that callers expect unchanged. */
  preserved: RegSet;
  /** Filled in by the frame step. */
  frame: Frame;
  /** Filled in at the end: everything that a call of this function may change. */
  clobbers: RegSet;
}

export interface Frame {
  /** Saved registers in the order of their PUSHes. */
  pushed: Reg[];
  /** Bytes subtracted from RSP after the pushes. */
  bytes: number;
}

export function newInst(op: Opcode, size: Size, operands: Operand[], loc: Loc | null): Inst {
  return { op, size, operands, uses: 0, defs: 0, clobbers: 0, loc };
}

export function reg(r: Reg): RegOperand {
  return { kind: "reg", reg: r };
}

export function imm(value: bigint | number): ImmOperand {
  return { kind: "imm", value: BigInt(value) };
}

export function mem(form: MemForm, parts: Partial<Omit<MemOperand, "kind" | "form">> = {}): MemOperand {
  return { kind: "mem", form, base: NONE, index: NONE, scale: 1, disp: 0, ...parts };
}

/** Can the number be an immediate operand of an instruction of this size? */
export function fitsImm(value: bigint, size: Size): boolean {
  return size < 8 ? true : BigInt.asIntN(32, value) === value;
}

/** Is this a plain copy between registers? */
export function isCopy(inst: Inst): boolean {
  return inst.op === "mov" && inst.operands[0]?.kind === "reg" && inst.operands[1]?.kind === "reg";
}

/**
 * Calls `visit` for every register operand: read (also inside addresses), written or both.
 * `late` reads last until after the writes; `early` writes happen before the reads end.
 */
export function visitRegisters(inst: Inst, visit: (r: Reg, role: Role, early: boolean) => void): void {
  const roles = opInfo(inst.op).roles;
  inst.operands.forEach((operand, i) => {
    visitOperand(operand, roles[i] ?? "r", false, visit);
  });
  for (const { operand, role } of inst.asmOperands ?? []) {
    if (role === "early") visitOperand(operand, "w", true, visit);
    else visitOperand(operand, role === "w" ? "w" : "r", role === "late", visit);
  }
}

function visitOperand(
  operand: Operand,
  role: Role,
  early: boolean,
  visit: (r: Reg, role: Role, early: boolean) => void,
): void {
  if (operand.kind === "reg") visit(operand.reg, role, early);
  else if (operand.kind === "mem") {
    if (operand.base !== NONE) visit(operand.base, "r", early);
    if (operand.index !== NONE) visit(operand.index, "r", early);
  }
}

/** Replaces every register by `map` of it, in place. */
export function mapRegisters(inst: Inst, map: (r: Reg) => Reg): void {
  const change = (operand: Operand): Operand => {
    if (operand.kind === "reg") return { kind: "reg", reg: map(operand.reg) };
    if (operand.kind !== "mem") return operand;
    return {
      ...operand,
      base: operand.base === NONE ? NONE : map(operand.base),
      index: operand.index === NONE ? NONE : map(operand.index),
    };
  };
  inst.operands = inst.operands.map(change);
  if (inst.templateOperands) inst.templateOperands = inst.templateOperands.map(change);
  if (inst.outputOperand) inst.outputOperand = change(inst.outputOperand);
  if (inst.asmOperands) inst.asmOperands = inst.asmOperands.map((a) => ({ ...a, operand: change(a.operand) }));
}

/** Does the instruction touch memory through an operand? */
export function memoryOperand(inst: Inst): MemOperand | null {
  const found = inst.operands.find((o) => o.kind === "mem");
  return inst.op !== "lea" && found?.kind === "mem" ? found : null;
}

export function isTerminator(inst: Inst): boolean {
  return inst.op === "jmp" || inst.op === "jcc" || inst.op === "jmpr" || inst.op === "ret" || inst.op === "ud2";
}
