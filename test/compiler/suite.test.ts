// The official WebAssembly suite on the executors that judge the harness and the front half. As machine
// code it is a suite of its own in `npm test`: npm run test:wasm.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { interpreted } from "./native/interpreted.ts";
import { v8 } from "./native/oracle.ts";
import { runSuite } from "./suite/run.ts";

const folder = fileURLToPath(new URL("../../../shared/wasm-suite", import.meta.url));
const missing = !existsSync(folder);
if (missing)
  console.log("the WebAssembly suite is not beside this tree: give its folder to `npm run test:wasm -- DIR`");

describe.skipIf(missing)("the WebAssembly suite", () => {
  test("V8 meets every expectation, so the harness asks the right questions", async () => {
    const { passed, failed } = await runSuite(folder, v8);
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(7000);
  });

  test("the compiler's front half meets every expectation of the accepted subset", async () => {
    const { passed, failed } = await runSuite(folder, interpreted(true));
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(7200);
  });
});
