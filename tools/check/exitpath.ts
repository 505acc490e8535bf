/**
 * Between a VM exit and the resume of the same vCPU nothing is allocated, no lock is taken that VMs share, vector state
 * stays in its registers and interrupts stay off: proved from the call graph of the Wasm, before anything is inlined.
 *
 * The path is all of the run loop that lies between two VM entries, everything that it calls, and what may interrupt it.
 * It ends where the loop is left: that is the reschedule. A block from which control never comes back (a panic) is not on
 * it. What locks, allocates or waits for others says so where it is declared, in a line of its doc comment:
 *
 *   @locks own|shared    takes a lock of one VM's own, or one that VMs share
 *   @allocates           hands out memory
 *   @repeats WHY         a loop that an atomic access or a device decides: why it ends
 *
 * A loop that waits and says nothing is found by its shape (tools/compiler/waits.ts). That compiled code has no vector
 * instructions but in the intrinsics that are listed with them is tools/check/binary.ts's proof.
 */

import { intrinsic, touchesVectorState } from "../compiler/intrinsics.ts";
import type { Block, Func, Loc, Module, Value } from "../compiler/ir.ts";
import { Paths } from "../compiler/paths.ts";
import { atomicFunctions, waitsOf } from "../compiler/waits.ts";
import type { Source } from "./layers.ts";

export interface PathRules {
  /** The intrinsic that enters a guest and comes back at its exit. */
  enter: string;
  /** The function whose loop resumes the vCPU: returning from it is the reschedule, whose work is another's. */
  loop: string;
  /** Exports that may run at any place of the path. */
  interrupting: string[];
  /** Calls that the path takes although something behind them breaks a rule. */
  exceptions: Exception[];
}

export interface Exception {
  from: string;
  to: string;
  why: string;
}

export const EXIT_PATH: PathRules = {
  enter: "vmenter",
  loop: "kernel/vm/run/loop",
  interrupting: ["onNmi", "onMachineCheck", "onException"],
  exceptions: [
    {
      from: "kernel/exit/vector/moveVector",
      to: "kernel/vmx/state/storeVector",
      why: "a guest's own vector move to a device: its registers are copied to its save area",
    },
    {
      from: "kernel/exit/vector/finish",
      to: "kernel/vmx/state/loadVector",
      why: "a guest's own vector move from a device: its registers come back from its save area",
    },
  ],
};

/** Intrinsics that let a device's interrupt in. */
const OPEN = new Set(["sti", "idle", "takeInterrupts"]);

export interface Finding {
  rule: "allocation" | "shared lock" | "vector state" | "interrupts on" | "undeclared wait";
  /** The function or intrinsic that breaks the rule, and where. */
  what: string;
  /** From the loop (or what interrupts it) to `what`, with the line of each call. */
  path: string[];
}

export interface ExitPathReport {
  /** Functions and calls on the path; calls through the table among them. */
  functions: number;
  calls: number;
  indirectCalls: number;
  findings: Finding[];
  /** Locks of a VM's own, and loops that others decide, with what was declared of them. */
  declared: { func: string; says: string }[];
  exceptions: Exception[];
  /** What is wrong with the rules or the declarations themselves. */
  complaints: string[];
}

// ---- Declarations

export interface Declaration {
  file: string;
  tag: string;
  text: string;
}

const DOCUMENTED = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(?:export )?function (\w+)/g;
const TAG = /@(\w+)[ \t]*([^\n*]*)/g;

/** The tags of each function that has some, by its name in the Wasm. */
export function declarations(sources: Source[]): Map<string, Declaration[]> {
  const found = new Map<string, Declaration[]>();
  for (const { file, text } of sources) {
    for (const [, doc, name] of text.matchAll(DOCUMENTED)) {
      const tags = [...(doc as string).matchAll(TAG)].map(([, tag, rest]) => ({
        file,
        tag: tag as string,
        text: (rest as string).trim(),
      }));
      if (tags.length) found.set(`${file.replace(/\.ts$/, "")}/${name}`, tags);
    }
  }
  return found;
}

function wrongTags(declared: Map<string, Declaration[]>): string[] {
  const isKnown = ({ tag, text }: Declaration): boolean =>
    tag === "locks" ? text === "own" || text === "shared" : tag === "allocates" || (tag === "repeats" && text !== "");
  return [...declared].flatMap(([func, tags]) =>
    tags.filter((d) => !isKnown(d)).map((d) => `${d.file}: ${func}: @${d.tag} ${d.text} says nothing that is known`),
  );
}

// ---- The check

export function checkExitPath(module: Module, sources: Source[], rules = EXIT_PATH): ExitPathReport {
  return new Checker(module, declarations(sources), rules).run();
}

/** One line for each thing that fails the build. */
export function complaintsOf({ findings, complaints }: ExitPathReport): string[] {
  return [...complaints, ...findings.map((f) => `exit path: ${f.rule}: ${f.what}, by ${f.path.join(" -> ")}`)];
}

interface Step {
  func: Func;
  from: Step | null;
  /** Of the call. */
  loc: Loc | null;
}

class Checker {
  private readonly paths: Paths;
  private readonly steps = new Map<Func, Step>();
  private readonly used = new Set<Exception>();
  private readonly report: ExitPathReport;

