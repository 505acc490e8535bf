/**
 * Puts names beside addresses: whatever the image prints passes through at once, and before a line ends that held
 * addresses of its text, their functions and source lines are added.
 */

import { readFileSync } from "node:fs";
import { lookUp, type SymbolMap } from "../image/symbolmap.ts";

/** 0xffffffff80......: the image's text lies in there. */
const ADDRESS = /0x(ffffffff8[0-9a-f]{7})\b/g;

export function loadSymbols(path: string): SymbolMap | null {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as SymbolMap;
  } catch {
    return null;
  }
}

/** What stands for `address`: `function (file:line)`. */
export function describe(map: SymbolMap, address: bigint): string | null {
  const place = lookUp(map, address);
  if (!place) return null;
  return place.file ? `${place.name} (${place.file}:${place.line})` : `${place.name}+0x${place.offset.toString(16)}`;
}

export class Symboliser {
  #line = "";

  constructor(readonly map: SymbolMap | null) {}

  /** The text to show for a piece of output. */
  feed(text: string): string {
    if (!this.map) return text;
    let shown = "";
    for (const part of text.split(/(?<=\n)/)) {
      const end = /\r?\n$/.exec(part);
      const body = end ? part.slice(0, end.index) : part;
      this.#line += body;
      shown += body;
      if (!end) continue;
      shown += this.#annotation(this.map) + end[0];
      this.#line = "";
    }
    return shown;
  }

  #annotation(map: SymbolMap): string {
    const names = [...this.#line.matchAll(ADDRESS)].map((m) => describe(map, BigInt(m[0])));
    const known = names.filter((n) => n !== null);
    return known.length ? `  ${known.join("; ")}` : "";
  }
}
