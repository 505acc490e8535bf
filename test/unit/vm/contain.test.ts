// A trap of the core while it serves a VM ends that VM, and no other.

import { expect, test } from "vitest";
import {
  EXIT,
  guest,
  INIT_1,
  instruction,
  kernelImage,
  R,
  type Script,
  SIPI_1,
  type Vcpu,
  wrmsr,
} from "../../fake/guest.ts";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import { type Machine, machine } from "../../fake/machine.ts";

const OTHER = { bytes: kernelImage(), string: "guest=other memory=4M" };
const NOWHERE = 0xfff0_0000;
// kernel/config.ts
const PERCPU_BASE = 0x40_0000;
const PERCPU_TIMERS = 0x2000;

/** The next CPUID makes the core read beyond linear memory. */
function breakCpuid(cpu: Vcpu) {
  cpu.record.cpuidTable = NOWHERE;
  cpu.record.decode = NOWHERE;
  return instruction(EXIT.CPUID, 2);
}

/** CPUIDs until the core breaks, and then no more: it fails if it comes back. */
function* breaks(cpu: Vcpu) {
  yield instruction(EXIT.CPUID, 2);
  yield breakCpuid(cpu);
  expect.unreachable("the guest goes on after a trap");
}

function* works(cpu: Vcpu) {
  for (let i = 0; i < 20; i++) {
    cpu.set(R.RAX, 0x4000_0000);
    yield instruction(EXIT.CPUID, 2);
    expect(cpu.get(R.RAX)).toBe(0x4000_0010n);
    yield { reason: EXIT.PAUSE, length: 2 };
  }
}

/** `other` is VM 0: the loader's first module. */
const byName = (test: Script, other: Script): Script =>
  function* (cpu) {
    yield* cpu.vm === 0 ? other(cpu) : test(cpu);
  };

test.each([1, 2])("on %i CPUs the VM ends with a report, and the other goes on", async (cpus) => {
  const { log, ended } = await guest(byName(breaks, works), { modules: [OTHER], cpus });
  expect(ended).toContain("test ended: stopped by a trap in the core");
  expect(log.find((line) => line.includes("test is stopped"))).toContain("the core trapped while it served it");
  expect(log.some((line) => line.includes("#PF page fault"))).toBe(true);
  expect(log.find((line) => line.startsWith("guest: other ended"))).toContain("powered off, code 0");
  expect(log.at(-2)).toContain("ended: failure");
});

/** INIT and start-up IPI for vCPU 1, which then runs on CPU 1 until it sleeps. */
function* startOther(cpu: Vcpu) {
  yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
  for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
  cpu.m.settle();
}

function expectEnd({ log, ended }: { log: string[]; ended: string }): void {
  expect(ended).toContain("stopped by a trap in the core");
  expect(log.filter((line) => line.includes("test ended"))).toHaveLength(1);
}

/** Keys in the timer queue of CPU 0 (kernel/cpu/timer.ts: the count, and from 32 on a deadline and a key each). */
function timerKeys({ view }: Machine): bigint[] {
  const queue = PERCPU_BASE + PERCPU_TIMERS;
  return Array.from({ length: view.getUint32(queue, true) }, (_, i) => view.getBigUint64(queue + 40 + 16 * i, true));
}

test("the timer of its vCPU goes with it", async () => {
  let before: bigint[] = [];
  const test: Script = function* (cpu) {
    yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
    yield wrmsr(cpu, 0x832, 0x4_00ee); // TSC-deadline mode
    yield wrmsr(cpu, 0x6e0, 1n << 60n);
    yield instruction(EXIT.CPUID, 2);
    before = timerKeys(cpu.m);
    yield breakCpuid(cpu);
  };
  const { m, ended } = await guest(test);
  expect(ended).toContain("stopped by a trap in the core");
  const KEY = 1n; // of vCPU 0 of VM 0
  expect([before.includes(KEY), timerKeys(m).includes(KEY)]).toEqual([true, false]);
});

test("a vCPU that waits for its start-up IPI ends with the VM", async () => {
  let entered = 0;
  const other: Script = function* () {
    entered++;
    yield { reason: EXIT.HLT, length: 1 };
  };
  expectEnd(await guest(breaks, { cpus: 2, others: [other] }));
  expect(entered).toBe(0);
});

test("a vCPU that sleeps on another CPU ends with the VM", async () => {
  const stays: string[] = [];
  const other: Script = function* () {
    stays.push("first");
    yield { reason: EXIT.HLT, length: 1 };
    stays.push("second");
  };
  const test: Script = function* (cpu) {
    yield* startOther(cpu);
    expect(stays).toEqual(["first"]);
    yield* breaks(cpu);
  };
  expectEnd(await guest(test, { cpus: 2, others: [other] }));
  expect(stays).toEqual(["first"]);
});

test("a vCPU that runs on another CPU leaves its guest when the VM ends", async () => {
  let wasKicked = false;
  const test: Script = function* (cpu) {
    yield* startOther(cpu); // vCPU 1 breaks meanwhile
    wasKicked = true;
    yield cpu.stay.untilInterrupt();
    expect.unreachable("vCPU 0 goes on");
  };
  expectEnd(await guest(test, { cpus: 2, others: [breaks] }));
  expect(wasKicked).toBe(true);
});

test("the VM's device lock dies with the vCPU that held it", async () => {
  let passed = false;
  const other: Script = function* (cpu) {
    // As if the trap struck between lock and unlock.
    struct(cpu.m, "kernel/vcpu/vm.ts", "Vm", cpu.record.vm).lock = 2;
    yield* breaks(cpu);
  };
  const test: Script = function* (cpu) {
    yield* startOther(cpu);
    yield instruction(EXIT.IO, 2, { qualification: BigInt((0x21 << 16) | 8) });
    passed = true; // it did not wait for ever, and ends at its next look
  };
  expectEnd(await guest(test, { cpus: 2, others: [other] }));
  expect(passed).toBe(false);
});

test("its memory comes back", async () => {
  const free = (log: string[]) => log.filter((line) => line.startsWith("memory: free"));
  const { log } = await guest(
    byName(breaks, function* (cpu) {
      const look = function* () {
        cpu.terminal.type("memory\r");
        for (let i = 0; i < 3; i++) yield cpu.stay.untilInterrupt();
      };
      yield* look();
      for (let i = 0; i < 300; i++) yield { reason: EXIT.PAUSE, length: 2 };
      yield* look();
    }),
    { modules: [OTHER] },
  );
  expect(free(log)).toHaveLength(2);
  expect(free(log)[0]).not.toBe(free(log)[1]);
});

const LOCK = 0x30_0000;

test("shared data that is half-changed is named, and nothing is contained", async () => {
  const m = await machine({ entries: ["kernel/vm/contain.ts", "kernel/lib/spinlock.ts"] });
  m.kernel.lock(LOCK);
  m.kernel.breaks(LOCK);
  expect(m.kernel.contain(3)).toBe(0);
  expect(logLines(m)).toContain("trap: shared data is half-changed under the lock ");
});

test("a trap outside of any VM's business is not contained", async () => {
  const m = await machine({ entries: ["kernel/vm/contain.ts"] });
  expect(m.kernel.contain(3)).toBe(0);
  expect(logLines(m)).toEqual([]);
});
