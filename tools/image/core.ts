/** The compiled core as the image step takes it. */

import type { Profile } from "../paths.ts";

export interface Core {
  /** NASM text: functions, globals, tables. */
  asm: string;
  /** Linear memory from LINEAR_START on: the data segments. Zeros at the end are left out. */
  linear: Uint8Array;
  /** Set by tests whose `asm` is the whole image. */
  replacesStubs?: boolean;
}

export async function compileCore(_profile: Profile, _scratch: string): Promise<Core> {
  throw new Error("TODO");
}
