// A few hundred random programs, enough for the whole tour, on the front half and as machine code.

import { expect, test } from "vitest";
import { groupOf } from "./fuzz/compare.ts";
import { generate, tourPrograms } from "./fuzz/generate.ts";
import { explain, type FuzzOptions, fuzz } from "./fuzz/run.ts";
import { encode, walk } from "./fuzz/tree.ts";
import type { Outcome } from "./native/actions.ts";
import { interpreted } from "./native/interpreted.ts";
import { native } from "./native/native.ts";
import { v8, v8With } from "./native/oracle.ts";

/** The tour, and some more, so that what it draws by chance is all seen. */
const programs = tourPrograms + 80;

const options: Omit<FuzzOptions, "subject"> = {
  seed: 20,
  first: 0,
  runs: programs,
  windows: ["low", "gs"],
  batch: 70,
  stopAfter: 1,
  shrinkBudget: 2000,
};

test("machine code agrees with V8 in both windows, over every operator and operand shape", async () => {
  const result = await fuzz({ ...options, subject: (window) => native({ window, seconds: 20 }) });
  expect(result.failures.map(explain)).toEqual([]);
  expect(result.coverage.unseen).toEqual([]);
  expect(result.programs).toBe(2 * programs);
});

test("the SSA that is read, before and after the passes, agrees with V8", async () => {
  for (const optimised of [false, true]) {
    const result = await fuzz({ ...options, runs: 25, seed: 21, subject: () => interpreted(optimised) });
    expect(result.failures.map(explain)).toEqual([]);
  }
});

test("a program is the same for the same seed and number, and valid", () => {
  for (const window of ["low", "gs"] as const)
    for (let number = 0; number < 20; number++) {
      const wasm = encode(generate(5, number, window).program);
      expect(WebAssembly.validate(wasm as BufferSource)).toBe(true);
      expect(encode(generate(5, number, window).program)).toEqual(wasm);
    }
});

test("most calls of a random program return: traps do not hide the rest", async () => {
  const groups = Array.from({ length: 40 }, (_, n) => groupOf(generate(6, n, "gs").program, "gs"));
  const calls = (await v8.run(groups)).flat();
  const count = (status: Outcome["status"]): number => calls.filter((outcome) => outcome.status === status).length;
  expect(count("ok")).toBeGreaterThan(2 * count("trap"));
  expect(count("broken") + count("refused")).toBe(0);
});

test("a failure is shrunk to little, keeps its kind and says how to see it again", async () => {
  const wrong = v8With({ umulh: (a, b) => (BigInt.asUintN(64, a) * BigInt.asUintN(64, b) + (1n << 63n)) >> 64n });
  const result = await fuzz({ ...options, seed: 3, runs: 20, windows: ["gs"], subject: () => wrong });
  expect(result.failures.length).toBe(1);
  const [failure] = result.failures;
  const text = explain(failure);
  expect(text).toMatch(/call 0\b/);
  expect(text).toContain("reproduce: npm run fuzz:compiler -- --seed 3 --only");
  const nodes = [...walk(failure.program.functions.flatMap((f) => f.body.slice(f.results.length)))];
  expect(nodes.length).toBeLessThan(40);
});
