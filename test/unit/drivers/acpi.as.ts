// What the tests of drivers/acpi call: the boot information and the final address space come first.
import { readPlatform as readTables } from "../../../drivers/acpi/acpi";
import { sleepTypes as typesOfS5 } from "../../../drivers/acpi/s5";
import { readBootInfo } from "../../../drivers/bootload";
import * as p from "../../../drivers/platform";
import { startMemory } from "../../../kernel/boot/memory";
import { initBlock } from "../../../kernel/cpu/percpu";
import * as cmdline from "../../../kernel/lib/cmdline";
import { bootInfo } from "../../../drivers/bootinfo";

export function start(magic: u32, info: u64): u32 {
  initBlock(0, 0);
  const status = readBootInfo(magic, info);
  cmdline.parse(bootInfo().commandLine, bootInfo().commandLineBytes);
  return status ? status : startMemory();
}
export function readPlatform(bootApicId: u32): void {
  readTables(bootApicId);
}
export function sleepTypes(): u32 {
  return typesOfS5();
}
export function platformAt(): usize {
  return changetype<usize>(p.platform());
}
export function cpuAt(i: u32): usize {
  return changetype<usize>(p.cpuAt(i));
}
export function ioapicAt(i: u32): usize {
  return changetype<usize>(p.ioapicAt(i));
}
export function overrideAt(i: u32): usize {
  return changetype<usize>(p.overrideAt(i));
}
export function nmiAt(i: u32): usize {
  return changetype<usize>(p.nmiAt(i));
}
export function ecamAt(i: u32): usize {
  return changetype<usize>(p.ecamAt(i));
}
export { report } from "../../../drivers/platform";
