/**
 * A run in the user's terminal: output live with names beside addresses, keys to the host's serial line. Ctrl-A X ends the
 * run, Ctrl-A A types Ctrl-A, Ctrl-A 1 to 9 chooses a guest's console and Ctrl-A 0 the host's. Ctrl-C ends the run
 * too, but on a guest's console it is the guest's.
 */

import { Socket } from "node:net";
import { boot } from "./boot.ts";
import type { BootOptions, BootResult } from "./options.ts";
import { chooseMachine } from "./probe.ts";
import { loadSymbols, Symboliser } from "./symbolise.ts";

const CTRL_A = 0x01;
const CTRL_C = 0x03;
/** kernel/monitor: what leaves a guest's console, and what the host says when it enters and leaves one. */
const LEAVE = "\x1d";
const ENTERED = "attached; Ctrl-] comes back";
const PROMPT = "\r\nbasalt> ";

/**
 * The host's options for each machine, before the user's own: how it ends the run, and what its emulation cannot do. Bochs 2.7 delivers
 * a virtual interrupt that waits behind RFLAGS.IF = 0 when a physical one arrives (docs/silicon.md), so guests with several vCPUs hang.
 */
const HOST_OPTIONS = { bochs: "exit=bochs apicv=off", qemu: "exit=qemu", kvm: "exit=qemu" } as const;

export interface TerminalOptions {
  /** Guests that Ctrl-A 1, 2, ... choose. */
  consoles?: string[];
  progress?: Progress;
}

export async function runInTerminal(
  options: BootOptions,
  mapPath: string | null,
  { consoles = [], progress }: TerminalOptions = {},
): Promise<BootResult> {
  const choice = await chooseMachine(options.on);
  for (const note of choice.notes) console.error(`basalt: ${note}`);
  console.error(`basalt: running on ${choice.machine}; Ctrl-A X ends the run`);
  const append = [HOST_OPTIONS[choice.machine], options.append].filter(Boolean).join(" ");
  // CPU models and speeds are Bochs' words.
  const bochs = choice.machine === "bochs" || options.on ? {} : { model: undefined, ips: undefined };
  const symboliser = new Symboliser(mapPath ? loadSymbols(mapPath) : null);
  const stop = new AbortController();
  const { stdin } = process;
  const restore = takeTerminal(stop);
  const where = new Where();
  progress?.begin();
  try {
    const result = await boot({
      ...options,
      ...bochs,
      on: choice.machine,
      append,
      signal: stop.signal,
      onSerial: (text) => {
        where.see(text);
        process.stdout.write(symboliser.feed(text));
        progress?.see(text);
      },
      onReady: (type) => stdin.on("data", keys(type, stop, consoles, where)),
    });
    process.stdout.write("\n");
    console.error(`basalt: ${closingLine(result)}`);
    return result;
  } finally {
    progress?.end();
    restore();
  }
}

/** Raw keys while the run lasts; returns what undoes it. */
function takeTerminal(stop: AbortController): () => void {
  const { stdin } = process;
  const interrupt = (): void => stop.abort();
  process.once("SIGTERM", interrupt);
  process.once("SIGINT", interrupt);
  if (stdin.isTTY) stdin.setRawMode(true);
  return () => {
    process.off("SIGTERM", interrupt);
    process.off("SIGINT", interrupt);
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.removeAllListeners("data");
    stdin.pause();
    if (stdin instanceof Socket) stdin.unref();
  };
}

/** Whose console the keys go to, from what the host prints. */
export class Where {
  atGuest = false;
  #tail = "";

  see(text: string): void {
    this.#tail = (this.#tail + text).slice(-256);
    const entered = this.#tail.lastIndexOf(ENTERED);
    const left = this.#tail.lastIndexOf(PROMPT);
    if (entered >= 0 || left >= 0) this.atGuest = entered > left;
  }
}

/** Sends keys on, except for Ctrl-A with the one that follows, and Ctrl-C at the host. */
export function keys(
  type: (text: Uint8Array) => void,
  stop: AbortController,
  consoles: string[] = [],
  where = new Where(),
): (data: Buffer) => void {
  let escaped = false;
  const choose = (digit: number): Buffer => {
    const leave = where.atGuest ? LEAVE : "";
    const name = consoles[digit - 1];
    return Buffer.from(digit === 0 ? leave : name ? `${leave}attach ${name}\r` : "");
  };
  return (data) => {
    const out: number[] = [];
    for (const byte of data) {
      const key = String.fromCharCode(byte);
      if (!escaped && byte === CTRL_A) escaped = true;
      else if (!escaped && byte === CTRL_C && !where.atGuest) stop.abort();
      else if (!escaped) out.push(byte);
      else {
        escaped = false;
        if (/x/i.test(key)) stop.abort();
        else if (/\d/.test(key)) out.push(...choose(Number(key)));
        else out.push(CTRL_A);
      }
    }
    if (out.length) type(Uint8Array.from(out));
  };
}

const PROGRESS_MS = 10_000;

/** Says what is waited for, while nothing else is to be seen. `steps`: the output that ends each, and its text. */
export class Progress {
  readonly #began = Date.now();
  #quietSince = Date.now();
  #timer: NodeJS.Timeout | null = null;
  #recent = "";

  constructor(
    private steps: [RegExp, string][],
    private readonly say: (text: string) => void,
  ) {}

  begin(): void {
    this.#timer = setInterval(() => this.#tick(), 1000);
  }

  see(text: string): void {
    this.#quietSince = Date.now();
    this.#recent = (this.#recent + text).slice(-4096);
    this.steps = this.steps.filter(([done]) => !done.test(this.#recent));
    if (this.steps.length === 0) this.end();
  }

  end(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick(): void {
    const step = this.steps[0];
    if (!step || Date.now() - this.#quietSince < PROGRESS_MS) return;
    this.#quietSince = Date.now();
    this.say(`${step[1]} (${Math.round((Date.now() - this.#began) / 1000)} s)\r`);
  }
}

function closingLine(result: BootResult): string {
  const ticks = result.ticks === null ? "" : ` after ${result.ticks.toLocaleString("en-US")} ticks`;
  const why = {
    ended: "the run ended",
    failed: "the run ended: a guest or a check failed",
    stopped: "the run was stopped",
    panic: "the host stopped with a fatal fault",
    timeout: "the run timed out",
    crashed: `the machine stopped: ${result.detail}`,
  };
  return why[result.exit] + ticks;
}
