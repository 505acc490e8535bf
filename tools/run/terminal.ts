/**
 * A run in the user's terminal: output live with names beside addresses, keys to the guest's serial line.
 * Ctrl-A X ends the run, Ctrl-A A types Ctrl-A.
 */

import { Socket } from "node:net";
import { boot } from "./boot.ts";
import type { BootOptions, BootResult } from "./options.ts";
import { chooseMachine } from "./probe.ts";
import { loadSymbols, Symboliser } from "./symbolise.ts";

const ESCAPE = 0x01; // Ctrl-A
const KEY_X = /[xX]/;

/**
 * The host's options for each machine, before the user's own: how it ends the run, and what its emulation cannot do. Bochs 2.7 delivers
 * a virtual interrupt that waits behind RFLAGS.IF = 0 when a physical one arrives (docs/silicon.md), so guests with several vCPUs hang.
 */
const HOST_OPTIONS = { bochs: "exit=bochs apicv=off", qemu: "exit=qemu", kvm: "exit=qemu" } as const;

export async function runInTerminal(options: BootOptions, mapPath: string | null): Promise<BootResult> {
  const choice = options.on ? { machine: options.on, notes: [] } : await chooseMachine();
  for (const note of choice.notes) console.error(`basalt: ${note}`);
  console.error(`basalt: running on ${choice.machine}; Ctrl-A X ends the run`);
  const append = [HOST_OPTIONS[choice.machine], options.append].filter(Boolean).join(" ");
  const symboliser = new Symboliser(mapPath ? loadSymbols(mapPath) : null);
  const stop = new AbortController();
  const { stdin } = process;
  const restore = takeTerminal(stop);
  try {
    const result = await boot({
      ...options,
      on: choice.machine,
      append,
      signal: stop.signal,
      onSerial: (text) => process.stdout.write(symboliser.feed(text)),
      onReady: (type) => stdin.on("data", keys(type, stop)),
    });
    process.stdout.write("\n");
    console.error(`basalt: ${closingLine(result)}`);
    return result;
  } finally {
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

/** Sends keys on, except for the two that Ctrl-A begins. */
export function keys(type: (text: Uint8Array) => void, stop: AbortController): (data: Buffer) => void {
  let escaped = false;
  return (data) => {
    const out: number[] = [];
    for (const byte of data) {
      if (!escaped && byte === ESCAPE) escaped = true;
      else if (escaped) {
        escaped = false;
        if (KEY_X.test(String.fromCharCode(byte))) stop.abort();
        else out.push(ESCAPE);
      } else out.push(byte);
    }
    if (out.length) type(Uint8Array.from(out));
  };
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
