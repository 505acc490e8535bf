// The run loop: what ends a HLT, how timers and slices end a stay, and how VMs share a CPU.

import { describe, expect, test } from "vitest";
import {
  EXIT,
  F,
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
import type { GuestExit } from "../../fake/vmx.ts";
import { enterLong, enterProtected } from "../exit/mode.ts";

const IF = 0x202n;
const TF = 0x100n;
const BS = 0x4000n;
const HLT = { reason: EXIT.HLT, length: 1 };
const pause = { reason: EXIT.PAUSE, length: 2 };

function* x2apic(cpu: Vcpu): Generator<GuestExit, void, void> {
  yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
  yield wrmsr(cpu, 0x80f, 0x1ff);
}

describe("HLT", () => {
  test("ends with a timer interrupt, in time", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      yield wrmsr(cpu, 0x832, 0x4_00ee); // TSC-deadline mode
      const guestTsc = BigInt.asUintN(64, BigInt(cpu.m.clock.ticks) + cpu.read(0x2010)) + 1_000_000n;
      yield wrmsr(cpu, 0x6e0, guestTsc);
      cpu.write(F.GUEST_RFLAGS, IF);
      yield HLT;
      expect(cpu.injected).toEqual({ vector: 0xee, type: 0, error: null, length: 0 });
      const now = BigInt.asUintN(64, BigInt(cpu.m.clock.ticks) + cpu.read(0x2010));
      expect(now).toBeGreaterThanOrEqual(guestTsc);
      expect(now - guestTsc).toBeLessThan(100_000n);
    });
  });

  test("with a request that waits in the APIC is over at once", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      cpu.write(F.GUEST_RFLAGS, 2);
      yield wrmsr(cpu, 0x83f, 0x41);
      cpu.write(F.GUEST_RFLAGS, IF);
      yield HLT;
      expect(cpu.injected?.vector).toBe(0x41);
    });
  });

  test("is over at once if a single step is due", async () => {
    const { ended } = await guest(function* (cpu) {
      cpu.write(F.GUEST_RFLAGS, IF | TF);
      const rip = cpu.rip;
      yield HLT;
      expect(cpu.rip).toBe(rip + 1n);
      expect(cpu.read(F.GUEST_PENDING_DEBUG) & BS).toBe(BS);
      cpu.write(F.GUEST_RFLAGS, IF);
      cpu.write(F.GUEST_PENDING_DEBUG, 0);
    });
    expect(ended).toContain("powered off, code 0");
  });

  test("behind MOV SS is over at once if a breakpoint was put off", async () => {
    const { ended } = await guest(function* (cpu) {
      cpu.write(F.GUEST_RFLAGS, 2);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 2);
      cpu.write(F.GUEST_PENDING_DEBUG, 0x1001);
      yield HLT;
      expect([cpu.read(F.GUEST_PENDING_DEBUG), cpu.read(F.GUEST_INTERRUPTIBILITY)]).toEqual([0x1001n, 0n]);
    });
    expect(ended).toContain("powered off, code 0");
  });

  test("with interrupts off and nobody awake ends the VM", async () => {
    const { ended } = await guest(function* (cpu) {
      cpu.write(F.GUEST_RFLAGS, 2);
      yield HLT;
      expect.unreachable("CLI; HLT came back");
    });
    expect(ended).toContain("halted for good");
  });

  test("with interrupts off waits for the 8254 where that is an NMI", async () => {
    let woken = false;
    await guest(function* (cpu) {
      enterProtected(cpu);
      for (const [gpa, value] of [
        [0xfec0_0000n, 0x14], // low word of pin 2, the 8254
        [0xfec0_0010n, 0x400],
      ] as const) {
        cpu.poke(0x31_0000, [0x89, 0x03]); // mov [ebx], eax
        cpu.write(F.GUEST_RIP, 0x31_0000);
        cpu.set(R.RBX, gpa);
        cpu.set(R.RAX, value);
        yield { reason: EXIT.EPT_VIOLATION, qualification: 0x182n, gpa, gva: gpa };
      }
      for (const [port, value] of [
        [0x43, 0x34],
        [0x40, 0x00],
        [0x40, 0x10],
      ])
        yield out(cpu, port, value);
      cpu.write(F.GUEST_RFLAGS, 2);
      yield HLT;
      expect(cpu.injected).toEqual({ vector: 2, type: 2, error: null, length: 0 });
      woken = true;
    });
    expect(woken).toBe(true);
  });

  test("with interrupts off ends with an NMI", async () => {
    await guest(
      function* (cpu) {
        yield* x2apic(cpu);
        for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
        cpu.write(F.GUEST_RFLAGS, 2);
        yield HLT;
        expect(cpu.injected).toEqual({ vector: 2, type: 2, error: null, length: 0 });
      },
      {
        others: [
          function* (cpu) {
            yield* x2apic(cpu);
            yield wrmsr(cpu, 0x830, 0x4400); // NMI to vCPU 0
            for (;;) yield pause;
          },
        ],
      },
    );
  });

  test("is not ended by an interrupt that the APIC holds back", async () => {
    let woken = false;
    await guest(
      function* (cpu) {
        yield* x2apic(cpu);
        for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
        cpu.setApic(0x80, 0x60); // TPR
        cpu.write(F.GUEST_RFLAGS, IF);
        yield HLT;
        woken = true;
        expect(cpu.injected?.vector).toBe(0x71);
      },
      {
        others: [
          function* (cpu) {
            yield* x2apic(cpu);
            yield wrmsr(cpu, 0x830, 0x4051);
            for (let i = 0; i < 5; i++) yield pause;
            expect(woken).toBe(false);
            yield wrmsr(cpu, 0x830, 0x4071);
            for (;;) yield pause;
          },
        ],
      },
    );
    expect(woken).toBe(true);
  });

  test("of every vCPU with interrupts off ends the VM", async () => {
    const { ended } = await guest(
      function* (cpu) {
        yield* x2apic(cpu);
        for (const command of [INIT_1, SIPI_1]) yield wrmsr(cpu, 0x830, command);
        cpu.write(F.GUEST_RFLAGS, 2);
        yield HLT;
        expect.unreachable("vCPU 0 came back");
      },
      {
        others: [
          function* (cpu) {
            for (let i = 0; i < 3; i++) yield pause;
            cpu.write(F.GUEST_RFLAGS, 2);
            yield HLT;
            expect.unreachable("vCPU 1 came back");
          },
        ],
      },
    );
    expect(ended).toContain("halted for good");
  });
});

