// The test guests of test/guests: assembled once, run many a boot, judged by what they print and how they end.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../../tools/paths.ts";
import type { BootModule, BootResult } from "../../tools/run/options.ts";
import { LOADER_TICKS, type RunOptions, run } from "./harness.ts";

const SOURCES = join(ROOT, "test/guests");
let assembled: string | null = null;

/** Assembles every guest into a folder that goes with this process. */
export function assembleGuests(): string {
  if (assembled) return assembled;
  const folder = mkdtempSync(join(tmpdir(), "basalt-guests-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  for (const source of readdirSync(SOURCES).filter((name) => name.endsWith(".asm"))) {
    execFileSync("nasm", ["-f", "bin", "-o", join(folder, source.replace(".asm", "")), source], { cwd: SOURCES });
  }
  assembled = folder;
  return folder;
}

/** Boot modules for `file` or `file:name`, each with further words of its description. */
export function guestModules(guests: string[]): BootModule[] {
  const folder = assembleGuests();
  return guests.map((guest) => {
    const [what, ...words] = guest.split(" ");
    const [file, name = file] = (what as string).split(":");
    const memory = words.some((word) => word.startsWith("memory=")) ? [] : ["memory=16M"];
    return { file: join(folder, file as string), string: [`guest=${name}`, ...memory, ...words].join(" ") };
  });
}

export function runGuests(guests: string[], options: Partial<RunOptions> = {}): Promise<BootResult> {
  const { append = "", ...rest } = options;
  return run({
    on: "bochs",
    model: "corei7_skylake_x",
    timeoutTicks: LOADER_TICKS + 900_000_000,
    append: `exit=bochs ${append}`,
    modules: guestModules(guests),
    ...rest,
  });
}

/** Passes on whole lines, without their ends, of a text that comes in pieces. */
export class Lines {
  private rest = "";

  constructor(private readonly take: (line: string) => void) {}

  hear(text: string): void {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.take(line);
  }
}

/** How a guest ended, as the host says. */
export function ending(serial: string, name: string): string {
  return new RegExp(`guest: ${name} (ended: .*|refused: .*|is left out: .*)`).exec(serial)?.[1] ?? "did not end";
}

/** Whether the guest said that all its checks held, and ended by itself. */
export function passed(serial: string, name: string): boolean {
  const said = new RegExp(`guest: ${name}\\| PASS \\d+ checks`).test(serial);
  return said && ending(serial, name) === "ended: powered off, code 0";
}

/** The guest's share of a CPU: time it ran by time since it started. */
export function shareOf(serial: string, name: string): number {
  const found = new RegExp(`guest: ${name} ran (\\d+) us of (\\d+) us`).exec(serial);
  return found ? Number(found[1]) / Number(found[2]) : 0;
}
