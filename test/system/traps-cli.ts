// npm run test:traps -- [--places N] [--seed N]: plants #UD in the release image, several places a boot, until N places
// were struck. Closes with `N passed, N failed, N skipped`; skipped are places that no guest came to.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { image } from "./harness.ts";
import { draw, type Planted, places, tryPlaces } from "./traps.ts";

const { values } = parseArgs({ options: { places: { type: "string" }, seed: { type: "string" } } });
const wanted = Number(values.places ?? 500);
const folder = mkdtempSync(join(tmpdir(), "basalt-traps-"));
const PER_BOOT = 8;
const counts = { missed: 0, contained: 0, host: 0, WRONG: 0 };

function note(planted: Planted): void {
  counts[planted.outcome]++;
  console.log(`${planted.outcome.padEnd(9)} ${planted.place} ${planted.detail}`);
}

try {
  const all = places((await image("release")).symbols);
  let next: number[] = [];
  for (const number of draw(Number(values.seed ?? 1))) {
    next.push(all[number % all.length] as number);
    if (next.length < PER_BOOT) continue;
    for (const planted of await tryPlaces(next, folder)) note(planted);
    next = [];
    if (counts.contained + counts.host + counts.WRONG >= wanted) break;
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${counts.contained} contained, ${counts.host} stopped the host, which said why`);
console.log(`${counts.contained + counts.host} passed, ${counts.WRONG} failed, ${counts.missed} skipped`);
process.exit(counts.WRONG ? 1 : 0);
