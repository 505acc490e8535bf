// The test guests of test/guests on the hypervisor, many at once, judged by what they print and how they end.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test as vitestTest } from "vitest";
import { ROOT } from "../../tools/paths.ts";
import type { BootResult } from "../../tools/run/options.ts";
import { LOADER_TICKS, LONG, type RunOptions, run } from "./harness.ts";

/** In the long run only: many boots of the emulator. */
const test = vitestTest.runIf(LONG);

const SOURCES = join(ROOT, "test/guests");
const folder = mkdtempSync(join(tmpdir(), "basalt-guests-"));

beforeAll(() => {
  for (const source of readdirSync(SOURCES).filter((name) => name.endsWith(".asm"))) {
    const out = join(folder, source.replace(".asm", ""));
    execFileSync("nasm", ["-f", "bin", "-o", out, source], { cwd: SOURCES });
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** `file` or `file:name`, then words of the guest's description. */
function runGuests(guests: string[], options: Partial<RunOptions> = {}): Promise<BootResult> {
  const modules = guests.map((guest) => {
    const [what, ...words] = guest.split(" ");
    const [file, name = file] = (what as string).split(":");
    return { file: join(folder, file as string), string: [`guest=${name}`, "memory=16M", ...words].join(" ") };
  });
  const { append = "", ...rest } = options;
  const timeoutTicks = LOADER_TICKS + 900_000_000;
  return run({
    on: "bochs",
    model: "corei7_skylake_x",
    timeoutTicks,
    append: `exit=bochs ${append}`,
    modules,
    ...rest,
  });
}

/** How a guest ended, as the host says. */
function ending(serial: string, name: string): string {
  return new RegExp(`guest: ${name} (ended: .*|refused: .*|is left out: .*)`).exec(serial)?.[1] ?? "did not end";
}

function expectPass(result: BootResult, names: string[]): void {
  for (const name of names) {
    expect(result.serial, name).toMatch(new RegExp(`guest: ${name}\\| PASS \\d+ checks`));
    expect(ending(result.serial, name), name).toBe("ended: powered off, code 0");
  }
}

const PLAIN = ["hello", "cpuid", "exceptions", "mmio", "msrs", "paging", "ports", "selfmod", "tsc", "poweroff"];

test("ten guests at once on one CPU each do what they claim, beside one that triple-faults", async () => {
  const result = await runGuests([...PLAIN, "triple"], { memoryMib: 512 });
  expectPass(result, PLAIN);
  expect(ending(result.serial, "triple")).toMatch(/^ended: triple fault/);
  expect(result.exit).not.toBe("panic");
});

test("sleepers, timers, interrupt controllers and vector state, four guests on two CPUs", async () => {
  const guests = ["halt", "apic", "fpu:first cmdline=seed=1", "fpu:second cmdline=seed=2"];
  const result = await runGuests(guests, { cpus: 2 });
  expectPass(result, ["halt", "apic", "first", "second"]);
});

test("a guest with two vCPUs sends itself IPIs beside others", async () => {
  const result = await runGuests(["ipi cpus=2", "ioapic", "selfmod"], { cpus: 2, model: "corei7_haswell_4770" });
  expectPass(result, ["ipi", "ioapic", "selfmod"]);
});

test("a real-mode start runs with unrestricted guest and is refused in one line without", async () => {
  expectPass(await runGuests(["realmode"]), ["realmode"]);
  const old = await runGuests(["realmode", "paging"], { model: "corei5_lynnfield_750" });
  expect(old.serial).toMatch(/realmode.*unrestricted guest/);
  expectPass(old, ["paging"]);
});

test("a processor without EPT is refused in one clear line", async () => {
  const result = await runGuests(["hello"], { model: "core2_penryn_t9600", timeoutTicks: 2 * LOADER_TICKS });
  expect(result.serial).toMatch(/ERROR vmx: .*EPT/);
  expect(result.serial).not.toMatch(/hello\| /);
});

const MODELS = ["corei7_sandy_bridge_2600k", "corei7_haswell_4770", "corei3_cnl", "tigerlake"];
for (const model of LONG ? [...MODELS, "corei5_lynnfield_750"] : ["corei7_sandy_bridge_2600k"]) {
  test(`the plain guests pass on ${model}`, async () => {
    expectPass(await runGuests(PLAIN, { model }), PLAIN);
  });
}

const seeds = LONG ? 40 : 6;
test(`${seeds} guests of random instructions leave two checkers and the host alone`, async () => {
  const hostile = Array.from({ length: seeds }, (_, i) => `random:random${i} cmdline=seed=${1000 + i}`);
  const checkers = ["memcheck:one cmdline=seed=1", "memcheck:two cmdline=seed=2"];
  const result = await runGuests([...checkers, ...hostile], {
    memoryMib: 1024,
    timeoutTicks: LOADER_TICKS + 3_000_000_000,
  });
  expectPass(result, ["one", "two"]);
  expect(result.serial).not.toContain("ERROR fault:");
  expect(result.serial).not.toContain("entry failed");
});
