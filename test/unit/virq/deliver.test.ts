// How interrupts enter a guest, through the whole core: what goes in at the next entry, and which exit is asked
// for by what must wait. Intel SDM Vol. 3, "Priority Among Concurrent Events", "Interrupt-Window Exiting and
// Virtual-Interrupt Delivery", "TPR Virtualization".

import { describe, expect, test } from "vitest";
import { EXIT, F, guest, out, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import type { GuestExit } from "../../fake/vmx.ts";

const MSR = { APIC_BASE: 0x1b, TPR: 0x808, EOI: 0x80b, SVR: 0x80f, ICR: 0x830, LINT0: 0x835, SELF_IPI: 0x83f };
const FIELD = { INTERRUPT_STATUS: 0x810, EOI_EXIT_0: 0x201c, TPR_THRESHOLD: 0x401c };
const IF = 0x202n;
const WINDOW = 4n;
const NMI_WINDOW = 1n << 22n;
const IOAPIC = 0xfec0_0000;
const COM1 = 0x3f8;

/** MOV [EAX], EBX where nothing is mapped. */
function store(cpu: Vcpu, gpa: number, value: number): GuestExit {
  cpu.poke(Number(cpu.rip), [0x89, 0x18]);
  cpu.set(R.RAX, gpa);
  cpu.set(R.RBX, value);
  return { reason: EXIT.EPT_VIOLATION, qualification: 0x182n, gpa: BigInt(gpa), gva: BigInt(gpa) };
}

function* x2apic(cpu: Vcpu): Generator<GuestExit, void, void> {
  yield wrmsr(cpu, MSR.APIC_BASE, 0xfee0_0d00);
  yield wrmsr(cpu, MSR.SVR, 0x1ff);
}

/** LINT0 takes ExtINT; the master 8259 has base 20H and lets IRQ 4 through. */
function* use8259(cpu: Vcpu): Generator<GuestExit, void, void> {
  yield wrmsr(cpu, MSR.LINT0, 0x700);
  for (const [port, value] of [
    [0x20, 0x11],
    [0x21, 0x20],
    [0x21, 4],
    [0x21, 1],
    [0x21, 0xef],
  ])
    yield out(cpu, port, value);
}

/** The UART's transmitter interrupt: IRQ 4, as long as it is enabled. */
function* raiseUart(cpu: Vcpu): Generator<GuestExit, void, void> {
  yield out(cpu, COM1 + 4, 8);
  yield out(cpu, COM1 + 1, 2);
}

const controls = (cpu: Vcpu, bit: bigint) => (cpu.read(F.PROCESSOR_CONTROLS) & bit) !== 0n;
const external = (vector: number) => ({ vector, type: 0, error: null, length: 0 });
const shut = (cpu: Vcpu) => cpu.write(F.GUEST_RFLAGS, 2);
const open = (cpu: Vcpu) => cpu.write(F.GUEST_RFLAGS, IF);

describe("by injection", () => {
  test("an interrupt waits for IF and the end of a shadow, in a window", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([null, true]);
      open(cpu);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 1);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x31); // the instruction after STI: its end ends the shadow
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x41), false]);
    });
  });

  test("the window's exit brings the interrupt and closes the window", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      open(cpu);
      yield { reason: EXIT.INTERRUPT_WINDOW };
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x41), false]);
      shut(cpu);
      yield { reason: EXIT.PREEMPTION_TIMER };
      expect(cpu.injected).toBeNull();
    });
  });

  test("of two, the higher class goes first, and the lower after its EOI", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x91);
      open(cpu);
      yield { reason: EXIT.INTERRUPT_WINDOW };
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x91), false]);
      yield wrmsr(cpu, MSR.EOI, 0);
      expect(cpu.injected).toEqual(external(0x41));
      yield wrmsr(cpu, MSR.EOI, 0);
      expect(cpu.injected).toBeNull();
    });
  });

  test("a higher class interrupts the handler of a lower one", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      open(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      expect(cpu.injected).toEqual(external(0x41));
      yield wrmsr(cpu, MSR.SELF_IPI, 0x48); // the same class: not before the EOI
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([null, false]);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x51);
      expect(cpu.injected).toEqual(external(0x51));
    });
  });

  test("an NMI goes before an interrupt, which gets a window", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.ICR, 0x4400);
      expect(cpu.injected?.vector).toBe(2);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 8); // until its handler's IRET
      yield wrmsr(cpu, MSR.SELF_IPI, 0x51);
      yield wrmsr(cpu, MSR.ICR, 0x4400);
      expect([cpu.injected, controls(cpu, NMI_WINDOW)]).toEqual([null, true]);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 0);
      open(cpu);
      yield { reason: EXIT.NMI_WINDOW };
      expect(cpu.injected).toEqual({ vector: 2, type: 2, error: null, length: 0 });
      expect([controls(cpu, NMI_WINDOW), controls(cpu, WINDOW)]).toEqual([false, true]);
      yield { reason: EXIT.INTERRUPT_WINDOW }; // NMI blocking does not block interrupts
      expect(cpu.injected).toEqual(external(0x51));
    });
  });

  test("an NMI window that opens without an NMI injects nothing", async () => {
    await guest(function* (cpu) {
      yield { reason: EXIT.NMI_WINDOW };
      expect([cpu.injected, controls(cpu, NMI_WINDOW)]).toEqual([null, false]);
    });
  });

  test("a request that TPR holds back asks for an exit when TPR falls", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      open(cpu);
      cpu.setApic(0x80, 0x60);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x51);
      expect([cpu.injected, controls(cpu, WINDOW), cpu.read(FIELD.TPR_THRESHOLD)]).toEqual([null, false, 5n]);
      cpu.setApic(0x80, 0x40);
      yield { reason: EXIT.TPR_BELOW };
      expect([cpu.injected, cpu.read(FIELD.TPR_THRESHOLD)]).toEqual([external(0x51), 0n]);
    });
  });

  test("the 8259's interrupt goes before the APIC's, which gets a window", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      yield* use8259(cpu);
      shut(cpu);
      yield* raiseUart(cpu);
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([null, true]);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x91);
      open(cpu);
      yield { reason: EXIT.INTERRUPT_WINDOW };
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x24), true]);
      yield { reason: EXIT.INTERRUPT_WINDOW };
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x91), false]);
    });
  });
});

