// A flat image: loaded at 7C00H and entered there in real mode, as a boot sector is, but of any size.

import { Status } from "../lib/status";
import { copyModuleToGuest } from "../mm/guestmem";
import { has, Image, read16 } from "./image";
import { CONVENTIONAL_END } from "./place";
import { EntryMode, entryOf, imageOf, Plan, ramOfPlan, refuse } from "./plan";

const LOAD_ADDRESS: u64 = 0x7c00;
const FIRST_DISK: u64 = 0x80;

/** A boot sector carries AA55H at its end. */
export function isBootSector(image: Image): bool {
  return has(image, 0, 512) && read16(image, 510) == 0xaa55;
}

export function loadFlat(plan: Plan): Status {
  const image = imageOf(plan);
  if (!image.bytes) return refuse(plan, "the file is empty");
  if (image.bytes > CONVENTIONAL_END - LOAD_ADDRESS) return refuse(plan, "a flat image must fit below 639 KiB");
  copyModuleToGuest(ramOfPlan(plan), LOAD_ADDRESS, image.pa, image.bytes);
  const entry = entryOf(plan);
  entry.mode = EntryMode.REAL;
  entry.rip = LOAD_ADDRESS;
  entry.rsp = LOAD_ADDRESS;
  entry.rdx = FIRST_DISK;
  return Status.OK;
}
