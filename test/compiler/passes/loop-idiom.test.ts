// Loops that copy and fill.

import { describe, expect, test } from "vitest";
import { expectSame, read, run, text } from "./helper.ts";

/** do { body; i += step } while (i < n), with `from` and `to` as parameters; returns what is left of i. */
const loop = (body: string, step = 1, test = "i32.lt_u") => `
  (func (export "f") (param $to i32) (param $from i32) (param $n i32) (result i32) (local $i i32)
    (loop $l ${body}
      (br_if $l (${test} (local.tee $i (i32.add (local.get $i) (i32.const ${step}))) (local.get $n))))
    (local.get $i))
  (func (export "sum") (param $to i32) (param $from i32) (param $n i32) (result i32) (local $i i32) (local $s i32)
    (local.set $i (i32.const 69992))
    (drop (call 0 (local.get $to) (local.get $from) (local.get $n)))
    (loop $l
      (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 31)) (i32.load (local.get $i))))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 82000))))
    (local.get $s))
  (memory (export "memory") 2 2) (data (i32.const 70000) "the quick brown fox jumps over the lazy dog")`;

const at = (base: string, shift: number) =>
  `(i32.add (local.get ${base}) (i32.shl (local.get $i) (i32.const ${shift})))`;
const copy64 = `(i64.store ${at("$to", 3)} (i64.load ${at("$from", 3)}))`;
const copy8 = `(i32.store8 ${at("$to", 0)} (i32.load8_u ${at("$from", 0)}))`;
const fill32 = `(i32.store ${at("$to", 2)} (local.get $from))`;

/** In and out of bounds, too few elements, overlaps of both kinds, a trip count below the start. */
const inputs = [
  [80000n, 70000n, 100n],
  [80000n, 70000n, 3n],
  [80000n, 70000n, 0n],
  [70008n, 70000n, 500n],
  [70000n, 70008n, 500n],
  [70001n, 70000n, 700n],
  [70004n, 70000n, 700n],
  [130900n, 70000n, 100n],
  [80000n, 130900n, 100n],
  [100n, 70000n, 100n],
  [0xffff_fff0n, 70000n, 100n],
  [130000n, 70000n, 0x1000_0000n],
];
const passes = ["simplify-cfg", "simplify", "gvn", "rotate", "licm", "bulk-loops", "simplify-late", "dce"];

describe("bulk-loops", () => {
  test("a loop of loads and stores is a copy when its ranges allow it", () => {
    const after = text(run(read(loop(copy64)), ...passes));
    expect(after).toContain("memory_copy");
    expect(after).toMatch(/= load/);
  });

  test("a loop that stores one value is a fill", () => {
    expect(text(run(read(loop(fill32)), ...passes))).toContain("memory_fill");
  });

  test.each([
    ["words", copy64, 1, "i32.lt_u"],
    ["bytes", copy8, 1, "i32.lt_u"],
    ["bytes with a signed test", copy8, 1, "i32.lt_s"],
    ["until equal", copy8, 1, "i32.ne"],
    ["values", fill32, 1, "i32.lt_u"],
    ["bytes by pointer", `(i64.store ${at("$to", 0)} (i64.load ${at("$from", 0)}))`, 8, "i32.lt_u"],
  ])("%s: same memory, same result, same trap", (_name, body, step, test) => {
    const few = inputs.filter(([, , n]) => test !== "i32.ne" || (n !== 0n && n !== 0x1000_0000n));
    expectSame(loop(body, step, test), passes, few);
  });

  test.each([
    ["another store", `${copy64} (i32.store (i32.const 70000) (local.get $i))`],
    ["a value that changes", `(i32.store ${at("$to", 2)} (local.get $i))`],
    ["gaps", `(i32.store ${at("$to", 3)} (local.get $from))`],
    ["an atomic store", `(i32.atomic.store ${at("$to", 2)} (local.get $from))`],
  ])("%s keeps the loop", (_name, body) => {
    expect(text(run(read(loop(body)), ...passes))).not.toMatch(/memory_(copy|fill)/);
  });
});
