// Decoder of the Wasm binary format: sections, constant expressions and names. Function bodies stay
// byte ranges; build-ssa.ts reads them with the same Reader.
//
// WebAssembly Core Specification, "Binary Format".

import { refuse } from "./diagnostic.ts";
import type { ImportName } from "./ir.ts";

/** Value types as the binary encodes them. */
export enum ValType {
  I32 = 0x7f,
  I64 = 0x7e,
  F32 = 0x7d,
  F64 = 0x7c,
  V128 = 0x7b,
  FUNCREF = 0x70,
  EXTERNREF = 0x6f,
}

export interface RawType {
  params: number[];
  results: number[];
}

export type ConstExpr = { kind: "const"; value: bigint } | { kind: "global"; index: number };

export interface RawGlobal {
  type: number;
  mutable: boolean;
  init: ConstExpr;
  import?: ImportName;
}

export interface RawLimits {
  initial: number;
  maximum: number | null;
  shared: boolean;
  import?: ImportName;
}

export interface RawBody {
  /** Offsets in the binary: first instruction, and past the last `end`. */
  start: number;
  end: number;
  /** Offset of the body with its locals: the start of its source mappings. */
  entry: number;
  /** Types of the locals, without the parameters. */
  locals: number[];
}

export interface RawTable extends RawLimits {
  elementType: number;
}

export interface RawElement {
  table: number;
  /** null: passive or declarative. */
  offset: ConstExpr | null;
  functions: (number | null)[];
}

export interface RawData {
  offset: ConstExpr | null;
  bytes: Uint8Array;
}

export interface RawExport {
  name: string;
  kind: number;
  index: number;
}

export interface RawModule {
  bytes: Uint8Array;
  types: RawType[];
  importedFuncs: { name: ImportName; type: number }[];
  /** Type index of each function of the module's own. */
  funcs: number[];
  bodies: RawBody[];
  tables: RawTable[];
  memories: RawLimits[];
  globals: RawGlobal[];
  exports: RawExport[];
  elements: RawElement[];
  data: RawData[];
  start: number | null;
  functionNames: Map<number, string>;
  globalNames: Map<number, string>;
}

export enum ExternalKind {
  FUNC = 0,
  TABLE = 1,
  MEMORY = 2,
  GLOBAL = 3,
  TAG = 4,
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** A cursor over the binary. */
export class Reader {
  offset: number;
  readonly bytes: Uint8Array;
  private readonly end: number;

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
  }

  get done(): boolean {
    return this.offset >= this.end;
  }

  byte(): number {
    if (this.offset >= this.end) refuse(`the Wasm binary ends early, at byte ${this.offset}`);
    return this.bytes[this.offset++] as number;
  }

  /** Unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let result = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      result |= (byte & 0x7f) << shift;
      if (byte < 0x80) return result >>> 0;
    }
    return refuse(`a number at byte ${this.offset} of the Wasm binary is too long`);
  }

  /** Signed LEB128 of at most 33 bits. */
  s33(): number {
    return Number(this.signed(35));
  }

  s32(): number {
    return Number(this.signed(35)) | 0;
  }

  s64(): bigint {
    return this.signed(70);
  }

  private signed(limit: number): bigint {
    let result = 0n;
    for (let shift = 0; shift < limit; shift += 7) {
      const byte = this.byte();
      result |= BigInt(byte & 0x7f) << BigInt(shift);
      if (byte < 0x80) return BigInt.asIntN(shift + 7, result);
    }
    return refuse(`a number at byte ${this.offset} of the Wasm binary is too long`);
  }

  skip(bytes: number): void {
    this.offset += bytes;
  }

  take(bytes: number): Uint8Array {
    if (this.offset + bytes > this.end) refuse(`the Wasm binary ends early, at byte ${this.offset}`);
    this.offset += bytes;
    return this.bytes.subarray(this.offset - bytes, this.offset);
  }

  name(): string {
    return utf8.decode(this.take(this.u32()));
  }

  list<T>(item: (reader: Reader) => T): T[] {
    const count = this.u32();
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(item(this));
    return items;
  }
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** Decodes the sections. Throws CompileError if the binary is malformed or uses sections outside the subset. */
export function decodeWasm(bytes: Uint8Array): RawModule {
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) refuse("not a Wasm binary of version 1");
  const module: RawModule = {
    bytes,
    types: [],
    importedFuncs: [],
    funcs: [],
    bodies: [],
    tables: [],
    memories: [],
    globals: [],
    exports: [],
    elements: [],
    data: [],
    start: null,
    functionNames: new Map(),
    globalNames: new Map(),
  };
  const reader = new Reader(bytes, MAGIC.length);
  while (!reader.done) {
    const id = reader.byte();
    const size = reader.u32();
    const start = reader.offset;
    if (start + size > bytes.length) refuse(`section ${id} runs past the end of the Wasm binary`);
    const section = SECTIONS[id];
    if (section === undefined) refuse(`section ${id} is outside the accepted subset`);
    section(new Reader(bytes, start, start + size), module);
    reader.offset = start + size;
  }
  if (module.bodies.length !== module.funcs.length) refuse("function and code sections disagree");
  return module;
}

