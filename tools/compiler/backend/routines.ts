/**
 * memory.copy, fill and init of unknown or large size. RDI, RSI, RDX: operands as zero-extended 32-bit
 * numbers. Both ranges are checked before the first write; CF = 1 on return: out of bounds, nothing
 * written. They change RAX, RCX, RDX, RSI, RDI and flags. In the low window the first 64 KiB count
 * as out of bounds too, unless nothing is to be done.
 */

import type { Module } from "../ir.ts";
import type { Emitted, EmitOptions } from "./emit.ts";

const PAGE = 65536;

export function routines(module: Module, compiled: Emitted[], options: EmitOptions): string[] {
  const used = new Set(compiled.flatMap((e) => e.machine.blocks.flatMap((b) => b.insts.flatMap((i) => (i.op === "call" && i.symbol ? [i.symbol] : [])))));
  const bytes = (module.memoryPages?.initial ?? 0) * PAGE;
  const lines = ["basalt_routines:"];
  if (used.has("basalt_memory_copy")) lines.push("align 16", "basalt_memory_copy:", ...copyRoutine(bytes, options));
  if (used.has("basalt_memory_fill")) lines.push("align 16", "basalt_memory_fill:", ...fillRoutine(bytes, options));
  if (used.has("basalt_memory_init")) lines.push("align 16", "basalt_memory_init:", ...initRoutine(bytes, options));
  return lines.map((line) => (line.endsWith(":") ? line : `  ${line}`));
}

/** Range [register, register + RDX) against the memory; RAX is free. */
function check(register: string, bytes: number, options: EmitOptions): string[] {
  const upper = [`lea rax, [${register}+rdx]`, `mov ecx, ${bytes}`, "cmp rax, rcx", "ja .bad"];
  return options.window === "low" ? [...upper, `cmp ${register}, ${PAGE}`, "jb .low"] : upper;
}

/** Below 64 KiB: out of bounds unless there is nothing to do. */
function low(options: EmitOptions): string[] {
  return options.window === "low" ? [".low:", "test rdx, rdx", "jz .done"] : [];
}

function base(options: EmitOptions, ...registers: string[]): string[] {
  if (options.window === "low") return [];
  return ["mov rax, [rel basalt_memory_base]", ...registers.map((r) => `add ${r}, rax`)];
}

const BAD = [".bad:", "stc", "ret"];
const DONE = [".done:", "clc", "ret"];
const REP_BYTES = 512;

function copyRoutine(bytes: number, options: EmitOptions): string[] {
  return [
    ...check("rdi", bytes, options),
    ...check("rsi", bytes, options),
    ...base(options, "rdi", "rsi"),
    // Forwards unless the destination begins inside the source.
    "mov rax, rdi",
    "sub rax, rsi",
    "cmp rax, rdx",
    "jb .backward",
    `cmp rdx, ${REP_BYTES}`,
    "jae .large",
    "sub rdx, 8",
    "jb .tail",
    ".words:",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "sub rdx, 8",
    "jae .words",
    ".tail:",
    "add rdx, 8",
    "jz .done",
    ".bytes:",
    "movzx eax, byte [rsi]",
    "mov [rdi], al",
    "inc rsi",
    "inc rdi",
    "dec rdx",
    "jnz .bytes",
    ...DONE,
    ".large:",
    "mov rcx, rdx",
    "rep movsb",
    "clc",
    "ret",
    ".backward:",
    "sub rdx, 8",
    "jb .tailBackward",
    ".wordsBackward:",
    "mov rax, [rsi+rdx]",
    "mov [rdi+rdx], rax",
    "sub rdx, 8",
    "jae .wordsBackward",
    ".tailBackward:",
    "add rdx, 8",
    "jz .done",
    ".bytesBackward:",
    "movzx eax, byte [rsi+rdx-1]",
    "mov [rdi+rdx-1], al",
    "dec rdx",
    "jnz .bytesBackward",
    "clc",
    "ret",
    ...low(options),
    ...BAD,
  ];
}

function fillRoutine(bytes: number, options: EmitOptions): string[] {
  return [
    ...check("rdi", bytes, options),
    ...base(options, "rdi"),
    "movzx eax, sil",
    `cmp rdx, ${REP_BYTES}`,
    "jae .large",
    "mov rcx, 0x0101010101010101",
    "imul rax, rcx",
    "sub rdx, 8",
    "jb .tail",
    ".words:",
    "mov [rdi], rax",
    "add rdi, 8",
    "sub rdx, 8",
    "jae .words",
    ".tail:",
    "add rdx, 8",
    "jz .done",
    ".bytes:",
    "mov [rdi], al",
    "inc rdi",
    "dec rdx",
    "jnz .bytes",
    ...DONE,
    ".large:",
    "mov rcx, rdx",
    "rep stosb",
    "clc",
    "ret",
    ...low(options),
    ...BAD,
  ];
}

/** RCX: the segment's bytes; RAX: its size. */
function initRoutine(bytes: number, options: EmitOptions): string[] {
  return [
    "push rcx",
    "lea rcx, [rsi+rdx]",
    "cmp rcx, rax",
    "ja .badPop",
    ...check("rdi", bytes, options).map((line) => line.replace(".bad", ".badPop").replace(".low", ".lowPop")),
    ...base(options, "rdi"),
    "pop rcx",
    "add rsi, rcx",
    "mov rcx, rdx",
    "rep movsb",
    ...DONE,
    ...(options.window === "low" ? [".lowPop:", "test rdx, rdx", "jnz .badPop", "pop rcx", "clc", "ret"] : []),
    ".badPop:",
    "pop rcx",
    "stc",
    "ret",
  ];
}
