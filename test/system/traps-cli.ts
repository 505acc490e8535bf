// npm run test:traps -- [--places N] [--seed N]: plants #UD in the release image, one place a boot, until N places
// were struck. Closes with `N passed, N failed, N skipped`; skipped are places that no guest came to.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { image } from "./harness.ts";
import { draw, places, tryPlace } from "./traps.ts";

const { values } = parseArgs({ options: { places: { type: "string" }, seed: { type: "string" } } });
const wanted = Number(values.places ?? 500);
const folder = mkdtempSync(join(tmpdir(), "basalt-traps-"));
const counts = { missed: 0, contained: 0, host: 0, WRONG: 0 };
try {
  const all = places((await image("release")).symbols);
  for (const number of draw(Number(values.seed ?? 1))) {
    const planted = await tryPlace(all[number % all.length] as number, folder);
    counts[planted.outcome]++;
    console.log(`${planted.outcome.padEnd(9)} ${planted.place} ${planted.detail}`);
    if (counts.contained + counts.host + counts.WRONG >= wanted) break;
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${counts.contained} contained, ${counts.host} stopped the host, which said why`);
console.log(`${counts.contained + counts.host} passed, ${counts.WRONG} failed, ${counts.missed} skipped`);
process.exit(counts.WRONG ? 1 : 0);
