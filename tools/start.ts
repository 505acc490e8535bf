/** `npm start`: builds everything, then shows two Linux systems and a tiny guest side by side on one host. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { linuxGuest } from "./guests/guests.ts";
import { buildImage } from "./image/build.ts";
import { elfPath, mapPath, ROOT } from "./paths.ts";
import { type GuestOption, guestModules } from "./run/guest.ts";
import type { BootResult } from "./run/options.ts";
import { Progress, runInTerminal } from "./run/terminal.ts";

/** Saves an emulated CPU work that tells a guest nothing. */
const LINUX = "console=ttyS0 quiet mitigations=off random.trust_cpu=on cryptomgr.notests";
/** The slowest that feels alive: an emulator then has less to do for each second of its guests. */
const IPS = 20_000_000;
const MODEL = "corei7_haswell_4770";

function say(text: string): void {
  console.log(`start: ${text}`);
}

/** Assembles one of the small guests of test/guests. */
function tinyGuest(): string {
  const folder = join(ROOT, "build/guests");
  mkdirSync(folder, { recursive: true });
  const output = join(folder, "hello");
  const include = join(ROOT, "test/guests/");
  execFileSync("nasm", ["-f", "bin", "-I", include, "-o", output, join(include, "hello.asm")]);
  return output;
}

/** What is waited for, step by step: the host's or a guest's line that ends a step, and what to say until then. */
const STEPS: [RegExp, string][] = [
  [/\] basalt: a hypervisor/, "the boot loader loads Basalt and the guests' files"],
  [/guest: two: /, "Basalt comes up and loads its guests"],
  [/guest: one\| guest is up/, "Linux boots in `one`"],
  [/guest: two\| guest is up/, "Linux boots in `two`"],
];

export async function start(): Promise<BootResult> {
  say("building the hypervisor (a minute, if anything has changed)");
  const { milliseconds, buildId } = await buildImage();
  say(`build ${buildId}, ${(milliseconds / 1000).toFixed(1)} s`);
  say("preparing Linux guests from this distribution's packages");
  const linux = linuxGuest("cloud", say);
  const guest = (name: string, cpus: number): GuestOption => ({
    file: linux.bzImage,
    name,
    words: ["memory=160M", `cpus=${cpus}`],
    cmdline: LINUX,
    initrd: linux.initrd,
    modules: [],
  });
  const hello = {
    file: tinyGuest(),
    name: "hello",
    words: ["memory=4M"],
    cmdline: "from start",
    initrd: null,
    modules: [],
  };
  say(`booting with three guests: two of ${linux.kernel} with 1 and 2 vCPUs, and a tiny one`);
  say("each guest's console has its name in front; in an emulator the shells take a minute or two");
  say("to type: Ctrl-A 1 is the console of `one`, Ctrl-A 2 of `two`, Ctrl-A 0 the host's (try `help`); Ctrl-A X ends");
  return runInTerminal(
    {
      elf: elfPath("release"),
      memoryMib: 512,
      model: MODEL,
      ips: IPS,
      modules: guestModules([guest("one", 1), guest("two", 2), hello]),
    },
    mapPath("release"),
    { consoles: ["one", "two"], progress: new Progress(STEPS, say) },
  );
}
