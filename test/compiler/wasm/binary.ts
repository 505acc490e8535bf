// A reader and writer of the Wasm binary's sections, independent of the compiler's: the test harness
// looks at modules and rewrites them without trusting what it tests. Code stays opaque bytes.

export const ValType = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
  funcref: 0x70,
  externref: 0x6f,
} as const;
export const Section = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;
/** External kinds of the import and export sections. */
export const Kind = { func: 0, table: 1, memory: 2, global: 3 } as const;

export interface FuncType {
  params: number[];
  results: number[];
}
export interface Limits {
  flags: number;
  minimum: number;
  maximum: number | null;
}
export interface TableType {
  element: number;
  limits: Limits;
}
export interface GlobalType {
  type: number;
  mutable: boolean;
}
export type ImportDescription =
  | { kind: typeof Kind.func; type: number }
  | { kind: typeof Kind.table; table: TableType }
  | { kind: typeof Kind.memory; limits: Limits }
  | { kind: typeof Kind.global; global: GlobalType };
export interface Import {
  module: string;
  name: string;
  description: ImportDescription;
}
export interface Export {
  name: string;
  kind: number;
  index: number;
}
export interface WasmModule {
  types: FuncType[];
  imports: Import[];
  /** Type index of each defined function. */
  functions: number[];
  tables: TableType[];
  memories: Limits[];
  globals: { global: GlobalType; init: Uint8Array }[];
  exports: Export[];
  start: number | null;
  /** Raw payloads of the sections that the harness does not look into, by section number. */
  raw: Map<number, Uint8Array>;
  custom: Uint8Array[];
}

export class ByteReader {
  position = 0;
  constructor(
    readonly bytes: Uint8Array,
    readonly end = bytes.length,
  ) {}
  u8(): number {
    if (this.position >= this.end) throw new Error("wasm: unexpected end");
    return this.bytes[this.position++];
  }
  u32(): number {
    let result = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      result += (byte & 0x7f) * 2 ** shift;
      if (!(byte & 0x80)) return result;
    }
  }
  take(count: number): Uint8Array {
    if (this.position + count > this.end) throw new Error("wasm: unexpected end");
    this.position += count;
    return this.bytes.subarray(this.position - count, this.position);
  }
  name(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.take(this.u32()));
  }
  vector<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }
}

