// npm run test:wasm -- [DIR] [--only NAME] [--executor native|v8|interpreted|optimised]

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Executor } from "../native/actions.ts";
import { report, runSuite } from "./run.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, executor: { type: "string", default: "native" } },
});
const folder = positionals[0] ?? fileURLToPath(new URL("../../../../shared/wasm-suite", import.meta.url));
if (!existsSync(folder)) {
  console.log(`test:wasm: no folder ${folder}; give one with .wast files as the argument`);
  console.log("0 passed, 0 failed, 0 skipped");
  process.exit(positionals[0] ? 1 : 0);
}

async function executor(): Promise<Executor> {
  if (values.executor === "v8") return (await import("../native/oracle.ts")).v8;
  if (values.executor !== "native")
    return (await import("../native/interpreted.ts")).interpreted(values.executor === "optimised");
  return (await import("../native/native.ts")).native({ window: "gs", batch: 1000 });
}

const result = await runSuite(folder, await executor(), values.only);
console.log(report(result));
process.exit(result.failed.length > 0 ? 1 : 0);
