/**
 * The back half of the compiler: a module in SSA becomes NASM text and the figures about it.
 *
 * Sections: .text, .text.cold (what rarely runs, trap stubs), .rodata (jump tables, the function
 * table), .data (globals). Metal adds .frames, .traps and .fixup (docs/architecture.md, "Tables for
 * faults"); data segments come back as bytes. Hosted adds the descriptor of hosted/basalt.h.
 */

import type { Func, Module, Signature } from "../ir.ts";
import { ARGUMENT_REGISTERS, PRESERVED, SYSTEM_V_CLOBBERS } from "./abi.ts";
import { allocate } from "./alloc/allocate.ts";
import { buildCallGraph, type CallGraph } from "./callgraph.ts";
import { frameBytes, layFrame } from "./frame.ts";
import { hostedParts } from "./hosted.ts";
import { shortenJumps } from "./jumps.ts";
import { Labels } from "./labels.ts";
import { layOut } from "./layout.ts";
import type { MFunc } from "./machine.ts";
import { linearImage, metalTables } from "./metal.ts";
import { peephole } from "./peephole.ts";
import { type Printed, printFunction } from "./print.ts";
import { ALLOCATABLE, type RegSet, setOf } from "./registers.ts";
import { routines } from "./routines.ts";
import { type SelectContext, Selector } from "./select.ts";
import { placePrologue } from "./shrink.ts";
import { cleanSlots } from "./slots.ts";
import { type StackReport, stackReport } from "./stack.ts";

export interface EmitOptions {
  target: "metal" | "hosted";
  window: "low" | "gs";
  /** Hosted: stands before every symbol of the object. */
  prefix?: string;
  /** Instructions beyond the x86-64 baseline: popcnt, lzcnt, bmi. */
  march?: string[];
  /** Compare trees instead of indirect jumps: speculation. */
  noJumpTables?: boolean;
  /** Called with the machine code of a function after each step: "select", "allocate", "layout". */
  dump?: (step: string, func: MFunc) => void;
}

export interface FunctionReport {
  name: string;
  label: string;
  exports: string[];
  frameBytes: number;
  /** Names of the intrinsics that it uses. */
  intrinsics: string[];
  indirectCalls: number;
}

export interface EmitResult {
  asm: string;
  /** Metal: linear memory from 64 KiB on, without zeros at the end. */
  linear: Uint8Array;
  functions: FunctionReport[];
  stack: StackReport;
}

export interface Emitted {
  func: Func;
  machine: MFunc;
  printed: Printed;
}

export function emitModule(module: Module, options: EmitOptions): EmitResult {
  const graph = buildCallGraph(module);
  const compiled = new ModuleEmitter(module, graph, options).run();
  // Callees first: code that is used together stands together.
  const hosted = options.target === "hosted" ? hostedParts(module, compiled, options) : null;
  const parts: string[] = [
    ...head(),
    ...externs(compiled),
    ...compiled.flatMap((e) => ["", "align 16", ...exportLabels(e.func, options), ...e.printed.hot]),
    "",
    ...routines(module, compiled, options),
    ...(hosted?.text ?? []),
    "basalt_text_end:",
    "[section .text.cold]",
    "basalt_cold:",
    ...compiled.flatMap((e) => coldPart(e)),
    "basalt_cold_end:",
    "[section .rodata]",
    ...compiled.flatMap((e) => e.printed.rodata),
    ...table(module, options),
    ...data(module, options),
    ...(options.target === "metal" ? metalTables(compiled) : []),
    ...(hosted?.data ?? []),
    "",
  ];
  return {
    asm: parts.join("\n"),
    linear: options.target === "metal" ? linearImage(module) : new Uint8Array(),
    functions: compiled.map(report),
    stack: stackReport(module, graph, compiled),
  };
}

function head(): string[] {
  return [
    "bits 64",
    "default rel",
    "%use smartalign",
    "alignmode p6, 32",
    // The cold part comes after the hot one, which the tables rely on.
    "section .text progbits alloc exec nowrite align=32",
    "section .text.cold progbits alloc exec nowrite align=16",
    "section .rodata progbits alloc noexec nowrite align=16",
    "section .data progbits alloc noexec write align=16",
    "section .fixup progbits alloc noexec nowrite align=16",
    "[section .text]",
    "basalt_text:",
  ];
}

/** The NASM routines that stand for intrinsics, as far as they are called. */
function externs(compiled: Emitted[]): string[] {
  const calls = compiled.flatMap((e) =>
    e.machine.blocks.flatMap((b) => b.insts.flatMap((i) => (i.op === "call" && i.symbol ? [i.symbol] : []))),
  );
  return [...new Set(calls.filter((symbol) => symbol.startsWith("insn_")))].sort().map((symbol) => `extern ${symbol}`);
}

class ModuleEmitter {
  private readonly labels: Labels;
  private readonly machines = new Map<number, MFunc>();

  constructor(
    private readonly module: Module,
    private readonly graph: CallGraph,
    private readonly options: EmitOptions,
  ) {
    this.labels = new Labels(module);
  }

  run(): Emitted[] {
    const context = this.context();
    return this.graph.order.map((func) => this.emit(func, context));
  }

