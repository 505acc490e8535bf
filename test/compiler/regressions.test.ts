// Miscompilations that were found once, as small as they were shrunk. Each module exports functions; they
// are called with edges of their types and must do on our side what they do in V8.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { compare } from "./fuzz/compare.ts";
import type { Action, Group, Window } from "./native/actions.ts";
import { native } from "./native/native.ts";
import { v8 } from "./native/oracle.ts";
import { functionType, Kind, readModule, ValType } from "./wasm/binary.ts";

const folder = fileURLToPath(new URL("regressions", import.meta.url));
const values = [
  0n,
  1n,
  2n,
  0x1_0000n,
  0x1_0010n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1234_5678_9abc_def0n,
  (1n << 64n) - 1n,
];

function assemble(file: string): Uint8Array {
  const out = mkdtempSync(join(tmpdir(), "basalt-wat-"));
  try {
    execFileSync("wat2wasm", ["--enable-threads", join(folder, file), "-o", join(out, "m.wasm")]);
    return readFileSync(join(out, "m.wasm"));
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** Every export with each value in every position, in turn. */
function groupOf(wasm: Uint8Array, window: Window): Group {
  const module = readModule(wasm);
  const actions: Action[] = [{ type: "open", module: 0 }];
  for (const { name, kind, index } of module.exports) {
    if (kind !== Kind.func) continue;
    const { params, results } = functionType(module, index);
    values.forEach((_, round) => {
      const args = params.map((type, i) => {
        const value = values[(round + i * 3) % values.length];
        return type === ValType.i32 ? value & 0xffff_ffffn : value;
      });
      actions.push({ type: "call", module: 0, name, args, params, results });
    });
  }
  if (module.exports.some((e) => e.kind === Kind.memory))
    actions.push({ type: "hash", module: 0, from: window === "low" ? 0x1_0000 : 0 });
  actions.push({ type: "close", module: 0 });
  return { modules: [wasm], actions };
}

describe("miscompilations that were found", () => {
  const files = readdirSync(folder).filter((file) => file.endsWith(".wat"));
  test("there are some", () => expect(files.length).toBeGreaterThan(0));
  for (const window of ["low", "gs"] as const)
    test(`none is back, window ${window}`, async () => {
      const groups = files.map((file) => groupOf(assemble(file), window));
      const differences = await compare(groups, v8, native({ window }));
      expect(files.map((file, i) => [file, differences[i]])).toEqual(files.map((file) => [file, null]));
    });
});
