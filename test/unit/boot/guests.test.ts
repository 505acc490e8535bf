// Guests from their modules to their ends: what is refused and why, how each end is told, and what a restart brings.

import { describe, expect, test } from "vitest";
import type { Cpu } from "../../fake/cpu.ts";
import { GeneralProtection } from "../../fake/faults.ts";
import {
  EXIT,
  F,
  type GuestOptions,
  guest,
  INIT_1,
  instruction,
  kernelImage,
  out,
  R,
  type Script,
  SIPI_1,
  type Vcpu,
  wrmsr,
} from "../../fake/guest.ts";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import type { Machine } from "../../fake/machine.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { GUEST_EFER } from "../exit/mode.ts";
import { bzImage, pattern } from "../guest/images.ts";

const OTHER = { bytes: kernelImage(), string: "guest=other memory=4M" };
const RIP = 0x10_0020n;
/** config.ts's place of a CPU's Virt in its block, current.ts's HostWork bit, vector.ts's vector. */
const PERCPU_VIRT = 0x1800;
const ENABLE = 64;
const KICK = 0xf8;

const idle: Script = function* () {
  yield { reason: EXIT.PAUSE, length: 2 };
};

/** CPU 1 gets HostWork.ENABLE not when CPU 0 sends it, but when CPU 1 asks for the time, as its turn does first. */
function tellLate(m: Machine): void {
  const [sender, receiver] = m.cpus;
  const virt = struct(m, "kernel/vcpu/current.ts", "Virt", Number(m.percpu(1)) + PERCPU_VIRT);
  let underway = false;
  let told = false;
  onRdtsc(sender, () => {
    if (told || !(Number(virt.work) & ENABLE)) return;
    virt.work = Number(virt.work) & ~ENABLE;
    underway = true;
  });
  onRdtsc(receiver, () => {
    if (told || !underway) return;
    virt.work = Number(virt.work) | ENABLE;
    receiver.lapic.accept(KICK);
    told = true;
  });
}

/** Calls `action` whenever `cpu` reads its time-stamp counter. */
function onRdtsc(cpu: Cpu, action: () => void): void {
  const read = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(cpu), "tsc")?.get as () => bigint;
  Object.defineProperty(cpu, "tsc", {
    get: () => {
      action();
      return read.call(cpu);
    },
  });
}

describe("the end of a guest is told:", () => {
  // biome-ignore format: a table
  const ENDS: [how: string, last: (cpu: Vcpu) => GuestExit, told: string, outcome: string, options?: GuestOptions][] = [
    ["powered off", (cpu) => out(cpu, 0x604, 0x3400, 2), "powered off, code 0", "success"],
    ["powered off with a code", (cpu) => {
      cpu.set(R.RAX, 3);
      cpu.set(R.RBX, 7);
      return instruction(EXIT.VMCALL, 3);
    }, "powered off, code 7", "failure"],
    ["a reset through its keyboard controller", (cpu) => out(cpu, 0x64, 0xfe), "asked for a reset, code 0", "success"],
    ["a reset through its chip set", (cpu) => out(cpu, 0xcf9, 6), "asked for a reset, code 0", "success"],
    ["a triple fault", () => ({ reason: EXIT.TRIPLE_FAULT }), "triple fault, code 0", "failure"],
    ["an exit that nothing answers", () => ({ reason: 46 }), "stopped at an exit that nothing answers", "failure"],
    ["an EPT misconfiguration", () => ({ reason: EXIT.EPT_MISCONFIGURATION, gpa: 0x1000n }), "stopped at an exit that nothing answers", "failure"],
    ["the test port's code", (cpu) => out(cpu, 0xf4, 5), "powered off, code 5", "failure", { words: "test=on" }],
  ];
  test.each(ENDS)("%s", async (_how, last, told, outcome, options = {}) => {
    const { log, ended } = await guest(function* (cpu) {
      yield last(cpu);
      expect.unreachable("the guest goes on");
    }, options);
    expect(ended).toContain(`test ended: ${told}`);
    expect(log).toContain(`power: ended: ${outcome}`);
  });

  test("the machine ends with the last of them, and fails if one failed", async () => {
    const { log } = await guest(
      function* (cpu) {
        if (cpu.vm === 0) yield* idle(cpu);
        else yield { reason: EXIT.TRIPLE_FAULT };
      },
      { modules: [OTHER] },
    );
    expect(log.filter((line) => / ended: /.test(line)).map((line) => line.split(",")[0])).toEqual(
      expect.arrayContaining([
        "guest: other ended: powered off",
        "guest: test ended: triple fault",
        "power: ended: failure",
      ]),
    );
  });
});

