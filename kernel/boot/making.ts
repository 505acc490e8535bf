// Which guest of the configuration the boot CPU is making, and how far it has come through all of them: what remains
// when the core traps meanwhile. Boot CPU only; other CPUs make no guests.

import * as trap from "../cpu/trap";
import { here } from "../vm/kick";

/** +0 u32 guests that were tried; +4 u32 number + 1 of the one in the making, 0: none. [boot CPU only] */
const progress: usize = memory.data(8, 4);

/** The next guest of `count` that was not tried yet, which now counts as tried; `count` if there is none. */
export function nextUntried(count: u32): u32 {
  const index = load<u32>(progress);
  if (index < count) store<u32>(progress, index + 1);
  return min(index, count);
}

/** From here to endMaking() a trap of the core is the fault of guest `index`. */
export function beginMaking(index: u32): void {
  store<u32>(progress, index + 1, 4);
  trap.enterContained();
}

export function endMaking(): void {
  trap.leaveContained();
  store<u32>(progress, 0, 4);
}

/** Whether this CPU makes a guest now. */
export function isMakingGuest(): bool {
  return here() == 0 && load<u32>(progress, 4) != 0;
}

/** The guest that is being made. */
export function guestInMaking(): u32 {
  return load<u32>(progress, 4) - 1;
}
