// Passes that change the shape of the program.

import { describe, expect, test } from "vitest";
import { expectSame, INTERESTING32, INTERESTING64, lines, pairs, read, run, text } from "./helper.ts";

const count = (haystack: string, needle: string | RegExp) => haystack.split(needle).length - 1;
const pad = (values: bigint[], ...more: bigint[]) => values.map((v) => [v, ...more]);

describe("divide", () => {
  const divisors = [
    "3",
    "5",
    "6",
    "7",
    "10",
    "11",
    "12",
    "25",
    "60",
    "100",
    "125",
    "641",
    "1000",
    "3600",
    "65535",
    "65537",
    "1000000007",
  ];
  for (const [type, values, more] of [
    ["i32", INTERESTING32, ["0x7fffffff", "0x80000000", "0x80000001", "-1", "-3", "-7", "-10"]],
    ["i64", INTERESTING64, ["0x7fffffffffffffff", "0x8000000000000000", "6700417000000007", "-1", "-3", "-1000"]],
  ] as [string, bigint[], string[]][]) {
    const inputs = values
      .flatMap((v) => [v, v + 1n, v * 3n, v * 7n - 1n, v * 1000n + 999n])
      .map((v) => [BigInt.asUintN(type === "i32" ? 32 : 64, v)]);
    test.each(["div_u", "rem_u", "div_s", "rem_s"])(`${type}.%s by constants`, (op) => {
      const wat = [...divisors, ...more].map(
        (d, i) =>
          `(func (export "f${i}") (param ${type}) (result ${type}) (${type}.${op} (local.get 0) (${type}.const ${d})))`,
      );
      expectSame(`(memory 0) ${wat.join("\n")}`, ["divide", "simplify", "dce"], inputs);
    });
  }

  test("leaves no division by 10", () => {
    const printed = text(
      run(read(`(func (export "f") (param i32) (result i32) (i32.rem_s (local.get 0) (i32.const 10)))`), "divide"),
    );
    expect(printed).not.toMatch(/div_|rem_/);
  });

  test("a dividend of few bits needs no correction", () => {
    const wat = `(func (export "f") (param i32) (result i32) (i32.div_u (i32.and (local.get 0) (i32.const 0xffff)) (i32.const 7)))`;
    expect(text(run(read(wat), "divide", "simplify", "dce"))).not.toContain("sub.i32");
    expectSame(wat, ["divide", "simplify", "dce"], pad(INTERESTING32));
  });

  test("a division by zero stays and traps", () => {
    expectSame(
      `(func (export "f") (param i32) (result i32) (i32.div_u (local.get 0) (i32.const 0)))`,
      ["divide"],
      [[1n]],
    );
  });
});

describe("bytes", () => {
  const byte = (i: number) => `(i32.load8_u offset=${i} (local.get 0))`;
  const or = (items: string[]) => items.reduce((a, b) => `(i32.or ${a} ${b})`);
  const word = (order: number[], extra = "") =>
    `(data (i32.const 16) "\\01\\23\\45\\67\\89\\ab\\cd\\ef") (func (export "f") (param i32) (result i32) ${extra}
      ${or(order.map((at, i) => `(i32.shl ${byte(at)} (i32.const ${8 * i}))`))})`;
  const combined = (wat: string) => text(run(read(wat), "simplify", "bytes"));
  const inputs = [16n, 17n, 18n, 65532n, 65533n].map((v) => [v]);

  test("four bytes upwards are one load", () => {
    const printed = combined(word([0, 1, 2, 3]));
    expect(printed).toContain("load.i32 u32");
    expect(count(printed, "load.")).toBe(1);
  });

  test("four bytes downwards are a load and a swap", () => {
    expect(combined(word([3, 2, 1, 0]))).toMatch(/load\.i32 u32[\s\S]*bswap\.i32/);
  });

  test("two bytes downwards too", () => {
    expect(combined(word([1, 0]))).toMatch(/load\.i32 u16[\s\S]*bswap\.i32/);
  });

  test.each([
    ["a gap", [0, 1, 2, 4]],
    ["another order", [0, 2, 1, 3]],
    ["three bytes", [0, 1, 2]],
  ])("%s stays as it is", (_, order) => {
    expect(combined(word(order as number[]))).not.toMatch(/load\.i32 u32|bswap/);
  });

  test("a store between the loads keeps them apart", () => {
    const wat = `(func (export "f") (param i32) (result i32) (local i32)
      (local.set 1 ${byte(0)})
      (i32.store8 offset=1 (local.get 0) (i32.const 9))
      (i32.or (local.get 1) (i32.shl ${byte(1)} (i32.const 8))))`;
    expect(combined(wat)).not.toContain("u16");
  });

  test("every order computes what it did, and traps where it did", () => {
    for (const order of [
      [0, 1],
      [1, 0],
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 0, 3, 2],
      [2, 3, 0, 1],
      [4, 5, 6, 7],
    ]) {
      expectSame(word(order), ["simplify", "bytes"], inputs);
    }
  });

  test("AssemblyScript's bswap is one instruction", () => {
    const wat = `(func (export "f") (param i32) (result i32)
      (i32.or (i32.rotl (i32.and (local.get 0) (i32.const 0xff00ff00)) (i32.const 8))
              (i32.rotr (i32.and (local.get 0) (i32.const 0x00ff00ff)) (i32.const 8))))`;
    expect(combined(wat)).toBe(
      lines(`
      b0:
        v0 = param.i32 0
        v1 = bswap.i32 v0
        return v1`),
    );
    expectSame(wat, ["simplify", "bytes"], pad(INTERESTING32));
  });
});

