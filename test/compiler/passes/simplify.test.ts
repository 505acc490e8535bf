import { describe, expect, test } from "vitest";
import { each, expectSame, INTERESTING32, INTERESTING64, lines, pairs, read, run, text } from "./helper.ts";

const simplified = (wat: string) => text(run(read(wat), "simplify", "gvn", "dce"));

/** [what it is, WebAssembly of f, the text of its value]. */
const GOLDEN: [string, string, string][] = [
  [
    "constants are folded and drift outwards",
    `(func (export "f") (param i32 i32) (result i32)
       (i32.add (i32.add (local.get 0) (i32.const 5)) (i32.add (local.get 1) (i32.const 7))))`,
    `
    b0:
      v0 = param.i32 0
      v1 = param.i32 1
      v2 = add.i32 v1, v0
      v3 = const.i32 12
      v4 = add.i32 v2, v3
      return v4`,
  ],
  [
    "a mask of bits that cannot be set is dropped",
    `(func (export "f") (param i32) (result i32)
       (i32.and (i32.shr_u (local.get 0) (i32.const 24)) (i32.const 255)))`,
    `
    b0:
      v0 = param.i32 0
      v1 = const.i32 24
      v2 = shr_u.i32 v0, v1
      return v2`,
  ],
  [
    "a shift count needs no mask",
    `(func (export "f") (param i64 i64) (result i64)
       (i64.shl (local.get 0) (i64.and (local.get 1) (i64.const 63))))`,
    `
    b0:
      v0 = param.i64 0
      v1 = param.i64 1
      v2 = shl.i64 v0, v1
      return v2`,
  ],
  [
    "an index that was extended and wrapped is itself",
    `(func (export "f") (param i32) (result i32)
       (i32.load (i32.wrap_i64 (i64.add (i64.extend_i32_u (local.get 0)) (i64.const 8)))))`,
    `
    b0:
      v0 = param.i32 0
      v1 = const.i32 8
      v2 = add.i32 v0, v1
      v3 = load.i32 u32 [v2]
      return v3`,
  ],
  [
    "a mask after a signed load makes the load unsigned",
    `(func (export "f") (param i32) (result i32)
       (i32.and (i32.load8_s (local.get 0)) (i32.const 255)))`,
    `
    b0:
      v0 = param.i32 0
      v1 = load.i32 u8 [v0]
      return v1`,
  ],
  [
    "two bounds of one value are one compare",
    `(func (export "f") (param i32) (result i32)
       (i32.and (i32.ge_u (local.get 0) (i32.const 48)) (i32.le_u (local.get 0) (i32.const 57))))`,
    `
    b0:
      v0 = param.i32 0
      v1 = const.i32 -48
      v2 = add.i32 v0, v1
      v3 = const.i32 10
      v4 = lt_u.i32 v2, v3
      return v4`,
  ],
  [
    "shifts in both directions are a rotation",
    `(func (export "f") (param i32 i32) (result i32)
       (i32.or (i32.shl (local.get 0) (local.get 1))
               (i32.shr_u (local.get 0) (i32.sub (i32.const 32) (local.get 1)))))`,
    `
    b0:
      v0 = param.i32 0
      v1 = param.i32 1
      v2 = rotl.i32 v0, v1
      return v2`,
  ],
  [
    "a masked merge takes three operations",
    `(func (export "f") (param i32 i32 i32) (result i32)
       (i32.xor (i32.and (local.get 0) (local.get 1))
                (i32.and (i32.xor (local.get 0) (i32.const -1)) (local.get 2))))`,
    `
    b0:
      v0 = param.i32 0
      v1 = param.i32 1
      v2 = param.i32 2
      v3 = xor.i32 v1, v2
      v4 = and.i32 v3, v0
      v5 = xor.i32 v4, v2
      return v5`,
  ],
  [
    "a stored byte needs no mask",
    `(func (export "f") (param i32) (i32.store8 (local.get 0) (i32.and (local.get 0) (i32.const 255))))`,
    `
    b0:
      v0 = param.i32 0
      store u8 [v0], v0
      return`,
  ],
];

describe("simplify", () => {
  test.each(GOLDEN)("%s", (_, wat, expected) => {
    expect(simplified(wat)).toBe(lines(expected));
  });

  test("a signed load with another use stays signed", () => {
    const wat = `(func (export "f") (param i32) (result i32) (local i32)
      (local.set 1 (i32.load8_s (local.get 0)))
      (i32.add (i32.and (local.get 1) (i32.const 255)) (local.get 1)))`;
    expect(simplified(wat)).toContain("load.i32 s8");
  });

  test("a division that traps is not folded away", () => {
    const wat = `(func (export "f") (result i32) (i32.div_u (i32.const 1) (i32.const 0)))`;
    expect(simplified(wat)).toContain("div_u.i32");
  });
});