describe("a guest that resets and may start again", () => {
  test("finds the state after power-up, its memory and devices new, and may do it again", async () => {
    let starts = 0;
    const { log } = await guest(
      function* (cpu) {
        for (; starts < 3; starts++) {
          expect([cpu.rip, cpu.read(F.GUEST_RFLAGS), cpu.get(R.RCX)]).toEqual([RIP, 2n, 0n]);
          expect([cpu.peek(0x20_0000), cpu.read(0x681a), cpu.read(F.GUEST_INTERRUPTIBILITY)]).toEqual([0n, 0x400n, 0n]);
          cpu.poke(0x20_0000, 0x1234n);
          cpu.set(R.RCX, 77);
          cpu.write(0x681a, 0x402);
          cpu.write(F.GUEST_INTERRUPTIBILITY, 8);
          yield out(cpu, 0xcf9, 6);
        }
      },
      { words: "restart=on" },
    );
    expect(starts).toBe(3);
    expect(log.filter((line) => line.includes("test ended")).at(-1)).toContain("powered off, code 0");
    expect(log.filter((line) => line.includes("test ended: asked for a reset"))).toHaveLength(3);
  });

  test("with more vCPUs: they wait for their start-up IPIs again", async () => {
    const stays = [0, 0];
    await guest(
      function* (cpu) {
        for (; stays[0] < 2; stays[0]++) {
          yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
          for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
          for (let i = 0; i < 20 && stays[1] <= stays[0]; i++) yield { reason: EXIT.PAUSE, length: 2 };
          expect(stays[1]).toBe(stays[0] + 1);
          yield out(cpu, 0xcf9, 6);
        }
      },
      {
        words: "restart=on",
        others: [
          function* (cpu) {
            for (;;) {
              stays[1]++;
              expect([cpu.rip, cpu.read(0x802)]).toEqual([0n, 0x800n]);
              const restarts = stays[0];
              while (stays[0] === restarts) yield { reason: EXIT.PAUSE, length: 2 };
            }
          },
        ],
      },
    );
    expect(stays[0]).toBe(2);
  });

  test("does not start again after a triple fault", async () => {
    const { ended } = await guest(
      function* () {
        yield { reason: EXIT.TRIPLE_FAULT };
        expect.unreachable("the guest starts again");
      },
      { words: "restart=on" },
    );
    expect(ended).toContain("triple fault");
  });
});

describe("a guest is refused", () => {
  const never: Script = function* () {
    expect.unreachable("the guest runs");
    yield { reason: EXIT.PAUSE, length: 2 };
  };

  test("if it wants more memory than there is, in one line, and the other runs", async () => {
    const { log } = await guest(
      function* (cpu) {
        if (cpu.vm !== 0) yield* never(cpu);
      },
      { modules: [OTHER], words: "memory=1G" },
    );
    expect(log).toContain("guest: test is refused: not enough memory");
    expect(log.find((line) => line.startsWith("guest: other ended"))).toContain("powered off, code 0");
    expect(log).toContain("power: ended: failure");
  });

  test("if it is the only one, the machine ends at once", async () => {
    const { log } = await guest(never, { words: "memory=1G" });
    expect(log).toContain("power: ended: failure");
  });

  test("if it starts in real mode and the processor cannot", async () => {
    const { log } = await guest(never, { words: "protocol=flat without=unrestricted" });
    expect(log.some((line) => /test is refused: .*unrestricted guest/.test(line))).toBe(true);
  });

  test("a start-up IPI without unrestricted guest ends the VM with a reason", async () => {
    const { log, ended } = await guest(
      function* (cpu) {
        yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
        for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
        for (let i = 0; i < 100; i++) yield { reason: EXIT.PAUSE, length: 2 };
        expect.unreachable("the VM goes on");
      },
      { commandLine: "unrestricted=off", others: [never] },
    );
    expect(ended).toContain("needs what this processor lacks");
    expect(log.some((line) => line.includes("a start-up IPI needs real mode"))).toBe(true);
  });
});

test("a guest whose description is wrong did not end well, and the machine ends if it was the only one", async () => {
  const { log, entries } = await guest(idle, { words: "memory=1" });
  expect(entries).toBe(0);
  expect(log.some((line) => /a guest is left out: .*memory=1/.test(line))).toBe(true);
  expect(log).toContain("power: ended: failure");
});

