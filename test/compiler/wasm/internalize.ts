// Turns imported globals, tables and memories into defined ones, so that a module of the suite stands
// alone. Imports come first in each index space, so definitions put in front keep every index.

import {
  ByteReader,
  ByteWriter,
  type GlobalType,
  type Import,
  Kind,
  readInit,
  Section,
  ValType,
  type WasmModule,
} from "./binary.ts";

/** Value of an imported immutable global as an unsigned number; null: unknown. */
export type GlobalValues = (item: Import, type: GlobalType) => bigint | null;

/** A constant expression for `value`; floats are given by their bits. */
export function constant(type: number, value: bigint): Uint8Array {
  const w = new ByteWriter();
  if (type === ValType.i32) w.u8(0x41).signed(value, 32);
  else if (type === ValType.i64) w.u8(0x42).signed(value, 64);
  else {
    const bytes = type === ValType.f32 ? 4 : 8;
    w.u8(type === ValType.f32 ? 0x43 : 0x44);
    for (let i = 0; i < bytes; i++) w.u8(Number((value >> BigInt(8 * i)) & 0xffn));
  }
  return w.u8(0x0b).finish();
}

type Rewrite = (init: Uint8Array) => Uint8Array;

function rewriteData(payload: Uint8Array, rewrite: Rewrite): Uint8Array {
  const r = new ByteReader(payload);
  const w = new ByteWriter();
  const count = r.u32();
  w.u32(count);
  for (let i = 0; i < count; i++) {
    const flags = r.u32();
    w.u32(flags);
    if (flags === 2) w.u32(r.u32());
    if (flags !== 1) w.bytes(rewrite(readInit(r)));
    const bytes = r.take(r.u32());
    w.u32(bytes.length).bytes(bytes);
  }
  return w.finish();
}

/** Flags of an element segment: bit 0 not active, bit 1 explicit table or declarative, bit 2 expressions. */
function rewriteElements(payload: Uint8Array, rewrite: Rewrite): Uint8Array {
  const r = new ByteReader(payload);
  const w = new ByteWriter();
  const count = r.u32();
  w.u32(count);
  for (let i = 0; i < count; i++) {
    const flags = r.u32();
    w.u32(flags);
    if ((flags & 3) === 2) w.u32(r.u32());
    if (!(flags & 1)) w.bytes(rewrite(readInit(r)));
    if (flags & 3) w.u8(r.u8());
    const items = r.u32();
    w.u32(items);
    for (let item = 0; item < items; item++)
      if (flags & 4) w.bytes(rewrite(readInit(r)));
      else w.u32(r.u32());
  }
  return w.finish();
}

/** Constant expressions may name imported globals only: those that become defined ones are replaced by their values. */
function resolveConstants(module: WasmModule, globals: WasmModule["globals"]): Pick<WasmModule, "globals" | "raw"> {
  const rewrite: Rewrite = (init) => {
    if (init[0] !== 0x23) return init;
    const r = new ByteReader(init);
    r.u8();
    return globals[r.u32()]?.init ?? init;
  };
  const raw = new Map(module.raw);
  const data = raw.get(Section.data);
  if (data) raw.set(Section.data, rewriteData(data, rewrite));
  const elements = raw.get(Section.element);
  if (elements) raw.set(Section.element, rewriteElements(elements, rewrite));
  return { raw, globals: [...globals, ...module.globals.map((g) => ({ ...g, init: rewrite(g.init) }))] };
}

const shared = (item: Import, what: string): Shared => ({ owner: item.module, what });

export interface Shared {
  /** The module whose state it is. */
  owner: string;
  what: string;
}

/** Returns a new module without imported globals, tables and memories, or why it cannot: it shares state with another module. */
export function internalize(module: WasmModule, values: GlobalValues): WasmModule | Shared {
  const globals: WasmModule["globals"] = [];
  const tables: WasmModule["tables"] = [];
  const memories: WasmModule["memories"] = [];
  for (const item of module.imports) {
    const d = item.description;
    if (d.kind === Kind.global) {
      if (d.global.mutable) return shared(item, "mutable global");
      const value = values(item, d.global);
      if (value === null) return shared(item, "unknown global");
      globals.push({ global: d.global, init: constant(d.global.type, value) });
    } else if (d.kind === Kind.table) {
      if (item.module !== "spectest") return shared(item, "table");
      tables.push({ ...d.table, limits: { flags: 1, minimum: 10, maximum: 20 } });
    } else if (d.kind === Kind.memory) {
      if (item.module !== "spectest") return shared(item, "memory");
      memories.push({ flags: 1, minimum: 1, maximum: 2 });
    }
  }
  return {
    ...module,
    ...resolveConstants(module, globals),
    imports: module.imports.filter((item) => item.description.kind === Kind.func),
    tables: [...tables, ...module.tables],
    memories: [...memories, ...module.memories],
  };
}
