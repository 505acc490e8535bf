// Where the fields of the kernel's `@unmanaged` classes lie, read from their source, so that tests can
// name them. Fields are naturally aligned, as AssemblyScript lays them out.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./compile.ts";
import type { Machine } from "./machine.ts";
import { readView, writeView } from "./memory.ts";

const BYTES: Record<string, number> = { u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u64: 8, i64: 8 };

export interface Field {
  offset: number;
  bytes: number;
}

/** The fields of `className` in the kernel file `path`. */
export function layout(path: string, className: string): Record<string, Field> {
  const text = readFileSync(join(ROOT, path), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
  const body =
    text.match(new RegExp(`class ${className}\\b[^{]*\\{([\\s\\S]*?)\\n\\}`))?.[1] ??
    text.match(new RegExp(`class ${className}\\b[^{]*\\{([^}]*)\\}`))?.[1];
  if (body === undefined) throw new Error(`${path} has no class ${className}`);
  const fields: Record<string, Field> = {};
  let offset = 0;
  let depth = 0;
  for (const statement of body.split(/(?<=[;{}\n])/)) {
    if (depth === 0) {
      const field = statement.match(/^\s*(\w+): ([\w|. ]+);/);
      if (field && !/^\s*static\b/.test(statement)) {
        const bytes = BYTES[field[2].trim()] ?? 4; // u32, usize, enums and references
        offset = Math.ceil(offset / bytes) * bytes;
        fields[field[1]] = { offset, bytes };
        offset += bytes;
      }
    }
    depth += (statement.match(/\{/g)?.length ?? 0) - (statement.match(/\}/g)?.length ?? 0);
  }
  return fields;
}

// biome-ignore lint/suspicious/noExplicitAny: fields are numbers (up to 32 bits) or bigints (64)
export type Struct = Record<string, any>;

/** The object of class `className` at `ptr`: its fields read and write linear memory. */
export function struct(m: Machine, path: string, className: string, ptr: number): Struct {
  const result: Struct = {};
  for (const [name, { offset, bytes }] of Object.entries(layout(path, className))) {
    Object.defineProperty(result, name, {
      enumerable: true,
      get: () => (bytes === 8 ? readView(m.view, ptr + offset, 8) : Number(readView(m.view, ptr + offset, bytes))),
      set: (value: number | bigint) => writeView(m.view, ptr + offset, bytes, BigInt.asUintN(64, BigInt(value))),
    });
  }
  return result;
}
