// npm run test:planted -- [WORDS]: plants each bug (whose name contains one of the words) and lets the
// fuzzer find it. Closes with `N passed, N failed, N skipped`.

import { bugs } from "./bugs.ts";
import { hunt, places, plant, uproot } from "./plant.ts";

const words = process.argv.slice(2);
const chosen = bugs.filter((bug) => words.length === 0 || words.some((word) => bug.name.includes(word)));
let found = 0;
const sound = await hunt(plant(null));
if (sound.found) {
  console.log(`FAIL without a bug, something is found all the same: ${sound.how}`);
  process.exit(1);
}
for (const bug of chosen) {
  if (places(bug) !== 1) {
    console.log(`FAIL ${bug.name}: its place in ${bug.file} is there ${places(bug)} times`);
    continue;
  }
  const folder = plant(bug);
  const result = await hunt(folder);
  uproot(folder);
  if (result.found) found++;
  const verdict = result.found ? "found " : "FAIL  ";
  console.log(`${verdict} ${bug.name} (${result.programs} programs, ${result.seconds} s): ${result.how.slice(0, 160)}`);
}
console.log(`${found} passed, ${chosen.length - found} failed, 0 skipped`);
process.exit(found === chosen.length ? 0 : 1);
