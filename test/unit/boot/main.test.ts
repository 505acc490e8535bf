// The whole core, as the image has it, from `kmain` to the idle loop.

import { beforeAll, expect, test } from "vitest";
import { boot, type PcOptions, pc } from "../../fake/firmware.ts";
import { logLines } from "../../fake/log.ts";
import { bochs, bochsModels } from "../../fake/profiles/bochs.ts";
import { processors } from "../../fake/profiles/processors.ts";

const MIB = 1024 * 1024;

// The whole core is compiled as for the image, which takes its time.
beforeAll(() => pc(), 600_000);

/** Leaf 1 ECX without VMX: the machine comes up and stays at its log. */
const NO_VMX = { 1: { ecx: 0x77fa_fbdf } };

async function booted(options: PcOptions = {}) {
  const { m, serial } = await pc({ cpuid: NO_VMX, ticks: { pause: 20_000 }, ...options });
  boot(m);
  return { m, serial, log: logLines(m) };
}

test("a PC with four CPUs comes up and says so", async () => {
  const { m, log, serial } = await booted({ cpus: 4 });
  expect(log).toContain("smp: CPUs online: 4, TSC 2000000 kHz, invariant");
  expect(log.some((line) => line.startsWith("memory: 000000100000 .. 000020000000 usable"))).toBe(true);
  expect(log.some((line) => line.startsWith("cpu: features: NX 1G-pages SMEP SMAP UMIP x2APIC"))).toBe(true);
  expect(serial()).toContain("CPUs online: 4");
  expect(m.cpus.map((c) => c.cr3)).toEqual(Array(4).fill(m.cpus[0].cr3));
  expect(new Set(m.cpus.map((c) => c.cr4)).size).toBe(1);
  expect(m.mappings().filter((p) => p.writable && p.executable)).toEqual([]);
});

test("APIC IDs need not be dense, disabled CPUs stay down, duplicates count once", async () => {
  const { log } = await booted({
    cpus: 3,
    apicIds: [0, 6, 40],
    ghosts: [
      [99, 0],
      [6, 1],
    ],
  });
  expect(log.some((line) => line.startsWith("smp: CPUs online: 3"))).toBe(true);
  expect(log.some((line) => /listed? a CPU twice|lists a CPU twice/.test(line))).toBe(true);
  expect(log.some((line) => line.includes("disabled: 1"))).toBe(true);
});

test("a CPU that does not start is named, and its memory comes back", async () => {
  const { m, log } = await booted({ cpus: 2, ghosts: [[77, 1]] });
  expect(log).toContain("smp: CPU with APIC ID 77 does not start");
  expect(log.some((line) => line.startsWith("smp: CPUs online: 2, failed: 1"))).toBe(true);
  expect(m.mappings().some((p) => p.va === 0x40_8000n)).toBe(false);
});

test("an x2APIC ID above 254 starts in x2APIC mode only", async () => {
  const wide = { cpus: 2, apicIds: [0, 300] };
  expect((await booted(wide)).log.some((line) => line.startsWith("smp: CPUs online: 2"))).toBe(true);
  const { log } = await booted({ ...wide, commandLine: "apic=xapic" });
  expect(log.some((line) => line.includes("needs x2APIC"))).toBe(true);
  expect(log.some((line) => line.startsWith("smp: CPUs online: 1"))).toBe(true);
});

test("xAPIC mode brings the same CPUs up", async () => {
  const { log } = await booted({ cpus: 3, cpuid: { 1: { ecx: 0x77da_fbdf } } });
  expect(log.some((line) => line.startsWith("lapic: xAPIC at 0xfee00000"))).toBe(true);
  expect(log.some((line) => line.startsWith("smp: CPUs online: 3"))).toBe(true);
});

test("no ACPI at all: one CPU and a warning", async () => {
  const { log } = await booted({ cpus: 2, acpi: false });
  expect(log.some((line) => line.includes("no ACPI tables"))).toBe(true);
  expect(log.some((line) => line.startsWith("smp: CPUs online: 1"))).toBe(true);
});

test("cpus= limits how many start", async () => {
  const { log } = await booted({ cpus: 4, commandLine: "cpus=2" });
  expect(log.some((line) => line.startsWith("smp: CPUs online: 2"))).toBe(true);
});

test("a machine with too little memory is refused in one line", async () => {
  const memory: [number, number][] = [
    [0, 0xa_0000],
    [0xf_0000, 0x1_0000],
    [MIB, 5 * MIB],
  ];
  const { m } = await pc({ memory, commandLine: "exit=halt" });
  expect(() => boot(m)).toThrow("halted");
  expect(logLines(m).some((line) => line.startsWith("memory: no free 2 MiB below 4 GiB"))).toBe(true);
});

test("without VT-x the machine stays at its log", async () => {
  const { log } = await booted();
  expect(log.some((line) => line.startsWith("vmx: VT-x is missing"))).toBe(true);
});

test("further CPUs with fewer features are warned about, and all go by the common ones", async () => {
  const { m } = await pc({ cpus: 2, cpuid: NO_VMX });
  const poorer = {
    ...m.cpus[1].profile,
    cpuid: { ...m.cpus[1].profile.cpuid, "7.0": [0, 0x27ab, 4, 0x8c00_0000] as [number, number, number, number] },
  };
  Object.assign(m.cpus[1], { profile: poorer });
  boot(m);
  expect(logLines(m).some((line) => line.includes("lacks features of the boot CPU"))).toBe(true);
});

test.each([...bochsModels().map(bochs), ...processors])("the machine comes up on $name", async (profile) => {
  const [eax, ebx, ecx, edx] = profile.cpuid["1"];
  const noVmx = {
    ...profile,
    cpuid: { ...profile.cpuid, "1": [eax, ebx, ecx & ~0x20, edx] as typeof profile.cpuid.x },
  };
  const { m, log } = await booted({ cpus: 2, profile: noVmx, cpuid: {} });
  expect(log.some((line) => line.startsWith("smp: CPUs online: 2"))).toBe(true);
  expect(log.filter((line) => line.startsWith("panic"))).toEqual([]);
  expect(m.mappings().filter((p) => p.writable && p.executable)).toEqual([]);
});

test("256 CPUs come up", async () => {
  const apicIds = Array.from({ length: 256 }, (_, i) => i * 3);
  const { m, log } = await booted({ cpus: 256, apicIds });
  expect(log.some((line) => line.startsWith("smp: CPUs online: 256"))).toBe(true);
  expect(new Set(m.cpus.map((c) => c.descriptors.gdt)).size).toBe(256);
});

test("of more than 256 CPUs, 256 come up", async () => {
  const { log } = await booted({
    cpus: 4,
    ghosts: Array.from({ length: 300 }, (_, i): [number, number] => [1000 + i, 1]),
  });
  expect(log.some((line) => line.startsWith("smp: CPUs online: 4, failed: 252"))).toBe(true);
});
