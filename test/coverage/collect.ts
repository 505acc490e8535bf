// Which source lines of the core ran in this process: modules are instrumented as they are compiled, share
// their counters among all machines, and are read once at the end.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SourcePlaces } from "../../tools/compiler/sourcemap.ts";
import { type BlockLines, COUNTERS, instrument } from "./instrument.ts";

/** The folder for results; none: nothing is measured. */
const FOLDER = process.env.BASALT_COVERAGE;

export const isMeasured = FOLDER !== undefined && FOLDER !== "";

/** 0: the line was not reached, 1: it was. */
export type Lines = Record<string, 0 | 1>;

interface Module {
  blocks: BlockLines[];
  counters: WebAssembly.Global[];
}

const modules = new Map<WebAssembly.Module, Module>();

/** Compiles `wasm` with counters; `map` is its source map. */
export async function measured(wasm: Uint8Array, map: string): Promise<WebAssembly.Module> {
  const { wasm: bytes, blocks } = instrument(wasm, new SourcePlaces(map));
  const module = await WebAssembly.compile(bytes as BufferSource);
  const count = Math.ceil(blocks.length / 64);
  const counters = Array.from({ length: count }, () => new WebAssembly.Global({ value: "i64", mutable: true }, 0n));
  modules.set(module, { blocks, counters });
  return module;
}

/** Imports that `module` needs besides its own. */
export function countersOf(module: WebAssembly.Module): WebAssembly.Imports {
  const found = modules.get(module);
  if (!found) return {};
  return { [COUNTERS]: Object.fromEntries(found.counters.map((counter, i) => [`g${i}`, counter])) };
}

/** A line counts as reached if any block with it was, in any module. */
export function linesReached(): Lines {
  const lines: Lines = {};
  for (const { blocks, counters } of modules.values()) {
    for (const [n, block] of blocks.entries()) {
      const reached = ((counters[n >> 6]?.value as bigint) >> BigInt(n & 63)) & 1n;
      for (const line of block) lines[line] = reached || lines[line] ? 1 : 0;
    }
  }
  return lines;
}

/** Writes what this process has reached. */
export function writeLines(): void {
  if (!FOLDER || modules.size === 0) return;
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, `${process.pid}-${process.hrtime.bigint()}.json`), JSON.stringify(linesReached()));
}
