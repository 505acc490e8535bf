/** NASM text of one function. */

import { TrapKind as Kind, type Loc, type TrapKind } from "../ir.ts";
import { epilogue, prologue, stackDisplacement } from "./frame.ts";
import { type Inst, type MBlock, type MemOperand, type MFunc, type Operand, opInfo } from "./machine.ts";
import { NONE, RCX, registerName, type Size } from "./registers.ts";

/** An instruction that may trap. */
export interface Site {
  label: string;
  kind: TrapKind;
  /** idiv: number of the divisor's register + 1, plus 16 if it is 64 bits wide. 0: none. */
  divisor: number;
  loc: Loc | null;
}

export interface PrintOptions {
  window: "low" | "gs";
  /** Label every instruction that can fault (hosted), or only UD2 and divisions. */
  allSites: boolean;
  fileName(file: number): string;
}

export interface Printed {
  hot: string[];
  cold: string[];
  rodata: string[];
  sites: Site[];
}

const TYPE: Record<Size, string> = { 1: "byte", 2: "word", 4: "dword", 8: "qword" };

export function printFunction(func: MFunc, options: PrintOptions): Printed {
  return new Printer(func, options).run();
}

class Printer {
  private readonly out: Printed = { hot: [], cold: [], rodata: [], sites: [] };
  private lines: string[];
  private loc: Loc | null = null;
  private locals = 0;
  private readonly stubs = new Map<string, string>();
  /** They stand behind all blocks: a cold block may need one in its middle. */
  private readonly stubLines: string[] = [];

  constructor(
    private readonly func: MFunc,
    private readonly options: PrintOptions,
  ) {
    this.lines = this.out.hot;
  }

  run(): Printed {
    const { func } = this;
    this.lines.push(`${func.label}:`);
    const targets = this.targets();
    const place = new Map(func.blocks.map((block, i) => [block, i]));
    let isCold = false;
    func.blocks.forEach((block, i) => {
      if (block.cold !== isCold) this.switchTo(block.cold);
      isCold = block.cold;
      const isHeader =
        block.preds.some((pred) => (place.get(pred) ?? -1) >= i) &&
        block.preds.some((pred) => pred.loopDepth < block.loopDepth);
      this.block(block, targets.has(block), isHeader && isHot(block));
    });
    this.out.hot.push(`${func.label}.end:`);
    this.out.cold.push(...this.stubLines);
    this.tables();
    return this.out;
  }

  private switchTo(cold: boolean): void {
    this.lines = cold ? this.out.cold : this.out.hot;
    this.loc = null;
  }

  private targets(): Set<MBlock> {
    const set = new Set<MBlock>(this.func.jumpTables.flatMap((t) => t.targets));
    for (const block of this.func.blocks) for (const inst of block.insts) if (inst.target) set.add(inst.target);
    return set;
  }

  private block(block: MBlock, labelled: boolean, aligned: boolean): void {
    if (labelled) {
      if (aligned) this.lines.push("align 32"); // a short loop in one fetch window: measured
      this.lines.push(`${this.func.label}${block.label}:`);
    }
    for (const inst of block.insts) this.inst(inst);
  }

  private inst(inst: Inst): void {
    this.place(inst.loc);
    switch (inst.op) {
      case "entry":
      case "use":
        break;
      case "prologue":
        this.text(...prologue(this.func.frame));
        break;
      case "ret":
        this.text(...(inst.frameless ? [] : epilogue(this.func.frame)), "ret");
        break;
      case "jmp":
        this.text(`jmp ${this.label(inst.target)}`);
        break;
      case "jcc":
        this.text(`j${inst.cond} ${this.label(inst.target)}`);
        break;
      case "trapif":
        this.text(`j${inst.cond} ${this.stub(inst)}`);
        break;
      case "asm":
        this.template(inst);
        break;
      default:
        this.plain(inst);
    }
  }

  private text(...lines: string[]): void {
    for (const line of lines) this.lines.push(`  ${line}`);
  }

  private label(block: MBlock | undefined): string {
    return `${this.func.label}${block?.label}`;
  }

