// What the tests of kernel/lib/log.ts call: lines with text that TypeScript cannot pass.
import * as log from "../../../kernel/lib/log";

const record: usize = memory.data(256, 8);

export function hello(number: u64): void {
  log.begin(log.Level.INFO, "test");
  log.str("n=");
  log.dec(number);
  log.str(" h=");
  log.hex(number);
  log.end();
}
export function sized(bytes: u64): void {
  log.begin(log.Level.WARN, "test");
  log.size(bytes);
  log.end();
}
export function padded(value: u64, width: u32): void {
  log.begin(log.Level.INFO, "test");
  log.decPadded(value, width, 0x30);
  log.end();
}
export function raw(ptr: usize, count: u32): void {
  log.begin(log.Level.INFO, "raw");
  log.bytes(ptr, count);
  log.end();
}
export function quiet(): void {
  log.debug("test", "not recorded");
}
export function loud(): void {
  log.setRecordLevel(log.Level.DEBUG);
  log.debug("test", "recorded");
}
export function openOnly(): void {
  log.begin(log.Level.INFO, "test");
  log.str("interrupted");
}
export function read(line: u32): u32 {
  return log.read(line, changetype<log.Record>(record));
}
export function recordAt(): usize {
  return record;
}
export { lineCount, oldestLine } from "../../../kernel/lib/log";