describe("processors", () => {
  const control = (value: (cpu: number) => bigint) => (m: Machine) => {
    m.msrs.set(0x3a, { read: (cpu) => value(cpu.index), write: () => undefined });
  };

  test("VT-x that the firmware locked off is said, and no guest runs", async () => {
    const { log, entries } = await guest(idle, { prepare: control(() => 1n) });
    expect(entries).toBe(0);
    expect(log.some((line) => line.startsWith("vmx: VT-x is locked off"))).toBe(true);
  });

  // biome-ignore format: a table
  test.each<[string, string, (value: bigint) => bigint, RegExp]>([
    ["secondary controls", "48e", (v) => v & ~(1n << 63n), /EPT is missing .*no secondary controls/],
    ["EPT", "48b", (v) => v & ~(1n << 33n), /EPT is missing .*bit 33/],
    ["EPT with 4 levels", "48c", (v) => v & ~(1n << 6n), /EPT lacks 4 levels/],
    ["EPT in write-back memory", "48c", (v) => v & ~(1n << 14n), /EPT lacks .*write-back/],
    ["INVEPT", "48c", (v) => v & ~(1n << 20n), /EPT lacks .*INVEPT/],
    ["any type of INVEPT", "48c", (v) => v & ~(3n << 25n), /EPT lacks .*INVEPT/],
    ["virtual NMIs", "48d", (v) => v & ~(1n << 37n), /virtual NMIs .*PINBASED/],
    ["MSR bitmaps", "48e", (v) => v & ~(1n << 60n), /an execution control .*PROCBASED/],
    ["a way not to exit for CR3", "48e", (v) => v | (1n << 15n), /CR3 .*TRUE_PROCBASED/],
    ["saving of EFER at exits", "48f", (v) => v & ~(1n << 52n), /VM exits .*EXIT_CTLS/],
    ["loading of EFER at entries", "490", (v) => v & ~(1n << 47n), /VM entries .*ENTRY_CTLS/],
  ])("one without %s is refused in a line that says what to do", async (_name, msr, change, words) => {
    const { log, entries } = await guest(idle, {
      prepare: (m) => {
        for (const cpu of m.cpus) {
          const { profile } = cpu;
          const value = change(BigInt(profile.msrs[msr] ?? 0));
          Object.assign(cpu, { profile: { ...profile, msrs: { ...profile.msrs, [msr]: value } } });
        }
      },
    });
    expect(entries).toBe(0);
    const lines = log.filter((line) => line.startsWith("vmx: "));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(words);
    expect(lines[0]).toMatch(/: use (?:a|another) processor.*outer hypervisor/);
  });

  // biome-ignore format: a table
  test.each<[string, (m: Machine) => void]>([
    ["on which the firmware locked VT-x off", control((cpu) => (cpu === 1 ? 1n : 5n))],
    ["that lacks a control of the boot CPU", (m) => {
      const profile = m.cpus[1].profile;
      Object.assign(m.cpus[1], { profile: { ...profile, msrs: { ...profile.msrs, "48b": 0x7c7fn << 32n } } });
    }],
  ])("one %s runs no guests", async (_name, prepare) => {
    const { log } = await guest(
      function* (cpu) {
        expect(cpu.m.current.index).toBe(0);
        yield { reason: EXIT.PAUSE, length: 2 };
      },
      { cpus: 2, prepare, modules: [OTHER] },
    );
    expect(log.some((line) => line.startsWith("vmx: CPU 1 differs from the boot CPU, or firmware locked VMX off"))).toBe(true);
    expect(log.filter((line) => line.includes("ended: powered off"))).toHaveLength(2);
  });

  test("guests spread over all that are there", async () => {
    const seen: number[] = [];
    await guest(
      function* (cpu) {
        seen[cpu.vm] = cpu.m.current.index;
        yield { reason: EXIT.PAUSE, length: 2 };
      },
      { cpus: 2, modules: [OTHER] },
    );
    expect(seen).toEqual([0, 1]);
  });

  test("one that is told to run guests between its look and its turn does so after that turn", async () => {
    const seen: number[] = [];
    await guest(
      function* (cpu) {
        seen[cpu.vm] = cpu.m.current.index;
        yield { reason: EXIT.PAUSE, length: 2 };
      },
      { cpus: 2, modules: [OTHER], prepare: tellLate },
    );
    expect(seen).toEqual([0, 1]);
  });

  test("a guest stays where its description pins it", async () => {
    const seen: number[] = [];
    await guest(
      function* (cpu) {
        seen[cpu.vm] = cpu.m.current.index;
        yield { reason: EXIT.PAUSE, length: 2 };
      },
      { cpus: 3, words: "pin=2", modules: [{ ...OTHER, string: `${OTHER.string} pin=2` }] },
    );
    expect(seen).toEqual([2, 2]);
  });

  test.each([
    "corei5_lynnfield_750",
    "corei7_sandy_bridge_2600k",
    "corei7_haswell_4770",
    "corei7_skylake_x",
    "corei3_cnl",
    "tigerlake",
  ])("a guest runs on %s", async (model) => {
    const { ended } = await guest(
      function* (cpu) {
        expect(cpu.rip).toBe(RIP);
        cpu.set(R.RAX, 0);
        yield instruction(EXIT.CPUID, 2);
        cpu.poke(0x20_0000, 5n);
        yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
        expect(cpu.peek(0x20_0000)).toBe(5n);
      },
      { profile: bochs(model) },
    );
    expect(ended).toContain("powered off, code 0");
  });
});

