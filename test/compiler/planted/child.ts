// tsx child.ts FOLDER: fuzzes the compiler in FOLDER and prints `HUNT` with what it found as JSON.

import { pathToFileURL } from "node:url";
import { tourPrograms } from "../fuzz/generate.ts";
import { brief, fuzz } from "../fuzz/run.ts";
import type { CompileOptions } from "../native/compile.ts";
import { native } from "../native/native.ts";

const folder = process.argv[2];
const load = (file: string) => import(pathToFileURL(`${folder}/compiler/${file}`).href);
const { emitModule } = await load("backend/emit.ts");
const { optimize } = await load("pipeline.ts");
const { readModule } = await load("read.ts");

function compile(wasm: Uint8Array, { window, prefix }: CompileOptions): string {
  const module = readModule(wasm, undefined, { hosted: true, trapUnsupported: true });
  optimize(module);
  return emitModule(module, { target: "hosted", window, prefix }).asm;
}

const { failures, programs } = await fuzz({
  seed: 77,
  first: 0,
  runs: tourPrograms,
  windows: ["low", "gs"],
  subject: (window) => native({ window, seconds: 2, compiler: compile }),
  batch: 24,
  stopAfter: 1,
  shrinkBudget: 0,
});
const how = failures.length > 0 ? brief(failures[0]) : "nothing differs";
console.log(`HUNT ${JSON.stringify({ found: failures.length > 0, how, programs })}`);
