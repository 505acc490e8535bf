// What the system tests share: one build of the image, runs with time-outs that fit any machine, and the
// host's report as data.

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildImage } from "../../tools/image/build.ts";
import type { SymbolMap } from "../../tools/image/symbolmap.ts";
import { mapPath, type Profile } from "../../tools/paths.ts";
import { boot } from "../../tools/run/boot.ts";
import type { BootOptions, BootResult } from "../../tools/run/options.ts";
import { loadSymbols, Symboliser } from "../../tools/run/symbolise.ts";

/** True in `npm run test:long`. */
export const LONG = process.env.BASALT_LONG === "1";

/** GRUB reaches the image after so many ticks in Bochs at the default speed. */
export const LOADER_TICKS = 240_000_000;
/** Real seconds after which a run is given up even on a slow, busy machine. */
const PATIENCE_SECONDS = 300;

export interface Image {
  elf: string;
  symbols: SymbolMap;
}

const images = new Map<Profile, Promise<Image>>();

/** The image of a profile, built if its sources have changed, in a copy that a later build leaves alone. */
export function image(profile: Profile = "release"): Promise<Image> {
  const known = images.get(profile) ?? makeImage(profile);
  images.set(profile, known);
  return known;
}

async function makeImage(profile: Profile): Promise<Image> {
  const { elf } = await buildImage({ profile });
  const symbols = loadSymbols(mapPath(profile));
  if (!symbols) throw new Error("the image has no symbol map");
  const folder = mkdtempSync(join(tmpdir(), "basalt-system-"));
  const copy = join(folder, "basalt.elf");
  copyFileSync(elf, copy);
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return { elf: copy, symbols };
}

export type RunOptions = Omit<BootOptions, "elf"> & { profile?: Profile };

/** Runs of this file that are still going: ended with it. */
const open = new Set<AbortController>();
// The commands beside the suites (hostile-cli.ts, traps-cli.ts) run outside of Vitest.
if (process.env.VITEST) {
  const { afterAll } = await import("vitest");
  afterAll(() => {
    for (const run of open) run.abort();
  });
}

/** One run; addresses in its serial output have names beside them. */
export async function run({ profile, ...options }: RunOptions): Promise<BootResult> {
  const { elf, symbols } = await image(profile);
  const stop = new AbortController();
  open.add(stop);
  try {
    const result = await boot({ timeoutSeconds: PATIENCE_SECONDS, signal: stop.signal, ...options, elf });
    return { ...result, serial: new Symboliser(symbols).feed(result.serial.replaceAll("\r\n", "\n")) };
  } finally {
    open.delete(stop);
  }
}

/** The last line of the bring-up's report. */
export const REPORTED = /boot: bring-up took \d+ ticks, and waited \d+\r?\n/;

/** The host's report on the machine. */
export interface Report {
  loader: string;
  memory: { base: number; end: number; kind: string }[];
  processor: string;
  features: string[];
  platform: string[];
  online: number;
  tscKhz: number;
  timer: string;
  pci: string[];
  bringUpTicks: number;
  waitedTicks: number;
}

/** Reads the report in a run's serial output; null if it is not all there. */
export function readReport(serial: string): Report | null {
  const line = (area: string, pattern: RegExp): RegExpExecArray | null =>
    new RegExp(`\\] ${area}: ${pattern.source}`, "m").exec(serial);
  const all = (pattern: RegExp): RegExpMatchArray[] => [...serial.matchAll(pattern)];
  const loader = line("boot", /(multiboot \d(?:, UEFI)?), loader (.*)$/);
  const processor = line("cpu", /(.* \(family.*)$/);
  const features = line("cpu", /features: ?(.*)$/);
  const platform = line("platform", /(.*)$/);
  const online = line("smp", /CPUs online: (\d+).*TSC (\d+) kHz/);
  const timer = line("timer", /(.*)$/);
  const cost = line("boot", /bring-up took (\d+) ticks, and waited (\d+)$/);
  if (!loader || !processor || !features || !platform || !online || !timer || !cost) return null;
  return {
    loader: `${loader[1]}, ${loader[2]}`,
    memory: all(/\] memory: ([0-9a-f]+) \.\. ([0-9a-f]+) ([^,]+),/g).map((m) => ({
      base: Number(`0x${m[1]}`),
      end: Number(`0x${m[2]}`),
      kind: m[3] as string,
    })),
    processor: processor[1] as string,
    features: (features[1] as string).split(" ").filter(Boolean),
    platform: (platform[1] as string).split(", "),
    online: Number(online[1]),
    tscKhz: Number(online[2]),
    timer: timer[1] as string,
    pci: all(/\] pci: ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] .*)$/gm).map((m) => m[1] as string),
    bringUpTicks: Number(cost[1]),
    waitedTicks: Number(cost[2]),
  };
}
