import { describe, expect, test } from "vitest";
import { expectSame, INTERESTING32, INTERESTING64, read, run, text } from "./helper.ts";

const PASSES = ["simplify-cfg", "simplify", "gvn", "thread", "ranges", "simplify-cfg-late", "dce"];
const near = (values: bigint[], bits: number): bigint[][] =>
  values.flatMap((v) => [v - 1n, v, v + 1n]).map((v) => [BigInt.asUintN(bits, v)]);
const EDGES = [0x30n, 0x39n, 0x3an, 0x61n, 0xffff_fff0n, 0x7fff_ffffn, 0x8000_0000n];

/** if (value OP low && value OP high) 1 else 2. */
const nested = (type: string, [first, low]: [string, string], [second, high]: [string, string]): string =>
  `(func (export "f") (param ${type}) (result i32)
    (if (${type}.${first} (local.get 0) (${type}.const ${low}))
      (then (if (${type}.${second} (local.get 0) (${type}.const ${high})) (then (return (i32.const 1))))))
    (i32.const 2))`;

describe("two tests of bounds", () => {
  test("are one comparison", () => {
    const printed = text(run(read(nested("i32", ["ge_u", "48"], ["le_u", "57"])), ...PASSES));
    expect(printed.match(/branch/g)).toHaveLength(1);
    expect(printed.match(/lt_u/g)).toHaveLength(1);
  });

  test.each([
    ["ge_u", "48", "le_u", "57"],
    ["lt_u", "58", "ge_u", "48"],
    ["ge_s", "-16", "lt_s", "58"],
    ["gt_s", "-2147483648", "le_s", "2147483647"],
    ["ge_s", "0", "lt_s", "97"],
    ["ge_u", "57", "le_u", "48"],
    ["ge_s", "48", "lt_u", "58"],
    ["lt_u", "48", "lt_u", "58"],
  ])("mean the same: %s %s and %s %s", (first, low, second, high) => {
    for (const [type, values] of [
      ["i32", [...INTERESTING32, ...EDGES]],
      ["i64", [...INTERESTING64, ...EDGES]],
    ] as [string, bigint[]][])
      expectSame(nested(type, [first, low], [second, high]), PASSES, near(values, type === "i32" ? 32 : 64));
  });

  test("that lead to different places, or pass different values on, stay two", () => {
    const wat = `(func (export "f") (param i32) (result i32)
      (if (i32.lt_u (local.get 0) (i32.const 48)) (then (return (i32.const 3))))
      (if (i32.ge_u (local.get 0) (i32.const 58)) (then (return (i32.const 4))))
      (i32.const 5))`;
    expectSame(wat, PASSES, near(EDGES, 32));
  });

  test("whose answer is a value are one comparison too", () => {
    const wat = `(func (export "f") (param i32) (result i32)
      (i32.and (i32.ge_u (local.get 0) (i32.const 48)) (i32.le_u (local.get 0) (i32.const 57))))`;
    expect(text(run(read(wat), ...PASSES)).match(/lt_u|ge_u/g)).toEqual(["lt_u"]);
    expectSame(wat, PASSES, near(EDGES, 32));
  });
});

describe("what each way into a block says", () => {
  const wat = `(func (export "f") (param i32) (result i32) (local $i i32) (local $sum i32)
    (loop $again
      (if (i32.lt_u (local.get $i) (i32.const 9))
        (then (local.set $sum (i32.add (local.get $sum) (i32.const 3))))
        (else (local.set $sum (i32.const 1000))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 9))))
    (local.get $sum))`;

  test("is known there: a loop's condition at its header", () => {
    const printed = text(run(read(wat), "simplify-cfg", "gvn", "simplify-cfg-late", "dce"));
    expect(printed).not.toContain("1000");
    expectSame(wat, ["simplify-cfg", "gvn", "simplify-cfg-late"], [[0n]]);
  });

  test("is not known where one way says something else", () => {
    const other = wat.replace(
      "(br_if $again (i32.lt_u (local.get $i) (i32.const 9))))",
      "(br_if $again (i32.lt_u (local.get $i) (i32.const 12))))",
    );
    expect(text(run(read(other), "simplify-cfg", "gvn", "simplify-cfg-late", "dce"))).toContain("1000");
    expectSame(other, ["simplify-cfg", "gvn", "simplify-cfg-late"], [[0n]]);
  });
});

describe("loads of one place with both widths", () => {
  const wat = `(func (export "f") (param i32) (result i64)
    (i64.add (i64.extend_i32_u (i32.load8_u offset=70 (local.get 0)))
      (i64.mul (i64.const 1000) (i64.load8_u offset=70 (local.get 0)))))
    (func (export "g") (param i32) (result i64)
    (i64.add (i64.extend_i32_u (i32.load8_s offset=70 (local.get 0)))
      (i64.mul (i64.const 1000) (i64.load8_s offset=70 (local.get 0)))))
    (data (i32.const 70) "\\80\\7f\\ff")`;

  test("are one load, if it extends with zeros", () => {
    const module = run(read(wat), "gvn", "dce");
    expect(text(module, "f").match(/load/g)).toHaveLength(1);
    expect(text(module, "g").match(/load/g)).toHaveLength(2);
    expectSame(wat, ["gvn"], [[0n], [1n], [2n]]);
  });
});
