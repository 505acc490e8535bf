/**
 * Proves on the linked image, with objdump as the disassembler, that the core cannot reach what it must not: every
 * instruction of compiled code is one that the compiler emits, every memory operand stays in linear memory, the stack, the
 * core's own data or a jump table, privileged instructions stand where a listed intrinsic put them, and control goes to
 * known places only. Hand-written NASM files may use the privileged instructions that they are listed with.
 *
 * It trusts the symbol table for where functions and inlined intrinsics are, and checks what is there.
 */

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { INTRINSICS, isVectorInstruction } from "../compiler/intrinsics.ts";
import { readLines } from "../image/dwarf.ts";
import { Elf, PT_LOAD } from "../image/elf.ts";
import { lookUp, type SymbolMap } from "../image/symbolmap.ts";

const run = promisify(execFile);

interface Instruction {
  address: number;
  /** With prefixes: "rep stos", "lock cmpxchg". */
  mnemonic: string;
  operands: string[];
  /** Of a RIP-relative operand or a direct jump. */
  target: number | null;
}

/** Addresses are kept as offsets from the image's base, so that numbers hold them. */
interface Range {
  name: string;
  start: number;
  end: number;
}

export interface Layout {
  base: bigint;
  /** Compiled code: hot and cold part. */
  core: Range[];
  /** Routines of the compiler's that move memory, within the first. */
  routines: Range;
  /** Starts of functions, by address. */
  functions: Map<number, string>;
  intrinsics: Range[];
  stubs: Range[];
  rodata: Range;
  data: Range;
}

// ---- What compiled code may consist of

const MOVES = "mov movabs movzx movsx movsxd lea xchg bswap push pop".split(" ");
const ARITHMETIC = "add sub and or xor not neg imul mul div idiv cdq cqo shl shr sar rol ror adc".split(" ");
const TESTS = "cmp test bt bsf bsr tzcnt lzcnt popcnt".split(" ");
const FLOW = "call ret jmp ud2 int3 nop mfence".split(" ");
const LOCKED = "lock add,lock sub,lock and,lock or,lock xor,lock xadd,lock cmpxchg".split(",");
const ORDINARY = new Set([...MOVES, ...ARITHMETIC, ...TESTS, ...FLOW, ...LOCKED]);
const CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split(" ");
for (const c of CONDITIONS) for (const prefix of ["j", "set", "cmov"]) ORDINARY.add(prefix + c);
/** Beside the ordinary, where memory.copy and its kin are done. */
const STRINGS = new Set(["rep movs", "rep stos", "stc", "clc"]);

/**
 * Beside the ordinary, by file: the whole list of what hand-written code does. "any": code that runs once, before the
 * core, partly in 16 and 32 bits, which a disassembler of 64-bit code does not show as it is.
 */
export const STUB_INSTRUCTIONS: Record<string, string[] | "any"> = {
  "boot/header.asm": "any",
  "boot/entry.asm": "any",
  "boot/trampoline.asm": "any",
  "boot/vectors.asm": ["cld", "iretq", "mov cr"],
  "boot/routines.asm": ["cld", "iretq", "lgdt", "lidt", "ltr", "retfq", "mov segment"],
  "boot/inject.asm": ["int"],
  "kernel/vmx/switch.asm": ["lfence", "verw", "vmlaunch", "vmresume", "vmwrite", "wrmsr"],
};

