// The way from a VM exit to the resume: the tree keeps to its rules, and whatever breaks them is found.

import { describe, expect, test } from "vitest";
import {
  checkExitPath,
  complaintsOf,
  declarations,
  EXIT_PATH,
  type ExitPathReport,
  type PathRules,
} from "../../../../tools/check/exitpath.ts";
import { readKernel, readSources } from "../../../../tools/check/layers.ts";
import { INTRINSICS, isVectorInstruction, touchesVectorState } from "../../../../tools/compiler/intrinsics.ts";
import type { Func, Module } from "../../../../tools/compiler/ir.ts";
import { newValue } from "../../../../tools/compiler/ssa.ts";
import { read } from "../../../compiler/passes/helper.ts";

// ---- Small programs: each a loop that enters a guest, and one thing beside it

const RULES: PathRules = { enter: "vmenter", loop: "run", interrupting: [], exceptions: [] };
const SOURCE = `
/**
 * Takes the lock.
 * @locks shared
 */
export function lock(l: u32): void {}
/** @locks own */
export function lockOwn(l: u32): void {}
/** Memory. @allocates */
function give(): u32 {}
/** @repeats at most three times */
export function retry(): void {}
`;

/** `parts`: functions; the loop calls $work after each exit. */
function program(parts: string): Module {
  return read(`
    (import "insn" "vmenter" (func $vmenter (param i32) (result i32)))
    (import "insn" "fxsave" (func $fxsave (param i32)))
    (import "insn" "pause" (func $pause))
    (import "insn" "halt" (func $halt))
    (import "insn" "idle" (func $idle))
    (func $m/lock (param i32))
    (func $m/lockOwn (param i32))
    (func $m/give (result i32) i32.const 0)
    ${parts}
    (func $run (export "run") (param i32)
      call $before
      (block $out (loop $again
        (br_if $out (call $vmenter (local.get 0)))
        call $work
        (br_if $again (i32.eqz (i32.load (i32.const 8))))
        call $after
      )))`);
}

function check(parts: Record<string, string>, rules = RULES): ExitPathReport {
  const all = { before: "", work: "", after: "", ...parts };
  const functions = ["before", "work", "after"].map((name) => `(func $${name} ${all[name as keyof typeof all]})`);
  const rest = Object.keys(parts).filter((name) => !["before", "work", "after"].includes(name));
  const text = rest.map((name) => (name === "more" ? parts[name] : `(func $${name} ${parts[name]})`));
  return checkExitPath(program([...functions, ...text].join("\n")), [{ file: "m.ts", text: SOURCE }], rules);
}

function found(parts: Record<string, string>, rules = RULES): string[] {
  const report = check(parts, rules);
  return [...report.complaints, ...report.findings.map((f) => `${f.rule}: ${f.what.replace(/ at .*/, "")}`)];
}

