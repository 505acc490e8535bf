// Unmodified Linux kernels on the hypervisor, judged by what their own user land finds (tools/guests/initramfs.ts) and by
// how they end. Several checks a boot: an emulated CPU needs half a minute to a shell.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { type LinuxGuest, linuxGuest } from "../../tools/guests/guests.ts";
import { ROOT } from "../../tools/paths.ts";
import type { BootModule, BootResult } from "../../tools/run/options.ts";
import { LONG, type RunOptions, run } from "./harness.ts";

const MINUTE = 60_000;
const CMDLINE = "console=ttyS0 quiet mitigations=off random.trust_cpu=on cryptomgr.notests";
const CHECKS = ["cpus", "clocksource", "interrupts", "sleep", "date", "processes", "pipe", "kernellog"];

let linux: LinuxGuest;
beforeAll(() => {
  linux = linuxGuest("cloud");
}, 10 * MINUTE);

interface Guest {
  name: string;
  file: "bzImage" | "vmlinux";
  cpus: number;
  selftest: string;
}

function modules(guests: Guest[]): BootModule[] {
  return guests.flatMap(({ name, file, cpus, selftest }) => [
    {
      file: linux[file],
      string: `guest=${name} memory=192M cpus=${cpus} cmdline=${CMDLINE} cpus=${cpus} ${selftest}`,
    },
    { file: linux.initrd, string: `initrd=${name}` },
  ]);
}

/** Bochs 2.7 mishandles virtual-interrupt delivery with several vCPUs (docs/silicon.md): off, but where it is what is tested. */
function runLinux(
  guests: Guest[],
  { append = "apicv=off", ...options }: Partial<RunOptions> = {},
): Promise<BootResult> {
  return run({
    on: "bochs",
    model: "corei7_haswell_4770",
    ips: 20_000_000,
    memoryMib: 512,
    timeoutTicks: 12_000_000_000,
    timeoutSeconds: 15 * 60,
    append: `exit=bochs account=on ${append}`,
    modules: modules(guests),
    ...options,
  });
}

/** Lines of one guest with the host's time in seconds. */
function linesOf(serial: string, name: string): { at: number; text: string }[] {
  return [...serial.matchAll(new RegExp(`^\\[ *(\\d+\\.\\d+) \\d+\\] guest: ${name}\\| (.*)$`, "gm"))].map((m) => ({
    at: Number(m[1]),
    text: m[2] as string,
  }));
}

/** Every check of the self-test held, and `sleep 1` took a second by the emulator's clock. */
function expectSelftest(serial: string, { name, cpus }: Guest): void {
  const lines = linesOf(serial, name);
  const texts = lines.map((line) => line.text);
  const failed = texts.filter((text) => text.startsWith("not ok"));
  expect(failed, `${name}\n${texts.join("\n")}`).toEqual([]);
  for (const check of CHECKS)
    expect(
      texts.some((text) => text.startsWith(`ok ${check} `)),
      `${name}: ${check}`,
    ).toBe(true);
  expect(texts).toContain(`ok cpus ${cpus}`);
  const mark = (n: number): number => lines.find((line) => line.text === `mark ${n}`)?.at ?? Number.NaN;
  const slept = mark(3) - mark(2) - (mark(2) - mark(1));
  expect(slept, `${name}: sleep 1`).toBeGreaterThan(0.95);
  expect(slept, `${name}: sleep 1`).toBeLessThan(1.05);
}

/** How a guest ended, as the host says. */
function ending(serial: string, name: string): string {
  return new RegExp(`guest: ${name} (ended: .*|is refused: .*)`).exec(serial)?.[1] ?? "did not end";
}

/** Exits of a guest for one reason, over its life. */
function exits(serial: string, name: string, reason: number): number {
  return Number(new RegExp(`account: ${name}: exit ${reason}: (\\d+)`).exec(serial)?.[1] ?? 0);
}

const EXIT = { APIC_ACCESS: 44, WRMSR: 32 };

