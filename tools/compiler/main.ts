// The compiler as a whole: source or Wasm in, NASM text and figures out. As a program:
//
//   npm run compile -- FILE.ts|FILE.wasm --hosted -o FILE.o [--window low|gs] [--dump PASS]

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { Command, Option } from "commander";
import { PROFILES, type Profile, ROOT } from "../paths.ts";
import { type AscResult, compileFile, compileKernelSources } from "./asc.ts";
import { type EmitOptions, type EmitResult, emitModule } from "./backend/emit.ts";
import { CompileError, type Diagnostic, formatDiagnostic, refuse } from "./diagnostic.ts";
import type { Module } from "./ir.ts";
import { type OptimizeOptions, optimize } from "./pipeline.ts";
import { printFunc } from "./print.ts";
import { type ReadOptions, readModule } from "./read.ts";
import { refuseModule } from "./refuse.ts";

export interface WasmInput {
  wasm: Uint8Array;
  sourceMap: string | undefined;
}

export interface CompileOptions {
  /** Sees the module as it was read, before the passes. */
  inspect?: (module: Module) => void;
  target: "metal" | "hosted";
  window: "low" | "gs";
  read?: Omit<ReadOptions, "hosted">;
  optimize?: OptimizeOptions;
  emit?: Omit<EmitOptions, "target" | "window">;
}

export interface Compiled extends EmitResult {
  module: Module;
}

/** Wasm to NASM text. Throws CompileError. */
export function compile(input: WasmInput, options: CompileOptions): Compiled {
  const hosted = options.target === "hosted";
  const module = readModule(input.wasm, input.sourceMap, { ...options.read, hosted });
  refuseModule(module, { hosted });
  options.inspect?.(module);
  optimize(module, options.optimize);
  return { module, ...emitModule(module, { ...options.emit, target: options.target, window: options.window }) };
}

/** What asc made of the sources, to NASM text. */
function compileResult(result: AscResult, options: CompileOptions): CompiledSources {
  const { wasm, sourceMap, errors, warnings } = result;
  if (wasm === null) throw new CompileError(errors);
  return { ...compile({ wasm, sourceMap }, options), wasm, sourceMap, warnings };
}

export interface CompiledSources extends Compiled, WasmInput {
  warnings: Diagnostic[];
}

/** The kernel of this tree, for metal. Throws CompileError. */
export async function compileKernel(profile: Profile, inspect?: CompileOptions["inspect"]): Promise<CompiledSources> {
  const optimize = { debug: profile === "debug" };
  // A guest decides where a jump table leads, and could have trained the predictor for it: compare trees have nothing to steer.
  return compileResult(await compileKernelSources(ROOT), {
    optimize,
    inspect,
    target: "metal",
    window: "low",
    emit: { noJumpTables: true },
  });
}

// ---- The program

interface CliOptions {
  hosted?: boolean;
  output: string;
  window: "low" | "gs";
  profile: Profile;
  memory: string;
  prefix?: string;
  march?: string;
  jumpTables: boolean;
  dump?: string;
  function?: string;
  verify?: boolean;
}

/** One source file and what it imports, as `npm run compile` does it. Throws CompileError. */
export async function compileSourceFile(
  file: string,
  memoryPages: number,
  options: CompileOptions,
): Promise<CompiledSources> {
  return compileResult(await compileFile(ROOT, file, { memoryPages }), options);
}

function readWasm(file: string): WasmInput {
  const wasm = readFileSync(file);
  if (!WebAssembly.validate(wasm)) refuse(`${file}: not a valid Wasm module`);
  const map = `${file}.map`;
  return { wasm, sourceMap: existsSync(map) ? readFileSync(map, "utf8") : undefined };
}

function warnOfTraps(module: Module): void {
  for (const func of module.funcs) {
    if (func.unsupported) console.error(`warning: ${func.name} uses ${func.unsupported}: it traps when it is called`);
  }
}

function assemble(asm: string, output: string): void {
  if (output.endsWith(".asm")) {
    writeFileSync(output, asm);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "basalt-"));
  try {
    const source = join(folder, "module.asm");
    writeFileSync(source, asm);
    execFileSync("nasm", ["-Werror", "-f", "elf64", "-g", "-F", "dwarf", "-o", output, source], {
      stdio: ["ignore", "inherit", "inherit"],
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Options that print the SSA after each pass whose name is `--dump`, or after every pass for "all". */
function dumping(options: CliOptions): OptimizeOptions {
  const wanted = options.dump;
  return {
    debug: options.profile === "debug",
    verify: options.verify,
    onPass: (pass, func) => {
      if (wanted !== "all" && wanted !== pass) return;
      if (options.function && !func.name.includes(options.function)) return;
      console.log(`; after ${pass}\n${printFunc(func)}`);
    },
  };
}

async function run(file: string, options: CliOptions): Promise<void> {
  if (!existsSync(file)) refuse(`${file}: no such file`);
  const memoryPages = Number(options.memory);
  if (!Number.isInteger(memoryPages) || memoryPages < 1 || memoryPages > 65535) {
    refuse("--memory takes a number of 64 KiB pages from 1 to 65535");
  }
  const settings: CompileOptions = {
    target: options.hosted ? "hosted" : "metal",
    window: options.window,
    optimize: dumping(options),
    emit: { prefix: options.prefix, march: options.march?.split(","), noJumpTables: !options.jumpTables },
  };
  const compiled = file.endsWith(".wasm")
    ? { ...compile(readWasm(file), settings), warnings: [] }
    : await compileSourceFile(file, memoryPages, settings);
  for (const warning of compiled.warnings) console.error(formatDiagnostic(warning, "warning"));
  warnOfTraps(compiled.module);
  assemble(compiled.asm, options.output);
}

/** Nothing is left at the output's place if anything went wrong. */
async function main(file: string, options: CliOptions): Promise<void> {
  try {
    rmSync(options.output, { force: true });
    if (!existsSync(dirname(options.output))) refuse(`${dirname(options.output)}: no such folder`);
    await run(file, options);
  } catch (error) {
    rmSync(options.output, { force: true });
    if (!(error instanceof CompileError)) throw error;
    for (const diagnostic of error.diagnostics) console.error(formatDiagnostic(diagnostic));
    process.exitCode = 1;
  }
}

export function command(): Command {
  return new Command("compile")
    .description("Compiles AssemblyScript or Wasm to an x86-64 object file")
    .argument("<file>", "FILE.ts or FILE.wasm (with FILE.wasm.map, if there is one)")
    .requiredOption("-o, --output <file>", "object file; NASM text if it ends in .asm")
    .option("--hosted", "for a Linux process, with the System V calling convention (default: metal)")
    .addOption(new Option("--window <kind>", "where linear memory lies").choices(["low", "gs"]).default("low"))
    .addOption(
      new Option("--profile <name>", "release, or debug: code in the order of the source")
        .choices(PROFILES)
        .default("release"),
    )
    .option("--memory <pages>", "linear memory of a FILE.ts, in pages of 64 KiB", "1024")
    .option("--prefix <text>", "hosted: stands before every symbol")
    .option("--march <list>", "instructions beyond the baseline: popcnt, lzcnt, bmi")
    .option("--no-jump-tables", "compare trees instead of indirect jumps")
    .option("--dump <pass>", "prints the SSA after a pass of pipeline.ts, or after all")
    .option("--function <text>", "only functions whose name contains this are dumped")
    .option("--verify", "checks the SSA after every pass")
    .action(main);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await command().parseAsync();
