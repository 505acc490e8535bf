// What the tests of drivers/console.ts call.
import * as cmdline from "../../../kernel/lib/cmdline";
import * as log from "../../../kernel/lib/log";
import { setKhz } from "../../../kernel/cpu/tsc";

export { drain, drainLast, drainSome, lostLines, open, writeEcho } from "../../../drivers/console";
export { setKhz };

export function parse(text: usize, bytes: u32): void {
  cmdline.parse(text, bytes);
}
export function say(level: u32, number: u32): void {
  log.begin(<log.Level>level, "test");
  log.str("line ");
  log.dec(number);
  log.end();
}