/** Registers by their 64-bit name. */
const NARROW: Record<string, string> = {};
for (const r of ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp"]) NARROW[`e${r}`] = `r${r}`;
for (let n = 8; n < 16; n++) NARROW[`r${n}d`] = `r${n}`;
const WIDE = new Set(Object.values(NARROW));

const LIMIT_2G = 0x8000_0000;
/** Frames are far smaller than a stack with its guard page. */
const STACK_BYTES = 0xa000;

// ---- Reading

function parse(text: string, base: bigint): Instruction[] {
  const list: Instruction[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*([0-9a-f]+):\t(.*)$/.exec(line);
    if (!match) continue;
    const address = Number(BigInt(`0x${match[1]}`) - base);
    list.push(parseInstruction(address, match[2] as string, base));
  }
  return list;
}

const PREFIXES = new Set([
  "rep",
  "repz",
  "repnz",
  "lock",
  "bnd",
  "notrack",
  "data16",
  "cs",
  "ds",
  "es",
  "ss",
  "fs",
  "gs",
  "addr32",
]);

function parseInstruction(address: number, text: string, base: bigint): Instruction {
  const [code, comment] = text.split("#") as [string, string | undefined];
  const words = code.trim().split(/\s+/);
  const prefixes: string[] = [];
  while (words.length > 1 && PREFIXES.has(words[0] as string)) prefixes.push(words.shift() as string);
  const mnemonic = [...prefixes, words.shift() ?? ""].join(" ");
  const operands = words.join(" ").split(",").filter(Boolean);
  const named = /^\s*(?:0x)?([0-9a-f]+)/.exec(comment ?? "") ?? /^([0-9a-f]{6,}) </.exec(operands[0] ?? "");
  const target = named ? Number(BigInt(`0x${named[1]}`) - base) : null;
  return { address, mnemonic, operands, target };
}

/** All of .text: compiled code to the last byte, hand-written code without its data. */
async function disassemble(path: string, { base, core }: Layout): Promise<Instruction[]> {
  const objdump = async (mode: string): Promise<Instruction[]> => {
    const args = [mode, "-j", ".text", "-w", "-M", "intel", "--no-show-raw-insn", path];
    return parse((await run("objdump", args, { maxBuffer: 1 << 28 })).stdout, base);
  };
  const [everything, code] = await Promise.all([objdump("-D"), objdump("-d")]);
  const isCore = ({ address }: Instruction): boolean => core.some((r) => address >= r.start && address < r.end);
  return [...everything.filter(isCore), ...code.filter((i) => !isCore(i))].sort((a, b) => a.address - b.address);
}

/** Which hand-written file each address outside of the core comes from, by the line table. */
function stubRanges(elf: Elf, base: bigint, core: Range[]): Range[] {
  const lines = elf.section(".debug_line");
  const rows = lines ? readLines(elf.bytesOf(lines)) : [];
  const starts = rows.map(({ address, file, end }) => ({ at: Number(address - base), name: end ? "?" : file }));
  starts.sort((a, b) => a.at - b.at);
  const ranges: Range[] = [];
  for (const { at, name } of starts) {
    if (core.some((r) => at >= r.start && at < r.end)) continue;
    const last = ranges[ranges.length - 1];
    if (last) last.end = at;
    if (last?.name !== name || name === "?") ranges.push({ name, start: at, end: at });
  }
  return ranges;
}

/** Fails if the image lacks the symbols that say where its parts are. */
export function readLayout(elf: Elf): Layout {
  const text = elf.section(".text");
  if (!text) throw new Error("binary: no .text");
  const base = text.address;
  const at = new Map<string, number>();
  for (const symbol of elf.symbols()) if (symbol.name) at.set(symbol.name, Number(symbol.address - base));
  const place = (name: string): number => {
    const found = at.get(name);
    if (found === undefined) throw new Error(`binary: no symbol ${name}`);
    return found;
  };
  const range = (name: string, start: string, end: string): Range => ({ name, start: place(start), end: place(end) });
  const core = [range("hot", "basalt_text", "basalt_text_end"), range("cold", "basalt_cold", "basalt_cold_end")];
  const functions = new Map<number, string>();
  for (const name of at.keys()) if (at.has(`${name}.end`)) functions.set(place(name), name);
  const rodata = elf.section(".rodata");
  const start = rodata ? Number(rodata.address - base) : 0;
  return {
    base,
    core,
    routines: range("routines", "basalt_routines", "basalt_text_end"),
    functions,
    intrinsics: intrinsicRanges(at),
    stubs: stubRanges(elf, base, core),
    rodata: { name: "rodata", start, end: start + (rodata?.bytes ?? 0) },
    data: range("data", "basalt_data", "basalt_data_end"),
  };
}

function intrinsicRanges(at: Map<string, number>): Range[] {
  const ranges: Range[] = [];
  for (const [symbol, start] of at) {
    const match = /^(.*\.asm\d+)\.insn\.(\w+)$/.exec(symbol);
    if (!match || match[2] === "end") continue;
    const end = at.get(`${match[1]}.insn.end`);
    if (end === undefined) throw new Error(`binary: ${symbol} has no end`);
    ranges.push({ name: match[2] as string, start, end });
  }
  return ranges.sort((a, b) => a.start - b.start);
}

// ---- Operands

interface Memory {
  segment: string | null;
  registers: { name: string; scale: number }[];
  displacement: number;
}

/** Of an operand like `DWORD PTR [rax+rcx*4-0x10]` or `QWORD PTR ds:0x20000`; null: no memory. */
export function memoryOf(operand: string): Memory | null {
  const absolute = /([c-gs]s):0x([0-9a-f]+)$/.exec(operand);
  if (absolute)
    return { segment: absolute[1] as string, registers: [], displacement: Number(BigInt(`0x${absolute[2]}`)) };
  const match = /(?:([c-gs]s):)?\[([^\]]*)\]/.exec(operand);
  if (!match) return null;
  const memory: Memory = { segment: match[1] ?? null, registers: [], displacement: 0 };
  for (const [, sign, term] of (match[2] as string).matchAll(/([+-]?)([^+-]+)/g)) {
    const [name, scale] = (term as string).split("*") as [string, string | undefined];
    if (/^(0x[0-9a-f]+|\d+)$/.test(name)) memory.displacement += (sign === "-" ? -1 : 1) * Number(name);
    else if (name !== "riz" && name !== "eiz") memory.registers.push({ name, scale: Number(scale ?? 1) });
  }
  return memory;
}

