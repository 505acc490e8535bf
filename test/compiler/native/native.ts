// The executor under test: modules go through the hosted target, nasm and ld into one Linux process
// a batch, driven by runner.c through a script of actions.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { TrapKind } from "../../../tools/compiler/ir.ts";
import { type Action, type Executor, type Group, hostFunctions, type Outcome, type Window } from "./actions.ts";
import { type CompileOptions, compileForProcess } from "./compile.ts";

const run = promisify(execFile);
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const hosted = here("../../../tools/compiler/hosted");
const cache = here("../../../.cache/compiler-test");

type Compiler = (wasm: Uint8Array, options: CompileOptions) => string;

const statusNames: Record<number, string> = { 200: "no such export or import", 201: "ran out of time" };

/** runner.c and runtime.c as objects, compiled once for each version of their text. */
async function runnerObjects(): Promise<string[]> {
  const flags = ["-O1", "-g", "-fPIE", "-Wall", "-Werror", `-I${hosted}`];
  const header = readFileSync(join(hosted, "basalt.h"));
  mkdirSync(cache, { recursive: true });
  return Promise.all(
    [here("runner.c"), join(hosted, "runtime.c")].map(async (source) => {
      const hash = createHash("sha256").update(header).update(readFileSync(source)).update(flags.join()).digest("hex");
      const object = join(cache, `${hash.slice(0, 16)}.o`);
      if (!existsSync(object)) {
        await run("gcc", [...flags, "-c", source, "-o", `${object}.${process.pid}`]);
        renameSync(`${object}.${process.pid}`, object);
      }
      return object;
    }),
  );
}

interface Placed {
  group: number;
  /** Numbers of the group's modules in the runner's table. */
  first: number;
}

class Script {
  private readonly words: bigint[] = [];
  count = 0;
  private name(text: string): bigint[] {
    const bytes = Buffer.from(text, "utf8");
    const padded = Buffer.alloc((bytes.length + 7) & ~7);
    bytes.copy(padded);
    const words = [BigInt(bytes.length)];
    for (let i = 0; i < padded.length; i += 8) words.push(padded.readBigUInt64LE(i));
    return words;
  }
  add(action: Action, first: number): void {
    const module = BigInt(first + action.module);
    const words = [1n, ...this.encode(action, module, first)];
    words[0] = BigInt(words.length);
    for (const word of words) this.words.push(word);
    this.count++;
  }
  private encode(action: Action, module: bigint, first: number): bigint[] {
    switch (action.type) {
      case "open":
        return [0n, module];
      case "call": {
        const sizes = [BigInt(action.args.length), BigInt(action.results.length)];
        return [1n, module, ...this.name(action.name), ...sizes, ...action.args];
      }
      case "hash":
        return [2n, module, BigInt(action.from)];
      case "global":
        return [3n, module, ...this.name(action.name)];
      case "link":
        return [4n, module, BigInt(action.index), BigInt(first + action.from), ...this.name(action.name)];
      case "host":
        return [5n, module, BigInt(action.index), BigInt(hostFunctions.indexOf(action.host))];
      case "close":
        return [6n, module];
    }
  }
  bytes(): Buffer {
    return Buffer.from(BigUint64Array.from([BigInt(this.count), ...this.words]).buffer);
  }
}

/** Reads outcomes from `file` for `actions`, as many as were finished. */
function decode(file: Buffer, actions: Action[]): Outcome[] {
  const done = Number(file.readBigUInt64LE(0));
  const outcomes: Outcome[] = [];
  let at = 8;
  for (let i = 0; i < done; i++) {
    const status = Number(file.readBigUInt64LE(at));
    const count = Number(file.readBigUInt64LE(at + 8));
    const values = Array.from({ length: count }, (_, v) => file.readBigUInt64LE(at + 16 + 8 * v));
    at += 16 + 8 * count;
    if (status === 0) outcomes.push({ status: "ok", values: narrow(values, actions[i]) });
    else if (status >= 200) outcomes.push({ status: "broken", message: statusNames[status] ?? `status ${status}` });
    else outcomes.push({ status: "trap", kind: (status - 1) as TrapKind });
  }
  return outcomes;
}

/** The System V convention leaves the upper half of an i32 result undefined. */
function narrow(values: bigint[], action: Action): bigint[] {
  const types = action.type === "call" ? action.results : action.type === "global" ? [action.valtype] : [];
  return values.map((value, i) => (types[i] === 0x7f ? value & 0xffff_ffffn : value));
}

