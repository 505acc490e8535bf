// Adds block counters to a Wasm module. Each basic block that has a source line sets one bit of an imported
// mutable i64 global when it begins: no memory, no call and no stack slot of the module is touched, so it
// computes what it computed before. The new globals stand first in the index space; every reference to
// another global moves up.
//
// WebAssembly Core Specification, "Binary Format".

import type { SourcePlaces } from "../../tools/compiler/sourcemap.ts";
import { decodeWasm, Reader } from "../../tools/compiler/wasm.ts";

/** Source lines of one block, as "file:line". */
export type BlockLines = string[];

export interface Instrumented {
  wasm: Uint8Array;
  /** Lines of each block; block n is bit n % 64 of global `g<n / 64>` of module COUNTERS. */
  blocks: BlockLines[];
}

export const COUNTERS = "coverage";
const BITS = 64;

const I64 = 0x7e;
const VAR = 1;
const GLOBAL = 3;

const Section = { IMPORT: 2, GLOBAL: 6, EXPORT: 7, CODE: 10 } as const;

// biome-ignore format: a table
const Op = {
  BLOCK: 0x02, LOOP: 0x03, IF: 0x04, ELSE: 0x05, END: 0x0b, BR: 0x0c, BR_IF: 0x0d, BR_TABLE: 0x0e, CALL: 0x10,
  CALL_INDIRECT: 0x11, SELECT_T: 0x1c, LOCAL_GET: 0x20, LOCAL_TEE: 0x22, GLOBAL_GET: 0x23, GLOBAL_SET: 0x24, TABLE_GET: 0x25,
  TABLE_SET: 0x26, LOAD_FIRST: 0x28, STORE_LAST: 0x3e, MEMORY_SIZE: 0x3f, MEMORY_GROW: 0x40, I32_CONST: 0x41,
  I64_CONST: 0x42, F32_CONST: 0x43, F64_CONST: 0x44, REF_NULL: 0xd0, REF_FUNC: 0xd2, MISC: 0xfc, SIMD: 0xfd, ATOMIC: 0xfe,
} as const;

/** Operators of the 0xFC page with their number of index immediates; 0..7 have none. */
const MISC_IMMEDIATES = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1];

export function instrument(wasm: Uint8Array, places: SourcePlaces): Instrumented {
  const module = decodeWasm(wasm);
  if ([...module.elements, ...module.data].some((item) => item.offset?.kind === "global"))
    throw new Error("a segment's offset is a global: not supported here");
  const blocks: BlockLines[] = [];
  const bodies: Block[][] = module.bodies.map((body) => {
    const found = blocksOf(wasm, body.start, body.end, body.entry, places);
    for (const block of found) {
      if (block.lines.size === 0) continue;
      block.index = blocks.length;
      blocks.push([...block.lines]);
    }
    return found;
  });
  const counters = Math.ceil(blocks.length / BITS);
  const out: number[][] = [[...wasm.subarray(0, 8)]];
  const reader = new Reader(wasm, 8);
  let imported = false;
  const imports = () => {
    imported = true;
    out.push(section(Section.IMPORT, importSection(wasm, counters)));
  };
  while (!reader.done) {
    const id = reader.byte();
    const size = reader.u32();
    const start = reader.offset;
    reader.offset = start + size;
    if (id > Section.IMPORT && !imported) imports();
    if (id === Section.IMPORT) imports();
    else if (id === Section.GLOBAL) out.push(section(id, globalSection(wasm, start, counters)));
    else if (id === Section.EXPORT) out.push(section(id, exportSection(wasm, start, counters)));
    else if (id === Section.CODE) out.push(section(id, codeSection(wasm, start, bodies, counters)));
    else out.push(section(id, [...wasm.subarray(start, start + size)]));
  }
  return { wasm: Uint8Array.from(out.flat()), blocks };
}

function section(id: number, contents: number[]): number[] {
  return [id, ...leb(contents.length), ...contents];
}

export function leb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const byte = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest ? byte | 0x80 : byte);
  } while (rest);
  return bytes;
}

/** The i64.const of 1 << bit, as signed LEB128. */
function bitConstant(bit: number): number[] {
  const bytes = [Op.I64_CONST as number];
  let rest = BigInt.asIntN(64, 1n << BigInt(bit));
  for (;;) {
    const byte = Number(rest & 0x7fn);
    rest >>= 7n;
    const last = (rest === 0n && !(byte & 0x40)) || (rest === -1n && byte & 0x40);
    bytes.push(last ? byte : byte | 0x80);
    if (last) return bytes;
  }
}

function name(text: string): number[] {
  const bytes = [...Buffer.from(text)];
  return [...leb(bytes.length), ...bytes];
}

/** The counters, then the imports that were there. */
function importSection(wasm: Uint8Array, counters: number): number[] {
  const old = findSection(wasm, Section.IMPORT);
  const reader = new Reader(wasm, old?.start ?? 0);
  const count = old ? reader.u32() : 0;
  const rest = old ? [...wasm.subarray(reader.offset, old.end)] : [];
  const added: number[] = [];
  for (let i = 0; i < counters; i++) added.push(...name(COUNTERS), ...name(`g${i}`), GLOBAL, I64, VAR);
  return [...leb(count + counters), ...added, ...rest];
}

function findSection(wasm: Uint8Array, wanted: number): { start: number; end: number } | null {
  const reader = new Reader(wasm, 8);
  while (!reader.done) {
    const id = reader.byte();
    const size = reader.u32();
    if (id === wanted) return { start: reader.offset, end: reader.offset + size };
    reader.offset += size;
  }
  return null;
}