describe("a VM entry that fails", () => {
  // biome-ignore format: a table
  const FAILURES: [name: string, field: number, value: bigint | number, wanted: string][] = [
    ["guest state", 0x6820, 0, "reason 33, qualification 0x0, GUEST_RFLAGS: a reserved bit"],
    ["a guest segment", 0x4818, 0xc091, "reason 33, qualification 0x0, SS: access rights: type of a stack"],
    ["a control", 0x400a, 5, "instruction error 7, CR3_TARGET_COUNT"],
    ["the host's state", 0x6c16, 1n << 63n, "instruction error 8, HOST_RIP"],
  ];
  test.each(FAILURES)("by %s ends the VM and names the field", async (_name, field, value, wanted) => {
    const script: Script = function* (cpu) {
      cpu.write(field, value);
      yield { reason: EXIT.PREEMPTION_TIMER };
      expect.unreachable("the entry succeeds");
    };
    const { log, ended } = await guest(script, { entryFails: true });
    expect(log).toContain(`vmx: test vcpu 0: VM entry failed: ${wanted}`);
    expect(ended).toContain("VM entry failed");
  });
});

test("a segment that was null before real mode, and came out of it without its accessed bit, is mended", async () => {
  const ES = 0x4814;
  const GS = 0x481e;
  let went = false;
  await guest(function* (cpu) {
    cpu.write(ES, 0x90);
    cpu.write(0x4800, 0); // its limit
    cpu.write(GS, 0x1_0000); // unusable is fine
    yield pause;
    went = true;
    expect([cpu.read(ES), cpu.read(GS)]).toEqual([0x93n, 0x1_0000n]);
  });
  expect(went).toBe(true);
});

