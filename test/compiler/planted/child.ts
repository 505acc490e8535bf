// What runs in the process of its own: fuzzes a compiler and prints `HUNT` with what it found as JSON.

import type { emitModule } from "../../../tools/compiler/backend/emit.ts";
import type { optimize } from "../../../tools/compiler/pipeline.ts";
import type { readModule } from "../../../tools/compiler/read.ts";
import { tourPrograms } from "../fuzz/generate.ts";
import { brief, fuzz } from "../fuzz/run.ts";
import { native } from "../native/native.ts";

/** The parts of a compiler, from the folder with the bug. */
export interface Parts {
  readModule: typeof readModule;
  optimize: typeof optimize;
  emitModule: typeof emitModule;
}

export async function hunt({ readModule, optimize, emitModule }: Parts): Promise<void> {
  const { failures, programs } = await fuzz({
    seed: 77,
    first: 0,
    runs: 2 * tourPrograms,
    windows: ["low", "gs"],
    subject: (window) =>
      native({
        window,
        seconds: 2,
        compiler: (wasm, { window, prefix }) => {
          const module = readModule(wasm, undefined, { hosted: true, trapUnsupported: true });
          optimize(module);
          return emitModule(module, { target: "hosted", window, prefix }).asm;
        },
      }),
    batch: 24,
    stopAfter: 1,
    shrinkBudget: 0,
  });
  const how = failures[0] ? brief(failures[0]) : "nothing differs";
  console.log(`HUNT ${JSON.stringify({ found: failures.length > 0, how, programs })}`);
}
