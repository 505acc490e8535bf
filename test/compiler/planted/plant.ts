// Copies the compiler with one bug planted, and lets the fuzzer look for it in a process of its own: a
// broken compiler may hang.

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Bug } from "./bugs.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const root = here("../../..");

/** The program of a folder with a planted compiler. */
const ENTRY = `import { hunt } from "../../../test/compiler/planted/child.ts";
import { emitModule } from "./compiler/backend/emit.ts";
import { optimize } from "./compiler/pipeline.ts";
import { readModule } from "./compiler/read.ts";
await hunt({ readModule, optimize, emitModule });
`;

/** `find` as an expression in which any white space fits any other. */
function pattern(find: string): RegExp {
  const words = find.split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(words.join("\\s*"), "g");
}

/** How often the bug's place is found in the compiler's source: once, if the row is right. */
export function places(bug: Bug): number {
  const text = readFileSync(join(root, "tools/compiler", bug.file), "utf8");
  return [...text.matchAll(pattern(bug.find))].length;
}

/** Returns the folder of a compiler with the bug in it; null: without any. */
export function plant(bug: Bug | null): string {
  const folder = join(root, ".cache/planted", bug ? bug.name.replace(/[^a-z0-9]+/gi, "-") : "none");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(join(root, "tools/compiler"), join(folder, "compiler"), { recursive: true });
  cpSync(join(root, "tools/paths.ts"), join(folder, "paths.ts"));
  writeFileSync(join(folder, "hunt.ts"), ENTRY);
  if (bug === null) return folder;
  const file = join(folder, "compiler", bug.file);
  writeFileSync(
    file,
    readFileSync(file, "utf8").replace(pattern(bug.find), () => bug.put),
  );
  return folder;
}

export interface Hunt {
  found: boolean;
  /** The first failure, or that the process hung or died. */
  how: string;
  programs: number;
  seconds: number;
}

/** Fuzzes the compiler in `folder` until something differs, at most the whole tour. */
export async function hunt(folder: string, seconds = 240): Promise<Hunt> {
  const started = performance.now();
  const child = spawn(process.execPath, [join(root, "tools/launch.mjs"), join(folder, "hunt.ts")], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  child.stderr.on("data", (data) => {
    output += data;
  });
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    if (child.pid) process.kill(-child.pid, "SIGKILL");
  }, seconds * 1000);
  await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  const took = Math.round((performance.now() - started) / 100) / 10;
  const answer = /^HUNT (.*)$/m.exec(output);
  if (answer) return { ...(JSON.parse(answer[1]) as Omit<Hunt, "seconds">), seconds: took };
  const how = hung ? "the compiler or its code hung" : `the fuzzer died: ${output.slice(-300)}`;
  return { found: true, how, programs: 0, seconds: took };
}

export function uproot(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}
