/**
 * What a Linux guest costs, in Bochs with one CPU, where the time-stamp counter counts instructions.
 *
 * bootratio: 1 + ticks in root mode that are not idle / ticks in the guest, from kernel entry to the shell; exits: over that boot.
 * tscdeadline, eoi, icr, tick: instructions of one round trip as the guest sees it (RDTSC bracket included), median:
 * WRMSR IA32_TSC_DEADLINE; EOI of the memory-mapped APIC without APIC virtualisation but for an APIC-access page (and with all of it:
 * eoiapicv; with nothing, by EPT violations: eoiept); ICR write that addresses nobody; a periodic timer interrupt as a whole, beyond the
 * guest's own handler (tickept: by EPT violations). idlebusy: percent of the time in which an idle guest keeps the host busy.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { linuxGuest } from "../tools/guests/guests.ts";
import { buildImage } from "../tools/image/build.ts";
import { ROOT } from "../tools/paths.ts";
import { boot } from "../tools/run/boot.ts";
import type { BootModule } from "../tools/run/options.ts";

const CMDLINE = "console=ttyS0 quiet mitigations=off random.trust_cpu=on cryptomgr.notests";
const { elf } = await buildImage({ profile: "release" });
const linux = linuxGuest("cloud", console.log);

/** One run to its end; its serial output. */
async function serialOf(
  modules: BootModule[],
  append: string,
  type?: { at: RegExp; text: string; times: number },
): Promise<string> {
  let send: ((text: string) => void) | null = null;
  let seen = "";
  let left = type?.times ?? 0;
  const result = await boot({
    elf,
    on: "bochs",
    model: "corei7_haswell_4770",
    ips: 20_000_000,
    memoryMib: 512,
    timeoutTicks: 8_000_000_000,
    timeoutSeconds: 1800,
    append: `exit=bochs account=on mitigations=off ${append}`,
    modules,
    onReady: (typing) => {
      send = typing;
    },
    onSerial: (text) => {
      seen += text;
      if (!type || left === 0 || !type.at.test(seen)) return;
      seen = "";
      left--;
      send?.(type.text);
    },
  });
  if (result.exit !== "ended")
    throw new Error(`the run ${result.exit}: ${result.detail}\n${result.serial.slice(-2000)}`);
  return result.serial.replaceAll("\r\n", "\n");
}

interface Account {
  ticks: number;
  guest: number;
  idle: number;
}

function accounts(serial: string): Account[] {
  return [...serial.matchAll(/account: \w+: ticks (\d+), in the guest (\d+), idle (\d+)/g)].map((m) => ({
    ticks: Number(m[1]),
    guest: Number(m[2]),
    idle: Number(m[3]),
  }));
}

function linuxModules(selftest: string): BootModule[] {
  return [
    { file: linux.bzImage, string: `guest=linux memory=192M cmdline=${CMDLINE} selftest=${selftest}` },
    { file: linux.initrd, string: "initrd=linux" },
  ];
}

/** Exit reasons that a reader knows by name. Intel SDM Vol. 3, "VMX Basic Exit Reasons". */
const REASONS: Record<number, string> = {
  0: "exception or NMI",
  1: "external interrupt",
  7: "interrupt window",
  10: "CPUID",
  12: "HLT",
  28: "control register",
  29: "debug register",
  30: "I/O instruction",
  31: "RDMSR",
  32: "WRMSR",
  40: "PAUSE",
  44: "APIC access",
  45: "virtualised EOI",
  48: "EPT violation",
  52: "preemption timer",
  54: "WBINVD",
  55: "XSETBV",
  56: "APIC write",
};

async function measureBoot(): Promise<{ bootratio: number; exits: number }> {
  const serial = await serialOf(linuxModules("boot"), "apicv=auto");
  const account = accounts(serial).at(-1);
  if (!account) throw new Error("no account of the boot");
  let exits = 0;
  for (const m of serial.matchAll(/account: linux: exit (\d+): (\d+)/g)) {
    exits += Number(m[2]);
    console.log(
      `${(REASONS[Number(m[1])] ?? `reason ${m[1]}`).padEnd(20)} ${Number(m[2]).toLocaleString("en-US").padStart(9)}`,
    );
  }
  const root = account.ticks - account.guest - account.idle;
  console.log(
    `boot: ${account.guest.toLocaleString("en-US")} ticks in the guest, ${root.toLocaleString("en-US")} in root mode, ${account.idle.toLocaleString("en-US")} idle`,
  );
  return { bootratio: 1 + root / account.guest, exits };
}

async function measureIdle(): Promise<number> {
  // The operator asks for the accounts a while after the shell is up, and once more: what lies between is idling.
  const serial = await serialOf(linuxModules("idle"), "apicv=auto", {
    at: /guest is up|exit 56: |exit 55: \d+/,
    text: "exits linux\r",
    times: 3,
  });
  const all = accounts(serial);
  const [first, last] = [all.at(-2), all.at(-1)];
  if (!first || !last || all.length < 3) throw new Error("too few accounts of the idle guest");
  return 100 * (1 - (last.idle - first.idle) / (last.ticks - first.ticks));
}

/** The rows of test/guests/price.asm: `price NAME N`. */
async function measureRows(words: string, append = "apicv=auto"): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), "basalt-bench-"));
  try {
    const file = join(folder, "price");
    execFileSync("nasm", ["-f", "bin", "-I", `${ROOT}/test/guests/`, "-o", file, join(ROOT, "test/guests/price.asm")]);
    const serial = await serialOf([{ file, string: `guest=price memory=16M${words}` }], append);
    const rows = [...serial.matchAll(/price\| price (\w+) (\d+)/g)].map((m) => [m[1], Number(m[2])]);
    return Object.fromEntries(rows) as Record<string, number>;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const plain = await measureRows(" without=apicv");
console.log("without APIC virtualisation, but for an APIC-access page:", plain);
const bare = await measureRows("", "apicv=off");
console.log("without an APIC-access page too:", bare);
const helped = await measureRows("");
console.log("with APIC virtualisation:", helped);
const { bootratio, exits } = await measureBoot();
const idlebusy = await measureIdle();
const figures = {
  bootratio: Number(bootratio.toFixed(4)),
  exits,
  tscdeadline: plain.tscdeadline,
  eoi: plain.eoi,
  eoiapicv: helped.eoi,
  icr: plain.icr,
  tick: plain.tick,
  eoiept: bare.eoi,
  tickept: bare.tick,
  idlebusy: Number(idlebusy.toFixed(2)),
};
console.log(JSON.stringify({ bench: "linux", figures }));
