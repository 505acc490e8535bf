// From the byte offset of an instruction in the Wasm binary to its place in the source.

import { decodedMappings, TraceMap } from "@jridgewell/trace-mapping";
import type { Loc } from "./ir.ts";

/** Looks up places by offset. Places are interned: equal mappings give the same object. */
export class SourcePlaces {
  readonly files: string[];
  private readonly offsets: number[] = [];
  private readonly places: (Loc | null)[] = [];

  constructor(map?: string) {
    if (map === undefined) {
      this.files = [];
      return;
    }
    const trace = new TraceMap(map);
    this.files = trace.sources.map((s) => s ?? "?");
    const interned = new Map<string, Loc>();
    // A map of a binary has one line; its generated columns are byte offsets.
    for (const segment of decodedMappings(trace)[0] ?? []) {
      this.offsets.push(segment[0]);
      if (segment.length === 1) {
        this.places.push(null);
        continue;
      }
      const loc: Loc = { file: segment[1], line: segment[2] + 1, column: segment[3] + 1 };
      const key = `${loc.file}:${loc.line}:${loc.column}`;
      const known = interned.get(key);
      if (known === undefined) interned.set(key, loc);
      this.places.push(known ?? loc);
    }
  }

  /** The place of the mapping at or before `offset`, but not before `start` (the function's body): null if none. */
  at(offset: number, start: number): Loc | null {
    let low = 0;
    let high = this.offsets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.offsets[middle] as number) <= offset) low = middle + 1;
      else high = middle;
    }
    if (low === 0 || (this.offsets[low - 1] as number) < start) return null;
    return this.places[low - 1] as Loc | null;
  }
}
