// npm run coverage: runs the unit and property tests with the core's Wasm instrumented and prints which share
// of its source lines they reach. Fails if a folder of GOALS stays below its share.
//
//   npm run coverage [-- --missing kernel/exit] [FILTER...]      --missing: list the lines that were not reached

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import pc from "picocolors";
import { ROOT } from "../fake/compile.ts";
import type { Lines } from "./collect.ts";

const GOALS: Record<string, number> = { "kernel/exit": 0.95, "kernel/vmx": 0.95, "kernel/mm": 0.95 };

interface Share {
  reached: number;
  total: number;
}

function main(): number {
  const program = new Command("coverage")
    .option("--missing <path>", "list the lines below <path> that were not reached")
    .argument("[filter...]", "test files, as for vitest")
    .parse();
  const folder = mkdtempSync(join(tmpdir(), "basalt-coverage-"));
  try {
    const vitest = join(ROOT, "node_modules/.bin/vitest");
    const run = spawnSync(vitest, ["run", "--project", "unit", "--testTimeout", "300000", ...program.args], {
      cwd: ROOT,
      env: { ...process.env, BASALT_COVERAGE: folder },
      stdio: ["ignore", "inherit", "inherit"],
    });
    const lines = merge(folder);
    report(lines);
    const { missing } = program.opts<{ missing?: string }>();
    if (missing) list(lines, missing);
    return run.status === 0 ? judge(lines) : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function merge(folder: string): Lines {
  const lines: Lines = {};
  for (const name of readdirSync(folder)) {
    const more = JSON.parse(readFileSync(join(folder, name), "utf8")) as Lines;
    for (const [line, reached] of Object.entries(more)) {
      if (/^(kernel|drivers)\//.test(line)) lines[line] = reached || lines[line] ? 1 : 0;
    }
  }
  return lines;
}

function fileOf(line: string): string {
  return line.slice(0, line.lastIndexOf(":"));
}

/** Shares by what `key` makes of a file's path. */
function shares(lines: Lines, key: (file: string) => string): Map<string, Share> {
  const map = new Map<string, Share>();
  for (const [line, reached] of Object.entries(lines)) {
    const at = key(fileOf(line));
    const share = map.get(at) ?? { reached: 0, total: 0 };
    share.reached += reached;
    share.total++;
    map.set(at, share);
  }
  return new Map([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function percent({ reached, total }: Share): string {
  return `${((100 * reached) / total).toFixed(1)}%`.padStart(7);
}

function folderOf(file: string): string {
  return file.split("/").slice(0, -1).join("/");
}

function report(lines: Lines): void {
  const files = shares(lines, (file) => file);
  for (const [folder, share] of shares(lines, folderOf)) {
    console.log(pc.bold(`${percent(share)}  ${folder}  (${share.reached} of ${share.total} lines)`));
    for (const [file, own] of files) if (folderOf(file) === folder) console.log(`${percent(own)}    ${file}`);
  }
}

function list(lines: Lines, path: string): void {
  const missing = Object.entries(lines).filter(([line, reached]) => !reached && line.startsWith(path));
  for (const file of new Set(missing.map(([line]) => fileOf(line)))) {
    const own = missing.filter(([line]) => fileOf(line) === file);
    const numbers = own.map(([line]) => Number(line.slice(file.length + 1))).sort((a, b) => a - b);
    console.log(`${file}: ${numbers.join(" ")}`);
  }
}

function judge(lines: Lines): number {
  const folders = shares(lines, folderOf);
  let code = 0;
  for (const [folder, goal] of Object.entries(GOALS)) {
    const share = folders.get(folder);
    if (share && share.reached / share.total >= goal) continue;
    console.log(pc.red(`${folder}: below ${100 * goal}% of lines`));
    code = 1;
  }
  return code;
}

process.exitCode = main();
