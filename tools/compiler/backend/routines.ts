/**
 * memory.copy, fill and init of unknown or large size. RDI, RSI, RDX: operands as zero-extended 32-bit
 * numbers. Both ranges are checked before the first write; CF = 1 on return: out of bounds, nothing
 * written. They change RAX, RCX, RDX, RSI, RDI, R8 to R11 and flags. In the low window the first 64 KiB count
 * as out of bounds too, unless nothing is to be done.
 */

import type { Module } from "../ir.ts";
import type { EmitOptions, Emitted } from "./emit.ts";

const PAGE = 65536;

export function routines(module: Module, compiled: Emitted[], options: EmitOptions): string[] {
  const used = new Set(
    compiled.flatMap((e) =>
      e.machine.blocks.flatMap((b) => b.insts.flatMap((i) => (i.op === "call" && i.symbol ? [i.symbol] : []))),
    ),
  );
  const bytes = (module.memoryPages?.initial ?? 0) * PAGE;
  const lines = ["basalt_routines:"];
  if (used.has("basalt_memory_copy")) lines.push("align 16", "basalt_memory_copy:", ...copyRoutine(bytes, options));
  if (used.has("basalt_memory_fill")) lines.push("align 16", "basalt_memory_fill:", ...fillRoutine(bytes, options));
  if (used.has("basalt_memory_pattern"))
    lines.push("align 16", "basalt_memory_pattern:", ...patternRoutine(bytes, options));
  if (used.has("basalt_memory_init")) lines.push("align 16", "basalt_memory_init:", ...initRoutine(bytes, options));
  return lines.map((line) => (line.endsWith(":") ? line : `  ${line}`));
}

