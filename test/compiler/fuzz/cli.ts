// npm run fuzz:compiler -- [--runs N] [--seed S] [--only NUMBER] [--window low|gs|both] [--keep-going]
// Closes with a line of what was run; exit code 1 if native code and V8 differ anywhere.

import { parseArgs } from "node:util";
import type { Window } from "../native/actions.ts";
import { interpreted } from "../native/interpreted.ts";
import { native } from "../native/native.ts";
import { brief, explain, fuzz } from "./run.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
    window: { type: "string", default: "both" },
    /** native, or the compiler's front half: interpreted (as read), optimised. */
    executor: { type: "string", default: "native" },
    /** One line for each failure, not shrunk. */
    brief: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
    "no-shrink": { type: "boolean", default: false },
  },
});

const only = values.only === undefined ? null : Number(values.only);
const windows: Window[] = values.window === "both" ? ["low", "gs"] : [values.window as Window];
const started = Date.now();
const result = await fuzz({
  seed: Number(values.seed),
  first: only ?? 0,
  // Each program number makes one program for each window.
  runs: only === null ? Math.ceil(Number(values.runs) / windows.length) : 1,
  windows,
  subject: (window) =>
    values.executor !== "native"
      ? interpreted(values.executor === "optimised")
      : native({ window, seconds: 20, batch: 100 }),
  batch: 100,
  stopAfter: values["keep-going"] ? 1000 : 3,
  shrinkBudget: values["no-shrink"] || values.brief ? 0 : 4000,
  log: only === null ? (line) => console.error(line) : undefined,
});
for (const failure of result.failures) console.log(values.brief ? brief(failure) : `\n${explain(failure)}`);
console.log(result.coverage.toString());
if (only === null && result.coverage.unseen.length)
  console.log(`not covered: ${result.coverage.unseen.slice(0, 20).join("; ")}`);
const seconds = ((Date.now() - started) / 1000).toFixed(1);
console.log(
  `fuzz:compiler: ${result.programs} programs, ${result.failures.length} failures, seed ${values.seed}, ${seconds} s`,
);
process.exit(result.failures.length ? 1 : 0);