const READ_ONLY = new Set(["cmp", "test", "bt", "push", "mul", "div", "idiv", "call", "jmp", "imul"]);

/** Does the instruction write its first operand? */
function writesFirst(i: Instruction): boolean {
  return !READ_ONLY.has(i.mnemonic) || (i.mnemonic === "imul" && i.operands.length > 1);
}

// ---- The check

export interface Violation {
  address: bigint;
  what: string;
}

export interface BinaryReport {
  violations: Violation[];
  instructions: number;
  /** Instructions inside inlined intrinsics. */
  inIntrinsics: number;
  indirectJumps: number;
  indirectCalls: number;
  /** What the hand-written files of STUB_INSTRUCTIONS contain of it, sorted. */
  privileged: Record<string, string[]>;
}

export async function checkBinary(path: string): Promise<BinaryReport> {
  const elf = new Elf(await readFile(path));
  const layout = readLayout(elf);
  return new Checker(elf, layout, await disassemble(path, layout)).run();
}

class Checker {
  private readonly violations: Violation[] = [];
  private readonly byAddress = new Map<number, number>();
  private readonly jumpTargets = new Set<number>();
  private readonly privileged = new Map<string, Set<string>>();
  private readonly report = { instructions: 0, inIntrinsics: 0, indirectJumps: 0, indirectCalls: 0 };

  constructor(
    private readonly elf: Elf,
    private readonly layout: Layout,
    private readonly code: Instruction[],
  ) {
    code.forEach((i, n) => {
      this.byAddress.set(i.address, n);
      if (i.mnemonic.startsWith("j") && i.target !== null) this.jumpTargets.add(i.target);
    });
  }

