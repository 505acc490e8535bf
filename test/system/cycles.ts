// A guest that is made again and again while another one lives: its memory reads zero each time although the one before
// poisoned it, and the host has as much free memory at the end as it had at the beginning.

import { ending, Lines, runGuests } from "./guestrun.ts";

/** Too much for two of them to fit beside each other: each gets frames that the one before had. */
const MEMORY_MIB = 64;
const POISONER = "poison memory=32M";
/** Lives until the operator ends it. */
const KEEPER = "sleep:keeper memory=4M";

/** All lines of an answer are there then. */
const SETTLE_MS = 500;

export interface Cycles {
  /** Guests that were made, that found all memory zero, and what the others said. */
  made: number;
  clean: number;
  faults: string[];
  /** Free bytes, and bytes of tables, as the host's shell told them before the first and after the last. */
  before: string[];
  after: string[];
}

/** Makes the guest `count` times in one boot. */
export async function cycle(count: number): Promise<Cycles> {
  const operator = new Operator(count);
  const lines = new Lines((line) => operator.answer(line));
  const result = await runGuests([KEEPER, POISONER], {
    memoryMib: MEMORY_MIB,
    timeoutTicks: undefined, // emulated time flies while all sleep and the operator types
    timeoutSeconds: 120 + 6 * count,
    onReady: (type) => {
      operator.type = type;
    },
    onSerial: (text) => lines.hear(text),
  });
  return judge(result.serial, count);
}

/** Types into the host's shell: one command at a time, since a UART's FIFO takes 16 characters. */
class Operator {
  type: (text: string) => void = () => {};
  private ended = 0;
  private isGone = true;

  constructor(private readonly count: number) {}

  /** The measure begins at the end of the first guest: what exists once has been allocated then. */
  answer(line: string): void {
    if (/guest: poison ended: /.test(line)) {
      this.ended++;
      if (this.ended === 1 || this.ended === this.count) this.ask();
      else this.next();
    } else if (/memory: poison /.test(line)) this.isGone = false;
    else if (/memory: keeper /.test(line)) setTimeout(() => (this.isGone ? this.next() : this.ask()), SETTLE_MS);
  }

  /** Until the memory of the one that has just ended is returned. */
  private ask(): void {
    this.isGone = true;
    this.type("memory\r");
  }

  private next(): void {
    this.type(this.ended < this.count ? "start poison\r" : "stop keeper\r");
  }
}

function judge(serial: string, count: number): Cycles {
  const answers = serial
    .split(/(?=\] memory: free )/)
    .slice(1)
    .map(usesOf);
  const uses = answers.filter((lines) => !lines.some((line) => line.startsWith("poison")));
  const ends = serial.match(/guest: poison ended: powered off, code 0/g) ?? [];
  const faults = serial.split("\n").filter((line) => /not ok|ERROR (?!guest: keeper|power)|fault:|refused/.test(line));
  if (ending(serial, "keeper") === "did not end") faults.push("the guest that stayed did not end");
  if (uses.length !== 2) faults.push(`the shell told ${uses.length} times who has how much memory`);
  return {
    made: (serial.match(/guest: poison: multiboot/g) ?? []).length,
    clean: (serial.match(/poison\| PASS 3 checks/g) ?? []).length,
    faults: ends.length === count ? faults : [...faults, `${ends.length} of ${count} ended well`],
    before: uses[0] ?? [],
    after: uses[1] ?? [],
  };
}

/** free, core, tables, modules, firmware, and each VM that is there. */
function usesOf(text: string): string[] {
  return [...text.matchAll(/\] memory: (\S+ \d+ \S+)/g)].map((m) => m[1] as string);
}
