/**
 * `npm test`: every suite of the project, one after the other. A suite that passes prints one line; one that fails prints
 * what it had to say. The last line is `N passed, N failed, N skipped` over all of them.
 */

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuildError, buildImage } from "./image/build.ts";
import { ROOT } from "./paths.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Outcome extends Counts {
  /** Shown if something failed. */
  output: string;
}

interface Suite {
  name: string;
  run: (long: boolean) => Promise<Outcome>;
}

interface Finished {
  code: number;
  output: string;
}

function execute(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Finished> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const take = (data: Buffer): void => {
      output += data.toString();
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("error", (error) => resolve({ code: 1, output: String(error) }));
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** One command that is right or wrong as a whole. */
function check(name: string, command: string, ...args: string[]): Suite {
  return {
    name,
    run: async () => {
      const { code, output } = await execute(join(ROOT, "node_modules/.bin", command), args);
      return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, output };
    },
  };
}

/** Builds both profiles, which every later suite needs. */
const image: Suite = {
  name: "image",
  run: async () => {
    try {
      await buildImage({ profile: "debug" });
      await buildImage({ profile: "release" });
      return { passed: 1, failed: 0, skipped: 0, output: "" };
    } catch (error) {
      const output = error instanceof BuildError ? error.message : String((error as Error).stack);
      return { passed: 0, failed: 1, skipped: 0, output };
    }
  },
};

interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  success: boolean;
}

function vitest(project: string): Suite {
  return {
    name: project,
    run: async (long) => {
      const folder = await mkdtemp(join(tmpdir(), "basalt-test-"));
      try {
        const json = join(folder, "report.json");
        const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${json}`];
        const args = ["run", "--project", project, "--passWithNoTests", ...reporters];
        const { code, output } = await execute(join(ROOT, "node_modules/.bin/vitest"), args, {
          BASALT_LONG: long ? "1" : "",
          NO_COLOR: "1",
        });
        const report = JSON.parse(await readFile(json, "utf8").catch(() => "null")) as VitestReport | null;
        if (!report) return { passed: 0, failed: 1, skipped: 0, output };
        const failed = report.numFailedTests || (code === 0 && report.success ? 0 : 1);
        return {
          passed: report.numPassedTests,
          failed,
          skipped: report.numPendingTests + report.numTodoTests,
          output,
        };
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

/** In the order in which they run: what is quick and tells most comes first. */
const SUITES: Suite[] = [
  check("format and lint", "biome", "check", "--error-on-warnings", "."),
  check("types", "tsc", "-p", "tsconfig.json"),
  check("types of the core", "tsc", "-p", "kernel"),
  image,
  vitest("unit"),
  vitest("compiler"),
  vitest("system"),
];

/** Runs the suites whose names contain one of `only` (all, if there is none); returns the exit code. */
export async function runTests(long: boolean, only: string[]): Promise<number> {
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const suite of SUITES) {
    if (only.length && !only.some((word) => suite.name.includes(word))) continue;
    const started = performance.now();
    const { output, ...counts } = await suite.run(long);
    for (const key of ["passed", "failed", "skipped"] as const) total[key] += counts[key];
    if (counts.failed) console.log(output.trimEnd());
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`${counts.failed ? "FAILED" : "ok"}  ${suite.name}: ${closing(counts)} (${seconds} s)`);
  }
  console.log(closing(total));
  return total.failed ? 1 : 0;
}

function closing({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ""}`;
}
