// For states that our own code promised to rule out.

import * as log from "./log";

/** Our bug: logs what was believed, then traps. A trap on behalf of one VM stops that VM, else the host. */
export function panic(message: string): void {
  log.error("panic", message);
  unreachable();
}
