// One guest being loaded: the file, where its parts go, and the state in which its first vCPU enters.
// It lies in the vCPU's scratch page, so nothing is allocated, and the VM loses it when it dies.

import * as log from "../lib/log";
import { Status } from "../lib/status";
import { GuestRam } from "../mm/guestmem";
import { ramOf, Vm, vcpuOf } from "../vcpu/vm";
import { GuestConfig } from "./config";
import { Image } from "./image";
import { beginPlacement, Placement, PLACEMENT_BYTES } from "./place";

/** How the first vCPU enters. */
export const enum EntryMode {
  REAL = 0, // 16-bit, CS = 0
  PROTECTED = 1, // 32-bit, flat segments, paging off
  LONG = 2, // 64-bit, identity-mapped
}

@unmanaged
export class Entry {
  mode: u32;
  pad: u32;
  rip: u64;
  rsp: u64;
  rax: u64;
  rbx: u64;
  rdx: u64;
  rsi: u64;
  cr3: u64;
  /** Where the guest's first GDT stands, and its limit; 0: none. */
  gdt: u64;
  gdtLimit: u32;
  pad2: u32;
}

@unmanaged
export class Plan {
  vm: Vm;
  config: GuestConfig;
  /** Highest address past the kernel's last byte below 4 GiB. */
  kernelEnd: u64;
  /** Root System Description Pointer of the guest's ACPI tables; 0: none. */
  rsdp: u64;
}
const IMAGE: usize = (offsetof<Plan>() + 7) & ~7;
const ENTRY: usize = IMAGE + offsetof<Image>();
const PLACEMENT: usize = ENTRY + offsetof<Entry>();
if (PLACEMENT + PLACEMENT_BYTES > 4096) ERROR("Plan does not fit the scratch page");

/** The plan of `vm` for `config`, with nothing placed. */
export function beginPlan(vm: Vm, config: GuestConfig): Plan {
  const plan = changetype<Plan>(vcpuOf(vm, 0).scratch);
  memory.fill(changetype<usize>(plan), 0, PLACEMENT);
  plan.vm = vm;
  plan.config = config;
  imageOf(plan).pa = config.pa;
  imageOf(plan).bytes = config.bytes;
  beginPlacement(placementOf(plan), vm);
  return plan;
}

export function imageOf(plan: Plan): Image {
  return changetype<Image>(changetype<usize>(plan) + IMAGE);
}

export function entryOf(plan: Plan): Entry {
  return changetype<Entry>(changetype<usize>(plan) + ENTRY);
}

export function placementOf(plan: Plan): Placement {
  return changetype<Placement>(changetype<usize>(plan) + PLACEMENT);
}

export function ramOfPlan(plan: Plan): GuestRam {
  return ramOf(plan.vm);
}

/** Says in one line why this guest is not loaded. */
export function refuse(plan: Plan, reason: string): Status {
  log.begin(log.Level.ERROR, "guest");
  log.bytes(plan.config.name, plan.config.nameBytes);
  log.str(" is refused: ");
  log.str(reason);
  log.end();
  return Status.BAD_FORMAT;
}