  run(): BinaryReport {
    this.segments();
    this.enterTables();
    const { core, intrinsics } = this.layout;
    let next = 0; // of the intrinsics
    for (let n = 0; n < this.code.length; n++) {
      const i = this.code[n] as Instruction;
      if (!core.some((r) => i.address >= r.start && i.address < r.end)) {
        this.stub(i);
        continue;
      }
      this.report.instructions++;
      while ((intrinsics[next]?.end ?? Number.POSITIVE_INFINITY) <= i.address) next++;
      const region = intrinsics[next];
      if (region && i.address >= region.start) n = this.intrinsic(n, region);
      else this.ordinary(n);
    }
    const privileged = Object.fromEntries([...this.privileged].map(([file, kinds]) => [file, [...kinds].sort()]));
    return { violations: this.violations, privileged, ...this.report };
  }

  private fail(i: Instruction, what: string): void {
    const text = `${i.mnemonic} ${i.operands.join(",")}`.trim();
    this.violations.push({ address: this.layout.base + BigInt(i.address), what: `${what}: ${text}` });
  }

  /** What is executed is .text and nothing else. */
  private segments(): void {
    const text = this.elf.section(".text");
    for (const segment of this.elf.segments) {
      const isText = segment.virtual === text?.address && segment.memoryBytes === text.bytes;
      if (segment.type === PT_LOAD && segment.flags & 1 && !isText)
        this.violations.push({ address: segment.virtual, what: "executable memory outside of .text" });
    }
  }

  // ---- Hand-written code

  private stub(i: Instruction): void {
    const isVector = isVectorInstruction(i.mnemonic, i.operands.join());
    const kind = isVector ? "vector state" : privileged(i);
    if (kind === null) return;
    const file = this.layout.stubs.findLast((r) => i.address >= r.start && i.address < r.end)?.name ?? "?";
    this.privileged.set(file, (this.privileged.get(file) ?? new Set()).add(kind));
    const listed = STUB_INSTRUCTIONS[file];
    if (listed === undefined) this.fail(i, "a privileged instruction outside of the listed files");
    else if (listed !== "any" && !listed.includes(kind)) this.fail(i, `${file} is not listed with ${kind}`);
  }

  // ---- Inlined intrinsics

  /** The region must be the row's instructions and nothing else. Returns the number of its last instruction. */
  private intrinsic(first: number, region: Range): number {
    const start = this.code[first] as Instruction;
    const expected = templates.get(region.name);
    if (!expected) {
      this.fail(start, `no intrinsic is named ${region.name}`);
      return first;
    }
    let n = first;
    const got: string[] = [];
    for (; (this.code[n]?.address ?? Number.POSITIVE_INFINITY) < region.end; n++)
      got.push((this.code[n] as Instruction).mnemonic);
    if (start.address !== region.start || !sameSequence(expected, got))
      this.fail(start, `not the text of ${region.name} (${got.slice(0, 6).join("; ")})`);
    this.report.inIntrinsics += got.length;
    this.report.instructions += got.length - 1;
    return Math.max(first, n - 1);
  }

  // ---- Compiled code

  private ordinary(n: number): void {
    const i = this.code[n] as Instruction;
    const inRoutines = i.address >= this.layout.routines.start && i.address < this.layout.routines.end;
    if (!ORDINARY.has(i.mnemonic) && !(inRoutines && STRINGS.has(i.mnemonic)))
      return this.fail(i, "not an instruction of compiled code");
    if (i.operands.some((o) => /^([c-gs]s|[cd]r\d+|[xyz]?mm\d+|st|k\d)$/.test(o)))
      return this.fail(i, "a register that compiled code has no use for");
    if (/^(j|call)/.test(i.mnemonic)) return this.flow(n);
    if (i.mnemonic === "ret" && i.operands.length > 0) return this.fail(i, "a return that drops arguments");
    this.stackPointer(i);
    if (i.mnemonic === "lea" || i.mnemonic === "nop") return;
    i.operands.forEach((operand, position) => {
      const memory = memoryOf(operand);
      if (memory) this.memory(n, memory, position === 0 && writesFirst(i), inRoutines);
    });
  }

