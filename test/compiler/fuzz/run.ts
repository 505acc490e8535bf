// A fuzzing run: programs from a seed through both executors, both windows; failures are shrunk.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Executor, Window } from "../native/actions.ts";
import { v8 } from "../native/oracle.ts";
import { compare, groupOf } from "./compare.ts";
import { Coverage } from "./coverage.ts";
import { generate } from "./generate.ts";
import { type Shrunk, shrink } from "./shrink.ts";
import { encode, type Program } from "./tree.ts";

export interface FuzzOptions {
  seed: number;
  /** Program numbers: first .. first + runs - 1. */
  first: number;
  runs: number;
  windows: Window[];
  subject: (window: Window) => Executor;
  /** Programs compiled and run together. */
  batch: number;
  /** Failures after which the run ends. */
  stopAfter: number;
  shrinkBudget: number;
  log?: (line: string) => void;
}

export interface Failure extends Shrunk {
  seed: number;
  number: number;
  window: Window;
}

export interface FuzzResult {
  programs: number;
  failures: Failure[];
  coverage: Coverage;
}

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const coverage = new Coverage();
  const failures: Failure[] = [];
  let programs = 0;
  const end = options.first + options.runs;
  for (let first = options.first; first < end && failures.length < options.stopAfter; first += options.batch) {
    const numbers = Array.from({ length: Math.min(options.batch, end - first) }, (_, i) => first + i);
    for (const window of options.windows) {
      const generated = numbers.map((number) => generate(options.seed, number, window));
      for (const { program, toured } of generated) coverage.add(program, toured);
      programs += generated.length;
      failures.push(
        ...(await tryBatch(
          generated.map((g) => g.program),
          first,
          window,
          options,
        )),
      );
    }
    options.log?.(`${programs} programs, ${failures.length} failures`);
  }
  return { programs, failures: failures.slice(0, options.stopAfter), coverage };
}

async function tryBatch(batch: Program[], first: number, window: Window, options: FuzzOptions): Promise<Failure[]> {
  const subject = options.subject(window);
  const groups = batch.map((program) => groupOf(program, window));
  const differences = await compare(groups, v8, subject);
  const failures: Failure[] = [];
  for (const [i, found] of differences.entries()) {
    if (!found || failures.length >= options.stopAfter) continue;
    const failing = { program: batch[i], difference: found };
    const least = options.shrinkBudget ? await shrink(failing, window, v8, subject, options.shrinkBudget) : failing;
    failures.push({ ...least, seed: options.seed, number: first + i, window });
  }
  return failures;
}

export const reproduce = ({ seed, number, window }: Failure): string =>
  `npm run fuzz:compiler -- --seed ${seed} --only ${number} --window ${window}`;

export function brief({ number, window, difference }: Failure): string {
  const { action, what, expected, got } = difference;
  return `${number} ${window} action ${action} ${what.slice(0, 60)}: V8 ${expected}, ours ${got.slice(0, 160)}`;
}

/** The shrunk program as WebAssembly text, what differs, and how to see it again. */
export function explain(failure: Failure): string {
  const { action, what, expected, got } = failure.difference;
  return [
    `seed ${failure.seed}, program ${failure.number}, window ${failure.window}: action ${action}, ${what}`,
    `  V8:   ${expected}`,
    `  ours: ${got}`,
    text(failure.program),
    `reproduce: ${reproduce(failure)}`,
  ].join("\n");
}

function text(program: Program): string {
  const folder = mkdtempSync(join(tmpdir(), "basalt-fuzz-"));
  try {
    const path = join(folder, "program.wasm");
    writeFileSync(path, encode(program));
    const wat = execFileSync("wasm2wat", ["--enable-all", path], { encoding: "utf8" });
    const calls = program.calls.map((c) => `;; f${c.callee}(${c.args.join(", ")})`);
    return `${wat.replace(/"(\\00)+"/g, '"..."').trim()}\n${calls.join("\n")}`;
  } catch {
    return "(wasm2wat is not installed)";
  } finally {
    rmSync(folder, { recursive: true });
  }
}