const BINARY = [
  "add",
  "sub",
  "mul",
  "and",
  "or",
  "xor",
  "shl",
  "shr_s",
  "shr_u",
  "rotl",
  "rotr",
  "div_s",
  "div_u",
  "rem_s",
  "rem_u",
];
const COMPARE = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"];
const CONSTANTS: Record<string, string[]> = {
  i32: ["0", "1", "-1", "8", "31", "33", "255", "65535", "0x7fffffff", "0x80000000"],
  i64: ["0", "1", "-1", "8", "63", "65", "255", "0xffffffff", "0x7fffffffffffffff", "0x8000000000000000"],
};

const PASSES = ["simplify", "gvn", "dce"];

/** One module of all combinations, without memory: each run of a function is cheap. */
function functions(type: string, bodies: [op: string, body: string][]): string {
  const all = bodies.map(([op, body], i) => {
    const result = COMPARE.includes(op) ? "i32" : type;
    return `(func (export "f${i}") (param ${type} ${type}) (result ${result}) ${body})`;
  });
  return `(memory 0) ${all.join("\n")}`;
}

describe("every operation with a constant computes what it did", () => {
  for (const type of ["i32", "i64"]) {
    test.each([...BINARY, ...COMPARE])(`${type}.%s`, (op) => {
      const bodies = CONSTANTS[type].flatMap((c): [string, string][] => [
        [op, `(${type}.${op} (local.get 0) (${type}.const ${c}))`],
        [op, `(${type}.${op} (${type}.const ${c}) (local.get 0))`],
      ]);
      expectSame(functions(type, bodies), PASSES, each(type === "i32" ? INTERESTING32 : INTERESTING64));
    });
  }
});

describe("pairs of operations compute what they did", () => {
  const inner = ["add", "sub", "and", "or", "shl", "shr_u", "shr_s", "xor", "rotl", "mul"];
  const outer = [
    "add",
    "sub",
    "and",
    "or",
    "xor",
    "shl",
    "shr_u",
    "shr_s",
    "rotr",
    "eq",
    "lt_u",
    "lt_s",
    "ge_u",
    "rem_s",
    "div_s",
  ];
  for (const type of ["i32", "i64"]) {
    test.each(inner)(`${type}.%s, then another`, (a) => {
      const bodies = outer.flatMap((b): [string, string][] => [
        [b, `(${type}.${b} (${type}.${a} (local.get 0) (${type}.const 24)) (${type}.const 8))`],
        [b, `(${type}.${b} (${type}.${a} (local.get 0) (${type}.const 8)) (${type}.const 0xff00))`],
        [b, `(${type}.${b} (${type}.${a} (local.get 0) (local.get 1)) (${type}.${a} (local.get 0) (${type}.const 3)))`],
      ]);
      expectSame(functions(type, bodies), PASSES, pairs((type === "i32" ? INTERESTING32 : INTERESTING64).slice(-8)));
    });
  }
});

describe("casts and extensions compute what they did", () => {
  const casts = ["extend8_s", "extend16_s", "extend32_s"];
  const bodies = casts.flatMap((cast): [string, string][] => [
    ["add", `(i64.${cast} (i64.and (local.get 0) (i64.const 0xffff)))`],
    ["add", `(i64.and (i64.${cast} (local.get 0)) (i64.const 0xff))`],
    ["add", `(i64.extend_i32_s (i32.wrap_i64 (i64.${cast} (i64.add (local.get 0) (local.get 1)))))`],
    ["add", `(i64.extend_i32_u (i32.wrap_i64 (i64.shl (i64.${cast} (local.get 0)) (i64.const 9))))`],
    [
      "eq",
      `(i64.lt_s (i64.extend_i32_u (i32.wrap_i64 (local.get 0))) (i64.extend_i32_u (i32.wrap_i64 (local.get 1))))`,
    ],
    [
      "eq",
      `(i64.lt_u (i64.extend_i32_s (i32.wrap_i64 (local.get 0))) (i64.extend_i32_s (i32.wrap_i64 (local.get 1))))`,
    ],
    ["eq", `(i64.ge_s (i64.extend_i32_s (i32.wrap_i64 (local.get 0))) (i64.const 5))`],
    ["eq", `(i32.eqz (i32.sub (i32.wrap_i64 (local.get 0)) (i32.const 127)))`],
  ]);
  test("with 64 bits", () => {
    expectSame(functions("i64", bodies), PASSES, pairs(INTERESTING64));
  });
});