test(
  "a bzImage with two vCPUs and an ELF with one, side by side on one CPU: every check holds, one powers off, one reboots",
  async () => {
    const two: Guest = { name: "two", file: "bzImage", cpus: 2, selftest: "selftest" };
    const one: Guest = { name: "one", file: "vmlinux", cpus: 1, selftest: "selftest=reboot" };
    const { serial, exit, detail } = await runLinux([two, one], { model: "corei7_skylake_x" });
    expect(exit, detail + serial.slice(-3000)).toBe("ended");
    // The sleeps of two guests on one CPU wait for each other's turns: their length is judged where a guest is alone.
    for (const guest of [two, one]) {
      const texts = linesOf(serial, guest.name).map((line) => line.text);
      expect(
        texts.filter((text) => text.startsWith("not ok")),
        guest.name,
      ).toEqual([]);
      expect(texts).toContain("selftest: 8 ok, 0 not ok");
    }
    expect(ending(serial, "two")).toBe("ended: powered off, code 0");
    expect(ending(serial, "one")).toBe("ended: asked for a reset, code 0");
    expect(serial).not.toMatch(/ERROR/);
  },
  20 * MINUTE,
);

test(
  "alone with virtual-interrupt delivery: every check holds, a second is a second, its APIC costs no access exits",
  async () => {
    const guest: Guest = { name: "alone", file: "bzImage", cpus: 1, selftest: "selftest" };
    const { serial, exit, detail } = await runLinux([guest], { append: "apicv=auto", model: "corei7_skylake_x" });
    expect(exit, detail + serial.slice(-3000)).toBe("ended");
    expectSelftest(serial, guest);
    expect(exits(serial, "alone", EXIT.APIC_ACCESS)).toBeLessThan(100);
    expect(exits(serial, "alone", EXIT.WRMSR)).toBeGreaterThan(0);
    expect(ending(serial, "alone")).toBe("ended: powered off, code 0");
  },
  20 * MINUTE,
);

test.runIf(LONG)(
  "two vCPUs on two CPUs",
  async () => {
    const guest: Guest = { name: "wide", file: "bzImage", cpus: 2, selftest: "selftest" };
    const { serial } = await runLinux([guest], { cpus: 2 });
    expectSelftest(serial, guest);
  },
  30 * MINUTE,
);

test.runIf(LONG)(
  "two guests with two vCPUs each on two CPUs",
  async () => {
    const names = ["left", "right"];
    const guests = names.map((name): Guest => ({ name, file: "bzImage", cpus: 2, selftest: "selftest" }));
    const { serial } = await runLinux(guests, { cpus: 2, timeoutTicks: 30_000_000_000, timeoutSeconds: 30 * 60 });
    for (const name of names) {
      expect(linesOf(serial, name).map((line) => line.text)).toContain("selftest: 8 ok, 0 not ok");
      expect(ending(serial, name)).toBe("ended: powered off, code 0");
    }
  },
  40 * MINUTE,
);

test.runIf(LONG)(
  "four guests on two CPUs",
  async () => {
    const names = ["one", "two", "three", "four"];
    const guests = names.map((name): Guest => ({ name, file: "bzImage", cpus: 1, selftest: "selftest" }));
    const { serial } = await runLinux(guests, { cpus: 2, memoryMib: 1024, timeoutTicks: 30_000_000_000 });
    for (const name of names) {
      expect(linesOf(serial, name).map((line) => line.text)).toContain("selftest: 8 ok, 0 not ok");
      expect(ending(serial, name)).toBe("ended: powered off, code 0");
    }
  },
  60 * MINUTE,
);

/** Interrupt controllers and clocks that Linux takes when it must: what it is told, and the clock that it then names. */
const OLDER: Record<string, { options: string; clock: string }> = {
  xapic: { options: "nox2apic lapic=notscdeadline", clock: "tsc" },
  pic: { options: "nolapic noapic no-kvmclock clocksource=acpi_pm", clock: "acpi_pm" },
  jiffies: { options: "no-kvmclock clocksource=jiffies nohz=off highres=off", clock: "jiffies" },
};

