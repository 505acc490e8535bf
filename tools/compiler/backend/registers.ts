/** The general registers: numbers as the processor encodes them, names, sets as bit masks. */

/** 0..15: a machine register. 16 and up: a virtual one. -1: none. */
export type Reg = number;
export type Size = 1 | 2 | 4 | 8;
/** Bit n: machine register n. */
export type RegSet = number;

export const NONE: Reg = -1;
export const [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
export const [R8, R9, R10, R11, R12, R13, R14, R15] = [8, 9, 10, 11, 12, 13, 14, 15] as const;
/** Registers below this number are the machine's. */
export const FIRST_VIRTUAL = 16;

const LOW = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const NAMES: Record<Size, string[]> = {
  8: [...LOW.map((n) => `r${n}`), ...extended("")],
  4: [...LOW.map((n) => `e${n}`), ...extended("d")],
  2: [...LOW, ...extended("w")],
  1: ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", ...extended("b")],
};

function extended(suffix: string): string[] {
  return [8, 9, 10, 11, 12, 13, 14, 15].map((n) => `r${n}${suffix}`);
}

export function registerName(reg: Reg, size: Size): string {
  return NAMES[size][reg] ?? `v${reg}:${size}`;
}

export function isVirtual(reg: Reg): boolean {
  return reg >= FIRST_VIRTUAL;
}

export function setOf(...regs: Reg[]): RegSet {
  return regs.reduce((set, reg) => set | (1 << reg), 0);
}

export function has(set: RegSet, reg: Reg): boolean {
  return ((set >> reg) & 1) !== 0;
}

export function members(set: RegSet): Reg[] {
  const list: Reg[] = [];
  for (let reg = 0; reg < 16; reg++) if (has(set, reg)) list.push(reg);
  return list;
}

/** Every register that can hold a value. */
export const ALLOCATABLE: RegSet = 0xffff & ~setOf(RSP);