describe("by virtual-interrupt delivery", () => {
  const apicv = { profile: bochs("corei7_haswell_4770") };

  test("a request stands in RVI whatever IF says, and nothing is injected", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x91);
      expect([cpu.injected, controls(cpu, WINDOW), cpu.read(FIELD.INTERRUPT_STATUS)]).toEqual([null, false, 0x91n]);
    }, apicv);
  });

  test("what is in service stands in SVI", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      cpu.setApic(0x120, 2); // the processor moved 41H from IRR to ISR
      cpu.write(FIELD.INTERRUPT_STATUS, 0x4100);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x31);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x4131n);
    }, apicv);
  });

  test("RVI only rises with new requests, and what the processor has delivered stays delivered", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x91);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x41);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x91n);
      cpu.setApic(0x240, 0); // the processor moved 91H from IRR to ISR
      cpu.setApic(0x140, 1 << 17);
      cpu.write(FIELD.INTERRUPT_STATUS, 0x9141);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x31);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x9141n);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x51);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x9151n);
      yield wrmsr(cpu, MSR.EOI, 0); // one that exits
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x51n);
    }, apicv);
  });

  test("switched off by software, the APIC asks for nothing; switched on again, for what waited", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield wrmsr(cpu, MSR.SELF_IPI, 0x61);
      yield wrmsr(cpu, MSR.SVR, 0xff);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0n);
      yield wrmsr(cpu, MSR.SVR, 0x1ff);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x61n);
    }, apicv);
  });

  test("a level-triggered vector exits at its EOI, and comes again while its line is up", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      shut(cpu);
      yield store(cpu, IOAPIC, 0x10 + 2 * 4);
      yield store(cpu, IOAPIC + 0x10, 0x8000 | 0x71);
      yield* raiseUart(cpu);
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x71n);
      expect(cpu.read(FIELD.EOI_EXIT_0 + 2)).toBe(1n << 49n);
      cpu.setApic(0x230, 0); // delivered, and its handler ends: EOI is virtualised
      cpu.write(FIELD.INTERRUPT_STATUS, 0);
      yield { reason: EXIT.VIRTUALIZED_EOI, qualification: 0x71n };
      expect(cpu.read(FIELD.INTERRUPT_STATUS)).toBe(0x71n);
    }, apicv);
  });

  test("the 8259's interrupt is injected", async () => {
    await guest(function* (cpu) {
      yield* x2apic(cpu);
      yield* use8259(cpu);
      shut(cpu);
      yield* raiseUart(cpu);
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([null, true]);
      open(cpu);
      yield { reason: EXIT.INTERRUPT_WINDOW };
      expect([cpu.injected, controls(cpu, WINDOW)]).toEqual([external(0x24), false]);
    }, apicv);
  });
});