// Each alone: Linux warns where a neighbour has the CPU at the end of what it measures.
test.runIf(LONG).each(Object.entries(OLDER))(
  "%s: the controllers and the clock that it asked for, and every check holds",
  async (name, { options, clock }) => {
    const { serial, exit } = await runLinux([], {
      timeoutTicks: 20_000_000_000,
      timeoutSeconds: 10 * 60,
      modules: [
        { file: linux.bzImage, string: `guest=${name} memory=128M cmdline=${CMDLINE} ${options} cpus=1 selftest` },
        { file: linux.initrd, string: `initrd=${name}` },
      ],
    });
    expect(exit).toBe("ended");
    const texts = linesOf(serial, name).map((line) => line.text);
    const passed = texts.flatMap((text) => /^ok (\w+)/.exec(text)?.[1] ?? []);
    // Linux itself warns about `nolapic`, and its sleep is as long as its clock's ticks
    const wanted = CHECKS.filter((check) => !["sleep", "kernellog"].includes(check));
    expect(passed, texts.join("\n")).toEqual(expect.arrayContaining(wanted));
    expect(texts).toContain(`ok clocksource ${clock}`);
    const warnings = texts.filter((text) => /^<[0-4]>/.test(text) && !text.includes("boot CPU (#0) not listed"));
    expect(warnings).toEqual([]);
    expect(ending(serial, name)).toBe("ended: powered off, code 0");
  },
  12 * MINUTE,
);

const words = ["apicv", "vpid", "unrestricted"];
for (let bits = 0; LONG && bits < 1 << words.length; bits++) {
  const append = words.map((word, i) => `${word}=${bits & (1 << i) ? "off" : "auto"}`).join(" ");
  test(
    `one vCPU with ${append}`,
    async () => {
      const guest: Guest = { name: "alone", file: "bzImage", cpus: 1, selftest: "selftest" };
      const { serial } = await runLinux([guest], { append });
      expectSelftest(serial, guest);
      expect(ending(serial, "alone")).toBe("ended: powered off, code 0");
    },
    20 * MINUTE,
  );
}

test.runIf(LONG)(
  "the distribution's general kernel unpacks itself (XZ) and passes every check",
  async () => {
    const general = linuxGuest("generic");
    const cmdline = `${CMDLINE} cpus=1 selftest`;
    const { serial } = await runLinux([], {
      timeoutTicks: 30_000_000_000,
      timeoutSeconds: 30 * 60,
      modules: [
        { file: general.bzImage, string: `guest=general memory=384M cmdline=${cmdline}` },
        { file: general.initrd, string: "initrd=general" },
      ],
    });
    expectSelftest(serial, { name: "general", file: "bzImage", cpus: 1, selftest: "selftest" });
    expect(ending(serial, "general")).toBe("ended: powered off, code 0");
  },
  40 * MINUTE,
);

test(
  "a file that is no kernel and a guest with too little memory are refused in one line each; the others start",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "basalt-linux-"));
    const hello = join(folder, "hello");
    const include = join(ROOT, "test/guests/");
    execFileSync("nasm", ["-f", "bin", "-I", include, "-o", hello, join(include, "hello.asm")]);
    const { serial } = await run({
      on: "bochs",
      ips: 20_000_000,
      memoryMib: 256,
      timeoutTicks: 4_000_000_000,
      timeoutSeconds: 10 * 60,
      append: "exit=bochs",
      modules: [
        { file: linux.initrd, string: "guest=junk memory=16M" },
        { file: linux.bzImage, string: "guest=small memory=16M cmdline=console=ttyS0" },
        { file: hello, string: "guest=hello memory=4M" },
      ],
    });
    rmSync(folder, { recursive: true });
    expect(ending(serial, "hello")).toBe("ended: powered off, code 0");
    for (const name of ["junk", "small"]) {
      const lines = serial.split("\n").filter((line) => new RegExp(`ERROR guest: ${name}\\b`).test(line));
      expect(lines, `${name}\n${serial}`).toHaveLength(1);
    }
  },
  15 * MINUTE,
);