export class ByteWriter {
  private buffer = new Uint8Array(256);
  length = 0;
  u8(value: number): this {
    if (this.length === this.buffer.length) this.grow(1);
    this.buffer[this.length++] = value;
    return this;
  }
  private grow(extra: number): void {
    const next = new Uint8Array(Math.max(this.buffer.length * 2, this.length + extra));
    next.set(this.buffer.subarray(0, this.length));
    this.buffer = next;
  }
  u32(value: number): this {
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    return this.u8(rest);
  }
  /** Signed LEB128 of a value taken as `bits` wide two's complement. */
  signed(value: bigint, bits: 32 | 64): this {
    let rest = BigInt.asIntN(bits, value);
    for (;;) {
      const byte = Number(rest & 0x7fn);
      rest >>= 7n;
      const done = (rest === 0n && !(byte & 0x40)) || (rest === -1n && (byte & 0x40) !== 0);
      this.u8(done ? byte : byte | 0x80);
      if (done) return this;
    }
  }
  bytes(bytes: Uint8Array | number[]): this {
    if (this.length + bytes.length > this.buffer.length) this.grow(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
    return this;
  }
  name(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u32(bytes.length).bytes(bytes);
  }
  vector<T>(items: readonly T[], write: (item: T) => void): this {
    this.u32(items.length);
    for (const item of items) write(item);
    return this;
  }
  finish(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }
}

function readLimits(r: ByteReader): Limits {
  const flags = r.u8();
  return { flags, minimum: r.u32(), maximum: flags & 1 ? r.u32() : null };
}

function readTable(r: ByteReader): TableType {
  return { element: r.u8(), limits: readLimits(r) };
}

function readGlobalType(r: ByteReader): GlobalType {
  return { type: r.u8(), mutable: r.u8() === 1 };
}

function readImport(r: ByteReader): Import {
  const module = r.name();
  const name = r.name();
  const kind = r.u8();
  switch (kind) {
    case Kind.func:
      return { module, name, description: { kind, type: r.u32() } };
    case Kind.table:
      return { module, name, description: { kind, table: readTable(r) } };
    case Kind.memory:
      return { module, name, description: { kind, limits: readLimits(r) } };
    case Kind.global:
      return { module, name, description: { kind, global: readGlobalType(r) } };
    default:
      throw new Error(`wasm: import kind ${kind}`);
  }
}

/** The bytes of a constant expression with its `end`. Only single-operand forms exist in the accepted set. */
export function readInit(r: ByteReader): Uint8Array {
  const from = r.position;
  for (;;) {
    const opcode = r.u8();
    if (opcode === 0x0b) return r.bytes.slice(from, r.position);
    if (opcode === 0x41 || opcode === 0x42 || opcode === 0x23 || opcode === 0xd2) r.u32();
    else if (opcode === 0x43) r.take(4);
    else if (opcode === 0x44) r.take(8);
    else if (opcode === 0xd0) r.u8();
    else throw new Error(`wasm: opcode ${opcode} in a constant expression`);
  }
}

/** Fails on malformed sections; does not validate code. */
export function readModule(bytes: Uint8Array): WasmModule {
  const module: WasmModule = {
    types: [],
    imports: [],
    functions: [],
    tables: [],
    memories: [],
    globals: [],
    exports: [],
    start: null,
    raw: new Map(),
    custom: [],
  };
  const file = new ByteReader(bytes);
  file.take(8);
  while (file.position < file.end) {
    const id = file.u8();
    const payload = file.take(file.u32());
    const r = new ByteReader(payload);
    if (id === Section.type) {
      module.types = r.vector(() => {
        r.u8();
        return { params: r.vector(() => r.u8()), results: r.vector(() => r.u8()) };
      });
    } else if (id === Section.import) module.imports = r.vector(() => readImport(r));
    else if (id === Section.function) module.functions = r.vector(() => r.u32());
    else if (id === Section.table) module.tables = r.vector(() => readTable(r));
    else if (id === Section.memory) module.memories = r.vector(() => readLimits(r));
    else if (id === Section.global) module.globals = r.vector(() => ({ global: readGlobalType(r), init: readInit(r) }));
    else if (id === Section.export) module.exports = r.vector(() => ({ name: r.name(), kind: r.u8(), index: r.u32() }));
    else if (id === Section.start) module.start = r.u32();
    else if (id === Section.custom) module.custom.push(payload);
    else module.raw.set(id, payload);
  }
  return module;
}

function writeLimits(w: ByteWriter, limits: Limits): void {
  w.u8(limits.flags).u32(limits.minimum);
  if (limits.maximum !== null) w.u32(limits.maximum);
}

function writeTable(w: ByteWriter, table: TableType): void {
  w.u8(table.element);
  writeLimits(w, table.limits);
}

function writeImport(w: ByteWriter, item: Import): void {
  w.name(item.module).name(item.name).u8(item.description.kind);
  const d = item.description;
  if (d.kind === Kind.func) w.u32(d.type);
  else if (d.kind === Kind.table) writeTable(w, d.table);
  else if (d.kind === Kind.memory) writeLimits(w, d.limits);
  else w.u8(d.global.type).u8(d.global.mutable ? 1 : 0);
}

export function writeModule(module: WasmModule): Uint8Array {
  const file = new ByteWriter().bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const section = (id: number, fill: (w: ByteWriter) => void): void => {
    const w = new ByteWriter();
    fill(w);
    file.u8(id).u32(w.length).bytes(w.finish());
  };
  const rawSection = (id: number): void => {
    const bytes = module.raw.get(id);
    if (bytes) section(id, (w) => w.bytes(bytes));
  };
  if (module.types.length)
    section(Section.type, (w) =>
      w.vector(module.types, (t) =>
        w.u8(0x60).u32(t.params.length).bytes(t.params).u32(t.results.length).bytes(t.results),
      ),
    );
  if (module.imports.length) section(Section.import, (w) => w.vector(module.imports, (item) => writeImport(w, item)));
  if (module.functions.length) section(Section.function, (w) => w.vector(module.functions, (type) => w.u32(type)));
  if (module.tables.length) section(Section.table, (w) => w.vector(module.tables, (t) => writeTable(w, t)));
  if (module.memories.length) section(Section.memory, (w) => w.vector(module.memories, (l) => writeLimits(w, l)));
  if (module.globals.length)
    section(Section.global, (w) =>
      w.vector(module.globals, (g) =>
        w
          .u8(g.global.type)
          .u8(g.global.mutable ? 1 : 0)
          .bytes(g.init),
      ),
    );
  if (module.exports.length)
    section(Section.export, (w) => w.vector(module.exports, (e) => w.name(e.name).u8(e.kind).u32(e.index)));
  const start = module.start;
  if (start !== null) section(Section.start, (w) => w.u32(start));
  rawSection(Section.element);
  rawSection(Section.dataCount);
  rawSection(Section.code);
  rawSection(Section.data);
  for (const payload of module.custom) section(Section.custom, (w) => w.bytes(payload));
  return file.finish();
}

export const importsOf = (module: WasmModule, kind: number): Import[] =>
  module.imports.filter((item) => item.description.kind === kind);

/** The type of function `index` of the function index space. */
export function functionType(module: WasmModule, index: number): FuncType {
  const imported = importsOf(module, Kind.func);
  const description = imported[index]?.description;
  const type = description?.kind === Kind.func ? description.type : module.functions[index - imported.length];
  return module.types[type];
}

export function globalType(module: WasmModule, index: number): GlobalType {
  const imported = importsOf(module, Kind.global);
  const description = imported[index]?.description;
  return description?.kind === Kind.global ? description.global : module.globals[index - imported.length].global;
}

export const isInteger = (type: number): boolean => type === ValType.i32 || type === ValType.i64;
