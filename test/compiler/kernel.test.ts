// The kernel itself through every pass, with the SSA checked after each: what the passes' own tests and the fuzzer do not think of.

import { expect, test } from "vitest";
import { compileKernelSources } from "../../tools/compiler/asc.ts";
import { compile } from "../../tools/compiler/main.ts";
import { ROOT } from "../../tools/paths.ts";

test("no pass breaks the SSA of any function of the kernel", async () => {
  const { wasm, sourceMap } = await compileKernelSources(ROOT);
  if (wasm === null) throw new Error("the kernel does not compile");
  const optimize = { verify: true };
  const { module } = compile({ wasm, sourceMap }, { target: "metal", window: "low", optimize });
  expect(module.funcs.length).toBeGreaterThan(300);
}, 120_000);
