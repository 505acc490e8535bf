// npm run test:hostile -- [--seeds N] [--from N]: guests of random instructions, many a boot, beside checkers. A guest runs
// several seeds; those that it did not come to go to a guest of a later boot. Closes with `N passed, N failed, 0 skipped`,
// counting seeds.

import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { GUESTS_A_BOOT, hostileBoot, type Seeds } from "./hostile.ts";

/** Seeds that a guest begins with. */
const SEEDS_A_GUEST = 20;

const { values } = parseArgs({ options: { seeds: { type: "string" }, from: { type: "string" } } });
const count = Number(values.seeds ?? 10_000);
const first = Number(values.from ?? 1);
if (!(count > 0 && first > 0)) {
  console.error("hostile: --seeds and --from are positive numbers");
  process.exit(2);
}
/** Writes the log of a run that failed, and tells where. */
function keep(serial: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "basalt-hostile-")), "serial.log");
  writeFileSync(path, serial);
  return path;
}

let bad = 0;
let done = 0;
const endings = new Map<string, number>();
const waiting: Seeds[] = [];
for (let at = first; at < first + count; at += SEEDS_A_GUEST)
  waiting.push({ first: at, count: Math.min(SEEDS_A_GUEST, first + count - at) });
while (waiting.length) {
  const verdict = await hostileBoot(waiting.splice(0, GUESTS_A_BOOT));
  for (const [how, number] of verdict.endings) endings.set(how, (endings.get(how) ?? 0) + number);
  done += verdict.begun;
  if (verdict.faults.length) bad += verdict.begun;
  console.log(`${done} seeds of ${count}: ${verdict.faults.length ? "FAIL" : "ok"}`);
  for (const fault of verdict.faults.slice(0, 40)) console.log(`  ${fault}`);
  if (verdict.faults.length) console.log(`  the log: ${keep(verdict.serial)}`);
  waiting.push(...verdict.left);
}
for (const [how, number] of [...endings].sort((a, b) => b[1] - a[1])) console.log(`${number} guests ${how}`);
console.log(`${done - bad} passed, ${bad} failed, 0 skipped`);
process.exit(bad ? 1 : 0);