/** Global initialisers may refer to imported globals, which have moved. */
function globalSection(wasm: Uint8Array, start: number, counters: number): number[] {
  const reader = new Reader(wasm, start);
  const count = reader.u32();
  const out = leb(count);
  for (let i = 0; i < count; i++) {
    out.push(reader.byte(), reader.byte());
    for (let op = reader.byte(); ; op = reader.byte()) {
      out.push(op);
      if (op === Op.END) break;
      if (op === Op.GLOBAL_GET) out.push(...leb(reader.u32() + counters));
      else copy(reader, out, () => void immediates(reader, op));
    }
  }
  return out;
}

function exportSection(wasm: Uint8Array, start: number, counters: number): number[] {
  const reader = new Reader(wasm, start);
  const count = reader.u32();
  const out = leb(count);
  for (let i = 0; i < count; i++) {
    copy(reader, out, () => void reader.name());
    const kind = reader.byte();
    const index = reader.u32();
    out.push(kind, ...leb(kind === GLOBAL ? index + counters : index));
  }
  return out;
}

/** Appends to `out` the bytes that `read` consumes. */
function copy(reader: Reader, out: number[], read: () => void): void {
  const from = reader.offset;
  read();
  for (let i = from; i < reader.offset; i++) out.push(reader.bytes[i] as number);
}

/** A run of instructions that is entered at its start only. */
interface Block {
  start: number;
  lines: Set<string>;
  /** Its number, -1 if no line belongs to it. */
  index: number;
}

const ENDS_BLOCK = new Set<number>([Op.LOOP, Op.IF, Op.ELSE, Op.END, Op.BR, Op.BR_IF, Op.BR_TABLE, 0x0f, 0x00]);

function blocksOf(wasm: Uint8Array, start: number, end: number, entry: number, places: SourcePlaces): Block[] {
  const reader = new Reader(wasm, start, end);
  const blocks: Block[] = [];
  let current: Block | null = null;
  while (!reader.done) {
    const at = reader.offset;
    if (!current) {
      current = { start: at, lines: new Set(), index: -1 };
      blocks.push(current);
    }
    const op = reader.byte();
    immediates(reader, op);
    // What only gives the code its shape has no line of its own.
    if (op !== Op.END && op !== Op.ELSE && op !== Op.BLOCK && op !== Op.LOOP) {
      const place = places.at(at, entry);
      if (place) current.lines.add(`${places.files[place.file]}:${place.line}`);
    }
    if (ENDS_BLOCK.has(op)) current = null;
  }
  return blocks;
}

/** Skips the immediates of `op`. */
function immediates(r: Reader, op: number): void {
  if (op === Op.BLOCK || op === Op.LOOP || op === Op.IF) r.s33();
  else if (op === Op.BR_TABLE) {
    for (let n = r.u32(); n >= 0; n--) r.u32();
  } else if (op === Op.CALL_INDIRECT) {
    r.u32();
    r.u32();
  } else if (op === Op.SELECT_T) {
    for (let n = r.u32(); n > 0; n--) r.byte();
  } else if (op === Op.BR || op === Op.BR_IF || op === Op.CALL || (op >= Op.LOCAL_GET && op <= Op.TABLE_SET)) r.u32();
  else if (op >= Op.LOAD_FIRST && op <= Op.STORE_LAST) {
    r.u32();
    r.u32();
  } else if (op === Op.MEMORY_SIZE || op === Op.MEMORY_GROW || op === Op.REF_NULL) r.byte();
  else if (op === Op.I32_CONST) r.s32();
  else if (op === Op.I64_CONST) r.s64();
  else if (op === Op.F32_CONST) r.offset += 4;
  else if (op === Op.F64_CONST) r.offset += 8;
  else if (op === Op.REF_FUNC) r.u32();
  else if (op === Op.MISC) {
    for (let n = MISC_IMMEDIATES[r.u32()] ?? 0; n > 0; n--) r.u32();
  } else if (op === Op.ATOMIC) {
    if (r.u32() === 3) r.byte();
    else {
      r.u32();
      r.u32();
    }
  } else if (op === Op.SIMD) throw new Error("SIMD does not occur in the core");
}

function codeSection(wasm: Uint8Array, start: number, bodies: Block[][], counters: number): number[] {
  const reader = new Reader(wasm, start);
  const out = leb(reader.u32());
  for (const blocks of bodies) {
    const size = reader.u32();
    const end = reader.offset + size;
    const body: number[] = [];
    copy(reader, body, () => {
      for (let n = reader.u32(); n > 0; n--) {
        reader.u32();
        reader.byte();
      }
    });
    let next = 0;
    while (reader.offset < end) {
      if (blocks[next]?.start === reader.offset) {
        const { index } = blocks[next++] as Block;
        if (index >= 0) body.push(...mark(index));
      }
      const op = reader.byte();
      body.push(op);
      if (op === Op.GLOBAL_GET || op === Op.GLOBAL_SET) body.push(...leb(reader.u32() + counters));
      else copy(reader, body, () => void immediates(reader, op));
    }
    out.push(...leb(body.length), ...body);
  }
  return out;
}

function mark(index: number): number[] {
  const global = leb(Math.floor(index / BITS));
  return [Op.GLOBAL_GET, ...global, ...bitConstant(index % BITS), 0x84, Op.GLOBAL_SET, ...global];
}
