// How a guest starts over, whichever of its devices it uses for that. Its end is vcpu/event's stopVm.

import { Pending, requestAll } from "../vcpu/event";
import { StopReason, Vm } from "../vcpu/vm";

/** The guest pulled the reset line. */
export function resetVm(vm: Vm): void {
  atomic.cmpxchg<u32>(changetype<usize>(vm) + offsetof<Vm>("stopReason"), StopReason.NONE, StopReason.RESET);
  requestAll(vm, Pending.RESET);
}
