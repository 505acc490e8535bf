// A trap in the core while it served a VM: that VM ends, all others go on. Only shared memory is
// trusted here; the VM's arena may be what broke. Called on a clean stack.

import { cpuBlock } from "../cpu/insn";
import * as trap from "../cpu/trap";
import * as log from "../lib/log";
import { dropHeld } from "../lib/spinlock";
import { abandonCurrent } from "../vendor";
import { virt } from "../vcpu/current";
import { StopReason, vmAt } from "../vcpu/vm";
import { breakDeviceLock } from "../virq/lock";
import { slotAt, slotName } from "./directory";
import { kickSlot } from "./kick";
import { retire, toCore } from "./run";
import { armTask } from "./schedule";
import { Task } from "./task";

/**
 * Ends the VM that this CPU served when the core trapped. False: it served none, or shared data is
 * half-changed, and the host has to stop; the log says which.
 */
export function contain(kind: u32): bool {
  trap.leaveContained();
  const mine = virt();
  if (isSharedBroken()) return false;
  if (!mine.serving || !mine.task) return false;
  const slot = slotAt(mine.serving - 1);
  log.begin(log.Level.ERROR, "trap");
  log.bytes(slotName(slot), slot.nameBytes);
  log.str(" is stopped: the core trapped while it served it, kind ");
  log.dec(kind);
  log.str(", CPU ");
  log.dec(load<u32>(cpuBlock(), 4));
  log.end();
  if (mine.root == slot.hostCr3) breakDeviceLock(vmAt(mine.serving - 1)); // its arena is mapped
  slot.trapKind = kind;
  slot.stopReason = StopReason.CORE_TRAP;
  stopSlot(mine.serving - 1);
  endHere(changetype<Task>(mine.task));
  return true;
}

/** After a trap on this CPU: lets go of its locks; true, with a line, if one of them covers data that is half-changed. */
export function isSharedBroken(): bool {
  const broken = dropHeld();
  if (broken == null) return false;
  log.begin(log.Level.ERROR, "trap");
  log.str("shared data is half-changed under the lock ");
  if (broken.name) log.str(changetype<string>(broken.name));
  log.end();
  return true;
}

/** This CPU lets go of the broken vCPU without looking into it. */
function endHere(task: Task): void {
  const mine = virt();
  mine.serving = 0;
  mine.task = 0;
  mine.resident = 0; // its vector state is lost with it; the next one loads its own
  abandonCurrent();
  toCore();
  armTask(task, u64.MAX_VALUE); // the number of an ended task is given to another
  retire(task, slotAt(task.vm));
}

/** Every vCPU of the VM ends at its next look, whatever its arena says. */
export function stopSlot(number: u32): void {
  const slot = slotAt(number);
  slot.stopping = 1;
  kickSlot(slot);
}
