/** The compiled core as the image step takes it. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkExitPath, type ExitPathReport } from "../check/exitpath.ts";
import { readSources } from "../check/layers.ts";
import type { FunctionReport } from "../compiler/backend/emit.ts";
import type { StackReport } from "../compiler/backend/stack.ts";
import { formatDiagnostic } from "../compiler/diagnostic.ts";
import { compileKernel } from "../compiler/main.ts";
import type { Profile } from "../paths.ts";

export interface Core {
  /** NASM text: functions, globals, tables. */
  asm: string;
  /** Linear memory from LINEAR_START on: the data segments. Zeros at the end are left out. */
  linear: Uint8Array;
  report?: CoreReport;
}

/** What the compiler knows about the core beside its code: build/<profile>/report.json. */
export interface CoreReport {
  functions: FunctionReport[];
  stack: StackReport;
  exitPath: ExitPathReport;
}

export async function compileCore(profile: Profile, scratch: string): Promise<Core> {
  const checks: { exitPath?: ExitPathReport } = {};
  const kernel = await compileKernel(profile, (module) => {
    checks.exitPath = checkExitPath(module, readSources());
  });
  for (const warning of kernel.warnings) console.error(formatDiagnostic(warning, "warning"));
  await writeFile(join(scratch, "basalt.wasm"), kernel.wasm);
  await writeFile(join(scratch, "basalt.wasm.map"), kernel.sourceMap ?? "");
  const report = { functions: kernel.functions, stack: kernel.stack, exitPath: checks.exitPath as ExitPathReport };
  await writeFile(join(scratch, "report.json"), JSON.stringify(report));
  return { asm: kernel.asm, linear: kernel.linear, report };
}