  /** A %line directive where the source line changes. */
  private place(loc: Loc | null): void {
    if (!loc || (this.loc && this.loc.file === loc.file && this.loc.line === loc.line)) return;
    this.loc = loc;
    this.lines.push(`%line ${loc.line}+0 ${this.options.fileName(loc.file)}`);
  }

  // ---- Traps

  /** One out-of-line UD2 for each kind and line. */
  private stub(inst: Inst): string {
    const key = `${inst.trap}:${inst.loc?.file}:${inst.loc?.line}`;
    let label = this.stubs.get(key);
    if (label) return label;
    label = `${this.func.label}.trap${this.stubs.size}`;
    this.stubs.set(key, label);
    if (inst.loc) this.stubLines.push(`%line ${inst.loc.line}+0 ${this.options.fileName(inst.loc.file)}`);
    this.stubLines.push(`${label}:`, "  ud2");
    this.out.sites.push({ label, kind: inst.trap as TrapKind, divisor: 0, loc: inst.loc });
    return label;
  }

  /** A label for the instruction that comes next, if it can trap. */
  private site(inst: Inst): void {
    const kind = inst.trap ?? (this.options.allSites && touchesLinear(inst) ? Kind.MEMORY_OUT_OF_BOUNDS : undefined);
    if (kind === undefined) return;
    const label = `${this.func.label}.site${this.out.sites.length}`;
    this.lines.push(`${label}:`);
    this.out.sites.push({ label, kind, divisor: divisorOf(inst), loc: inst.loc ?? this.loc });
  }

  // ---- Instructions

  private plain(inst: Inst): void {
    this.site(inst);
    const operands = inst.operands.map((o, i) => this.operand(o, this.sizeAt(inst, i), needsType(inst, i)));
    const list = operands.length > 0 ? ` ${operands.join(", ")}` : "";
    this.text(`${mnemonic(inst)}${inst.op === "call" ? ` ${inst.symbol}` : list}`);
  }

  private sizeAt(inst: Inst, i: number): Size {
    const isShift =
      inst.op === "shl" || inst.op === "shr" || inst.op === "sar" || inst.op === "rol" || inst.op === "ror";
    if (i === 1 && isShift) return 1;
    return i === 1 && inst.sourceSize ? inst.sourceSize : inst.size;
  }

  private operand(operand: Operand, size: Size, typed: boolean): string {
    if (operand.kind === "reg") return registerName(operand.reg, size);
    if (operand.kind === "imm") return immediate(operand.value);
    return `${typed ? `${TYPE[size]} ` : ""}${this.memory(operand)}`;
  }

  memory(m: MemOperand): string {
    const segment = this.options.window === "gs" ? "gs:" : "";
    switch (m.form) {
      case "linear32":
        return `[${segment}${m.base === NONE && m.index === NONE ? "abs " : ""}${addressText(m, 4)}]`;
      case "linear64":
        return `[${segment}${m.base === NONE ? "abs " : ""}${addressText(m, 8)}]`;
      case "host":
        return `[${addressText(m, 8)}]`;
      case "symbol":
        return `[rel ${m.symbol?.startsWith(".") ? this.func.label : ""}${m.symbol}]`;
      default:
        return `[rsp+${stackDisplacement(this.func, m)}]`;
    }
  }

  // ---- Inlined text

  private template(inst: Inst): void {
    const unique = `${this.func.label}.asm${this.locals++}`;
    const operands = inst.templateOperands ?? (inst.asmOperands ?? []).map((a) => a.operand);
    const scratch = `rsp+${this.func.outgoingBytes}`;
    // tools/check/binary allows privileged instructions between these labels only, as the row has them.
    if (inst.name) this.lines.push(`${unique}.insn.${inst.name}:`);
    const home = this.lines;
    for (const line of inst.template ?? []) {
      if (this.enterSection(line, home)) continue;
      const text = line
        .replaceAll("%l", unique)
        .replaceAll("%s", scratch)
        .replace(/%(\d|r)([dwb]?)/g, (_, n: string, suffix: string) =>
          this.templateOperand(n === "r" ? inst.outputOperand : operands[Number(n)], suffix),
        );
      if (
        this.options.allSites &&
        inst.asmOperands?.some((a) => a.operand.kind === "mem" && text.includes(this.memory(a.operand)))
      )
        this.site({ ...inst, trap: Kind.MEMORY_OUT_OF_BOUNDS });
      this.text(text);
    }
    this.lines = home;
    if (inst.name) this.lines.push(`${unique}.insn.end:`);
  }

