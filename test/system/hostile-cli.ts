// npm run test:hostile -- [--seeds N] [--from N]: guests of random instructions, many a boot, beside checkers.
// Closes with `N passed, N failed, 0 skipped`, counting seeds.

import { parseArgs } from "node:util";
import { hostileBoot, SEEDS_A_BOOT } from "./hostile.ts";

const { values } = parseArgs({ options: { seeds: { type: "string" }, from: { type: "string" } } });
const count = Number(values.seeds ?? 10_000);
const first = Number(values.from ?? 1);
if (!(count > 0 && first > 0)) {
  console.error("hostile: --seeds and --from are positive numbers");
  process.exit(2);
}
let bad = 0;
const endings = new Map<string, number>();
for (let at = first; at < first + count; at += SEEDS_A_BOOT) {
  const seeds = Array.from({ length: Math.min(SEEDS_A_BOOT, first + count - at) }, (_, i) => at + i);
  const verdict = await hostileBoot(seeds);
  for (const [how, number] of verdict.endings) endings.set(how, (endings.get(how) ?? 0) + number);
  if (verdict.faults.length) bad += seeds.length;
  console.log(`seeds ${at} to ${seeds.at(-1)}: ${verdict.faults.length ? "FAIL" : "ok"}`);
  for (const fault of verdict.faults.slice(0, 40)) console.log(`  ${fault}`);
}
for (const [how, number] of [...endings].sort((a, b) => b[1] - a[1])) console.log(`${number} guests ${how}`);
console.log(`${count - bad} passed, ${bad} failed, 0 skipped`);
process.exit(bad ? 1 : 0);