describe("between exit and resume", () => {
  test("an empty path is clean", () => {
    expect(found({})).toEqual([]);
  });

  test("an allocation is found, with the way to it", () => {
    const { findings } = check({ work: "call $middle", middle: "(drop (call $m/give))" });
    expect(findings).toMatchObject([{ rule: "allocation", what: "m/give" }]);
    expect(findings[0]?.path.map((step) => step.replace(/ .*/, ""))).toEqual(["run", "work", "middle", "m/give"]);
  });

  test("a lock that VMs share is found, one of the VM's own is listed", () => {
    expect(found({ work: "(call $m/lock (i32.const 0))" })).toEqual(["shared lock: m/lock"]);
    const report = check({ work: "(call $m/lockOwn (i32.const 0))" });
    expect(report.findings).toEqual([]);
    expect(report.declared).toEqual([{ func: "m/lockOwn", says: "locks own" }]);
  });

  test("vector state and open interrupts are found", () => {
    expect(found({ work: "(call $fxsave (i32.const 64))" })).toEqual(["vector state: fxsave"]);
    expect(found({ work: "call $idle" })).toEqual(["interrupts on: idle"]);
  });

  test("what happens before the first entry or after the loop is not on the path", () => {
    expect(found({ before: "(drop (call $m/give))", after: "(call $m/lock (i32.const 0))" })).toEqual([]);
  });

  test("what never comes back is not on the path, and what calls it in one of two branches is", () => {
    const panic = "(drop (call $m/give)) call $halt";
    expect(found({ work: "(if (i32.load (i32.const 0)) (then call $panic))", panic })).toEqual([]);
    expect(found({ work: "(if (i32.load (i32.const 0)) (then (drop (call $m/give)) unreachable))" })).toEqual([]);
    expect(found({ work: "(if (i32.load (i32.const 0)) (then (drop (call $m/give))))" })).toEqual([
      "allocation: m/give",
    ]);
  });

  test("an indirect call reaches every function of its type in the table", () => {
    const more = `(table 2 2 funcref) (elem (i32.const 0) $harmless $harmful)
      (func $harmless (param i32)) (func $harmful (param i32) (drop (call $m/give)))`;
    expect(found({ work: "(call_indirect (param i32) (i32.const 1) (i32.const 0))", more })).toEqual([
      "allocation: m/give",
    ]);
    const other = more.replace("$harmful (param i32)", "$harmful (param i64)");
    expect(found({ work: "(call_indirect (param i32) (i32.const 1) (i32.const 0))", more: other })).toEqual([]);
  });

  test("a lock of one's own making is found by its shape", () => {
    const acquire = `(loop $l (br_if $l (i32.atomic.rmw.cmpxchg (i32.const 16) (i32.const 0) (i32.const 1))))`;
    expect(found({ work: acquire })).toEqual([expect.stringMatching(/^undeclared wait/)]);
    const flag = "(loop $l (br_if $l (i32.atomic.load (i32.const 16))))";
    expect(found({ work: flag })).toEqual([expect.stringMatching(/^undeclared wait/)]);
    const polled = "(loop $l call $pause (br_if $l (i32.load (i32.const 16))))";
    expect(found({ work: polled })).toEqual([expect.stringMatching(/^undeclared wait/)]);
    const inCall = `(func $try (param i32) (result i32)
      (i32.atomic.rmw.xchg (local.get 0) (i32.const 1)))`;
    expect(found({ work: "(loop $l (br_if $l (call $try (i32.const 16))))", more: inCall })).toEqual([
      expect.stringMatching(/^undeclared wait/),
    ]);
  });

  test("a search that looks elsewhere each time is no wait", () => {
    const work = `(local i32) (local.set 0 (i32.const 400))
      (loop $l (local.set 0 (i32.sub (local.get 0) (i32.const 4)))
        (br_if $l (i32.atomic.load (local.get 0))))`;
    expect(found({ work })).toEqual([]);
  });

  test("a guest is entered by the loop alone", () => {
    const more = '(func $stray (export "stray") (drop (call $vmenter (i32.const 0))))';
    expect(found({ more })).toEqual(["exit path: stray enters a guest outside of the loop"]);
  });

  test("what may interrupt the path is part of it", () => {
    const more = '(func $nmi (export "onNmi") (drop (call $m/give)))';
    expect(found({ more })).toEqual([]);
    expect(found({ more }, { ...RULES, interrupting: ["onNmi"] })).toEqual(["allocation: m/give"]);
  });

  test("an exception hides what is behind one call; one that nothing needs is a fault", () => {
    const exceptions = [{ from: "work", to: "m/give", why: "a test" }];
    expect(found({ work: "(drop (call $m/give))" }, { ...RULES, exceptions })).toEqual([]);
    expect(found({ work: "call $middle", middle: "(drop (call $m/give))" }, { ...RULES, exceptions })).toEqual([
      "exit path: nothing needs the exception work -> m/give",
      "allocation: m/give",
    ]);
  });

  test("rules that name nothing, and declarations that say nothing, are faults", () => {
    expect(found({}, { ...RULES, loop: "nowhere" })).toContain("exit path: there is no nowhere");
    expect(found({}, { ...RULES, loop: "work" })).toContain("exit path: work does not enter a guest in a loop");
    const text = "/** @locks mine */\nfunction f(): void {}\n/** @repeats */\nfunction g(): void {}";
    expect(
      checkExitPath(program("(func $before) (func $work) (func $after)"), [{ file: "a.ts", text }], RULES).complaints,
    ).toEqual([expect.stringContaining("a/f: @locks mine"), expect.stringContaining("a/g: @repeats")]);
  });

  test("a loop that is said to end, where none waits, is a fault", () => {
    const more = '(func $m/retry (export "retry"))';
    expect(found({ more })).toEqual(["m.ts: m/retry: @repeats stands where nothing waits"]);
  });
});

// ---- The kernel

