// The test guests of test/guests on the hypervisor, many at once.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { BootResult } from "../../tools/run/options.ts";
import { cycle } from "./cycles.ts";
import { ending, runGuests, shareOf } from "./guestrun.ts";
import { image, LOADER_TICKS, LONG } from "./harness.ts";
import { GUESTS_A_BOOT, hostileBoot } from "./hostile.ts";
import { boot, KINDS, MODELS, pairwiseShift } from "./matrix.ts";
import { draw, places, tryPlace } from "./traps.ts";

function expectPass(result: BootResult, names: string[]): void {
  for (const name of names) {
    expect(result.serial, name).toMatch(new RegExp(`guest: ${name}\\| PASS \\d+ checks`));
    expect(ending(result.serial, name), name).toBe("ended: powered off, code 0");
  }
}

const PLAIN = [
  "hello",
  "cpuid",
  "debug",
  "device",
  "exceptions",
  "mmio",
  "msrs",
  "paging",
  "ports",
  "selfmod",
  "tsc",
  "poweroff",
];

test("twelve guests at once on one CPU each do what they claim, beside one that triple-faults", async () => {
  const result = await runGuests([...PLAIN, "triple"], { memoryMib: 512 });
  expectPass(result, PLAIN);
  expect(ending(result.serial, "triple")).toMatch(/^ended: triple fault/);
  expect(result.exit).toBe("failed");
});

test("sleepers, timers, interrupt controllers and vector state, four guests on two CPUs", async () => {
  const guests = ["halt", "apic", "fpu:first cmdline=seed=1", "fpu:second cmdline=seed=2"];
  const result = await runGuests(guests, { cpus: 2 });
  expectPass(result, ["halt", "apic", "first", "second"]);
  expect(result.exit).toBe("ended");
});

test("two vCPUs on one CPU keep all of their vector state, with AVX-512 and without", async () => {
  for (const model of ["corei7_skylake_x", "corei7_haswell_4770"]) {
    const result = await runGuests(["vector cpus=2", "fpu"], { model, append: "apicv=off" });
    expectPass(result, ["vector", "fpu"]);
    expect(result.serial.includes("vector| AVX-512 is on")).toBe(model === "corei7_skylake_x");
  }
});

test("a guest with two vCPUs sends itself IPIs beside others", async () => {
  const result = await runGuests(["ipi cpus=2", "ioapic", "selfmod"], { cpus: 2, model: "corei7_haswell_4770" });
  expectPass(result, ["ipi", "ioapic", "selfmod"]);
});

test("a command line of nearly 4 KiB arrives whole, by multiboot 1 and 2", async () => {
  const words = `${"0123456 ".repeat(500)}the end`;
  for (const media of ["multiboot", "multiboot2"] as const) {
    const result = await runGuests([`hello cmdline=${words}`], { media });
    expectPass(result, ["hello"]);
    const printed = [...result.serial.matchAll(/guest: hello\| (.*)$/gm)].map((line) => line[1]).join("");
    expect(printed.replaceAll(" ", ""), media).toContain(`commandline:${words.replaceAll(" ", "")}`);
  }
});

test("NMIs from two CPUs at once are neither lost nor too many", async () => {
  const result = await runGuests(["debug", "nmi cpus=2"], { cpus: 2 });
  expectPass(result, ["debug", "nmi"]);
  expect(result.serial).toMatch(/ 1\] guest: nmi\| PASS/); // both CPUs run guests
});

test("a reset starts a guest again with zeroed memory", async () => {
  const result = await runGuests(["reset restart=on", "hello"]);
  expectPass(result, ["hello"]);
  expect(result.serial).toMatch(/guest: reset\| PASS/);
  expect(result.serial).toContain("guest: reset ended: powered off, code 0");
  for (const start of [1, 2, 3]) expect(result.serial).toContain(`reset| start number ${start}`);
});

test("a real-mode start runs with unrestricted guest and is refused in one line without", async () => {
  expectPass(await runGuests(["realmode", "firmware", "halt cmdline=alone"]), ["realmode", "firmware", "halt"]);
  const old = await runGuests(["realmode", "paging"], { model: "corei5_lynnfield_750" });
  expect(old.serial.match(/realmode.*unrestricted guest/g)).toHaveLength(1);
  expectPass(old, ["paging"]);
});

