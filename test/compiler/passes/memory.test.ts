// Value numbering and hoisting: what may be merged and moved, and above all what may not.

import { describe, expect, test } from "vitest";
import { read, run, text } from "./helper.ts";

const IMPORTS = `
  (import "insn" "barrier" (func $barrier))
  (import "insn" "rdtsc" (func $rdtsc (result i64)))
  (import "insn" "deviceload32" (func $device (param i64) (result i32)))
  (import "env" "host" (func $host))
  (global $g (mut i32) (i32.const 0))
  (func $pure (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))
  (func $writes (i32.store (i32.const 8) (i32.const 1)))`;

const count = (haystack: string, needle: string) => haystack.split(needle).length - 1;
const numbered = (body: string) =>
  text(run(read(`${IMPORTS} (func (export "f") (param i32 i32) (result i32) (local i32) ${body})`), "gvn", "dce"));

const TWICE = (between: string) =>
  numbered(`(local.set 2 (i32.load offset=8 (local.get 0))) ${between}
            (i32.add (local.get 2) (i32.load offset=8 (local.get 0)))`);

describe("a second load of the same place", () => {
  test.each([
    ["after nothing", ""],
    ["after a store to another field of the same base", "(i32.store offset=12 (local.get 0) (i32.const 1))"],
    ["after a call of a function without effects", "(drop (call $pure (local.get 1)))"],
    ["after a write of a global", "(global.set $g (i32.const 1))"],
  ])("is merged %s", (_, between) => {
    expect(count(TWICE(between), "load.i32")).toBe(1);
  });

  test.each([
    ["after a store to the same place by another name", "(i32.store offset=8 (local.get 1) (i32.const 1))"],
    ["after a store to part of it", "(i32.store8 offset=9 (local.get 0) (i32.const 1))"],
    ["after a store that overlaps from below", "(i64.store offset=4 (local.get 0) (i64.const 1))"],
    ["after a call of a function that writes", "(call $writes)"],
    ["after a call of the host", "(call $host)"],
    ["after a compiler barrier", "(call $barrier)"],
    ["after an atomic store elsewhere", "(i32.atomic.store (local.get 1) (i32.const 1))"],
    ["after an atomic load", "(drop (i32.atomic.load (local.get 1)))"],
    ["after a fence", "(atomic.fence)"],
    ["after memory.fill", "(memory.fill (local.get 1) (i32.const 0) (i32.const 4))"],
  ])("stays %s", (_, between) => {
    expect(count(TWICE(between), "load.i32 u32 [v0 + 8]")).toBe(2);
  });

  test("stays if one way to it writes", () => {
    expect(count(TWICE("(if (local.get 1) (then (call $writes)))"), "load.i32 u32 [v0 + 8]")).toBe(2);
  });

  test("is merged if no way to it writes", () => {
    expect(count(TWICE("(if (local.get 1) (then (global.set $g (i32.const 1))))"), "load.i32 u32 [v0 + 8]")).toBe(1);
  });
});

describe("what is never merged", () => {
  test("two atomic loads of one place", () => {
    const body = "(i32.add (i32.atomic.load (local.get 0)) (i32.atomic.load (local.get 0)))";
    expect(count(numbered(body), "atomic u32")).toBe(2);
  });

  test("two reads of a device register", () => {
    const body = "(i32.add (call $device (i64.const 64)) (call $device (i64.const 64)))";
    expect(count(numbered(body), "deviceload32(")).toBe(2);
  });

  test("a device register whose value nobody wants", () => {
    expect(numbered("(drop (call $device (i64.const 64))) (i32.const 0)")).toContain("deviceload32(");
  });

  test("a load whose value nobody wants may trap and stays", () => {
    expect(numbered("(drop (i32.load (local.get 0))) (i32.const 0)")).toContain("load.i32");
  });
});

describe("stores", () => {
  test("a load right behind a store of the same place is what was stored", () => {
    expect(numbered("(i32.store (local.get 0) (local.get 1)) (i32.load (local.get 0))")).not.toContain("load.i32");
  });

  test("a load of more than was stored is no such thing", () => {
    expect(numbered("(i32.store8 (local.get 0) (local.get 1)) (i32.load (local.get 0))")).toContain("load.i32");
  });

  test("x + 8 and x at offset 8 are different places where x + 8 wraps", () => {
    const body = "(i32.add (i32.load offset=8 (local.get 0)) (i32.load (i32.add (local.get 0) (i32.const 8))))";
    expect(count(numbered(body), "load.i32")).toBe(2);
  });
});