  /** RSP moves by constants and by pushes. */
  private stackPointer(i: Instruction): void {
    if (!/^[re]?spl?$/.test(i.operands[0] ?? "") || /^(cmp|test|push)$/.test(i.mnemonic)) return;
    const constant = /^(0x[0-9a-f]+|\d+)$/.test(i.operands[1] ?? "") && Number(i.operands[1]) <= STACK_BYTES;
    if ((i.mnemonic !== "add" && i.mnemonic !== "sub") || !constant || i.operands[0] !== "rsp")
      this.fail(i, "the stack pointer is set");
  }

  private memory(n: number, memory: Memory, isWritten: boolean, inRoutines: boolean): void {
    const i = this.code[n] as Instruction;
    const { registers, displacement } = memory;
    if (memory.segment && memory.segment !== "ds" && !(memory.segment === "es" && inRoutines))
      return this.fail(i, "a segment base");
    if (registers.some((r) => r.name === "rip")) return this.known(i, isWritten);
    if (registers.some((r) => r.name === "rsp")) {
      if (registers.length > 1 || displacement < 0 || displacement >= STACK_BYTES)
        this.fail(i, "an operand outside of the frame");
      return;
    }
    // 67h: the hardware computes modulo 2^32.
    if (registers.length > 0 && registers.every((r) => r.name in NARROW)) return;
    if (registers.length === 0) {
      if (displacement >= LIMIT_2G) this.fail(i, "an absolute address outside of linear memory");
      return;
    }
    if (inRoutines) return this.routineOperand(i, memory);
    if (this.isTableRead(n, memory, isWritten)) return;
    this.longForm(n, memory);
  }

  /** RIP-relative: the core's data, or rodata if it is only read. */
  private known(i: Instruction, isWritten: boolean): void {
    const { data, rodata } = this.layout;
    const inside = (r: Range): boolean => i.target !== null && i.target >= r.start && i.target < r.end;
    if (!inside(data) && (isWritten || !inside(rodata))) this.fail(i, "neither the core's data nor rodata");
  }

  /** The routines check their ranges and then use 64-bit registers that hold linear addresses. */
  private routineOperand(i: Instruction, { registers, displacement }: Memory): void {
    const fine = registers.every((r) => WIDE.has(r.name) && r.scale === 1) && Math.abs(displacement) <= 64;
    if (!fine) this.fail(i, "not an operand of a routine");
  }

  /** [zero-extended register + 0 .. 2 GiB]: whatever wrote the register last, before any way in, wrote 32 bits. */
  private longForm(n: number, { registers, displacement }: Memory): void {
    const i = this.code[n] as Instruction;
    const [base] = registers;
    if (registers.length !== 1 || !base || base.scale !== 1 || !WIDE.has(base.name))
      return this.fail(i, "an address of 64-bit registers");
    if (displacement < 0 || displacement >= LIMIT_2G) return this.fail(i, "a displacement outside of 0 .. 2 GiB");
    if (!this.isZeroExtended(n, base.name, 64)) this.fail(i, "a base register that is not seen to be zero-extended");
  }

  /** Follows the straight line back from instruction `n`. */
  private isZeroExtended(n: number, register: string, steps: number): boolean {
    for (let k = n - 1; k >= 0 && steps > 0 && !this.isEntered(k + 1); k--, steps--) {
      const i = this.code[k] as Instruction;
      const [to, from] = i.operands as [string | undefined, string | undefined];
      const writes = to !== undefined && !READ_ONLY.has(i.mnemonic) && i.mnemonic !== "ret";
      if (writes && to in NARROW && NARROW[to] === register) return true;
      if (writes && to === register) {
        if (/^(mov|movabs)$/.test(i.mnemonic) && /^0x[0-9a-f]+$/.test(from ?? ""))
          return BigInt(from as string) < 1n << 33n;
        // A sum of two that are: below 8 GiB.
        if (i.mnemonic === "add" && from !== undefined && WIDE.has(from))
          return this.isZeroExtended(k, register, steps) && this.isZeroExtended(k, from, steps);
        return false;
      }
      if (/^(call|jmp|ret|ud2)/.test(i.mnemonic)) return false;
    }
    return false;
  }

