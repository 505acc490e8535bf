/**
 * Compiles kernel/abi.ts alone and turns its exported constants into `%define`s for NASM.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { ROOT } from "../paths.ts";

export type Constants = Map<string, bigint>;

/** Every exported constant of `entry` (a path below the root), as an unsigned number. */
export async function readConstants(entry = "kernel/abi.ts"): Promise<Constants> {
  let wasm: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [entry, "--config", "none", "--runtime", "stub", "--use", "abort=", "--importMemory", "--outFile", "abi.wasm"],
    {
      readFile: (name: string, base: string) => readText(join(base, name)),
      writeFile: (name: string, contents: Uint8Array | string) => {
        if (name.endsWith(".wasm")) wasm = contents as Uint8Array;
      },
      listFiles: () => [],
    },
  );
  if (error || !wasm) throw new Error(`${entry} does not compile:\n${stderr.toString()}`);
  return constantsOf(wasm);
}

function readText(path: string): string | null {
  try {
    return readFileSync(join(ROOT, path), "utf8");
  } catch {
    return null;
  }
}

async function constantsOf(wasm: Uint8Array): Promise<Constants> {
  const module = await WebAssembly.compile(wasm as Uint8Array<ArrayBuffer>);
  const memory = new WebAssembly.Memory({ initial: 16 });
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    imports[from][name] = kind === "memory" ? memory : () => 0;
  }
  const { exports } = await WebAssembly.instantiate(module, imports);
  const constants: Constants = new Map();
  for (const [name, value] of Object.entries(exports)) {
    if (!(value instanceof WebAssembly.Global)) continue;
    const number: number | bigint = value.value;
    constants.set(name, typeof number === "bigint" ? BigInt.asUintN(64, number) : BigInt(number >>> 0));
  }
  return constants;
}

export function toDefines(constants: Constants): string {
  const lines = [...constants].map(([name, value]) => `%define ${name.padEnd(28)} 0x${value.toString(16)}`);
  return `; Made from kernel/abi.ts by tools/image.\n${lines.join("\n")}\n`;
}
