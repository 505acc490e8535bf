// The image comes up on every machine that the emulators can be, by every way of loading it, and reports the same
// things on each: memory map, CPUs online, features, timers, PCI devices.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { makeHybrid } from "../../tools/image/iso.ts";
import { image, LOADER_TICKS, LONG, REPORTED, type RunOptions, readReport, run } from "./harness.ts";

interface Row {
  name: string;
  options: RunOptions;
  /** PCI device that this machine is known to have. */
  bridge: string;
  /** Only in the long run. */
  long?: boolean;
}

const I440FX = "8086:1237";
const Q35 = "8086:29c0";

function bochs(model: string, cpus: number, more: Partial<RunOptions> = {}): Row {
  const options: RunOptions = { on: "bochs", model, cpus, timeoutTicks: 3 * LOADER_TICKS, ...more };
  return { name: `Bochs ${model}, ${cpus} CPUs`, options, bridge: I440FX };
}

function qemu(chipset: "pc" | "q35", cpus: number, memoryMib: number, more: Partial<RunOptions> = {}): Row {
  const options: RunOptions = { on: "qemu", chipset, cpus, memoryMib, ...more };
  const how = [more.uefi ? "UEFI ISO" : (more.media ?? "-kernel"), more.model ?? ""].filter(Boolean).join(", ");
  return {
    name: `QEMU ${chipset}, ${cpus} CPUs, ${memoryMib} MiB, ${how}`,
    options,
    bridge: chipset === "pc" ? I440FX : Q35,
  };
}

const inLongRun = (row: Row): Row => ({ ...row, long: true });

const ROWS: Row[] = [
  bochs("corei7_skylake_x", 1),
  bochs("corei7_haswell_4770", 2),
  bochs("corei7_sandy_bridge_2600k", 4, { memoryMib: 1024 }),
  bochs("core2_penryn_t9600", 1, { media: "multiboot", memoryMib: 128 }),
  inLongRun(bochs("corei5_lynnfield_750", 2)),
  inLongRun(bochs("corei3_cnl", 4)),
  inLongRun(bochs("corei7_icelake_u", 1, { media: "multiboot" })),
  inLongRun(bochs("tigerlake", 2)),
  inLongRun(bochs("corei7_skylake_x", 8)),
  inLongRun(bochs("corei7_skylake_x", 1, { memoryMib: 4096 })),
  qemu("pc", 1, 64),
  qemu("pc", 8, 512),
  qemu("q35", 2, 5120),
  qemu("q35", 4, 512, { media: "multiboot2" }),
  qemu("pc", 2, 512, { media: "multiboot" }),
  qemu("q35", 2, 512, { uefi: true }),
  qemu("pc", 1, 512, { media: "iso" }),
  inLongRun(qemu("q35", 8, 8192, { model: "Skylake-Server-v1" })),
  inLongRun(qemu("q35", 3, 4096, { model: "Nehalem-v1" })),
  inLongRun(qemu("pc", 1, 3584, { model: "Opteron_G5-v1" })),
  inLongRun(qemu("q35", 1, 64, { media: "multiboot2" })),
  inLongRun(qemu("q35", 8, 5120, { uefi: true })),
];

const folder = mkdtempSync(join(tmpdir(), "basalt-iso-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The hybrid ISO that `npm run iso` makes, once for all rows. */
let hybrid: Promise<string> | null = null;
function iso(): Promise<string> {
  hybrid ??= image().then(async ({ elf }) => {
    const path = join(folder, "basalt.iso");
    await makeHybrid({ elf, append: "loglevel=info" }, path);
    return path;
  });
  return hybrid;
}

describe("the machine comes up and reports itself", () => {
  for (const { name, options, bridge, long } of ROWS)
    test.skipIf(long && !LONG)(name, async () => {
      const fromIso = options.uefi || options.media === "iso";
      const media = fromIso ? { media: "iso" as const, iso: await iso() } : {};
      const result = await run({ append: "loglevel=info", ...options, ...media, until: REPORTED });
      const report = readReport(result.serial);
      expect(report, result.serial).not.toBeNull();
      if (!report) return;
      expect(result.serial).not.toMatch(/\] ERROR (?!vmx: )/);
      expect(report.online).toBe(options.cpus);
      expect(report.loader).toMatch(
        options.media === "multiboot" || (!fromIso && !options.media && options.on === "qemu")
          ? /^multiboot 1/
          : /^multiboot 2/,
      );
      expect(report.pci.join("\n")).toContain(bridge);
      expect(report.loader.includes("UEFI")).toBe(Boolean(options.uefi));
      expect(report.platform).toContain("ACPI");
      expect(report.platform).toContain(`CPUs ${options.cpus}`);
      expect(report.features).toContain("NX");
      expect(report.tscKhz).toBeGreaterThan(1000);
      // What is usable lies below the memory that the machine was given, and is most of it.
      const usable = report.memory.filter((m) => m.kind === "usable").reduce((sum, m) => sum + m.end - m.base, 0);
      const given = (options.memoryMib ?? 512) * 2 ** 20;
      expect(usable).toBeLessThanOrEqual(given);
      // UEFI keeps some; Bochs has no RAM where a 4 GiB machine has its devices.
      expect(usable).toBeGreaterThan(
        given * (options.uefi || (options.on === "bochs" && given >= 2 ** 32) ? 0.7 : 0.95),
      );
    });
});

describe("without VT-x", () => {
  test("one line says what is missing and what to do, and the machine stays at the log", async () => {
    const result = await run({ on: "qemu", cpus: 2, timeoutSeconds: 10 });
    const lines = result.serial.split("\n").filter((line) => /\bvmx: /.test(line));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/CPUID\.1:ECX/);
    expect(lines[0]).toMatch(/use a processor with VMX, or enable nested virtualisation/);
    // Neither a reset nor a fault: the run ends by its time-out.
    expect(result.exit, result.serial).toBe("timeout");
    expect(result.serial.match(/basalt: a hypervisor/g)).toHaveLength(1);
  });

  test("a processor with VMX and no EPT is refused in one line", async () => {
    const result = await run({
      on: "bochs",
      model: "core2_penryn_t9600",
      ips: 4_000_000,
      timeoutTicks: LOADER_TICKS,
      until: /vmx: .*\n/,
    });
    expect(result.serial).toMatch(/vmx: EPT is missing \(.*\): use a processor with EPT/);
  });

  test.each([
    ["bochs", "core_duo_t2400_yonah"],
    ["qemu", "n270"],
  ] as const)("%s %s has no 64-bit mode, and one line says so", async (on, model) => {
    const result = await run({ on, model, ips: 4_000_000, timeoutTicks: LOADER_TICKS, until: /stays here/ });
    expect(result.serial).toContain("basalt: this processor has no 64-bit mode (CPUID 80000001H:EDX[29])");
  });
});