describe("the kernel", async () => {
  const module = await readKernel();
  const sources = readSources();
  const named = (name: string): Func => module.funcs.find((f) => f.name === name) as Func;

  /** The findings with a call of `callee` (or the intrinsic) at the start of `caller`. */
  function planted(caller: string, callee: string): string[] {
    const block = named(caller).blocks[0] as Func["blocks"][0];
    const target = module.funcs.find((f) => f.name === callee);
    const value = newValue(named(caller), block, target ? "call" : "intrinsic", null, [], null);
    if (target) value.index = target.index;
    else value.name = callee;
    block.body.unshift(value);
    const lines = complaintsOf(checkExitPath(module, sources));
    block.body.shift();
    return lines;
  }

  test("keeps to the rules", () => {
    const report = checkExitPath(module, sources);
    expect(complaintsOf(report)).toEqual([]);
    expect(report.functions).toBeGreaterThan(500);
  });

  const places = [
    "kernel/exit/cpuid/onCpuid",
    "kernel/virq/vlapic/mmioWrite",
    "kernel/vmx/exit/enter",
    "kernel/lib/log/end",
  ];
  const plants: [string, RegExp][] = [
    ["kernel/mm/frame/allocFrame", /allocation: kernel\/mm\/frame\/allocFrame/],
    ["kernel/vcpu/vm/arenaAlloc", /allocation: kernel\/vcpu\/vm\/arenaAlloc/],
    ["kernel/lib/spinlock/tryLock", /shared lock: kernel\/lib\/spinlock\/tryLock/],
    ["kernel/mm/frame/ownerOf", /shared lock: kernel\/lib\/spinlock\/lock/],
    ["xsave", /vector state: xsave/],
    ["clts", /vector state: clts/],
    ["takeInterrupts", /interrupts on: takeInterrupts/],
  ];
  test.each(places.flatMap((place) => plants.map(([what, line]) => [what, place, line] as const)))(
    "%s planted in %s is found",
    (what, place, line) => {
      expect(planted(place, what)).toEqual(expect.arrayContaining([expect.stringMatching(line)]));
    },
  );

  test("the same in code that only boot or the reschedule runs is none of its business", () => {
    for (const place of ["kernel/main/kmain", "kernel/vm/run/switchTo", "kernel/vm/create/createVm"])
      expect(planted(place, "kernel/mm/frame/allocFrame")).toEqual([]);
  });

  test("its allocators and locks are declared", () => {
    const tags = declarations(sources);
    const all = (tag: string): string[] =>
      [...tags].filter(([, list]) => list.some((d) => `${d.tag} ${d.text}`.trim() === tag)).map(([name]) => name);
    expect(all("locks shared").sort()).toEqual(["kernel/lib/spinlock/lock", "kernel/lib/spinlock/tryLock"]);
    expect(all("locks own")).toEqual(["kernel/virq/lock/lockDevices"]);
    expect(all("allocates").sort()).toEqual([
      "kernel/mm/block/takePoolFrame",
      "kernel/mm/block/takeRun",
      "kernel/mm/frame/allocFrame",
      "kernel/mm/frame/allocRun",
      "kernel/vcpu/vm/arenaAlloc",
    ]);
    for (const name of tags.keys())
      expect(
        module.funcs.some((f) => f.name === name),
        name,
      ).toBe(true);
  });

  test("every exception has its reason", () => {
    for (const { why } of EXIT_PATH.exceptions) expect(why.length).toBeGreaterThan(20);
  });
});

describe("vector instructions", () => {
  test("are told from others", () => {
    for (const [mnemonic, operands] of [
      ["fxsave64", "[rdi]"],
      ["movups", "[rdi],xmm0"],
      ["clts", ""],
      ["vzeroupper", ""],
      ["fld", "st1"],
      ["kmovq", "rax,k1"],
      ["ldmxcsr", "[rdi]"],
    ] as const)
      expect(isVectorInstruction(mnemonic, operands), mnemonic).toBe(true);
    for (const [mnemonic, operands] of [
      ["mov", "rax,rbx"],
      ["lfence", ""],
      ["vmread", "rax,rbx"],
      ["verw", "[rip]"],
      ["setb", "al"],
      ["vmresume", ""],
    ] as const)
      expect(isVectorInstruction(mnemonic, operands), mnemonic).toBe(false);
  });

  test("stand in these intrinsics only", () => {
    const names = INTRINSICS.filter(touchesVectorState).map((row) => row.name);
    expect(names.length).toBeGreaterThan(4);
    for (const name of names) expect(name).toMatch(/^(f?xsavec?|f?xrstor|clts)$/);
  });
});