/** Range [register, register + RDX) against the memory; RAX is free. */
function check(register: string, bytes: number, options: EmitOptions): string[] {
  const limit = bytes < 2 ** 31 ? [`cmp rax, ${bytes}`] : [`mov ecx, ${bytes}`, "cmp rax, rcx"];
  const upper = [`lea rax, [${register}+rdx]`, ...limit, "ja .bad"];
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
/** From here on the string instructions win; below, their start costs more than a loop. */
const STRING_BYTES = 256;
/** A forward copy by less than this onto itself is slow with them. */
const NEAR_BYTES = 64;

/** Up to 32 bytes: reads from both ends, which may overlap, then writes. */
function copyShort(): string[] {
  return [
    "cmp rdx, 16",
    "ja .upTo32",
    "cmp edx, 8",
    "jae .upTo16",
    "cmp edx, 4",
    "jae .upTo8",
    "test edx, edx",
    "jz .done",
    // One to three bytes: the first, the middle, the last.
    "mov ecx, edx",
    "shr ecx, 1",
    "movzx eax, byte [rsi]",
    "movzx r8d, byte [rsi+rcx]",
    "movzx r9d, byte [rsi+rdx-1]",
    "mov [rdi], al",
    "mov [rdi+rcx], r8b",
    "mov [rdi+rdx-1], r9b",
    ...DONE,
    ".upTo8:",
    "mov eax, [rsi]",
    "mov ecx, [rsi+rdx-4]",
    "mov [rdi], eax",
    "mov [rdi+rdx-4], ecx",
    "clc",
    "ret",
    ".upTo16:",
    "mov rax, [rsi]",
    "mov rcx, [rsi+rdx-8]",
    "mov [rdi], rax",
    "mov [rdi+rdx-8], rcx",
    "clc",
    "ret",
    ".upTo32:",
    "cmp rdx, 32",
    "ja .more",
    "mov r8, [rsi]",
    "mov r9, [rsi+8]",
    "mov r10, [rsi+rdx-16]",
    "mov r11, [rsi+rdx-8]",
    "mov [rdi], r8",
    "mov [rdi+8], r9",
    "mov [rdi+rdx-16], r10",
    "mov [rdi+rdx-8], r11",
    "clc",
    "ret",
  ];
}

/** The 32 bytes at the far end are read before the loop writes and written after it. */
function copyRoutine(bytes: number, options: EmitOptions): string[] {
  const rest = ["r8", "r9", "r10", "r11"];
  return [
    ...check("rdi", bytes, options),
    ...check("rsi", bytes, options),
    ...base(options, "rdi", "rsi"),
    ...copyShort(),
    ".more:",
    "mov rax, rdi",
    "sub rax, rsi",
    "cmp rax, rdx",
    "jb .backward",
    `cmp rdx, ${STRING_BYTES}`,
    "jb .forward",
    `cmp rax, -${NEAR_BYTES}`,
    "ja .forward",
    "mov rcx, rdx",
    "rep movsb",
    "clc",
    "ret",
    ".forward:",
    ...rest.map((r, i) => `mov ${r}, [rsi+rdx${i * 8 - 32}]`),
    "lea rcx, [rdi+rdx-32]",
    ".forwardLoop:",
    "mov rax, [rsi]",
    "mov rdx, [rsi+8]",
    "mov [rdi], rax",
    "mov [rdi+8], rdx",
    "add rsi, 16",
    "add rdi, 16",
    "cmp rdi, rcx",
    "jb .forwardLoop",
    ...rest.map((r, i) => `mov [rcx+${i * 8}], ${r}`),
    "clc",
    "ret",
    ".backward:",
    ...rest.map((r, i) => `mov ${r}, [rsi+${i * 8}]`),
    ".backwardLoop:",
    "mov rax, [rsi+rdx-8]",
    "mov rcx, [rsi+rdx-16]",
    "mov [rdi+rdx-8], rax",
    "mov [rdi+rdx-16], rcx",
    "sub rdx, 16",
    "cmp rdx, 32",
    "ja .backwardLoop",
    ...rest.map((r, i) => `mov [rdi+${i * 8}], ${r}`),
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
    "mov rcx, 0x0101010101010101",
    "imul rax, rcx",
    "cmp rdx, 16",
    "ja .more",
    "cmp edx, 8",
    "jae .upTo16",
    "cmp edx, 4",
    "jae .upTo8",
    "test edx, edx",
    "jz .done",
    "mov ecx, edx",
    "shr ecx, 1",
    "mov [rdi], al",
    "mov [rdi+rcx], al",
    "mov [rdi+rdx-1], al",
    ...DONE,
    ".upTo8:",
    "mov [rdi], eax",
    "mov [rdi+rdx-4], eax",
    "clc",
    "ret",
    ".upTo16:",
    "mov [rdi], rax",
    "mov [rdi+rdx-8], rax",
    "clc",
    "ret",
    ".more:",
    `cmp rdx, ${STRING_BYTES}`,
    "jae .string",
    "lea rcx, [rdi+rdx-16]",
    ".loop:",
    "mov [rdi], rax",
    "mov [rdi+8], rax",
    "add rdi, 16",
    "cmp rdi, rcx",
    "jb .loop",
    "mov [rcx], rax",
    "mov [rcx+8], rax",
    "clc",
    "ret",
    ".string:",
    "mov rcx, rdx",
    "rep stosb",
    "clc",
    "ret",
    ...low(options),
    ...BAD,
  ];
}

/** RSI: 64 bits to repeat. RDX: at least 16, a multiple of the pattern's period. */
function patternRoutine(bytes: number, options: EmitOptions): string[] {
  return [
    ...check("rdi", bytes, options),
    ...base(options, "rdi"),
    "mov rax, rsi",
    // The last eight bytes by themselves: the count of quadwords is rounded down.
    "mov [rdi+rdx-8], rax",
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep stosq",
    ...DONE,
    ...low(options),
    ...BAD,
  ];
}

/** RCX: the segment's bytes; RAX: its size. */
function initRoutine(bytes: number, options: EmitOptions): string[] {
  return [
    "mov r8, rcx",
    "lea rcx, [rsi+rdx]",
    "cmp rcx, rax",
    "ja .bad",
    ...check("rdi", bytes, options),
    ...base(options, "rdi"),
    "add rsi, r8",
    "mov rcx, rdx",
    "rep movsb",
    ...DONE,
    ...low(options),
    ...BAD,
  ];
}