/** Runs `actions` from `first` on; the outcomes of those that finished, and why the rest did not. */
async function drive(program: string, folder: string, actions: Action[], first: number, seconds: number) {
  const outcomesPath = join(folder, "outcomes");
  writeFileSync(outcomesPath, Buffer.alloc(8 * (2 + actions.length * 66)));
  let reason = "the process ended early";
  await run(program, [join(folder, "script"), outcomesPath, String(first), String(seconds)]).catch((error) => {
    reason = error.signal
      ? `the process died of ${error.signal}`
      : `exit code ${error.code} ${error.stderr ?? ""}`.trim();
  });
  return { outcomes: decode(readFileSync(outcomesPath), actions.slice(first)), reason };
}

/** One program of all `groups` that compile; outcomes for each group. */
async function runBatch(groups: Group[], window: Window, compiler: Compiler, seconds: number): Promise<Outcome[][]> {
  const folder = mkdtempSync(join(tmpdir(), "basalt-native-"));
  const results: Outcome[][] = groups.map(() => []);
  const sources: string[] = [];
  const placed: Placed[] = [];
  groups.forEach((group, g) => {
    try {
      const first = sources.length;
      const texts = group.modules.map((wasm, m) => compiler(wasm, { window, prefix: `m${first + m}_` }));
      sources.push(...texts);
      placed.push({ group: g, first });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      results[g] = group.actions.map(() => ({ status: "refused", message }));
    }
  });
  try {
    if (placed.length > 0) {
      const program = await link(sources, folder);
      await runPlaced(program, folder, groups, placed, seconds, results);
    }
  } finally {
    if (!process.env.BASALT_KEEP) rmSync(folder, { recursive: true });
    else console.error(`kept ${folder}`);
  }
  return results;
}

async function runPlaced(
  program: string,
  folder: string,
  groups: Group[],
  placed: Placed[],
  seconds: number,
  results: Outcome[][],
): Promise<void> {
  const script = new Script();
  const owners: number[] = [];
  const actions: Action[] = [];
  for (const { group, first } of placed)
    for (const action of groups[group].actions) {
      script.add(action, first);
      actions.push(action);
      owners.push(group);
    }
  writeFileSync(join(folder, "script"), script.bytes());
  for (let next = 0; next < actions.length; ) {
    const { outcomes, reason } = await drive(program, folder, actions, next, seconds);
    for (const outcome of outcomes) results[owners[next++]].push(outcome);
    if (next === actions.length) break;
    // The group that broke is given up; the next one starts in a new process.
    const broken = owners[next === 0 || results[owners[next]].length > 0 ? next : next];
    while (owners[next] === broken) {
      results[broken].push({ status: "broken", message: reason });
      next++;
    }
  }
}

const table = (count: number): string => {
  const names = Array.from({ length: count }, (_, i) => `m${i}_module`);
  return `${names.map((name) => `extern ${name}`).join("\n")}
global runner_modules
section .data.rel.ro progbits alloc noexec write align=8
runner_modules: dq ${names.join(", ")}
`;
};

async function assemble(folder: string, name: string, text: string): Promise<string> {
  const base = join(folder, name);
  writeFileSync(`${base}.asm`, text);
  await run("nasm", ["-Werror", "-w-reloc-abs-qword", "-w-reloc-abs", "-f", "elf64", `${base}.asm`, "-o", `${base}.o`]);
  return `${base}.o`;
}

/** Assembles texts in slices of about a megabyte, two at a time, and links them with the runner. */
async function link(sources: string[], folder: string): Promise<string> {
  const jobs: (() => Promise<string>)[] = sources.map((text, i) => () => assemble(folder, `m${i}`, text));
  jobs.push(() => assemble(folder, "table", table(sources.length)));
  const objects: string[] = [];
  const worker = async (): Promise<void> => {
    for (let job = jobs.pop(); job; job = jobs.pop()) objects.push(await job());
  };
  await Promise.all([worker(), worker()]);
  const program = join(folder, "program");
  writeFileSync(join(folder, "objects"), objects.join("\n"));
  const flags = ["-pie", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-o", program];
  await run("gcc", [...flags, `@${join(folder, "objects")}`, ...(await runnerObjects())]);
  return program;
}

export interface NativeOptions {
  window: Window;
  /** CPU seconds from one `open` to the next. */
  seconds?: number;
  /** Groups in one process. */
  batch?: number;
  /** Another compiler than the tree's, for tests of the fuzzer. */
  compiler?: Compiler;
}

export function native(options: NativeOptions): Executor {
  return {
    async run(groups) {
      const results: Outcome[][] = [];
      const size = options.batch ?? 100;
      for (let i = 0; i < groups.length; i += size) {
        const compiler = options.compiler ?? compileForProcess;
        results.push(...(await runBatch(groups.slice(i, i + size), options.window, compiler, options.seconds ?? 10)));
      }
      return results;
    },
  };
}