describe("branches", () => {
  test("two divisions by the same value trap once", () => {
    const body = "(i32.add (i32.div_u (local.get 0) (local.get 1)) (i32.div_u (local.get 0) (local.get 1)))";
    expect(count(numbered(body), "div_u.i32")).toBe(1);
  });
});

// ---- Loops

const loop = (body: string, condition = "(i32.lt_u (local.get $i) (local.get $n))") =>
  text(
    run(
      read(`${IMPORTS} (func (export "f") (param $p i32) (param $n i32) (result i32) (local $i i32) (local $s i32)
        (loop $again
          (if ${condition} (then
            ${body}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $again))))
        (local.get $s))`),
      "simplify-cfg",
      "rotate",
      "licm",
      "simplify-cfg-late",
      "dce",
    ),
  );
const ADD = (what: string) => `(local.set $s (i32.add (local.get $s) ${what}))`;

/** The part of the text that is the loop: from the first block that leads to itself. */
function inLoop(printed: string): string {
  const blocks = printed.split(/^(?=b\d+:)/m);
  return blocks.find((b) => /^(b\d+): from (.*, )?\1\b/.test(b)) ?? "";
}

describe("loops", () => {
  test("the test stands at the bottom, with a copy before the loop", () => {
    const printed = loop(ADD("(local.get $i)"));
    expect(count(printed, "lt_u.i32")).toBe(2);
    expect(inLoop(printed)).toMatch(/branch v\d+ -> b\d+, b\d+/);
  });

  test("an invariant product is computed before the loop", () => {
    const printed = loop(ADD("(i32.mul (local.get $p) (local.get $n))"));
    expect(printed).toContain("mul.i32");
    expect(inLoop(printed)).not.toContain("mul.i32");
  });

  test("an invariant load at the loop's start is hoisted if nothing writes", () => {
    expect(inLoop(loop(ADD("(i32.load (local.get $p))")))).not.toContain("load.i32");
  });

  test.each([
    ["a store through another pointer", "(i32.store (local.get $i) (i32.const 1))"],
    ["a call that writes", "(call $writes)"],
    ["a barrier", "(call $barrier)"],
    ["an atomic operation", "(drop (i32.atomic.rmw.add (local.get $i) (i32.const 1)))"],
  ])("an invariant load stays in a loop with %s", (_, effect) => {
    expect(inLoop(loop(`${ADD("(i32.load (local.get $p))")} ${effect}`))).toContain("load.i32 u32");
  });

  test("a load that is not executed in every iteration stays", () => {
    const body = `(if (i32.and (local.get $i) (i32.const 1)) (then ${ADD("(i32.load (local.get $p))")}))`;
    const printed = loop(body);
    const before = printed.slice(0, printed.indexOf("phi.i32"));
    expect(before).not.toContain("load.i32");
    expect(printed).toContain("load.i32");
  });

  test("a load behind a division that may trap stays behind it", () => {
    const printed = loop(`${ADD("(i32.div_u (local.get $n) (local.get $i))")} ${ADD("(i32.load (local.get $p))")}`);
    expect(inLoop(printed)).toContain("load.i32");
  });

  test("a flag that another CPU sets is read in every iteration", () => {
    const printed = text(
      run(
        read(`(func (export "f") (param i32) (loop $spin (br_if $spin (i32.eqz (i32.atomic.load (local.get 0))))))`),
        "simplify-cfg",
        "gvn",
        "rotate",
        "licm",
        "dce",
      ),
    );
    expect(inLoop(printed)).toContain("atomic u32");
  });

  test("a compare that only decides a branch stays beside it", () => {
    const body = `(if (i32.lt_s (local.get $p) (local.get $n)) (then (call $host)))`;
    const printed = loop(body);
    expect(printed.slice(0, printed.indexOf("phi.i32"))).not.toContain("lt_s.i32");
  });
});
