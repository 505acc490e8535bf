// AssemblyScript -> Wasm, in process: the kernel with the options of asconfig.json, a single file with
// the same ones. asc optimises nothing: the passes of pipeline.ts make up for it, in a third of the time
// that Binaryen takes and with every instruction at its place in the sources. What asc complains about
// comes back as one line each.

import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import asc from "assemblyscript/asc";
import type { Diagnostic } from "./diagnostic.ts";

export interface AscResult {
  /** null if there was an error. */
  wasm: Uint8Array | null;
  sourceMap: string | undefined;
  errors: Diagnostic[];
  warnings: Diagnostic[];
}

type Options = Record<string, string | number | boolean | string[]>;

interface Config {
  entries: string[];
  options: Options;
}

/** Options that name files: everything stays in memory here. */
const FILES = new Set(["outFile", "textFile"]);

/** Compiles the kernel at `root` (the folder of asconfig.json). */
export function compileKernelSources(root: string): Promise<AscResult> {
  const { entries, options } = readConfig(root);
  return runAsc(root, entries, options);
}

export interface SingleFileOptions {
  /** Size of linear memory in pages of 64 KiB. */
  memoryPages: number;
  /** 3: Binaryen optimises as well, which other Wasm engines gain by. */
  optimizeLevel?: number;
}

/** Compiles one file and what it imports, with a memory of its own instead of the kernel's. `root`: the folder of asconfig.json. */
export function compileFile(root: string, file: string, options: SingleFileOptions): Promise<AscResult> {
  const config = readConfig(root);
  const flags: Options = { ...config.options, importMemory: false };
  delete flags.exportStart; // a C program has a _start of its own: top-level code becomes Wasm's start function
  flags.optimizeLevel = options.optimizeLevel ?? 0;
  flags.initialMemory = options.memoryPages;
  flags.maximumMemory = options.memoryPages;
  return runAsc(process.cwd(), [relative(process.cwd(), file)], flags);
}

function readConfig(root: string): Config {
  return JSON.parse(readFileSync(join(root, "asconfig.json"), "utf8")) as Config;
}

/** `{ use: ["a=b"], converge: true }` -> `--use a=b --converge`. */
function toArguments(options: Options): string[] {
  return Object.entries(options).flatMap(([key, value]) => {
    if (FILES.has(key) || value === false) return [];
    if (value === true) return [`--${key}`];
    return [value].flat().flatMap((item) => [`--${key}`, String(item)]);
  });
}

async function runAsc(baseDir: string, entries: string[], options: Options): Promise<AscResult> {
  const written = new Map<string, Uint8Array | string>();
  const errors: Diagnostic[] = [];
  const warnings: Diagnostic[] = [];
  const quiet = { write: () => {} };
  const argv = [...entries, ...toArguments(options), "--baseDir", baseDir, "--config", "none", "--outFile", "out.wasm"];
  const { error } = await asc.main(argv, {
    stdout: quiet,
    stderr: quiet,
    readFile: readSource,
    writeFile: (name, contents) => {
      written.set(name, contents);
    },
    listFiles: () => [],
    reportDiagnostic: (d) => {
      if (d.category === ERROR) errors.push(toDiagnostic(d, baseDir));
      else if (d.category === WARNING) warnings.push(toDiagnostic(d, baseDir));
    },
  });
  if (error !== null && errors.length === 0) errors.push({ message: error.message.split("\n")[0] as string });
  const wasm = written.get("out.wasm");
  const failed = errors.length > 0 || !(wasm instanceof Uint8Array);
  return { wasm: failed ? null : wasm, sourceMap: written.get("out.wasm.map")?.toString(), errors, warnings };
}

function readSource(name: string, baseDir: string): string | null {
  try {
    return readFileSync(join(baseDir, name), "utf8");
  } catch {
    return null; // asc tries several places for an import
  }
}

// asc's diagnostic categories.
const WARNING = 2;
const ERROR = 3;

interface AscDiagnostic {
  code: number;
  message: string;
  range: { start: number; source: { normalizedPath: string } } | null;
}

/** asc gives a character position; its line and column are counted in the file itself. */
function toDiagnostic(d: AscDiagnostic, baseDir: string): Diagnostic {
  const message = `AS${d.code}: ${d.message.split("\n")[0]}`;
  if (d.range === null) return { message };
  const file = d.range.source.normalizedPath;
  const text = readSource(file, baseDir);
  if (text === null) return { message: `${message} (in ${file})` };
  const before = text.slice(0, d.range.start).split("\n");
  return { message, file, line: before.length, column: (before[before.length - 1] as string).length + 1 };
}