describe("VMs that share a CPU", () => {
  const OTHER = (words = "") => ({ bytes: kernelImage(), string: `guest=other memory=4M ${words}` });
  const both = (test: Script, other: Script): Script =>
    function* (cpu) {
      yield* cpu.vm === 0 ? other(cpu) : test(cpu);
    };
  const MS = 2_000_000; // ticks

  /** Computes: each stay lasts until the next interrupt; `ran` counts its ticks. */
  function computing(ran: number[], until: number): Script {
    return function* (cpu) {
      const start = cpu.m.clock.ticks;
      while (cpu.m.clock.ticks - start < until) {
        const before = cpu.m.clock.ticks;
        const exit = cpu.stay.untilInterrupt();
        ran[cpu.vm] += cpu.m.clock.ticks - before;
        yield exit;
      }
    };
  }

  // biome-ignore format: a table
  test.each<[string, string, string, number]>([
    ["the same weight: half each", "", "", 0.5],
    ["three times the weight: three quarters", "weight=300", "weight=100", 0.75],
    ["a cap of 25%: a quarter", "cap=25", "", 0.25],
  ])("%s", async (_name, mine, others, share) => {
    const ran = [0, 0];
    const script = computing(ran, 400 * MS);
    await guest(both(script, script), { words: mine, modules: [OTHER(others)] });
    const got = ran[1] / (ran[0] + ran[1]);
    expect(Math.abs(got - share)).toBeLessThan(0.05);
  });

  test("a stay that exits made far too long is followed by short ones, until IF is set", async () => {
    const stays = (cpu: Vcpu) => Number(cpu.read(0x482e)); // VMX-preemption timer value;
    await guest(
      both(
        function* (cpu) {
          cpu.write(F.GUEST_RFLAGS, 2);
          const early = { reason: EXIT.PREEMPTION_TIMER };
          yield early; // in time, as far as anybody knows
          const usual = stays(cpu);
          cpu.m.clock.advance(50 * MS);
          yield early;
          const short = stays(cpu);
          expect(short).toBeLessThan(usual / 8);
          yield early;
          expect(stays(cpu)).toBeLessThanOrEqual(short);
          cpu.write(F.GUEST_RFLAGS, IF);
          yield early;
          expect(stays(cpu)).toBeGreaterThan(4 * short);
        },
        computing([0, 0], 400 * MS),
      ),
      { modules: [OTHER()] },
    );
  });

  test("a REP INSB without an end gives way where the host's interrupts do not get through", async () => {
    const exit = instruction(EXIT.IO, 2, { qualification: 0x5000_0038n, instructionInfo: 0x100 });
    let exits = 0;
    let reached = 0;
    const endless: Script = function* (cpu) {
      enterLong(cpu);
      for (; !reached && exits < 2000; exits++) {
        cpu.set(R.RCX, 0xffff_ffffn);
        cpu.set(R.RDI, 0x20_0000n);
        yield exit;
      }
    };
    // biome-ignore lint/correctness/useYield: it only has to begin
    const other: Script = function* () {
      reached = exits;
    };
    await guest(both(endless, other), { modules: [OTHER()] });
    expect(reached).toBeGreaterThan(0);
  });

  test("a sleeper that wakes runs before one that computes has used up a second slice", async () => {
    const late: number[] = [];
    await guest(
      both(
        function* (cpu) {
          yield* x2apic(cpu);
          yield wrmsr(cpu, 0x832, 0x4_00ee);
          cpu.write(F.GUEST_RFLAGS, IF);
          for (let i = 0; i < 10; i++) {
            const at = BigInt.asUintN(64, BigInt(cpu.m.clock.ticks) + cpu.read(0x2010)) + BigInt(7 * MS);
            yield wrmsr(cpu, 0x6e0, at);
            yield HLT;
            late.push(Number(BigInt.asUintN(64, BigInt(cpu.m.clock.ticks) + cpu.read(0x2010)) - at));
            yield wrmsr(cpu, 0x80b, 0);
          }
        },
        computing([0, 0], 100 * MS),
      ),
      { modules: [OTHER()] },
    );
    expect(late).toHaveLength(10);
    expect(Math.max(...late)).toBeLessThan(2.1 * MS);
  });

  // biome-ignore format: a table
  test.each<[string, boolean, number, number]>([
    ["alone, each tick comes at its time", false, 200_000, 20_000],
    ["beside one that computes, each comes within the other's slice", true, 12 * MS, 2.1 * MS],
  ])("a periodic timer: %s", async (_name, shared, period, late) => {
    const TICKS = 40;
    const came: number[] = [];
    const script: Script = function* (cpu) {
      yield* x2apic(cpu);
      yield wrmsr(cpu, 0x83e, 0xb); // divide by 1
      yield wrmsr(cpu, 0x832, 0x2_00ee); // periodic
      cpu.write(F.GUEST_RFLAGS, IF);
      yield wrmsr(cpu, 0x838, period);
      const start = cpu.m.clock.ticks;
      while (came.length < TICKS) {
        yield cpu.stay.untilInterrupt();
        if (cpu.injected?.vector !== 0xee) continue;
        came.push((cpu.m.clock.ticks - start) / period);
        yield wrmsr(cpu, 0x80b, 0);
        expect(cpu.injected).toBe(null);
      }
    };
    const other = shared ? [OTHER()] : [];
    await guest(shared ? both(script, computing([0, 0], TICKS * period)) : script, { modules: other });
    expect(came.map((n) => Math.floor(n + 0.01))).toEqual(Array.from({ length: TICKS }, (_, i) => i + 1));
    expect(Math.max(...came.map((n) => (n + 0.01) % 1))).toBeLessThan(0.01 + late / period);
  });

  test("what one leaves in CR2, DR0 and the SYSCALL MSRs is not the other's", async () => {
    const seen: Record<number, unknown[]> = { 0: [], 1: [] };
    const script: Script = function* (cpu) {
      const own = cpu.m.current;
      const mark = BigInt(0x1000 * (cpu.vm + 1));
      yield { reason: EXIT.DR_ACCESS, length: 3, qualification: 0n }; // MOV DR: from now on in the registers
      own.cr2 = mark;
      own.dr[0] = mark + 1n;
      own.wrmsr(0xc000_0082, mark + 2n);
      own.fpu[32] = cpu.vm + 1;
      for (let i = 0; i < 8; i++) {
        yield pause;
        seen[cpu.vm].push([own.cr2 - mark, own.rdmsr(0xc000_0082) - mark, own.fpu[32]]);
      }
      yield { reason: EXIT.DR_ACCESS, length: 3, qualification: 0n };
      expect(own.dr[0]).toBe(mark + 1n);
    };
    await guest(both(script, script), { modules: [OTHER()] });
    for (const vm of [0, 1]) expect(seen[vm]).toEqual(Array(8).fill([0n, 2n, vm + 1]));
  });
});

test("a guest that prints more than the log holds loses no line of it", async () => {
  const LINES = 1500;
  const { serial } = await guest(function* (cpu) {
    for (let i = 0; i < LINES; i++) for (const c of Buffer.from(`line ${i}\n`)) yield out(cpu, 0x3f8, c);
  });
  const printed = [...serial.matchAll(/test\| line (\d+)/g)].map(([, number]) => Number(number));
  expect(printed).toEqual(Array.from({ length: LINES }, (_, i) => i));
});
