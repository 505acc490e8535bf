// For tests of single passes: WebAssembly text in, readable SSA out, and an interpreter that says
// whether the pass kept the meaning.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { Summaries } from "../../../tools/compiler/effects.ts";
import { Interpreter, Trap } from "../../../tools/compiler/interpret.ts";
import type { Func, Module } from "../../../tools/compiler/ir.ts";
import { Inliner } from "../../../tools/compiler/passes/inline.ts";
import { type Context, PASSES } from "../../../tools/compiler/pipeline.ts";
import { printFunc, trapName } from "../../../tools/compiler/print.ts";
import { readModule } from "../../../tools/compiler/read.ts";
import { verifyModule } from "../../../tools/compiler/verify.ts";

/** `wat`: fields of a module; one memory of a page is added. */
export function assemble(wat: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "basalt-pass-"));
  try {
    const source = join(folder, "in.wat");
    const memory = /\(memory[ )]/.test(wat) ? "" : '(memory (export "memory") 1 1)';
    writeFileSync(source, `(module ${wat} ${memory})`);
    execFileSync("wat2wasm", ["--enable-threads", "--debug-names", source, "-o", join(folder, "out.wasm")]);
    return readFileSync(join(folder, "out.wasm"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function read(wat: string): Module {
  return readModule(assemble(wat), undefined, { hosted: true });
}

/** Runs passes of the pipeline by name on every function, and verifies after each. */
export function run(module: Module, ...names: string[]): Module {
  const context: Context = { module, summaries: new Summaries(module), inliner: new Inliner(module) };
  for (const name of names) {
    const pass = PASSES.find((p) => p.name === name);
    if (pass === undefined) throw new Error(`no pass is called ${name}`);
    for (const func of module.funcs) pass.run(func, context);
    verifyModule(module);
  }
  return module;
}

/** The function's text with values and blocks numbered as they stand. */
export function text(module: Module, name = "f"): string {
  const func = module.funcs.find((f) => f.name === name || f.exports.includes(name)) as Func;
  let next = 0;
  for (const block of func.blocks) block.id = next++;
  next = 0;
  for (const block of func.blocks) for (const value of [...block.phis, ...block.body]) value.id = next++;
  func.nextId = next;
  const [, ...lines] = printFunc(func, module).trimEnd().split("\n");
  return lines.map((line) => line.replace(/; depth.*|: depth.*/, ":").replace(/^(b\d+: from .*):$/, "$1")).join("\n");
}

/** Lines without the indentation of a template literal. */
export function lines(template: string): string {
  const all = template.replace(/^\n|\n *$/g, "").split("\n");
  const indent = Math.min(...all.filter((l) => l.trim() !== "").map((l) => l.length - l.trimStart().length));
  return all.map((l) => l.slice(indent)).join("\n");
}

function outcome(module: Module, name: string, args: bigint[]): string {
  const machine = new Interpreter(module, {}, 100_000);
  let result: string;
  try {
    result = machine.callExport(name, args).join();
  } catch (error) {
    if (!(error instanceof Trap)) throw error;
    result = trapName(error.kind);
  }
  return `${result} memory ${createHash("sha1").update(machine.memory).digest("hex")} globals ${machine.globals}`;
}

/** Calls every exported function before and after the passes with each list of arguments: result, trap, memory and globals must agree. */
export function expectSame(wat: string, passes: string[], inputs: bigint[][]): void {
  const bytes = assemble(wat);
  const before = readModule(bytes, undefined, { hosted: true });
  const after = run(readModule(bytes, undefined, { hosted: true }), ...passes);
  for (const name of before.funcs.flatMap((f) => f.exports)) {
    for (const args of inputs) {
      const [got, wanted] = [outcome(after, name, args), outcome(before, name, args)];
      if (got !== wanted) expect(`${name}(${args}) = ${got}`).toBe(`${name}(${args}) = ${wanted}`);
    }
  }
}

export const INTERESTING32 = [
  0n,
  1n,
  2n,
  7n,
  31n,
  32n,
  0x7fn,
  0x80n,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_fffen,
  0xffff_ffffn,
];
export const INTERESTING64 = [
  ...INTERESTING32,
  0x1_0000_0000n,
  0x1234_5678_9abc_def0n,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
];

export function each(values: bigint[]): bigint[][] {
  return values.map((v) => [v, 3n]);
}

export function pairs(values: bigint[]): bigint[][] {
  return values.flatMap((a) => values.map((b) => [a, b]));
}