  private context(): SelectContext {
    const { module, options } = this;
    const imports = module.imports.length;
    return {
      module,
      target: options.target,
      window: options.window,
      march: new Set(options.march ?? []),
      noJumpTables: options.noJumpTables ?? false,
      labelOf: (index) => (index < imports ? `basalt_import_${index}` : this.labels.of(index)),
      signatureOf: (index) => signatureOf(module, index),
      clobbersOf: (index) => (index < imports ? SYSTEM_V_CLOBBERS : this.clobbers(index)),
      clobbersOfType: (type) => this.typeClobbers(type),
    };
  }

  /** What the callee changes, if it was compiled before; else what the convention lets it change. */
  private clobbers(index: number): RegSet {
    return this.machines.get(index)?.clobbers ?? ALLOCATABLE & ~PRESERVED;
  }

  private typeClobbers(type: number): RegSet {
    const hasImports = this.module.table.some((i) => i !== null && i < this.module.imports.length);
    return (this.graph.byType.get(type) ?? []).reduce(
      (set, f) => set | this.clobbers(f.index),
      hasImports ? SYSTEM_V_CLOBBERS : 0,
    );
  }

  private emit(func: Func, context: SelectContext): Emitted {
    const machine = this.newMachine(func);
    const dump = (step: string): void => this.options.dump?.(step, machine);
    new Selector(context, func, machine).run();
    dump("select");
    allocate(machine);
    dump("allocate");
    cleanSlots(machine);
    peephole(machine);
    layFrame(machine);
    placePrologue(machine);
    layOut(machine);
    dump("layout");
    // A cycle's functions were compiled against the convention, not against each other.
    if (machine.preserved) machine.clobbers = ALLOCATABLE & ~PRESERVED;
    this.machines.set(func.index, machine);
    const { files } = this.module;
    const printed = printFunction(machine, {
      window: this.options.window,
      allSites: this.options.target === "hosted",
      fileName: (file) => files[file] ?? "?",
    });
    printed.hot = shortenJumps(printed.hot);
    printed.cold = shortenJumps(printed.cold);
    return { func, machine, printed };
  }

  private newMachine(func: Func): MFunc {
    return {
      index: func.index,
      name: func.name,
      label: this.labels.of(func.index),
      blocks: [],
      virtuals: [],
      jumpTables: [],
      slots: 0,
      outgoingBytes: 0,
      usesScratch: false,
      makesCalls: false,
      alignStack: this.options.target === "hosted" && this.module.imports.length > 0,
      preserved: this.graph.cyclic.has(func) ? PRESERVED : 0,
      frame: { pushed: [], bytes: 0 },
      clobbers: setOf(...ARGUMENT_REGISTERS),
    };
  }
}

function exportLabels(func: Func, options: EmitOptions): string[] {
  if (options.target !== "metal") return [];
  return func.exports.flatMap((name) => [`global ${name}`, `${name}:`]);
}

/** One byte first, so that no instruction stands at the start: see the frames table. */
function coldPart({ machine, printed }: Emitted): string[] {
  return printed.cold.length > 0 ? [`${machine.label}.cold: int3`, ...printed.cold] : [];
}

/** Of a function by its place in Wasm's index space. */
export function signatureOf(module: Module, index: number): Signature & { type: number } {
  const imported = module.imports[index];
  if (imported) return { ...imported.signature, type: imported.type };
  const func = module.funcs.find((f) => f.index === index);
  if (!func) throw new Error(`no function ${index}`);
  return { params: func.params, results: func.results, type: func.type };
}

function table(module: Module, options: EmitOptions): string[] {
  if (module.table.length === 0) return [];
  const labels = new Labels(module);
  const code = (index: number | null): string =>
    index === null ? "0" : index < module.imports.length ? `basalt_import_${index}` : labels.of(index);
  const type = (index: number | null): number => (index === null ? -1 : signatureOf(module, index).type);
  const section = options.target === "hosted" ? ["section .data.rel.ro progbits alloc noexec write align=8"] : [];
  return [
    ...section,
    "align 16",
    "basalt_table:",
    ...module.table.map((i) => `  dq ${code(i)}`),
    ...module.table.map((i) => `  dd ${type(i)}`),
  ];
}

function data(module: Module, options: EmitOptions): string[] {
  const lines = ["[section .data]", "align 16", "basalt_data:"];
  for (const g of module.globals) lines.push(`basalt_global_${g.index}: dq 0x${g.init.toString(16)}`);
  module.data.forEach((segment, i) => {
    // An active segment counts as dropped once it is in memory.
    lines.push(`basalt_segment_${i}_size: dq ${segment.address === null ? segment.bytes.length : 0}`);
  });
  if (options.target === "hosted") lines.push("basalt_memory_base: dq 0");
  lines.push("basalt_data_end:");
  lines.push("[section .rodata]");
  module.data.forEach((segment, i) => {
    if (segment.address === null || options.target === "hosted")
      lines.push(`basalt_segment_${i}_bytes:`, ...bytesText(segment.bytes));
  });
  return lines;
}

export function bytesText(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 32) lines.push(`  db ${[...bytes.subarray(i, i + 32)].join(",")}`);
  return lines;
}

function report({ func, machine }: Emitted): FunctionReport {
  const values = func.blocks.flatMap((b) => b.body);
  const intrinsics = new Set(values.filter((v) => v.op === "intrinsic").map((v) => v.name as string));
  return {
    name: func.name,
    label: machine.label,
    exports: func.exports,
    frameBytes: frameBytes(machine.frame),
    intrinsics: [...intrinsics].sort(),
    indirectCalls: values.filter((v) => v.op === "call_indirect").length,
  };
}