  constructor(
    private readonly module: Module,
    private readonly declared: Map<string, Declaration[]>,
    private readonly rules: PathRules,
  ) {
    this.paths = new Paths(module);
    this.report = {
      functions: 0,
      calls: 0,
      indirectCalls: 0,
      findings: [],
      declared: [],
      exceptions: rules.exceptions,
      complaints: wrongTags(declared),
    };
  }

  run(): ExitPathReport {
    this.walk();
    this.otherEntries();
    this.waits();
    for (const e of this.rules.exceptions)
      if (!this.used.has(e)) this.report.complaints.push(`exit path: nothing needs the exception ${e.from} -> ${e.to}`);
    this.report.functions = this.steps.size;
    return this.report;
  }

  /** Breadth first: each function is reached by its shortest path. */
  private walk(): void {
    const queue: { step: Step; blocks: Set<Block> }[] = [];
    const loop = this.named((f) => f.name === this.rules.loop, this.rules.loop);
    if (loop) {
      const blocks = this.paths.blocksBetween(loop, this.rules.enter);
      if (blocks.size === 0) this.report.complaints.push(`exit path: ${loop.name} does not enter a guest in a loop`);
      queue.push({ step: { func: loop, from: null, loc: null }, blocks });
    }
    for (const name of this.rules.interrupting) {
      const func = this.named((f) => f.exports.includes(name), name);
      if (func) queue.push(this.whole({ func, from: null, loc: null }));
    }
    for (const { step } of queue) this.steps.set(step.func, step);
    for (let at = queue.shift(); at !== undefined; at = queue.shift())
      for (const block of at.blocks) for (const value of block.body) queue.push(...this.visit(at.step, value));
  }

  private named(is: (f: Func) => boolean, name: string): Func | undefined {
    const func = this.module.funcs.find(is);
    if (!func) this.report.complaints.push(`exit path: there is no ${name}`);
    return func;
  }

  private whole(step: Step): { step: Step; blocks: Set<Block> } {
    return { step, blocks: this.paths.blocksThatReturn(step.func) };
  }

  /** What `value` breaks, and the functions that it leads to for the first time. */
  private visit(step: Step, value: Value): { step: Step; blocks: Set<Block> }[] {
    if (value.op === "intrinsic") this.intrinsic(step, value);
    const callees = this.paths.callees(value);
    if (callees.length) this.report.calls++;
    if (value.op === "call_indirect") this.report.indirectCalls++;
    const next: { step: Step; blocks: Set<Block> }[] = [];
    for (const func of callees) {
      if (this.steps.has(func) || this.isException(step.func, func)) continue;
      const reached = { func, from: step, loc: value.loc };
      this.steps.set(func, reached);
      this.function(reached);
      next.push(this.whole(reached));
    }
    return next;
  }

  private isException(from: Func, to: Func): boolean {
    const exception = this.rules.exceptions.find((e) => e.from === from.name && e.to === to.name);
    if (exception) this.used.add(exception);
    return exception !== undefined;
  }

  private intrinsic(step: Step, { name, loc }: Value): void {
    const row = intrinsic(name as string);
    const what = `${name} at ${this.place(loc)}`;
    if (row && touchesVectorState(row)) this.find("vector state", what, step);
    if (OPEN.has(name as string)) this.find("interrupts on", what, step);
  }

  private function(step: Step): void {
    const { name } = step.func;
    for (const { tag, text } of this.declared.get(name) ?? []) {
      if (tag === "allocates") this.find("allocation", name, step);
      else if (tag === "locks" && text === "shared") this.find("shared lock", name, step);
      else this.report.declared.push({ func: name, says: `${tag} ${text}` });
    }
    if (/^~lib\/rt\/(?!common)/.test(name)) this.find("allocation", name, step);
  }

  /** A guest is entered by the loop alone: what leads to an entry is the loop, below it or above it. */
  private otherEntries(): void {
    const entering = this.paths.functionsWith(this.rules.enter);
    const below = [...entering].filter((f) => this.steps.has(f) && f.name !== this.rules.loop);
    for (const func of entering) {
      if (this.steps.has(func)) continue;
      const calls = func.blocks.flatMap((b) => b.body.flatMap((v) => this.paths.callees(v)));
      const stray = calls.find((callee) => below.includes(callee));
      const itself = func.blocks.some((b) => b.body.some((v) => v.op === "intrinsic" && v.name === this.rules.enter));
      if (stray || itself) this.report.complaints.push(`exit path: ${func.name} enters a guest outside of the loop`);
    }
  }

  private waits(): void {
    const atomics = atomicFunctions(this.module, this.paths);
    for (const func of this.module.funcs) {
      const tags = this.declared.get(func.name) ?? [];
      const step = func.name === this.rules.loop ? undefined : this.steps.get(func);
      const [first] = step || tags.length ? waitsOf(func, this.paths, atomics) : [];
      if (step && first !== undefined && tags.length === 0) this.find("undeclared wait", this.place(first), step);
      if (first === undefined && tags.some((d) => d.tag === "repeats"))
        this.report.complaints.push(`${tags[0]?.file}: ${func.name}: @repeats stands where nothing waits`);
    }
  }

  private find(rule: Finding["rule"], what: string, step: Step): void {
    const path: string[] = [];
    for (let at: Step | null = step; at; at = at.from)
      path.unshift(at.loc ? `${at.func.name} (${this.place(at.loc)})` : at.func.name);
    this.report.findings.push({ rule, what, path });
  }

  private place(loc: Loc | null): string {
    return loc ? `${this.module.files[loc.file]}:${loc.line}` : "an unknown line";
  }
}