describe("switches", () => {
  const chain = (cases: number[]) => {
    const tests = cases.map(
      (c, i) => `(if (i32.eq (local.get 0) (i32.const ${c})) (then (return (i32.const ${i + 1}))))`,
    );
    return `(func (export "f") (param i32) (result i32) ${tests.join("\n")} (i32.const 0))`;
  };
  const built = (wat: string) => text(run(read(wat), "simplify-cfg", "switches"));
  /** Tests on the longest way to an answer. */
  const depth = (printed: string) => {
    const blocks = new Map(printed.split(/^(?=b\d+:)/m).map((b) => [/^b\d+/.exec(b)?.[0] ?? "", b]));
    const from = (name: string): number => {
      const next = /(?:branch|jump|switch) .*/.exec(blocks.get(name) ?? "")?.[0].match(/\bb\d+/g) ?? [];
      return next.length === 0 ? 0 : 1 + Math.max(...next.map(from));
    };
    return from("b0");
  };

  test("three tests stay a chain", () => {
    expect(count(built(chain([5, 900, 77])), "eq.i32")).toBe(3);
  });

  test("sixteen sparse cases are a balanced tree", () => {
    const sparse = Array.from({ length: 16 }, (_, i) => 0xc0000080 + i * i * 1000);
    expect(depth(built(chain(sparse)))).toBeLessThanOrEqual(7);
  });

  test("dense cases become a table, whatever their order", () => {
    expect(built(chain([12, 10, 11, 14, 13, 15]))).toMatch(/switch v\d+ -> \[/);
  });

  test("a run of values with one target is a range test", () => {
    const wat = `(func (export "f") (param i32) (result i32)
      (block $digit (block $other
        (br_table $other $digit $digit $digit $digit $digit $digit $other (local.get 0)))
        (return (i32.const 0)))
      (i32.const 1))`;
    expect(built(wat)).toMatch(/lt_u/);
    expect(built(wat)).not.toContain("switch");
    expectSame(
      wat,
      ["simplify-cfg", "switches"],
      [0n, 1n, 5n, 6n, 7n, 8n, 0xffff_ffffn].map((v) => [v]),
    );
  });

  test("every case reaches its own answer", () => {
    for (const cases of [
      [1, 2, 3, 4],
      [7, 100, 3, 50, 9, 1000, 12],
      [0, -1, 0x7fffffff, 0x80000000, 5, 6, 7, 8, 9],
      [4, 4, 9, 9, 1, 2],
    ]) {
      const inputs = cases.flatMap((c) => [c - 1, c, c + 1]).map((c) => [BigInt.asUintN(32, BigInt(c))]);
      expectSame(chain(cases), ["simplify-cfg", "switches"], inputs);
    }
  });

  test("a constant of a test that goes stays for those who read it behind the chain", () => {
    const cases = [5, 900, 77, 13, 2, 3000, 41];
    const wat = chain(cases).replace(
      "(i32.const 0))",
      "(i32.mul (i32.const 900) (i32.add (local.get 0) (i32.const 77))))",
    );
    const inputs = [...cases, 6, 1000].map((c) => [BigInt(c)]);
    expectSame(wat, ["simplify-cfg", "gvn", "switches"], inputs); // verifies the SSA too
  });

  test("64-bit cases compare all 64 bits", () => {
    const cases = ["1", "2", "3", "4", "5", "0x100000003", "0x8000000000000001"];
    const tests = cases.map(
      (c, i) => `(if (i64.eq (local.get 0) (i64.const ${c})) (then (return (i32.const ${i + 1}))))`,
    );
    const wat = `(func (export "f") (param i64) (result i32) ${tests.join("\n")} (i32.const 0))`;
    expectSame(
      wat,
      ["simplify-cfg", "switches"],
      [...INTERESTING64, 3n, 4n, 5n, 0x1_0000_0003n, 0x8000_0000_0000_0001n].map((v) => [v]),
    );
  });
});

describe("thread", () => {
  const wat = `(func (export "f") (param i32 i32) (result i32)
    (if (result i32) (if (result i32) (local.get 0) (then (i32.lt_u (local.get 1) (i32.const 9))) (else (i32.const 0)))
      (then (i32.const 5)) (else (i32.const 6))))`;

  test("a condition that was computed as a value is branched on directly", () => {
    const printed = text(run(read(wat), "simplify-cfg", "thread"));
    expect(printed).not.toMatch(/phi\.i32 .*\n.*branch/);
    expectSame(wat, ["simplify-cfg", "thread"], pairs([0n, 1n, 8n, 9n]));
  });
});

describe("if-convert", () => {
  const diamond = (then: string, otherwise: string) =>
    `(func (export "f") (param i32 i32) (result i32) (if (result i32) (local.get 0) (then ${then}) (else ${otherwise})))`;
  const converted = (wat: string) => text(run(read(wat), "simplify-cfg", "if-convert"));

  test("one cheap operation becomes a select", () => {
    const wat = diamond("(i32.add (local.get 1) (i32.const 1))", "(local.get 1)");
    expect(converted(wat)).toContain("select.i32");
    expectSame(wat, ["simplify-cfg", "if-convert"], pairs(INTERESTING32.slice(0, 5)));
  });

  test.each([
    ["a load", "(i32.load (local.get 1))"],
    ["a division", "(i32.div_u (local.get 1) (local.get 0))"],
    ["a multiplication", "(i32.mul (local.get 1) (local.get 0))"],
    ["a chain of operations", "(i32.xor (i32.add (i32.shl (local.get 1) (i32.const 3)) (local.get 0)) (i32.const 7))"],
  ])("%s stays behind its branch", (_, arm) => {
    expect(converted(diamond(arm, "(local.get 1)"))).toContain("branch");
  });
});

describe("inline", () => {
  const module = (callee: string, caller: string) => `
    (func $callee (param i32 i32) (result i32) ${callee})
    (func (export "f") (param i32 i32) (result i32) ${caller})`;
  const CALL = "(call $callee (local.get 1) (local.get 0))";

  test("a small function with several returns", () => {
    const wat = module(
      "(if (i32.lt_s (local.get 0) (local.get 1)) (then (return (local.get 0)))) (local.get 1)",
      `(i32.add ${CALL} ${CALL})`,
    );
    expect(text(run(read(wat), "inline", "simplify-cfg"))).not.toContain("call");
    expectSame(wat, ["inline", "simplify-cfg"], pairs([0n, 1n, 5n, 0xffff_ffffn]));
  });

  test("a function that traps takes what follows with it", () => {
    const wat = module("(unreachable)", `(drop ${CALL}) (i32.store (i32.const 0) (i32.const 1)) (i32.const 3)`);
    expectSame(wat, ["inline", "simplify-cfg"], [[1n, 2n]]);
  });

  test("several results", () => {
    const wat = `
      (func $swap (param i32 i32) (result i32 i32) (local.get 1) (local.get 0))
      (func (export "f") (param i32 i32) (result i32) (call $swap (local.get 0) (local.get 1)) (i32.sub))`;
    expectSame(wat, ["inline", "simplify-cfg"], [[7n, 2n]]);
  });
});

describe("tail", () => {
  const FIBONACCI = `(func $f (export "f") (param i32) (result i32)
    (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (local.get 0))))
    (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 2)))))`;
  const FACTORIAL = `(func $f (export "f") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
    (i32.mul (local.get 0) (call $f (i32.sub (local.get 0) (i32.const 1)))))`;
  const SUM = `(func $f (export "f") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
    (call $f (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 0) (local.get 1))))`;
  const FOREVER = `(func $f (export "f") (param i32) (result i32) (call $f (local.get 0)))`;
  const calls = (wat: string) => count(text(run(read(wat), "tail")), "call");

  test.each([
    ["a call in tail position becomes a jump", SUM, 0],
    ["one of two calls loops with an accumulator", FIBONACCI, 1],
    ["the only call of a recursion keeps its frame, so that the stack bounds it", FACTORIAL, 1],
    ["endless recursion still ends in a trap", FOREVER, 1],
  ])("%s", (_, wat, left) => {
    expect(calls(wat)).toBe(left);
  });

  test("results are the same, also with recursion unrolled", () => {
    for (const wat of [FIBONACCI, FACTORIAL, SUM]) {
      expectSame(
        wat,
        ["tail", "unroll-recursion", "simplify-cfg"],
        [0n, 1n, 2n, 3n, 7n, 12n].map((v) => [v, 5n]),
      );
    }
  });
});

describe("frequency", () => {
  test("loops iterate, and what ends in a trap is rare", () => {
    const module = run(
      read(`(func (export "f") (param i32) (loop $l
        (if (i32.gt_u (local.get 0) (i32.const 100)) (then (unreachable)))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))`),
      "simplify-cfg",
      "frequency",
    );
    const [func] = module.funcs;
    const trap = func.blocks.find((b) => b.terminator.kind === "trap");
    const header = func.blocks.find((b) => b.loopDepth === 1);
    expect(header?.frequency).toBeGreaterThan(4);
    expect(trap?.frequency).toBeLessThan(0.1);
    expect(header?.terminator).toMatchObject({ kind: "branch", likely: false });
  });
});
