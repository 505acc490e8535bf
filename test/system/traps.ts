// Traps planted in the release image: #UD over an instruction of code that serves guests, at places drawn by seed. A VM that
// runs into one stops, with the TypeScript line in the log; the others go on; or the host stops and says why.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Elf } from "../../tools/image/elf.ts";
import { lookUp, type SymbolMap } from "../../tools/image/symbolmap.ts";
import { boot } from "../../tools/run/boot.ts";
import { Symboliser } from "../../tools/run/symbolise.ts";
import { ending, guestModules } from "./guestrun.ts";
import { image, LOADER_TICKS } from "./harness.ts";

const FOLDERS = /^kernel\/(?:exit|vdev|virq|mm)\//;
/** Not what the bring-up has inlined: there the host can only stop. Cold blocks have left their functions. */
const FUNCTIONS = /^(?:kernel\.(?:exit|vdev|virq|mm)\.|basalt_cold)/;
const UD2 = Buffer.from([0x0f, 0x0b]);
/** What exercises the code, beside two that only check themselves. */
const GUESTS = ["mmio", "ports", "msrs", "exceptions", "apic", "halt", "paging", "selfmod"];
const CHECKERS = ["memcheck:one memory=8M cmdline=seed=1 runs=20", "memcheck:two memory=8M cmdline=seed=2 runs=20"];

export interface Planted {
  place: string;
  /** missed: nobody came there. contained: VMs stopped, each alone. host: the host stopped and said why. WRONG: none of these. */
  outcome: "missed" | "contained" | "host" | "WRONG";
  detail: string;
}

/** A generator of numbers below 2^32 that one seed determines (xorshift). */
export function* draw(seed: number): Generator<number, never> {
  let state = seed || 1;
  while (true) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

/** Offsets in the text of instructions in the folders; line-table rows begin at instructions. */
export function places(map: SymbolMap): number[] {
  const base = BigInt(map.base);
  return map.lines.starts.filter((start, i) => {
    if (!FOLDERS.test(map.files[map.lines.files[i] as number] ?? "")) return false;
    return FUNCTIONS.test(lookUp(map, base + BigInt(start))?.name ?? "");
  });
}

/** A copy of the image with #UD at `offsets` of its text. */
function plant(elf: string, offsets: number[], folder: string): string {
  const bytes = Buffer.from(readFileSync(elf));
  const text = new Elf(bytes).section(".text");
  if (!text) throw new Error("the image has no .text");
  for (const offset of offsets) UD2.copy(bytes, text.fileOffset + offset);
  const path = join(folder, "planted.elf");
  writeFileSync(path, bytes);
  return path;
}

interface Place {
  name: string;
  /** Of the source. */
  line: string;
  address: string;
}

function describe(symbols: SymbolMap, offset: number): Place {
  const address = BigInt(symbols.base) + BigInt(offset);
  const at = lookUp(symbols, address);
  const line = `${at?.file}:${at?.line}`;
  return { name: `${at?.name} (${line})`, line, address: address.toString(16) };
}

/** Boots the image with these traps planted and judges what each did: a VM that stops leaves the others to run into theirs. */
export async function tryPlaces(offsets: number[], folder: string): Promise<Planted[]> {
  const { elf, symbols } = await image("release");
  const result = await boot({
    elf: plant(elf, offsets, folder),
    on: "bochs",
    model: "corei7_skylake_x",
    append: "exit=bochs panic=poweroff",
    modules: guestModules([...CHECKERS, ...GUESTS]),
    timeoutTicks: LOADER_TICKS + 1_500_000_000,
    timeoutSeconds: 600,
  });
  const serial = new Symboliser(symbols).feed(result.serial.replaceAll("\r\n", "\n"));
  const names = ["one", "two", ...GUESTS];
  const trapped = names.filter(
    (name) =>
      /stopped by a trap in the core/.test(ending(serial, name)) ||
      serial.includes(`${name} is refused: the core trapped while it made it`),
  );
  const lost = names.filter((name) => !trapped.includes(name) && !/powered off, code 0/.test(ending(serial, name)));
  const all = offsets.map((offset) => describe(symbols, offset));
  const when = (place: Place) => serial.lastIndexOf(`at 0x${place.address}`);
  const struck = all.filter((place) => when(place) >= 0);
  const stopped = result.exit === "panic";
  const last = struck.reduce((a: Place | null, b) => (a && when(a) > when(b) ? a : b), null);
  const contained = `stopped: ${trapped.join(" ") || "none"}${lost.length ? `; lost: ${lost.join(" ")}` : ""}; the run ${result.exit}`;
  const why =
    /ERROR (?:trap|fault): (.*)/.exec(serial.slice(serial.lastIndexOf("\n", last ? when(last) : 0)))?.[1] ?? "";
  return all.map((place): Planted => {
    if (!struck.includes(place))
      return { place: place.name, outcome: struck.length || !lost.length ? "missed" : "WRONG", detail: "" };
    if (stopped && place === last)
      return { place: place.name, outcome: serial.includes(place.line) ? "host" : "WRONG", detail: why };
    const good = serial.includes(place.line) && (stopped || (trapped.length > 0 && lost.length === 0));
    return { place: place.name, outcome: good ? "contained" : "WRONG", detail: contained };
  });
}

/** One trap alone. */
export async function tryPlace(offset: number, folder: string): Promise<Planted> {
  return (await tryPlaces([offset], folder))[0] as Planted;
}
