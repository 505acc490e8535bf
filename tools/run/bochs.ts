/**
 * Bochs: its configuration as data, its debugger's script, and what its last words mean.
 */

import type { BootOptions, Ending } from "./options.ts";

export const DEFAULT_MODEL = "corei7_skylake_x";
export const DEFAULT_IPS = 50_000_000;

export interface BochsPlan {
  /** The configuration file. */
  config: string;
  /** The debugger's commands: go, and quit at whatever stops it. */
  script: string;
}

/** `port`: where the serial line's listener waits. `iso`: what to boot from. */
export function planBochs(options: BootOptions, iso: string, port: number): BochsPlan {
  const memory = options.memoryMib ?? 512;
  const config = [
    "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, iodebug=1",
    "config_interface: textconfig",
    'display_library: rfb, options="timeout=0"',
    // More than 2 GiB are kept in a file as they are touched.
    `memory: guest=${memory}, host=${Math.min(memory, 2048)}`,
    "romimage: file=/usr/share/bochs/BIOS-bochs-latest",
    "vgaromimage: file=/usr/share/vgabios/vgabios-stdvga.bin",
    "vga: extension=none",
    `cpu: model=${options.model ?? DEFAULT_MODEL}, count=${options.cpus ?? 1}, ips=${options.ips ?? DEFAULT_IPS}, reset_on_triple_fault=0, ignore_bad_msrs=0`,
    "clock: sync=none, time0=946684800",
    "pci: enabled=1, chipset=i440fx",
    "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
    `ata0-master: type=cdrom, path=${iso}, status=inserted`,
    "boot: cdrom",
    `com1: enabled=1, mode=socket-client, dev=127.0.0.1:${port}`,
    "log: bochs.log",
    "panic: action=fatal",
    "error: action=report",
    "info: action=ignore",
    "port_e9_hack: enabled=1",
    // XCHG BX, BX stops only where a debugger waits for it: elsewhere it may be any guest's
    `magic_break: enabled=${options.debuggerScript ? 1 : 0}`,
  ];
  const limit = options.timeoutTicks ? [`sb ${options.timeoutTicks}`] : [];
  const commands = options.debuggerScript ?? ["c"];
  return { config: `${config.join("\n")}\n`, script: [...limit, ...commands, "q", ""].join("\n") };
}

/** Ticks a second below which Bochs does not fall on a busy machine. */
const SLOWEST = 2_000_000;
const LEAST_SECONDS = 60;

/**
 * Seconds of real time that ticks may take at most, if the caller gives none. A machine whose processors all halt for good
 * never comes to the debugger's time breakpoint.
 */
export function secondsFor(options: BootOptions): number | undefined {
  if (options.timeoutSeconds || !options.timeoutTicks) return options.timeoutSeconds;
  return Math.max(LEAST_SECONDS, options.timeoutTicks / SLOWEST);
}

/** Emulated ticks in the debugger's last words. */
export function lastTick(stdout: string): number | null {
  const all = [...stdout.matchAll(/^(?:\(\d+\)\.\[|Next at t=)(\d+)/gm)];
  const last = all.at(-1)?.[1];
  return last === undefined ? null : Number(last);
}

/** How Bochs ended, from its exit code, its stdout and its log. */
export function judgeBochs(code: number | null, stdout: string, log: string): { exit: Ending; detail: string } {
  if (/Caught time breakpoint/.test(stdout)) return { exit: "timeout", detail: "out of ticks" };
  if (code === 0 || /Shutdown port: shutdown requested|ACPI control: soft power off/.test(stdout + log))
    return { exit: "ended", detail: "" };
  const panic = />>PANIC<<\s*(.*)/.exec(stdout + log)?.[1] ?? `bochs ended with code ${code}`;
  return { exit: "crashed", detail: panic.trim() };
}
