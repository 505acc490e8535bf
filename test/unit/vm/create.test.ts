// A VM's memory: whatever becomes of it, and wherever its creation fails, all of it comes back.

import { beforeAll, describe, expect, test } from "vitest";
import { EXIT, type GuestOptions, guest, instruction, kernelImage, out, type Script } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";

const MIB = 1024 * 1024;
const OTHER = { bytes: kernelImage(), string: "guest=other memory=4M" };

/** `other`, VM 0: after `test` has ended it asks for the free memory, in bytes. */
const observer: Script = function* (cpu) {
  for (let i = 0; i < 60; i++) yield cpu.stay.untilInterrupt();
  for (let i = 0; i < 1500; i++) yield { reason: EXIT.PAUSE, length: 2 }; // a piece is scrubbed between turns
  cpu.terminal.type("memory\r");
  for (let i = 0; i < 3; i++) yield cpu.stay.untilInterrupt();
};

const never: Script = function* () {
  expect.unreachable("the guest runs");
  yield { reason: EXIT.PAUSE, length: 2 };
};

async function freeAfter(script: Script, options: GuestOptions = {}): Promise<{ free: string; log: string[] }> {
  const { log } = await guest(
    function* (cpu) {
      yield* cpu.vm === 0 ? observer(cpu) : script(cpu);
    },
    { modules: [OTHER], ...options },
  );
  return { free: log.find((line) => line.startsWith("memory: free")) ?? "nobody said", log };
}

describe("what is free in the end does not depend on the guest that was there:", () => {
  let without = "";
  beforeAll(async () => {
    without = (await freeAfter(never, { words: "memory=1G" })).free;
    expect(without).toMatch(/^memory: free \d+ [KM]iB$/);
  });

  // biome-ignore format: a table
  const FATES: [string, Script, GuestOptions?][] = [
    ["one that powers off", function* () { yield { reason: EXIT.PAUSE, length: 2 }; }],
    ["one that resets", function* (cpu) { yield out(cpu, 0xcf9, 6); }],
    ["one with a triple fault", function* () { yield { reason: EXIT.TRIPLE_FAULT }; }],
    ["one that the operator stops", function* (cpu) {
      cpu.terminal.type("stop test\r");
      for (let i = 0; i < 50; i++) yield cpu.stay.untilInterrupt();
    }],
    ["one on which the core trapped", function* (cpu) {
      cpu.record.cpuidTable = 0xfff0_0000;
      yield instruction(EXIT.CPUID, 2);
    }],
    ["one whose entry fails", function* (cpu) {
      cpu.write(0x6820, 0);
      yield { reason: EXIT.PREEMPTION_TIMER };
    }, { entryFails: true }],
    ["one of 16 vCPUs and 16 MiB", function* (cpu) { cpu.poke(0x80_0000, 1n); yield { reason: EXIT.PAUSE, length: 2 }; },
      { words: "memory=16M", others: Array(15).fill(never) }],
    ["one without unrestricted guest", function* () { yield { reason: EXIT.PAUSE, length: 2 }; }, { words: "without=unrestricted" }],
  ];
  test.each(FATES)("%s", async (_name, script, options = {}) => {
    expect((await freeAfter(script, options)).free).toBe(without);
  });

  test("one whose pages are mapped at their first touch", async () => {
    const commandLine = "eptpage=4k";
    const touches: Script = function* (cpu) {
      for (const gpa of [0x20_0000n, 0x30_0000n]) yield cpu.stay.access(gpa, "write") as GuestExit;
    };
    const refused = await freeAfter(never, { commandLine, words: "memory=1G" });
    expect((await freeAfter(touches, { commandLine })).free).toBe(refused.free);
  });
});

describe("a machine of 64 MiB", () => {
  const small = { bytes: 64 * MIB };

  test("a VM that does not fit leaves nothing behind, wherever its creation failed", async () => {
    const fits: boolean[] = [];
    const free = new Set<string>();
    for (let mib = 38; mib <= 56; mib += 2) {
      const run = await freeAfter(function* () {}, { ...small, words: `memory=${mib}M` });
      fits.push(run.log.some((line) => line.startsWith("guest: test ended: powered off")));
      expect(fits.at(-1) || run.log.includes("guest: test is refused: not enough memory")).toBe(true);
      free.add(run.free);
    }
    expect([...free]).toHaveLength(1);
    expect([fits[0], fits.at(-1)]).toEqual([true, false]);
    expect(fits).toEqual([...fits].sort().reverse());
  });
});