  /**
   * A guarded instruction has parts elsewhere: its fix-up behind the cold blocks, its row among the fix-ups. The
   * block itself may be a cold one.
   */
  private enterSection(line: string, home: string[]): boolean {
    if (line === "[section .text.cold]") this.lines = this.stubLines;
    else if (line === "[section .fixup]") {
      this.lines = home;
      home.push(line);
    } else if (line === "[section .text]") {
      this.lines = home;
      home.push(home === this.out.cold ? "[section .text.cold]" : line);
    } else return false;
    return true;
  }

  private templateOperand(operand: Operand | undefined, suffix: string): string {
    const size = ({ d: 4, w: 2, b: 1, "": 8 } as const)[suffix] as Size;
    return operand ? this.operand(operand, size, false) : "?";
  }

  // ---- Tables

  private tables(): void {
    for (const table of this.func.jumpTables) {
      const label = `${this.func.label}${table.label}`;
      this.out.rodata.push("align 4", `${label}:`, ...table.targets.map((t) => `  dd ${this.label(t)} - ${label}`));
    }
  }
}

function mnemonic(inst: Inst): string {
  switch (inst.op) {
    case "movzxd":
      return "mov";
    case "movsx":
      return inst.sourceSize === 4 ? "movsxd" : "movsx";
    case "imul3":
    case "imul1":
      return "imul";
    case "setcc":
      return `set${inst.cond}`;
    case "cmovcc":
      return `cmov${inst.cond}`;
    case "callr":
      return "call";
    case "jmpr":
      return "jmp";
    default:
      return inst.op.startsWith("lock_") ? `lock ${inst.op.slice(5)}` : inst.op;
  }
}

/** Does NASM need to be told the width of a memory operand? */
function needsType(inst: Inst, i: number): boolean {
  if (inst.op === "lea") return false;
  if (inst.sourceSize && i === 1) return true;
  if (inst.operands.length === 1) return true;
  const other = inst.operands[1 - i];
  if (inst.op === "imul3") return i === 1;
  return (
    other?.kind === "imm" ||
    (other?.kind === "reg" && other.reg === RCX && opInfo(inst.op).roles.length === 2 && isShift(inst))
  );
}

function isShift(inst: Inst): boolean {
  return inst.op === "shl" || inst.op === "shr" || inst.op === "sar" || inst.op === "rol" || inst.op === "ror";
}

function immediate(value: bigint): string {
  if (value >= -4096n && value <= 65536n) return value.toString();
  return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

function addressText(m: MemOperand, size: Size): string {
  const parts: string[] = [];
  if (m.base !== NONE) parts.push(registerName(m.base, size));
  if (m.index !== NONE)
    parts.push(m.scale === 1 ? registerName(m.index, size) : `${registerName(m.index, size)}*${m.scale}`);
  const text = parts.join("+");
  if (m.disp === 0 && text) return text;
  return text ? `${text}${m.disp < 0 ? "-" : "+"}${Math.abs(m.disp)}` : `${m.disp}`;
}

function touchesLinear(inst: Inst): boolean {
  return (
    inst.op !== "lea" && inst.operands.some((o) => o.kind === "mem" && (o.form === "linear32" || o.form === "linear64"))
  );
}

function divisorOf(inst: Inst): number {
  const divisor = inst.operands[0];
  if (inst.trapDetail !== "divide" || divisor?.kind !== "reg") return 0;
  return divisor.reg + 1 + (inst.size === 8 ? 16 : 0);
}

function isHot(block: MBlock): boolean {
  return block.loopDepth > 0 && block.frequency >= 5;
}
