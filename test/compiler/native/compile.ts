// The one place where the harness meets the compiler.

import { emitModule } from "../../../tools/compiler/backend/emit.ts";
import { optimize } from "../../../tools/compiler/pipeline.ts";
import { readModule } from "../../../tools/compiler/read.ts";
import type { Window } from "./actions.ts";

export interface CompileOptions {
  window: Window;
  /** Before every symbol of the object. */
  prefix: string;
}

export function compileForProcess(wasm: Uint8Array, options: CompileOptions): string {
  const module = readModule(wasm, undefined, { hosted: true, trapUnsupported: true });
  optimize(module);
  return emitModule(module, { target: "hosted", window: options.window, prefix: options.prefix }).asm;
}
