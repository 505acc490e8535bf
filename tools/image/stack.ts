/**
 * No stack of the core can overflow: the deepest path of each entry point, from the compiler's call graph, against the
 * size of the stack that it runs on (docs/architecture.md, "Address space").
 */

import type { StackReport } from "../compiler/backend/stack.ts";
import type { Constants } from "./abi.ts";

/** What the processor and boot/vectors.asm push for an exception: 7 quadwords, 15 registers, the call. */
const EXCEPTION_BYTES = 23 * 8;
/** For an interrupt: 6 quadwords, 15 registers, padding, the call. */
const INTERRUPT_BYTES = 23 * 8;
/** Routines in NASM that are called from compiled code push less than this. */
const ROUTINE_BYTES = 128;

export interface StackUse {
  stack: string;
  size: number;
  /** Bytes on the deepest path. */
  used: number;
  /** Entry points that were added up. */
  entries: string[];
}

/** How deep each kind of stack can get. Throws if the depth of an entry point is not known. */
export function stackUses(report: StackReport, constants: Constants): StackUse[] {
  const depth = (name: string): number => {
    const entry = report.entries.find((e) => e.export === name);
    if (!entry) return 0;
    if (entry.bytes === null)
      throw new Error(`the stack depth of ${name} has no bound: a cycle of calls lies below it`);
    return entry.bytes + ROUTINE_BYTES;
  };
  const at = (name: string): number => Number(constants.get(name));
  const page = 4096;
  const handlers = INTERRUPT_BYTES + depth("onInterrupt") + EXCEPTION_BYTES + depth("onException");
  const threads = ["kmain", "apmain", "onTrap"].map((name) => ({ name, bytes: depth(name) }));
  const deepest = threads.reduce((a, b) => (b.bytes > a.bytes ? b : a));
  const ist = (stack: string, from: number, to: number, entry: string): StackUse => ({
    stack,
    size: to - from,
    used: EXCEPTION_BYTES + depth(entry),
    entries: [entry],
  });
  return [
    {
      stack: "main",
      size: at("STACK_TOP") - (at("IST4_TOP") + page),
      used: deepest.bytes + handlers,
      entries: [deepest.name, "onInterrupt", "onException"],
    },
    ist("NMI", page, at("IST1_TOP"), "onNmi"),
    ist("#MC", at("IST1_TOP") + page, at("IST2_TOP"), "onMachineCheck"),
    ist("#DF", at("IST2_TOP") + page, at("IST3_TOP"), "onException"),
    ist("#PF", at("IST3_TOP") + page, at("IST4_TOP"), "onException"),
  ];
}

/** One line for each stack that could overflow. */
export function checkStacks(report: StackReport, constants: Constants): string[] {
  return stackUses(report, constants)
    .filter(({ used, size }) => used > size)
    .map(
      ({ stack, used, size, entries }) =>
        `the ${stack} stack (${size} bytes) could overflow: ${entries.join(" + ")} can take ${used}`,
    );
}
