// From what the boot loader left in EAX and EBX to BootInfo.

import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import * as boot from "./bootinfo";
import * as multiboot1 from "./multiboot1";
import * as multiboot2 from "./multiboot2";

/**
 * Reads the boot information. `magic`: EAX at entry; `info`: physical address from EBX.
 * BAD_FORMAT if no known loader started us; NOT_FOUND if no usable memory is in the map.
 */
export function readBootInfo(magic: u32, info: u64): Status {
  boot.clear();
  if (magic == multiboot1.MAGIC) multiboot1.read(info);
  else if (magic == multiboot2.MAGIC) multiboot2.read(info);
  else {
    log.begin(log.Level.ERROR, "boot");
    log.str("not started by a multiboot loader: EAX is ");
    log.hex(magic);
    log.end();
    return Status.BAD_FORMAT;
  }
  boot.normalise();
  if (boot.usableBytes() != 0) return Status.OK;
  log.error("boot", "the boot loader's memory map holds no usable memory");
  return Status.NOT_FOUND;
}
