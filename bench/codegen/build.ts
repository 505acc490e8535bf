// One program a kernel: the C version, our code and, where wasm2c is installed, its C, all with gcc -O2.

import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { assembleHosted, hostedFolder } from "../../test/compiler/native/assemble.ts";
import { compileFile } from "../../tools/compiler/asc.ts";

const run = promisify(execFile);
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
export const outFolder = here("../../build/bench/codegen");
const wasm2cRuntime = "/usr/share/wabt/wasm2c";

/** Linear memory of a kernel: 2 MiB. */
const memoryPages = 32;

export interface BuiltKernel {
  name: string;
  /** As Binaryen optimised it, for V8 and wasm2c; our compiler takes what asc makes without that. */
  wasm: Uint8Array;
  program: string;
  variants: string[];
  /** Bytes of machine code, by variant. */
  codeBytes: Record<string, number>;
}

const wrappers = {
  c: (name: string) => `void ${name}_setup(void);
uint64_t ${name}_run(uint32_t);
`,
  ours: () => `#include "basalt.h"
extern const struct basalt_module ours_module;
void ours_setup(void);
uint64_t ours_run(uint32_t);
static int ours_open(void) { return basalt_open(&ours_module); }
`,
  wasm2c: (name: string) => `#include "${name}_w2c.h"
static Z_${name}_w2c_instance_t w2c;
static int w2c_open(void) {
  wasm_rt_init();
  Z_${name}_w2c_init_module();
  Z_${name}_w2c_instantiate(&w2c);
  return 0;
}
static void w2c_setup(void) { Z_${name}_w2cZ_setup(&w2c); }
static uint64_t w2c_run(uint32_t n) { return Z_${name}_w2cZ_run(&w2c, n); }
`,
};

function table(name: string, variants: string[]): string {
  const rows: Record<string, string> = {
    c: `{"c", nothing, ${name}_setup, ${name}_run}`,
    ours: `{"ours", ours_open, ours_setup, ours_run}`,
    wasm2c: `{"wasm2c", w2c_open, w2c_setup, w2c_run}`,
  };
  return `#include <stdint.h>
struct variant { const char *name; int (*open)(void); void (*setup)(void); uint64_t (*run)(uint32_t); };
static int nothing(void) { return 0; }
${variants.map((v) => wrappers[v as keyof typeof wrappers](name)).join("")}
const struct variant variants[] = {${variants.map((v) => rows[v]).join(", ")}};
const int variant_count = ${variants.length};
`;
}

/** Bytes of the executable sections of `object`. */
async function textBytes(object: string): Promise<number> {
  const { stdout } = await run("size", ["-A", object]);
  return stdout
    .split("\n")
    .map((line) => /^\.(text\S*)\s+(\d+)/.exec(line))
    .reduce((sum, match) => sum + (match ? Number(match[2]) : 0), 0);
}

async function compileWasm(source: string, optimizeLevel: number): Promise<Uint8Array> {
  const { wasm, errors } = await compileFile(here("../.."), source, { memoryPages, optimizeLevel });
  if (!wasm) throw new Error(`${source}: ${errors.map((e) => e.message).join("; ")}`);
  return wasm;
}

/** Is wasm2c installed, and does it know every instruction of the module? Older ones know no atomics. */
function hasWasm2c(wasm: string, c: string): Promise<boolean> {
  return run("wasm2c", [wasm, "-o", c]).then(
    () => true,
    () => false,
  );
}

/** `ours`: false leaves our code out, to try the bench itself. */
export async function buildKernel(name: string, ours = true): Promise<BuiltKernel> {
  const folder = join(outFolder, name);
  mkdirSync(folder, { recursive: true });
  const source = here(`kernels/${name}.ts`);
  const [plain, wasm] = [await compileWasm(source, 0), await compileWasm(source, 3)];
  const wasmPath = join(folder, `${name}_w2c.wasm`);
  writeFileSync(wasmPath, wasm);

  const objects: Record<string, string> = { c: join(folder, "c.o") };
  const compileC = (from: string, to: string, more: string[] = []): Promise<unknown> =>
    run("gcc", ["-O2", "-w", "-fPIE", `-I${folder}`, `-I${hostedFolder}`, ...more, "-c", from, "-o", to]);
  await compileC(here(`c/${name}.c`), objects.c);
  const extra: string[] = [];
  if (ours) {
    objects.ours = await assembleHosted(plain, { window: "low", prefix: "ours_" }, join(folder, "ours"));
    extra.push("-x", "c", join(hostedFolder, "runtime.c"), "-x", "none");
  }
  const c = join(folder, `${name}_w2c.c`);
  if (await hasWasm2c(wasmPath, c)) {
    objects.wasm2c = join(folder, "wasm2c.o");
    await compileC(c, objects.wasm2c, [`-I${wasm2cRuntime}`]);
    extra.push("-lwasm-rt-impl");
  }
  const variants = Object.keys(objects);
  const tablePath = join(folder, "table.c");
  writeFileSync(tablePath, table(name, variants));
  const program = join(folder, name);
  const include = [`-I${folder}`, `-I${hostedFolder}`, `-I${wasm2cRuntime}`];
  await run("gcc", [
    ...["-O2", "-pie", "-fPIE", "-z", "noexecstack", ...include, here("main.c"), tablePath],
    ...[...Object.values(objects), ...extra, "-lm", "-o", program],
  ]);
  const codeBytes: Record<string, number> = {};
  for (const variant of variants) codeBytes[variant] = await textBytes(objects[variant]);
  return { name, wasm, program, variants, codeBytes };
}
