import { expect, test } from "vitest";
import { expectSame, read, run, text } from "./helper.ts";

/** sum += EXPRESSION for i from `start` by `step` below n, with a and b from outside. */
const loop = (expression: string, start = "0", step = "1") => `
  (func (export "f") (param $a i32) (param $b i32) (param $n i32) (result i32) (local $i i32) (local $sum i32)
    (local.set $i (i32.const ${start}))
    (loop $again
      (local.set $sum (i32.add (i32.rotl (local.get $sum) (i32.const 3)) ${expression}))
      (local.set $i (i32.add (local.get $i) (i32.const ${step})))
      (br_if $again (i32.lt_u (local.get $i) (local.get $n))))
    (local.get $sum))`;

const PASSES = ["simplify-cfg", "licm", "strength", "dce"];
const INPUTS = [
  [3n, 5n, 9n],
  [0xffff_fff0n, 7n, 20n],
  [0x8000_0001n, 0n, 1n],
  [0n, 1n, 0n],
];
const inLoop = (printed: string): string => printed.slice(printed.indexOf("phi"));

test("a product of a loop's counter becomes a sum", () => {
  const wat = loop("(i32.mul (local.get $i) (local.get $a))");
  expect(inLoop(text(run(read(wat), ...PASSES)))).not.toContain("mul");
  expectSame(wat, PASSES, INPUTS);
});

test("so does such a product and what is added to it", () => {
  const wat = loop("(i32.add (local.get $b) (i32.mul (local.get $a) (local.get $i)))", "5", "3");
  const printed = inLoop(text(run(read(wat), ...PASSES)));
  expect(printed).not.toContain("mul");
  expect(printed.match(/add\.i32/g)).toHaveLength(3);
  expectSame(wat, PASSES, INPUTS);
});

test("what counts down, wraps or is read after the loop keeps its value", () => {
  expectSame(loop("(i32.mul (local.get $i) (local.get $a))", "0xfffffff8", "-3"), PASSES, INPUTS);
  const after = loop("(local.tee $b (i32.mul (local.get $i) (local.get $a)))").replace(
    /\(local\.get \$sum\)\)$/,
    "(i32.xor (local.get $b) (local.get $sum)))",
  );
  expectSame(after, PASSES, INPUTS);
});

test("a product with something that the loop changes stays", () => {
  const wat = loop("(i32.mul (local.get $i) (local.get $sum))");
  expect(text(run(read(wat), ...PASSES))).toContain("mul");
  expectSame(wat, PASSES, INPUTS);
});
