// npm run test:cycles [-- COUNT]: a guest made and destroyed COUNT times (500), with what each time showed.

import { cycle } from "./cycles.ts";

const count = Number(process.argv[2] ?? 500);
const { made, clean, faults, before, after } = await cycle(count);
for (const fault of faults) console.log(fault);
console.log(`made ${made}, all memory zero ${clean}`);
console.log(`before: ${before.join(", ")}`);
console.log(`after:  ${after.join(", ")}`);
process.exitCode = faults.length || made !== count || clean !== count || before.join() !== after.join() ? 1 : 0;
