/**
 * What a VM exit costs: instructions for one round trip as the guest sees it, in Bochs at one CPU and 50 million a second, where the
 * time-stamp counter counts instructions. Medians of 501, by bench/exits/guest.asm. A second run with the emulator's
 * debugger counts what weighs more than other instructions on silicon. The peers' columns were taken the same way, once (see below).
 *
 * The last line is JSON: cpuid, vmcall, rdmsr, wrmsr, in, out, ept4k, mmio, hlt with mitigations=off; cpuidmitigated
 * with the mitigations of the model and account=on.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildImage } from "../../tools/image/build.ts";
import { ROOT } from "../../tools/paths.ts";
import { boot } from "../../tools/run/boot.ts";
import type { BootResult } from "../../tools/run/options.ts";

/** KVM 6.1 with mitigations=off and as it comes, Xen 4.17 with spec-ctrl=no: same emulator, model and bracket. */
const PEERS: Record<string, (number | null)[]> = {
  cpuid: [976, 1072, 845],
  vmcall: [1005, 1101, 813],
  rdmsr: [1085, 1181, 717],
  wrmsr: [null, null, null],
  in: [1251, 1355, 1268],
  out: [2988, 7283, null],
  ept4k: [2817, 2956, null],
  mmio: [3590, 7880, 16732],
  deadline: [1728, 1824, 2998],
  hlt: [4451, 13048, 7293],
};
const KINDS = Object.keys(PEERS);
/** In the order in which the guest makes them: the debugger sees no names. */
const TRACED = ["empty", "cpuid", "vmcall", "rdmsr", "wrmsr", "in", "out", "ept4k", "mmio", "deadline", "hlt"];
const HEAVY = {
  vmread: /^vmread /,
  vmwrite: /^vmwrite /,
  msr: /^(?:rd|wr)msr/,
  serialising: /^(?:cpuid|mov cr[0-8]|mov dr|invept|invvpid|invpcid|wbinvd|xsetbv|iret|mfence|lfence|verw)/,
};
type Heavy = keyof typeof HEAVY;

const PLAIN = "exit=bochs mitigations=off eptpage=4k apicv=off";
const MITIGATED = "exit=bochs eptpage=4k apicv=off account=on";

function run(elf: string, guest: string, append: string, words: string, script?: string[]): Promise<BootResult> {
  return boot({
    elf,
    on: "bochs",
    model: "corei7_skylake_x",
    cpus: 1,
    ips: 50_000_000,
    append,
    modules: [{ file: guest, string: `guest=bench memory=16M${words}` }],
    timeoutSeconds: 600,
    ...(script ? { debuggerScript: script } : {}),
  });
}

/** The guest's medians by kind. */
function readMedians({ serial, exit }: BootResult): Map<string, number> {
  const found = [...serial.matchAll(/guest: bench\| ([a-z0-9]+) (\d+)\r?\n/g)];
  if (exit !== "ended" || found.length !== TRACED.length)
    throw new Error(`the guest did not finish (${exit}):\n${serial}`);
  return new Map(found.map((m) => [m[1] as string, Number(m[2])]));
}

/** How many heavy instructions each kind's round trip has, from the traces between the guest's breakpoints. */
function countHeavy(output: string): Map<string, Record<Heavy, number>> {
  const traces = output.split(/Tracing enabled/).slice(1);
  return new Map(
    TRACED.map((kind, i) => {
      const lines = [
        ...(traces[i] ?? "").matchAll(
          /^\(0\)\.\[\d+\] \[0x[0-9a-f]+\] 0008:ffffffff8[0-9a-f]+ \(unk\. ctxt\): (.*?)\s*;/gm,
        ),
      ];
      const counts = Object.entries(HEAVY).map(([name, pattern]) => [
        name,
        lines.filter((line) => pattern.test(line[1] as string)).length,
      ]);
      return [kind, Object.fromEntries(counts) as Record<Heavy, number>];
    }),
  );
}

const folder = mkdtempSync(join(tmpdir(), "basalt-exits-"));
try {
  const guest = join(folder, "guest");
  execFileSync("nasm", ["-f", "bin", "-i", "test/guests/", "-o", guest, "bench/exits/guest.asm"], { cwd: ROOT });
  const { elf } = await buildImage({ profile: "release" });
  const plain = readMedians(await run(elf, guest, PLAIN, ""));
  const mitigated = readMedians(await run(elf, guest, MITIGATED, ""));
  const script = TRACED.flatMap(() => ["c", "trace on", "c", "trace off"]);
  const traced = await run(elf, guest, PLAIN, " cmdline=trace", script);
  const heavy = countHeavy(traced.debuggerOutput ?? "");

  const columns = ["basalt", "mitigated", "KVM off", "KVM", "Xen", "VMREAD", "VMWRITE", "MSR", "serialising"];
  console.log(["exit".padEnd(10), ...columns.map((c) => c.padStart(10))].join(" "));
  for (const kind of KINDS) {
    const h = heavy.get(kind);
    const cells = [
      plain.get(kind),
      mitigated.get(kind),
      ...(PEERS[kind] ?? []),
      h?.vmread,
      h?.vmwrite,
      h?.msr,
      h?.serialising,
    ];
    console.log([kind.padEnd(10), ...cells.map((c) => String(c ?? "-").padStart(10))].join(" "));
  }
  console.log(`an empty bracket is ${plain.get("empty")}; the entry and the exit themselves come on top of the counts`);
  const figures = Object.fromEntries(KINDS.map((kind) => [kind, plain.get(kind)]));
  console.log(JSON.stringify({ bench: "exits", figures: { ...figures, cpuidmitigated: mitigated.get("cpuid") } }));
} finally {
  rmSync(folder, { recursive: true });
}
