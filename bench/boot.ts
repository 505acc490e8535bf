/**
 * What the bring-up costs, from the first instruction of boot/entry.asm to the end of the platform's report: busy
 * instructions in Bochs at 50 million a second, where the time-stamp counter counts instructions. Waits (calibration,
 * delays that the manual demands of INIT and SIPI, serial output) are counted apart. The log goes to its ring.
 *
 * The last line is JSON: bringup1cpu, percpu (for each further CPU), waited (1 CPU).
 */

import { buildImage } from "../tools/image/build.ts";
import { boot } from "../tools/run/boot.ts";

const COST = /boot: bring-up took (\d+) ticks, and waited (\d+)\n/;
const COUNTS = [1, 2, 4];

interface Cost {
  cpus: number;
  busy: number;
  waited: number;
}

async function measure(elf: string, cpus: number): Promise<Cost> {
  const { serial } = await boot({ elf, on: "bochs", cpus, ips: 50_000_000, until: COST, timeoutSeconds: 900 });
  const found = COST.exec(serial.replaceAll("\r\n", "\n"));
  if (!found) throw new Error(`${cpus} CPUs: no end of the bring-up in\n${serial}`);
  return { cpus, busy: Number(found[1]), waited: Number(found[2]) };
}

const { elf } = await buildImage({ profile: "release" });
const costs: Cost[] = [];
for (const cpus of COUNTS) {
  const cost = await measure(elf, cpus);
  costs.push(cost);
  console.log(`${cpus} CPUs: ${cost.busy.toLocaleString("en-US")} busy, ${cost.waited.toLocaleString("en-US")} waited`);
}
const [one, , four] = costs as [Cost, Cost, Cost];
const figures = {
  bringup1cpu: one.busy,
  percpu: Math.round((four.busy - one.busy) / (four.cpus - one.cpus)),
  waited: one.waited,
};
console.log(JSON.stringify({ bench: "boot", figures }));
