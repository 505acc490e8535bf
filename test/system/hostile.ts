// Guests that do anything at all, beside two that check their memory and registers all the time: the host
// stays up, no VM entry fails, and the checkers notice nothing.

import type { BootResult } from "../../tools/run/options.ts";
import { ending, passed, runGuests } from "./guestrun.ts";
import { LOADER_TICKS } from "./harness.ts";

const CHECKERS = ["one", "two"];
/** Hostile guests that fit beside the checkers: VMs, and memory of the emulator. */
export const SEEDS_A_BOOT = 54;
const MEMORY_MIB = 1024;

export interface Verdict {
  seeds: number[];
  /** What must not be; empty: all is well. */
  faults: string[];
  /** How many ended in which way. */
  endings: Map<string, number>;
}

/** One boot with a guest of random instructions for each seed. */
export async function hostileBoot(seeds: number[]): Promise<Verdict> {
  const hostile = seeds.map((seed) => `random:r${seed} memory=4M cmdline=seed=${seed}`);
  const checkers = CHECKERS.map((name, i) => `memcheck:${name} memory=8M cmdline=seed=${i + 1}`);
  const result = await runGuests([...checkers, ...hostile], {
    memoryMib: MEMORY_MIB,
    timeoutTicks: LOADER_TICKS + 200_000_000 * (seeds.length + 10),
    timeoutSeconds: 900,
  });
  return judge(result, seeds);
}

function judge(result: BootResult, seeds: number[]): Verdict {
  const { serial, exit } = result;
  const faults: string[] = [];
  const endings = new Map<string, number>();
  if (exit !== "ended" && exit !== "failed") faults.push(`the run ended as ${exit} ${result.detail}`);
  for (const name of CHECKERS) if (!passed(serial, name)) faults.push(`checker ${name}: ${ending(serial, name)}`);
  for (const line of serial.split("\n")) {
    if (/ERROR fault:|ERROR trap:|VM entry failed/.test(line)) faults.push(line.trim());
  }
  for (const seed of seeds) {
    const how = ending(serial, `r${seed}`);
    if (how === "did not end") faults.push(`seed ${seed} did not end`);
    endings.set(how, (endings.get(how) ?? 0) + 1);
  }
  return { seeds, faults, endings };
}