test("a processor without EPT is refused in one clear line", async () => {
  const result = await runGuests(["hello"], { model: "core2_penryn_t9600", until: /ERROR vmx: .*\n/ });
  expect(result.serial.match(/ERROR vmx: .*EPT/g)).toHaveLength(1);
  expect(result.serial).not.toMatch(/hello\| /);
});

test("guests that never give the CPU away leave two checkers nine tenths of their fair share", async () => {
  const hostile = [
    "spin",
    "spin:cpuid cmdline=seed=1",
    "spin:in cmdline=seed=2",
    "spin:ins cmdline=seed=3",
    "spin:apic cmdline=seed=4",
    "spin:movs cmdline=seed=5",
    "spin:msr cmdline=seed=6",
    "exceptloop:ud cmdline=seed=3",
    "exceptloop:db cmdline=seed=4",
    "exceptloop:ac cmdline=seed=1",
  ];
  const checkers = ["memcheck:one memory=8M cmdline=seed=1 runs=8", "memcheck:two memory=8M cmdline=seed=2 runs=8"];
  const result = await runGuests([...checkers, ...hostile], {
    until: /guest: one ended: .*\n[\s\S]*guest: two ended: .*\n|guest: two ended: .*\n[\s\S]*guest: one ended: .*\n/,
    timeoutTicks: LOADER_TICKS + 3_000_000_000,
  });
  expectPass(result, ["one", "two"]);
  const running = [...checkers, ...hostile].length;
  // The faster of the two: the other has the CPU with fewer neighbours at the end.
  const share = Math.min(shareOf(result.serial, "one"), shareOf(result.serial, "two"));
  expect(share * running).toBeGreaterThan(0.9);
});

for (const model of MODELS) {
  const shifts = LONG ? KINDS.map((_, i) => i) : [pairwiseShift(model)];
  for (const shift of shifts) {
    test(`twelve guests without features of row ${shift} pass on ${model}`, async () => {
      const cells = boot(shift);
      const guests = cells.map(({ kind, without }) =>
        [kind, ...(without.length ? [`without=${without.join("+")}`] : [])].join(" "),
      );
      expectPass(await runGuests(guests, { model }), KINDS);
    });
  }
}

const cycles = LONG ? 500 : 4;
test(
  `a guest made ${cycles} times finds its memory zero although the one before poisoned it, and no frame is lost`,
  async () => {
    const { made, clean, faults, before, after } = await cycle(cycles);
    expect(faults).toEqual([]);
    expect([made, clean]).toEqual([cycles, cycles]);
    expect(after).toEqual(before);
    expect(before[0]).toMatch(/^free \d+ KiB$/);
  },
  LONG ? 60 * 60_000 : 10 * 60_000,
);

const boots = LONG ? 10 : 1;
const hostileGuests = LONG ? GUESTS_A_BOOT : 30;
const seedsEach = LONG ? 20 : 10;
test(`${boots * hostileGuests} guests of random instructions leave two checkers and the host alone`, async () => {
  for (let boot = 0; boot < boots; boot++) {
    const rows = Array.from({ length: hostileGuests }, (_, n) => ({
      first: 1000 + (boot * hostileGuests + n) * seedsEach,
      count: seedsEach,
    }));
    expect((await hostileBoot(rows)).faults).toEqual([]);
  }
});

const plantedPlaces = LONG ? 40 : 3;
test(`a trap planted at each of ${plantedPlaces} places of the release image stops who comes there, with its line`, async () => {
  const { symbols } = await image("release");
  const all = places(symbols);
  const folder = mkdtempSync(join(tmpdir(), "basalt-traps-"));
  const seen: string[] = [];
  for (const number of draw(1)) {
    const planted = await tryPlace(all[number % all.length] as number, folder);
    expect(planted.outcome, `${planted.place} ${planted.detail}`).not.toBe("WRONG");
    if (seen.push(planted.outcome) === plantedPlaces) break;
  }
  rmSync(folder, { recursive: true });
});