  /** Does anything jump to instruction `n`? Then what stands before it proves nothing. */
  private isEntered(n: number): boolean {
    return this.jumpTargets.has((this.code[n] as Instruction).address);
  }

  // ---- Jump tables and the function table

  /** [table + index * 4] of a jump table or the table of signatures, [table + index * 8] of the function table. */
  private isTableRead(n: number, memory: Memory, isWritten: boolean): boolean {
    const i = this.code[n] as Instruction;
    const [base, index] = memory.registers;
    if (isWritten || !base || !index || base.scale !== 1) return false;
    const table = this.tableIn(n, base.name);
    if (table === null) return false;
    if (index.scale === 4 && i.mnemonic === "movsxd") return this.isJumpTable(n, table, index.name);
    return index.scale === 4 && i.mnemonic === "cmp" && this.isBounded(n, index.name) !== null;
  }

  /** Where the register points, if the straight line before `n` loaded it with a place in rodata. */
  private tableIn(n: number, register: string): number | null {
    for (let k = n - 1; k >= 0 && !this.isEntered(k + 1); k--) {
      const i = this.code[k] as Instruction;
      if (i.operands[0] !== register && NARROW[i.operands[0] ?? ""] !== register) continue;
      if (READ_ONLY.has(i.mnemonic)) continue;
      const { rodata } = this.layout;
      const found = i.mnemonic === "lea" && i.target !== null && i.target >= rodata.start && i.target < rodata.end;
      return found ? i.target : null;
    }
    return null;
  }

  /** The bound of `CMP index, bound; JAE` before `n`; null: there is none. */
  private isBounded(n: number, index: string): number | null {
    for (let k = n - 1; k > 0 && !this.isEntered(k + 1); k--) {
      const i = this.code[k] as Instruction;
      const before = this.code[k - 1] as Instruction;
      const [to, bound] = before.operands as [string | undefined, string | undefined];
      if (
        i.mnemonic === "jae" &&
        before.mnemonic === "cmp" &&
        to !== undefined &&
        NARROW[to] === index &&
        /^(0x[0-9a-f]+|\d+)$/.test(bound ?? "")
      )
        return Number(bound);
      const [written] = i.operands;
      if (
        !READ_ONLY.has(i.mnemonic) &&
        !i.mnemonic.startsWith("j") &&
        (written === index || NARROW[written ?? ""] === index)
      )
        return null;
    }
    return null;
  }

  private isJumpTable(n: number, table: number, index: string): boolean {
    const bound = this.isBounded(n, index);
    if (bound === null) return false;
    const home = this.functionAt((this.code[n] as Instruction).address);
    const { rodata } = this.layout;
    const section = this.elf.section(".rodata");
    if (!section || table + bound * 4 > rodata.end) return false;
    const bytes = this.elf.bytesOf(section);
    for (let k = 0; k < bound; k++) {
      const to = table + bytes.readInt32LE(table - rodata.start + 4 * k);
      if (!this.byAddress.has(to) || this.functionAt(to) !== home || !this.isCore(to)) return false;
    }
    return true;
  }

  /** Where jump tables lead is jumped to. */
  private enterTables(): void {
    const rodata = this.elf.section(".rodata");
    if (!rodata) return;
    const bytes = this.elf.bytesOf(rodata);
    this.code.forEach((i, n) => {
      if (i.mnemonic !== "movsxd") return;
      const [base, index] = memoryOf(i.operands[1] ?? "")?.registers ?? [];
      const table = base && index ? this.tableIn(n, base.name) : null;
      const bound = table !== null && index ? this.isBounded(n, index.name) : null;
      if (table === null || bound === null || table + bound * 4 > this.layout.rodata.end) return;
      for (let k = 0; k < bound; k++)
        this.jumpTargets.add(table + bytes.readInt32LE(table - this.layout.rodata.start + 4 * k));
    });
  }

