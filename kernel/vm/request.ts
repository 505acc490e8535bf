// The name of a guest that the operator wants started again. The shell asks, and the boot CPU, which knows the
// configuration, makes it between turns.

import { NAME_BYTES } from "../vcpu/vm";

/** +0 u32 bytes of the name, 0: nothing is asked for; +4 the name. [boot CPU only] */
const asked: usize = memory.data(36, 4);
if (NAME_BYTES != 32) ERROR("request: room for a name");

/** False if the name is too long for a guest's. */
export function askForStart(name: usize, bytes: u32): bool {
  if (bytes == 0 || bytes > <u32>NAME_BYTES) return false;
  memory.copy(asked + 4, name, bytes);
  store<u32>(asked, bytes);
  return true;
}

/** Bytes of the name that is asked for; 0: none. */
export function askedBytes(): u32 {
  return load<u32>(asked);
}

/** The request is answered. */
export function forgetRequest(): void {
  store<u32>(asked, 0);
}

export function askedName(): usize {
  return asked + 4;
}