/** Section readers by section id. */
const SECTIONS: Record<number, (reader: Reader, module: RawModule) => void> = {
  0: custom,
  1: (r, m) => {
    m.types = r.list(readType);
  },
  2: (r, m) => {
    r.list((item) => readImport(item, m));
  },
  3: (r, m) => {
    m.funcs = r.list((item) => item.u32());
  },
  4: (r, m) => {
    m.tables.push(...r.list(readTable));
  },
  5: (r, m) => {
    m.memories.push(...r.list(readLimits));
  },
  6: (r, m) => {
    m.globals.push(...r.list(readGlobal));
  },
  7: (r, m) => {
    m.exports = r.list((item) => ({ name: item.name(), kind: item.byte(), index: item.u32() }));
  },
  8: (r, m) => {
    m.start = r.u32();
  },
  9: (r, m) => {
    m.elements = r.list(readElement);
  },
  10: (r, m) => {
    m.bodies = r.list(readBody);
  },
  11: (r, m) => {
    m.data = r.list(readData);
  },
  12: () => {}, // data count: a promise about section 11, for one-pass validation
};

function readType(r: Reader): RawType {
  if (r.byte() !== 0x60) refuse("a type that is not a function type is outside the accepted subset");
  return { params: r.list((item) => item.byte()), results: r.list((item) => item.byte()) };
}

function readLimits(r: Reader): RawLimits {
  const flags = r.byte();
  if ((flags & ~3) !== 0) refuse("64-bit memories are outside the accepted subset");
  const initial = r.u32();
  return { initial, maximum: (flags & 1) !== 0 ? r.u32() : null, shared: (flags & 2) !== 0 };
}

function readTable(r: Reader): RawTable {
  const elementType = r.byte();
  return { elementType, ...readLimits(r) };
}

function readImport(r: Reader, m: RawModule): void {
  const name: ImportName = { module: r.name(), name: r.name() };
  const kind = r.byte();
  if (kind === ExternalKind.FUNC) m.importedFuncs.push({ name, type: r.u32() });
  else if (kind === ExternalKind.TABLE) m.tables.push({ ...readTable(r), import: name });
  else if (kind === ExternalKind.MEMORY) m.memories.push({ ...readLimits(r), import: name });
  else if (kind === ExternalKind.GLOBAL) {
    const type = r.byte();
    m.globals.push({ type, mutable: r.byte() === 1, init: { kind: "const", value: 0n }, import: name });
  } else refuse(`import ${name.module}.${name.name} is of a kind outside the accepted subset`);
}

function readGlobal(r: Reader): RawGlobal {
  const type = r.byte();
  const mutable = r.byte() === 1;
  return { type, mutable, init: readConstExpr(r) };
}

/** A constant expression. Floats and references yield 0: what uses them is refused where it is used. */
function readConstExpr(r: Reader): ConstExpr {
  let result: ConstExpr = { kind: "const", value: 0n };
  for (;;) {
    const opcode = r.byte();
    if (opcode === 0x0b) return result;
    if (opcode === 0x41) result = { kind: "const", value: BigInt(r.s32()) };
    else if (opcode === 0x42) result = { kind: "const", value: r.s64() };
    else if (opcode === 0x43) r.skip(4);
    else if (opcode === 0x44) r.skip(8);
    else if (opcode === 0x23) result = { kind: "global", index: r.u32() };
    else if (opcode === 0xd0) r.byte();
    else if (opcode === 0xd2) r.u32();
    else refuse(`opcode ${opcode.toString(16)} in a constant expression is outside the accepted subset`);
  }
}

function readFunctionReference(r: Reader): number | null {
  const opcode = r.byte();
  const index = opcode === 0xd2 ? r.u32() : null;
  if (opcode === 0xd0) r.byte();
  else if (opcode !== 0xd2) refuse("an element that is not a function reference is outside the accepted subset");
  if (r.byte() !== 0x0b) refuse("malformed element expression");
  return index;
}

function readElement(r: Reader): RawElement {
  const flags = r.u32();
  const passive = (flags & 1) !== 0;
  const table = !passive && (flags & 2) !== 0 ? r.u32() : 0;
  const offset = passive ? null : readConstExpr(r);
  const expressions = (flags & 4) !== 0;
  if ((flags & 3) !== 0) r.byte(); // element kind or reference type
  const functions = expressions ? r.list(readFunctionReference) : r.list((item): number | null => item.u32());
  return { table, offset, functions };
}

function readBody(r: Reader): RawBody {
  const size = r.u32();
  const entry = r.offset;
  const locals: number[] = [];
  const groups = r.u32();
  for (let i = 0; i < groups; i++) {
    const count = r.u32();
    const type = r.byte();
    if (locals.length + count > 50000) refuse("a function has more than 50000 locals");
    for (let j = 0; j < count; j++) locals.push(type);
  }
  const start = r.offset;
  r.offset = entry + size;
  return { start, end: entry + size, entry, locals };
}

function readData(r: Reader): RawData {
  const flags = r.u32();
  if (flags === 2 && r.u32() !== 0) refuse("more than one memory is outside the accepted subset");
  const offset = flags === 1 ? null : readConstExpr(r);
  return { offset, bytes: r.take(r.u32()) };
}

/** Custom sections: only the function and global names of the name section matter. */
function custom(r: Reader, m: RawModule): void {
  if (r.name() !== "name") return;
  while (!r.done) {
    const kind = r.byte();
    const size = r.u32();
    const end = r.offset + size;
    const target = kind === 1 ? m.functionNames : kind === 7 ? m.globalNames : null;
    if (target !== null) {
      const count = r.u32();
      for (let i = 0; i < count; i++) target.set(r.u32(), r.name());
    }
    r.offset = end;
  }
}
