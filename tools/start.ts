/** `npm start`: builds everything, then shows two Linux systems and a tiny guest side by side on one host. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { linuxGuest } from "./guests/guests.ts";
import { buildImage } from "./image/build.ts";
import { elfPath, mapPath, ROOT } from "./paths.ts";
import { type GuestOption, guestModules } from "./run/guest.ts";
import type { BootResult } from "./run/options.ts";
import { runInTerminal } from "./run/terminal.ts";

/** Saves an emulated CPU work that tells a guest nothing. */
const LINUX = "console=ttyS0 quiet mitigations=off random.trust_cpu=on";

function say(text: string): void {
  console.log(`start: ${text}`);
}

/** Assembles one of the small guests of test/guests. */
function tinyGuest(): string {
  const folder = join(ROOT, "build/guests");
  mkdirSync(folder, { recursive: true });
  const output = join(folder, "hello");
  execFileSync("nasm", [
    "-f",
    "bin",
    "-I",
    join(ROOT, "test/guests/"),
    "-o",
    output,
    join(ROOT, "test/guests/hello.asm"),
  ]);
  return output;
}

export async function start(): Promise<BootResult> {
  say("building the hypervisor");
  const { milliseconds, buildId } = await buildImage();
  say(`build ${buildId}, ${(milliseconds / 1000).toFixed(1)} s`);
  say("preparing Linux guests from this distribution's packages");
  const linux = linuxGuest("cloud", say);
  const guest = (name: string, cpus: number): GuestOption => ({
    file: linux.vmlinux,
    name,
    words: ["memory=192M", `cpus=${cpus}`],
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
  say("type `help` for the host's commands, `attach one` for a guest's console (back with Ctrl-])");
  say("in an emulator the Linux guests take a minute or two to their shells");
  return runInTerminal(
    { elf: elfPath("release"), memoryMib: 768, modules: guestModules([guest("one", 1), guest("two", 2), hello]) },
    mapPath("release"),
  );
}
