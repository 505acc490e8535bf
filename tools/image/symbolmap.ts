/**
 * build/<profile>/basalt.map.json: from an address in the image to its function and source line, for
 * everything on the host that reads backtraces (tools/run).
 */

import { readLines } from "./dwarf.ts";
import type { Elf } from "./elf.ts";

export interface SymbolMap {
  buildId: string;
  /** Text, as offsets from the start of the image. */
  textEnd: number;
  base: string;
  functions: { names: string[]; starts: number[] };
  files: string[];
  /** Parallel: start, file (an index; -1 none), line. */
  lines: { starts: number[]; files: number[]; numbers: number[] };
}

export interface Place {
  name: string;
  offset: number;
  file: string | null;
  line: number;
}

/** `f.b3` is a label within `f`; so is what NASM makes up. */
function isLocal(name: string, names: Set<string>): boolean {
  if (name.startsWith("..@")) return true;
  for (let dot = name.indexOf("."); dot > 0; dot = name.indexOf(".", dot + 1))
    if (names.has(name.slice(0, dot))) return true;
  return false;
}

export function makeSymbolMap(elf: Elf, buildId: string): SymbolMap {
  const text = elf.section(".text");
  if (!text) throw new Error("the image has no .text");
  const base = text.address;
  const end = base + BigInt(text.bytes);
  const inText = (address: bigint): boolean => address >= base && address < end;

  const symbols = elf.symbols().filter((s) => inText(s.address) && s.type !== 3 && s.name);
  const names = new Set(symbols.map((s) => s.name));
  const functions = symbols
    .filter((s) => !isLocal(s.name, names))
    .sort((a, b) => Number(a.address - b.address) || Number(a.global) - Number(b.global));
  const map: SymbolMap = {
    buildId,
    base: `0x${base.toString(16)}`,
    textEnd: text.bytes,
    functions: { names: functions.map((f) => f.name), starts: functions.map((f) => Number(f.address - base)) },
    files: [],
    lines: { starts: [], files: [], numbers: [] },
  };
  const debugLine = elf.section(".debug_line");
  if (debugLine) addLines(map, elf.bytesOf(debugLine), base, inText);
  return map;
}

function addLines(map: SymbolMap, debugLine: Buffer, base: bigint, inText: (a: bigint) => boolean): void {
  const index = new Map<string, number>();
  const { starts, files, numbers } = map.lines;
  for (const row of readLines(debugLine)) {
    if (!inText(row.address)) continue;
    const start = Number(row.address - base);
    let file = -1;
    if (!row.end) {
      file = index.get(row.file) ?? map.files.push(row.file) - 1;
      index.set(row.file, file);
    }
    if (starts.at(-1) === start) {
      // Two rows for one address: the later one counts.
      files[files.length - 1] = file;
      numbers[numbers.length - 1] = row.line;
    } else if (files.at(-1) !== file || numbers.at(-1) !== row.line) {
      starts.push(start);
      files.push(file);
      numbers.push(row.line);
    }
  }
}

/** Index of the last element not above `value`, or -1. */
function lastAtMost(sorted: number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The place of a host-virtual address; null if it is not in the image's text. */
export function lookUp(map: SymbolMap, address: bigint): Place | null {
  const offset = Number(address - BigInt(map.base));
  if (offset < 0 || offset >= map.textEnd) return null;
  const f = lastAtMost(map.functions.starts, offset);
  const l = lastAtMost(map.lines.starts, offset);
  const file = l < 0 ? -1 : (map.lines.files[l] as number);
  return {
    name: f < 0 ? "?" : (map.functions.names[f] as string),
    offset: f < 0 ? offset : offset - (map.functions.starts[f] as number),
    file: file < 0 ? null : (map.files[file] as string),
    line: file < 0 ? 0 : (map.lines.numbers[l] as number),
  };
}