  // ---- Control flow

  private flow(n: number): void {
    const i = this.code[n] as Instruction;
    const operand = i.operands[0] ?? "";
    if (i.target !== null && memoryOf(operand) === null) return this.direct(i);
    if (i.mnemonic === "jmp" && WIDE.has(operand)) return this.indirectJump(n, operand);
    if (i.mnemonic === "call") return this.indirectCall(n, operand);
    this.fail(i, "a jump to where nobody knows");
  }

  private isCore(at: number): boolean {
    return this.layout.core.some((r) => at >= r.start && at < r.end);
  }

  private direct(i: Instruction): void {
    const to = i.target as number;
    if (!this.byAddress.has(to)) return this.fail(i, "into the middle of an instruction");
    if (i.mnemonic !== "call") {
      if (!this.isCore(to)) this.fail(i, "a jump out of the core");
      return;
    }
    const { functions, routines } = this.layout;
    const isRoutine = to >= routines.start && to < routines.end;
    if (!functions.has(to) && !isRoutine && !this.isStubEntry(to)) this.fail(i, "a call of no function");
  }

  /** NASM routines that intrinsics stand for. */
  private stubEntries: Set<number> | null = null;
  private isStubEntry(at: number): boolean {
    this.stubEntries ??= new Set(
      this.elf
        .symbols()
        .filter((s) => s.global && /^insn_\w+$/.test(s.name))
        .map((s) => Number(s.address - this.layout.base)),
    );
    return this.stubEntries.has(at);
  }

  private starts: number[] | null = null;
  /** The function whose code an address is: the hot part by its start; the cold part by its symbol. */
  private functionAt(at: number): string {
    this.starts ??= [...this.layout.functions.keys()].sort((a, b) => a - b);
    const [hot] = this.layout.core as [Range];
    if (at < hot.start || at >= hot.end) return this.coldFunctionAt(at);
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.starts[middle] as number) <= at) low = middle + 1;
      else high = middle;
    }
    return this.layout.functions.get(this.starts[low - 1] ?? -1) ?? "?";
  }

  private cold: { at: number; name: string }[] | null = null;
  private coldFunctionAt(at: number): string {
    this.cold ??= this.elf
      .symbols()
      .filter((s) => s.name.endsWith(".cold"))
      .map((s) => ({ at: Number(s.address - this.layout.base), name: s.name.slice(0, -5) }))
      .sort((a, b) => a.at - b.at);
    return this.cold.findLast((c) => c.at <= at)?.name ?? "?";
  }

  /** MOVSXD d, [table + index*4]; ADD d, table; JMP d, in this order, with the table's bound checked. */
  private indirectJump(n: number, register: string): void {
    this.report.indirectJumps++;
    const i = this.code[n] as Instruction;
    const add = this.code[n - 1];
    const load = this.code[n - 2];
    const memory = memoryOf(load?.operands[1] ?? "");
    const fits =
      add?.mnemonic === "add" &&
      add.operands[0] === register &&
      load?.mnemonic === "movsxd" &&
      load.operands[0] === register &&
      memory?.registers[0]?.name === add.operands[1] &&
      !this.jumpTargets.has(i.address) &&
      !this.jumpTargets.has(add.address) &&
      this.isTableRead(n - 2, memory as Memory, false);
    if (!fits) this.fail(i, "an indirect jump without its table");
  }

  /** CALL [table + index*8], after the bound and the signature were checked. */
  private indirectCall(n: number, operand: string): void {
    this.report.indirectCalls++;
    const i = this.code[n] as Instruction;
    const memory = memoryOf(operand);
    const [base, index] = memory?.registers ?? [];
    if (!base || !index || index.scale !== 8 || memory?.displacement !== 0)
      return this.fail(i, "an indirect call without its table");
    const slots = this.isBounded(n, index.name);
    for (let k = n - 1; k > 0 && !this.isEntered(k + 1); k--) {
      const jump = this.code[k] as Instruction;
      const compare = this.code[k - 1] as Instruction;
      const type = memoryOf(compare.operands[0] ?? "");
      const [b, x] = type?.registers ?? [];
      if (jump.mnemonic !== "jne" || compare.mnemonic !== "cmp" || b?.name !== base.name || x?.name !== index.name)
        continue;
      if (
        slots !== null &&
        x.scale === 4 &&
        type?.displacement === slots * 8 &&
        this.tableIn(k - 1, base.name) !== null
      )
        return;
    }
    this.fail(i, "an indirect call without its checks");
  }
}

