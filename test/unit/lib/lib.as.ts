// What the tests of kernel/lib call besides the modules' own exports.

import { SPINLOCK_BYTES, Spinlock } from "../../../kernel/lib/spinlock";

const locks: usize = memory.data(16 * 40, 16);
export const map: usize = memory.data(64, 8);

export function lockAt(index: u32): Spinlock {
  return changetype<Spinlock>(locks + <usize>index * SPINLOCK_BYTES);
}

export function firstBroken(dropped: Spinlock | null): u32 {
  return changetype<u32>(changetype<usize>(dropped));
}
