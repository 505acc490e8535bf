// What the tests of kernel/lib/cmdline.ts call.
import * as cmdline from "../../../kernel/lib/cmdline";

export { parse, next, last, valueOf as textOf, valueBytesOf, isGiven, numberOf } from "../../../kernel/lib/cmdline";

export function isReboot(): bool {
  return cmdline.is(cmdline.Option.PANIC, "reboot");
}
export const CONSOLE: i32 = cmdline.Option.CONSOLE;
export const CPUS: i32 = cmdline.Option.CPUS;
export const PANIC: i32 = cmdline.Option.PANIC;
/** Whether every row of the table has a name and a help line. */
export function rowsAreWhole(): bool {
  for (let i: u32 = 0; i < <u32>cmdline.Option.COUNT; i++) {
    if (cmdline.nameOf(i).length == 0 || cmdline.helpOf(i).length == 0) return false;
  }
  return true;
}