describe("without what the command line switches off", () => {
  const UNRESTRICTED = 0x80n;
  const VPID = 0x20n;
  const APIC = 0x311n;
  // biome-ignore format: a table
  test.each<[string, bigint]>([
    ["unrestricted=off", UNRESTRICTED],
    ["vpid=off", VPID],
    ["apicv=off", APIC],
  ])("%s", async (option, bits) => {
    const controls = async (commandLine: string) => {
      let seen = 0n;
      const { ended } = await guest(
        function* (cpu) {
          seen = cpu.read(F.PROCESSOR_CONTROLS_2);
          yield { reason: EXIT.PAUSE, length: 2 };
        },
        { commandLine, profile: bochs("corei7_skylake_x") },
      );
      expect(ended).toContain("powered off, code 0");
      return seen & bits;
    };
    expect(await controls("")).not.toBe(0n);
    expect(await controls(option)).toBe(0n);
  });

  test("a translation is made at the first touch, one page each, with eptpage=4k", async () => {
    const { ended } = await guest(
      function* (cpu) {
        for (const gpa of [0x20_0000n, 0x20_1000n]) {
          const missing = cpu.stay.access(gpa, "write");
          expect(missing).toMatchObject({ reason: EXIT.EPT_VIOLATION });
          yield missing as GuestExit;
          cpu.poke(Number(gpa), gpa);
        }
        expect(cpu.peek(0x20_0000)).toBe(0x20_0000n);
        expect(cpu.stay.access(0x20_2000n)).toHaveProperty("reason");
      },
      { commandLine: "eptpage=4k" },
    );
    expect(ended).toContain("powered off, code 0");
  });
});

test.each(["", "without=unrestricted"])(
  "a Linux kernel is entered in 64-bit mode with its own page tables %s",
  async (without) => {
    const kernel = bzImage({ kernel: pattern(4096), prefAddress: 0x20_0000 });
    const { ended } = await guest(
      function* (cpu) {
        expect(cpu.read(F.GUEST_CR0) & 0x8000_0001n).toBe(0x8000_0001n);
        expect(cpu.read(GUEST_EFER) & 0x500n).toBe(0x500n);
        expect(cpu.rip).toBe(0x20_0200n);
        const root = Number(cpu.read(F.GUEST_CR3));
        expect(cpu.peek(root) & 1n).toBe(1n);
        expect([0xf0, 0x350, 0x360].map((offset) => cpu.apic(offset))).toEqual([0x10f, 0x700, 0x400]); // virtual wire
        yield instruction(EXIT.IO, 1, { qualification: BigInt((0x4d1 << 16) | 8) });
        expect(cpu.get(R.RAX) & 0xffn).toBe(2n); // ELCR: the ACPI interrupt is level-triggered
        yield* idle(cpu);
      },
      { kernel, words: `memory=8M ${without}` },
    );
    expect(ended).toContain("test ended: powered off, code 0");
  },
);

test("a trap of the core while it makes a guest refuses that one; the next ones start", async () => {
  let traps = 0;
  const { log, ended } = await guest(idle, {
    modules: [OTHER],
    prepare: (m: Machine) => {
      // The host's PAT goes into every VMCS; the first time, reading it fails.
      const making = () => logLines(m).some((line) => line.startsWith("boot: bring-up took"));
      m.msrs.set(0x277, {
        read: () => {
          if (making() && traps++ === 0) throw new GeneralProtection("RDMSR 277H");
          return 0x0007_0406_0007_0406n;
        },
        write: () => undefined,
      });
    },
  });
  expect(log.filter((line) => line.includes("is refused"))).toEqual([
    "guest: other is refused: the core trapped while it made it",
  ]);
  expect(ended).toContain("test ended: powered off, code 0");
  expect(log.at(-2)).toContain("ended: failure");
});
