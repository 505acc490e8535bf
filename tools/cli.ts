/**
 * The `basalt` command: one subcommand a duty, each a few lines that call the module which does the work.
 */

import { Command, InvalidArgumentError, Option } from "commander";
import { BuildError, buildImage } from "./image/build.ts";
import { elfPath, mapPath, PROFILES, type Profile } from "./paths.ts";
import { guestModules, parseGuest } from "./run/guest.ts";
import { EXIT_CODES, MACHINES, MEDIA } from "./run/options.ts";
import { runInTerminal } from "./run/terminal.ts";

function integer(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("a whole number is expected");
  return Number(text);
}

/** A number within what a machine can have. */
function between(least: number, most: number, unit: string): (text: string) => number {
  return (text) => {
    const value = integer(text);
    if (value < least || value > most) throw new InvalidArgumentError(`${least} to ${most} ${unit} are possible`);
    return value;
  };
}

function collect<T>(parse: (text: string) => T): (text: string, before: T[] | undefined) => T[] {
  return (text, before) => [...(before ?? []), parse(text)];
}

/** `FILE` or `FILE=STRING`. */
function moduleOption(text: string): { file: string; string?: string } {
  const at = text.indexOf("=");
  return at < 0 ? { file: text } : { file: text.slice(0, at), string: text.slice(at + 1) };
}

const program = new Command("basalt").description("Builds, runs and examines the Basalt hypervisor.");
const profileOption = (): Option =>
  new Option("--profile <profile>", "which build").choices(PROFILES).default("release");

async function build(profile: Profile, quiet = false): Promise<void> {
  const { buildId, fresh, milliseconds } = await buildImage({ profile });
  if (quiet) return;
  const what = fresh ? `built in ${(milliseconds / 1000).toFixed(1)} s` : "up to date";
  console.log(`build/${profile}/basalt.elf: ${what} (build ${buildId})`);
}

program
  .command("build")
  .description("compile and link the image: build/<profile>/basalt.elf")
  .addOption(profileOption())
  .action(({ profile }) => build(profile));

program
  .command("iso")
  .description("make a hybrid ISO that boots by BIOS and UEFI, from CD or USB stick")
  .addOption(profileOption())
  .option("-o, --output <file>", "where to put it", "build/basalt.iso")
  .option("--append <words>", "the host's command line")
  .option("--module <file[=string]>", "a boot module; may be repeated", collect(moduleOption))
  .option("--menu <seconds>", "how long the boot menu waits", integer, 3)
  .action(async ({ profile, output, append, module, menu }) => {
    await build(profile, true);
    const { makeHybrid } = await import("./image/iso.ts");
    await makeHybrid({ elf: elfPath(profile), append, modules: module, menuSeconds: menu }, output);
    console.log(`${output}: write it to a USB stick, or attach it as a CD`);
  });

program
  .command("run")
  .description("boot the image on the best machine that this host has: KVM with nested VMX, Bochs, QEMU")
  .addOption(profileOption())
  .addOption(new Option("--on <machine>", "where to run").choices(MACHINES))
  .addOption(new Option("--media <media>", "how the image is loaded").choices(MEDIA))
  .option("--iso <file>", "boot this ISO instead of the image just built")
  .option("--cpus <n>", "processors", between(1, 256, "processors"))
  .option("--memory <MiB>", "memory", between(32, 16 << 20, "MiB"))
  .option("--model <cpu>", "CPU model, in the emulator's words")
  .addOption(new Option("--chipset <type>", "QEMU's machine type").choices(["pc", "q35"]))
  .option("--uefi", "boot by UEFI firmware (QEMU)")
  .option("--gdb [port]", "wait for a debugger (QEMU)", (text) => integer(text))
  .option("--timeout <seconds>", "end the run after this time", integer)
  .option("--ticks <n>", "end the run after this many emulated ticks (Bochs)", integer)
  .option("--ips <n>", "emulated instructions a second (Bochs)", integer)
  .option("--append <words>", "the host's command line")
  .option("--module <file[=string]>", "a boot module; may be repeated", collect(moduleOption))
  .option("--guest <file[,word=value...]>", "a guest (docs/guests.md); may be repeated", collect(parseGuest))
  .option("--no-build", "run the image as it is")
  .option("--raw", "do not add names to addresses")
  .action(async (options) => {
    const { profile } = options as { profile: Profile };
    if (options.build && !options.iso) await build(profile, true);
    const result = await runInTerminal(
      {
        elf: elfPath(profile),
        on: options.on,
        media: options.iso ? "iso" : options.media,
        iso: options.iso,
        cpus: options.cpus,
        memoryMib: options.memory,
        model: options.model,
        chipset: options.chipset,
        uefi: options.uefi,
        gdbPort: options.gdb === true ? 1234 : options.gdb,
        timeoutSeconds: options.timeout,
        timeoutTicks: options.ticks,
        ips: options.ips,
        append: options.append,
        modules: [...guestModules(options.guest ?? []), ...(options.module ?? [])],
      },
      options.raw ? null : mapPath(profile),
    );
    process.exitCode = EXIT_CODES[result.exit];
  });

program
  .command("start")
  .description("build everything and boot two Linux guests and a tiny one")
  .action(async () => {
    const { start } = await import("./start.ts");
    process.exitCode = EXIT_CODES[(await start()).exit];
  });

program
  .command("report")
  .description("what the built image consists of")
  .addOption(profileOption())
  .action(async ({ profile }) => {
    await build(profile, true);
    const { printReport } = await import("./image/report.ts");
    await printReport(profile);
  });

program
  .command("test")
  .description("run all tests, or the suites whose names contain one of the words given")
  .option("--long", "the long form of each test: full matrices, many seeds")
  .argument("[suites...]")
  .action(async (suites, { long }) => {
    const { runTests } = await import("./test.ts");
    process.exitCode = await runTests(Boolean(long), suites);
  });

program
  .command("layers")
  .description("check who uses whom, and print the diagram")
  .action(async () => {
    const { runLayerCheck } = await import("./check/layers.ts");
    process.exitCode = await runLayerCheck();
  });

program.parseAsync().catch((error: Error) => {
  const known = error instanceof BuildError || !error.stack?.includes("TypeError");
  console.error(`basalt: ${known ? error.message : error.stack}`);
  process.exitCode = 5;
});
