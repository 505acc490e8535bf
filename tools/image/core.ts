/** The compiled core as the image step takes it. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { compileKernelSources } from "../compiler/asc.ts";
import { type EmitResult, emitModule } from "../compiler/backend/emit.ts";
import { CompileError } from "../compiler/diagnostic.ts";
import { optimize } from "../compiler/pipeline.ts";
import { readModule } from "../compiler/read.ts";
import { type Profile, ROOT } from "../paths.ts";

export interface Core {
  /** NASM text: functions, globals, tables. */
  asm: string;
  /** Linear memory from LINEAR_START on: the data segments. Zeros at the end are left out. */
  linear: Uint8Array;
}

export async function compileCore(profile: Profile, scratch: string): Promise<Core> {
  const { wasm, sourceMap, errors } = await compileKernelSources(ROOT, profile);
  if (!wasm) throw new CompileError(errors);
  await writeFile(join(scratch, "basalt.wasm"), wasm);
  await writeFile(join(scratch, "basalt.wasm.map"), sourceMap ?? "");
  const module = readModule(wasm, sourceMap, { hosted: false });
  optimize(module);
  const result: EmitResult = emitModule(module, { target: "metal", window: "low" });
  return { asm: result.asm, linear: result.linear };
}