// ---- Templates

/** Mnemonics of each inlined intrinsic, as objdump prints them; labels, sections and data left out. */
const templates = new Map(
  INTRINSICS.filter((row) => !row.routine).map((row) => [
    row.name,
    row.template.map(mnemonicOf).filter((m) => m !== null),
  ]),
);

function mnemonicOf(line: string): string | null {
  const text = line.replace(/^%l\w*:\s*/, "");
  if (text === "" || text.startsWith("[section") || text.startsWith("dq ")) return null;
  const words = text.split(/\s+/);
  const first = words[0] as string;
  return first === "lock" || first === "rep" ? `${first} ${words[1]}` : first;
}

/** NASM's names and objdump's. */
const SAME: Record<string, string[]> = {
  setc: ["setb"],
  "rep movsb": ["rep movs"],
  "rep stosb": ["rep stos"],
  "rep stosq": ["rep stos"],
  pushfq: ["pushf"],
  int: ["int"],
  mov: ["mov", "movabs"],
};

/** Of a guarded instruction the fix-up stands elsewhere: its two instructions may be missing. */
function sameSequence(expected: string[], got: string[]): boolean {
  const matches = (want: string[]): boolean =>
    want.length === got.length && want.every((m, i) => m === got[i] || SAME[m]?.includes(got[i] as string));
  return matches(expected) || matches(withoutFixup(expected));
}

function withoutFixup(expected: string[]): string[] {
  const [last, before] = [expected[expected.length - 1], expected[expected.length - 2]];
  return last === "jmp" && before === "xor" ? expected.slice(0, -2) : expected;
}

// ---- Hand-written code

const PRIVILEGED =
  /^(in|out|ins|outs|hlt|cli|sti|cld|std|lgdt|lidt|lldt|ltr|sgdt|sidt|sldt|str|smsw|lmsw|clts|invd|wbinvd|invlpg|invpcid|rdmsr|wrmsr|rdpmc|rdtscp?|swapgs|sysretq?|sysexit|syscall|sysenter|iretq?|iretd|int|into|vm\w+|xsetbv|xgetbv|xsave\w*|xrstor\w*|fxsave\w*|fxrstor\w*|inve?pt|invvpid|monitor|mwait|rsm|getsec|wr[fg]sbase|rd[fg]sbase|l[fgs]s|pushfq?|popfq?|verw|verr|lar|lsl|clflush\w*|cpuid|rdrand|rdseed|lfence|retfq?|lret|ljmp|lcall|jmpf|rep stos|rep movs|cmps|scas|lods|xlat)$/;

/** What kind of instruction beyond ordinary arithmetic and moves it is; null: none. */
function privileged(i: Instruction): string | null {
  if (i.operands.some((o) => /^[cd]r\d+$/.test(o))) return "mov cr";
  if (i.mnemonic === "mov" && i.operands.some((o) => /^[c-gs]s$/.test(o))) return "mov segment";
  const name = i.mnemonic.replace(/^(rex\.W|data16|cs|ds) /, "").replace(/^rex\.W/, "");
  return PRIVILEGED.test(name) ? name : null;
}

/** One line: where it is, what it is. */
export function describe({ address, what }: Violation, map: SymbolMap): string {
  const place = lookUp(map, address);
  const source = place?.file ? ` (${place.file}:${place.line})` : "";
  return `${place?.name ?? `0x${address.toString(16)}`}${source}: ${what}`;
}
