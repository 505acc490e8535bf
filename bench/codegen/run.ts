// npm run bench:codegen -- [--only NAMES] [--rounds N] [--sample MICROSECONDS]
// Time of our code, of V8 and of wasm2c's C, each over the time of hand-written C with gcc -O2.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type BuiltKernel, buildKernel } from "./build.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "60" },
    sample: { type: "string", default: "5000" },
    "without-ours": { type: "boolean", default: false },
  },
});

interface Measured {
  kernel: BuiltKernel;
  /** Nanoseconds of one sample, by variant. */
  ns: Record<string, number>;
}

/** On one core where taskset exists. */
function measure(kernel: BuiltKernel): { n: number; ns: Record<string, number>; sums: Record<string, string> } {
  const command = [kernel.program, values.rounds, values.sample];
  if (existsSync("/usr/bin/taskset")) command.unshift("taskset", "-c", "1");
  const [first, ...lines] = execFileSync(command[0], command.slice(1), { encoding: "utf8" }).trim().split("\n");
  const ns: Record<string, number> = {};
  const sums: Record<string, string> = {};
  for (const line of lines) {
    const [name, time, sum] = line.split(" ");
    ns[name] = Number(time);
    sums[name] = sum;
  }
  return { n: Number(first), ns, sums };
}

interface KernelExports {
  setup(): void;
  run(n: number): bigint;
}

/** The least time of a run of `n` in V8, after TurboFan had its time. */
function measureV8(kernel: BuiltKernel, n: number): { ns: number; sum: string } {
  const module = new WebAssembly.Module(kernel.wasm as BufferSource);
  const exports = new WebAssembly.Instance(module, {}).exports as unknown as KernelExports;
  exports.setup();
  let best = Number.POSITIVE_INFINITY;
  let sum = 0n;
  for (let round = 0; round < Number(values.rounds); round++) {
    const start = process.hrtime.bigint();
    sum = exports.run(n);
    best = Math.min(best, Number(process.hrtime.bigint() - start));
  }
  return { ns: best, sum: BigInt.asUintN(64, sum).toString() };
}

/** Throws when the variants do not agree on what they computed. */
function measureAll(kernel: BuiltKernel): Measured {
  const { n, ns, sums } = measure(kernel);
  const v8 = measureV8(kernel, n);
  const all: Record<string, string> = { ...sums, v8: v8.sum };
  if (new Set(Object.values(all)).size !== 1)
    throw new Error(`${kernel.name}: checksums differ: ${JSON.stringify(all)}`);
  return { kernel, ns: { ...ns, v8: v8.ns } };
}

const geomean = (xs: number[]): number => Math.exp(xs.reduce((sum, x) => sum + Math.log(x), 0) / xs.length);
const cell = (x: number | undefined): string => (x === undefined ? "-" : x.toFixed(2)).padStart(8);

function print(measured: Measured[]): void {
  const columns = ["ours", "v8", "wasm2c"];
  console.log(
    `${"kernel".padEnd(12)}${columns.map((c) => `${c}/C`.padStart(8)).join("")}${"bytes".padStart(8)}${"C bytes".padStart(9)}`,
  );
  const ratio = ({ ns }: Measured, column: string): number | undefined =>
    ns[column] === undefined ? undefined : ns[column] / ns.c;
  for (const m of measured) {
    const { name, codeBytes } = m.kernel;
    const bytes = `${String(codeBytes.ours ?? "-").padStart(8)}${String(codeBytes.c).padStart(9)}`;
    console.log(`${name.padEnd(12)}${columns.map((c) => cell(ratio(m, c))).join("")}${bytes}`);
  }
  const of = (column: string): number[] => measured.map((m) => ratio(m, column)).filter((r) => r !== undefined);
  const mean = (column: string): string => cell(of(column).length ? geomean(of(column)) : undefined);
  console.log(`${"geomean".padEnd(12)}${columns.map(mean).join("")}`);
  const ours = of("ours");
  if (ours.length === 0) return;
  const round = (x: number): number => Math.round(x * 1000) / 1000;
  const figures: Record<string, number> = { geomean: round(geomean(ours)), max: round(Math.max(...ours)) };
  for (const m of measured) figures[m.kernel.name] = round(ratio(m, "ours") as number);
  console.log(JSON.stringify({ bench: "codegen", figures }));
}

const folder = fileURLToPath(new URL("kernels", import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".ts"))
  .map((file) => file.slice(0, -3))
  .filter((name) => !values.only || values.only.split(",").includes(name));
const measured: Measured[] = [];
for (const name of names) measured.push(measureAll(await buildKernel(name, !values["without-ours"])));
print(measured);
