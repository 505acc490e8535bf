// Runs the checks of .wast files on an executor and counts: passed, failed, skipped with the reason.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { TrapKind } from "../../../tools/compiler/ir.ts";
import { type Executor, type Outcome, show } from "../native/actions.ts";
import { type Check, type Expectation, readWast, type SuiteGroup } from "./script.ts";

export interface SuiteResult {
  passed: number;
  /** One line each. */
  failed: string[];
  /** Number of assertions by reason. */
  skipped: Map<string, number>;
}

/** What the suite's wording may be as a trap of ours. */
const traps: [RegExp, TrapKind[]][] = [
  [/^out of bounds memory access/, [TrapKind.MEMORY_OUT_OF_BOUNDS]],
  [/^(undefined element|out of bounds table access)/, [TrapKind.TABLE_OUT_OF_BOUNDS]],
  [/^uninitialized element/, [TrapKind.INDIRECT_CALL_TYPE, TrapKind.TABLE_OUT_OF_BOUNDS]],
  [/^indirect call type mismatch/, [TrapKind.INDIRECT_CALL_TYPE]],
  [/^integer overflow/, [TrapKind.INTEGER_OVERFLOW]],
  [/^integer divide by zero/, [TrapKind.DIVIDE_BY_ZERO]],
  [/^unreachable/, [TrapKind.UNREACHABLE]],
  [/^unaligned atomic/, [TrapKind.UNALIGNED_ATOMIC]],
];

/** Refusals that stand for something outside the accepted subset. */
const outside: [RegExp, string][] = [
  [/float/i, "floating point outside functions"],
  [/simd|v128/i, "SIMD"],
  [/reference|funcref|externref|table\.|ref\./i, "reference types"],
  [/more than one table|second table|several tables/i, "more than one table"],
];

function describe(expectation: Expectation): string {
  switch (expectation.type) {
    case "values":
      return show({ status: "ok", values: expectation.values });
    case "trap":
      return `trap: ${expectation.text}`;
    case "exhaustion":
      return "trap: stack overflow";
    case "done":
      return "to return";
  }
}

function meets(expectation: Expectation, outcome: Outcome): boolean {
  switch (expectation.type) {
    case "values":
      return outcome.status === "ok" && outcome.values.join() === expectation.values.join();
    case "done":
      return outcome.status === "ok";
    case "exhaustion":
      return outcome.status === "trap" && outcome.kind === TrapKind.STACK_OVERFLOW;
    case "trap": {
      const allowed = traps.find(([text]) => text.test(expectation.text))?.[1] ?? [];
      return outcome.status === "trap" && allowed.includes(outcome.kind);
    }
  }
}

/** Why an unmet expectation does not count against the compiler; null: it does. */
function excuse(expectation: Expectation, outcome: Outcome): string | null {
  if (isLeftOut(outcome)) return "reaches a function with floating point, growing memory or reference types";
  if (outcome.status !== "refused") return null;
  if (expectation.type === "trap" && /table/.test(expectation.text))
    return "refused at compile time: table initialiser";
  return outside.find(([message]) => message.test(outcome.message))?.[1] ?? null;
}

const isLeftOut = (outcome: Outcome): boolean => outcome.status === "trap" && outcome.kind === TrapKind.UNSUPPORTED;

/** `after`: a call before it in its module reached a function that is left out, so the state may be another. */
function judge(check: Check, outcome: Outcome, result: SuiteResult, after: boolean): void {
  if (meets(check.expectation, outcome)) {
    result.passed++;
    return;
  }
  const reason = excuse(check.expectation, outcome) ?? (after ? "follows such a call in its module" : null);
  if (reason) result.skipped.set(reason, (result.skipped.get(reason) ?? 0) + 1);
  else result.failed.push(`${check.file}:${check.line}: expected ${describe(check.expectation)}, got ${show(outcome)}`);
}

/** A module that should open and does not is a failure of its own: its assertions may be none. */
function judgeOpens(group: SuiteGroup, outcomes: Outcome[], result: SuiteResult): void {
  const judged = new Set(group.checks.map((check) => check.action));
  group.actions.forEach((action, i) => {
    const outcome = outcomes[i];
    if (action.type !== "open" || judged.has(i) || outcome.status === "ok") return;
    const reason = excuse({ type: "done" }, outcome);
    if (!reason) result.failed.push(`${group.file}:${group.line}: the module does not open: ${show(outcome)}`);
  });
}

/** `folder`: where the .wast files are. Fails if there is none. */
export async function runSuite(folder: string, executor: Executor, only?: string): Promise<SuiteResult> {
  const names = readdirSync(folder).filter((name) => name.endsWith(".wast") && (!only || name.includes(only)));
  if (names.length === 0) throw new Error(`no .wast file in ${folder}`);
  const result: SuiteResult = { passed: 0, failed: [], skipped: new Map() };
  const groups: SuiteGroup[] = [];
  for (const name of names.sort()) {
    const file = readWast(join(folder, name));
    groups.push(...file.groups);
    for (const { reason } of file.skips) result.skipped.set(reason, (result.skipped.get(reason) ?? 0) + 1);
  }
  const outcomes = await executor.run(groups);
  groups.forEach((group, g) => {
    judgeOpens(group, outcomes[g], result);
    const left = outcomes[g].findIndex(isLeftOut);
    for (const check of group.checks) judge(check, outcomes[g][check.action], result, left >= 0 && check.action > left);
  });
  return result;
}

export const skippedCount = (result: SuiteResult): number => [...result.skipped.values()].reduce((a, b) => a + b, 0);

export function report(result: SuiteResult): string {
  const lines = result.failed.map((line) => `FAIL ${line}`);
  for (const [reason, count] of [...result.skipped].sort((a, b) => b[1] - a[1]))
    lines.push(`skipped ${count}: ${reason}`);
  lines.push(`${result.passed} passed, ${result.failed.length} failed, ${skippedCount(result)} skipped`);
  return lines.join("\n");
}
