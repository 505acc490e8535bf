// Guests that do anything at all, beside two that check their memory and registers all the time: the host
// stays up, no VM entry fails, and the checkers notice nothing.

import type { BootResult } from "../../tools/run/options.ts";
import { ending, Lines, passed, runGuests } from "./guestrun.ts";
import { LOADER_TICKS } from "./harness.ts";

const CHECKERS = ["one", "two"];
/** 64-bit code, and that of all other modes: a guest's first seed says which. */
const KINDS = ["random", "randmode"] as const;
/** Hostile guests that fit beside the checkers: VMs, and memory of the emulator. */
export const GUESTS_A_BOOT = 54;
const MEMORY_MIB = 1024;

/** Seeds that one guest runs, one after the other; the end of the guest is the end of them. */
export interface Seeds {
  first: number;
  count: number;
}

export interface Verdict {
  /** What must not be; empty: all is well. */
  faults: string[];
  /** How many guests ended in which way. */
  endings: Map<string, number>;
  /** Seeds that were begun. */
  begun: number;
  /** Seeds that their guest did not come to. */
  left: Seeds[];
  serial: string;
}

/** One boot with a guest of random instructions for each row. */
export async function hostileBoot(rows: Seeds[]): Promise<Verdict> {
  const hostile = rows.map(
    ({ first, count }) => `${KINDS[first % 2]}:r${first} memory=4M cmdline=seed=${first} runs=${count}`,
  );
  const checkers = CHECKERS.map((name, i) => `memcheck:${name} memory=8M cmdline=seed=${i + 1} runs=8`);
  const overseer = new Overseer(rows.map(({ first }) => `r${first}`));
  const lines = new Lines((line) => overseer.answer(line));
  const result = await runGuests([...checkers, ...hostile], {
    memoryMib: MEMORY_MIB,
    timeoutTicks: LOADER_TICKS + 200_000_000 * (rows.length + 10),
    timeoutSeconds: 900,
    onReady: (type) => {
      overseer.type = type;
    },
    onSerial: (text) => lines.hear(text),
  });
  return judge(result, rows);
}

/**
 * Stops at the host's shell what still runs when the checkers are done: code that has overwritten its own count or watchdog goes on
 * for ever. One command at a time, since a UART's FIFO takes 16 characters, and none twice: what is still unread when Bochs ends resets
 * the connection, and the last lines of the log are lost with it.
 */
class Overseer {
  type: (text: string) => void = () => {};
  private readonly running: Set<string>;
  private checking = new Set(CHECKERS);
  private asked = "";

  constructor(names: string[]) {
    this.running = new Set(names);
  }

  answer(line: string): void {
    const name = /guest: (\w+) (?:ended|refused): /.exec(line)?.[1];
    if (name === undefined) return;
    this.running.delete(name);
    this.checking.delete(name);
    const [next] = this.running;
    if (this.checking.size > 0 || next === undefined || next === this.asked) return;
    this.asked = next;
    this.type(`stop ${next}\r`);
  }
}

function judge(result: BootResult, rows: Seeds[]): Verdict {
  const { serial, exit } = result;
  const faults: string[] = [];
  const endings = new Map<string, number>();
  if (exit !== "ended" && exit !== "failed") faults.push(`the run ended as ${exit} ${result.detail}`);
  for (const name of CHECKERS) if (!passed(serial, name)) faults.push(`checker ${name}: ${ending(serial, name)}`);
  for (const line of serial.split("\n")) {
    if (/ERROR fault:|ERROR trap:|VM entry failed/.test(line)) faults.push(line.trim());
  }
  const left: Seeds[] = [];
  let begun = 0;
  for (const { first, count } of rows) {
    const how = ending(serial, `r${first}`);
    if (how === "did not end") faults.push(`the guest of seed ${first} did not end`);
    endings.set(how, (endings.get(how) ?? 0) + 1);
    const ran = Math.max(1, seedsOf(serial, first, count));
    begun += ran;
    if (ran < count) left.push({ first: first + ran, count: count - ran });
  }
  return { faults, endings, begun, left, serial };
}

/** How many of its seeds the guest told: it does so in their order. */
function seedsOf(serial: string, first: number, count: number): number {
  const told = [...serial.matchAll(new RegExp(`guest: r${first}\\| seed ([0-9a-f]{8})`, "g"))];
  const numbers = told.map((match) => Number.parseInt(match[1] as string, 16));
  return new Set(numbers.filter((number) => number >= first && number < first + count)).size;
}
