// The one place where the harness meets the compiler.

import type { Window } from "./actions.ts";

export interface CompileOptions {
  window: Window;
  /** Before every symbol of the object. */
  prefix: string;
}

export function compileForProcess(_wasm: Uint8Array, _options: CompileOptions): string {
  throw new Error("the hosted target does not exist yet");
}
