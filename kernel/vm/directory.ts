// What every CPU may know of a VM without its arena: a slot a VM, in shared memory. Handlers of other VMs
// have no business here; the scheduler, the operator and the unwinder do.

import { MAX_VMS } from "../config";

export const enum SlotState {
  FREE = 0,
  BUILDING = 1, // being created or destroyed
  LIVE = 2, // its vCPUs run, sleep or are paused
  ENDED = 3, // no vCPU of it runs any more; memory still there
}

@unmanaged
export class VmSlot {
  state: u32; // SlotState. Atomic
  /** StopReason, copied when the last vCPU ended, or CORE_TRAP set by the unwinder. */
  stopReason: u32;
  stopCode: u32;
  /** vCPUs that have not ended. Atomic. */
  liveTasks: u32;
  /** 1: every vCPU is to end at its next look, whatever its arena says. */
  stopping: u32;
  /** 1: vCPUs stay off the CPUs until resumed. */
  paused: u32;
  arenaPa: u64;
  hostCr3: u64;
  /** EPT generations of this number over all VMs that ever had it (vmx/vpid.ts). */
  generation: u32;
  nameBytes: u32;
  /** Guest number of its configuration (guest/config.ts), for a restart. */
  config: u32;
  /** Trap kind, where the core broke while it served this VM. */
  trapKind: u32;
  /** The first vCPU's task; the others follow it. */
  firstTask: u32;
  taskCount: u32;
  /** Ended: bytes of its memory that are scrubbed, and whether its end was reported. */
  scrubbed: u64;
  reported: u32;
  spare: u32;
  /** Host TSC when its vCPUs were given to the scheduler. */
  startedTsc: u64;
  // name: 32 bytes at +NAME
}
const NAME: usize = 96;
const SLOT_BYTES: usize = 128;
if (offsetof<VmSlot>() > NAME) ERROR("VmSlot runs into its name");
const SLOTS: usize = memory.data(64 * 128, 8);
if (MAX_VMS != 64) ERROR("directory: number of slots");

export function slotAt(number: u32): VmSlot {
  return changetype<VmSlot>(SLOTS + <usize>number * SLOT_BYTES);
}

/** 32 bytes for the VM's name. */
export function slotName(slot: VmSlot): usize {
  return changetype<usize>(slot) + NAME;
}

/** Takes a free number; MAX_VMS if there is none. */
export function takeNumber(): u32 {
  for (let i: u32 = 0; i < MAX_VMS; i++) {
    if (atomic.cmpxchg<u32>(changetype<usize>(slotAt(i)), SlotState.FREE, SlotState.BUILDING) == SlotState.FREE)
      return i;
  }
  return MAX_VMS;
}

export function setState(slot: VmSlot, state: u32): void {
  atomic.store<u32>(changetype<usize>(slot), state);
}

/** VMs that ended and wait for the boot CPU. Atomic. */
const ended: usize = memory.data(4, 4);

export function noteEnded(by: i32): void {
  atomic.add<u32>(ended, <u32>by);
}

export function endedCount(): u32 {
  return atomic.load<u32>(ended);
}
