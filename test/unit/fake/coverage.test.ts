// The instrumented module computes what it computed before, and tells which lines ran.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileFile } from "../../../tools/compiler/asc.ts";
import { SourcePlaces } from "../../../tools/compiler/sourcemap.ts";
import { COUNTERS, instrument } from "../../coverage/instrument.ts";
import { ROOT } from "../../fake/compile.ts";

/** Stores in every branch, so that the optimiser keeps it a branch. */
const SOURCE = `let calls: i32 = 0;
let last: i32 = 0;
export function pick(n: i32): i32 {
  calls = 1;
  if (n > 100) {
    store<i32>(1024, n);
    return 3;
  }
  for (let i = 0; i < n; i++) {
    if ((i & 3) == 2)
      last += load<i32>(1024 + i * 4) + 7;
    else
      store<i32>(1024 + i * 4, i);
  }
  return calls + last;
}
`;

let folder = "";
let pick: (n: number) => number;
let plain: (n: number) => number;
let reached: () => Set<number>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "basalt-instrument-"));
  const file = join(folder, "pick.ts");
  writeFileSync(file, SOURCE);
  const { wasm, sourceMap, errors } = await compileFile(ROOT, file, { memoryPages: 1 });
  expect(errors).toEqual([]);
  const { wasm: measured, blocks } = instrument(wasm as Uint8Array, new SourcePlaces(sourceMap));
  const counters = Array.from({ length: Math.ceil(blocks.length / 64) }, () => {
    return new WebAssembly.Global({ value: "i64", mutable: true }, 0n);
  });
  const imports = { [COUNTERS]: Object.fromEntries(counters.map((c, i) => [`g${i}`, c])), env: { abort() {} } };
  const load = async (bytes: Uint8Array) =>
    new WebAssembly.Instance(await WebAssembly.compile(bytes as BufferSource), imports).exports as {
      pick: typeof pick;
    };
  ({ pick } = await load(measured));
  plain = (await load(wasm as Uint8Array)).pick;
  reached = () => {
    const hit = blocks.filter((_, i) => ((counters[i >> 6].value as bigint) >> BigInt(i & 63)) & 1n);
    return new Set(hit.flat().map((line) => Number(line.slice(line.lastIndexOf(":") + 1))));
  };
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("only lines that ran count, and results stay the same", () => {
  expect(reached().size).toBe(0);
  const inputs = [0, 2, 7, 200];
  const steps: [number, number[], number[]][] = [
    [0, [4], [6, 11, 13]],
    [2, [13], [6, 11]],
    [7, [11], [6]],
    [200, [6], []],
  ];
  for (const [n, hit, missed] of steps) {
    pick(n);
    for (const line of hit) expect([n, line, reached().has(line)]).toEqual([n, line, true]);
    for (const line of missed) expect([n, line, reached().has(line)]).toEqual([n, line, false]);
  }
  for (const n of inputs) plain(n);
  for (const n of inputs) expect(pick(n)).toBe(plain(n));
});
