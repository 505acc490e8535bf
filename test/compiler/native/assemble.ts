// One hosted object by itself, for the benchmarks.

import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type CompileOptions, compileForProcess } from "./compile.ts";

export const hostedFolder = fileURLToPath(new URL("../../../tools/compiler/hosted", import.meta.url));

/** Writes base.asm and base.o; returns the latter's path. */
export async function assembleHosted(wasm: Uint8Array, options: CompileOptions, base: string): Promise<string> {
  writeFileSync(`${base}.asm`, compileForProcess(wasm, options));
  await promisify(execFile)("nasm", ["-Werror", "-f", "elf64", `${base}.asm`, "-o", `${base}.o`]);
  return `${base}.o`;
}
