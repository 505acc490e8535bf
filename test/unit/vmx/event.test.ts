// Events into the guest: what the next entry injects, and what waits for a window.
// Intel SDM Vol. 3, "Event Injection", "Reflecting Exceptions to Guest Software", "Interrupt 8—Double Fault Exception (#DF)".

import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { F } from "../../fake/guest.ts";
import { type Fixture, vmxFixture } from "./fixture.ts";

const NMI_WINDOW = 1n << 22n;
const INTERRUPT_WINDOW = 4n;
const VALID = 0x8000_0000;
const TYPE = { INTERRUPT: 0, NMI: 2, EXCEPTION: 3, SOFTWARE_INTERRUPT: 4, PRIVILEGED: 5, SOFTWARE_EXCEPTION: 6 };
const PENDING_NMI = 2;
const STOP = 0x40;
const TRIPLE_FAULT = 3;
const info = (vector: number, type: number, error = 0) => (VALID | (error << 11) | (type << 8) | vector) >>> 0;

let f: Fixture;

beforeAll(async () => {
  f = await vmxFixture();
});

beforeEach(() => {
  f.restore({ [F.GUEST_CR0]: 0x31 });
  Object.assign(f.vcpu, { pending: 0, event: 0, nmisPending: 0, nmiServed: 0 });
  Object.assign(f.vm, { stopReason: 0 });
});

const read = (field: number) => f.fields.get(field) ?? 0n;
const entry = () => Number(read(F.ENTRY_INTERRUPTION_INFO));
/** What the processor does with the field at each exit. */
const leave = () => f.fields.set(F.ENTRY_INTERRUPTION_INFO, 0n);

describe("two exceptions", () => {
  const BENIGN = [1, 3, 4, 5, 6, 7, 16, 17, 18, 19];
  const CONTRIBUTORY = [0, 10, 11, 12, 13];
  const PF = 14;
  const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17, 21];
  const kind = (vector: number) => (CONTRIBUTORY.includes(vector) ? 1 : vector === PF ? 2 : 0);
  // Rows: the first; columns: the second. S: one after the other; D: double fault.
  const TABLE = ["SSS", "SDS", "SDD"];

  test.each([...BENIGN, ...CONTRIBUTORY, PF])("the first is %i", (first) => {
    for (const second of [...BENIGN, ...CONTRIBUTORY, PF]) {
      Object.assign(f.vcpu, { event: 0 });
      f.k.queueException(f.at, first, 0x18);
      f.k.queueException(f.at, second, 0x28);
      f.k.injectEvents(f.at);
      const doubles = TABLE[kind(first)][kind(second)] === "D";
      const vector = doubles ? 8 : second;
      const hasError = WITH_ERROR.includes(vector);
      expect(entry(), `${first}, then ${second}`).toBe(info(vector, TYPE.EXCEPTION, hasError ? 1 : 0));
      if (hasError) expect(read(F.ENTRY_EXCEPTION_ERROR_CODE)).toBe(doubles ? 0n : 0x28n);
      expect(f.vm.stopReason).toBe(0);
    }
  });

  test.each([1, 6, 13, 14, 17])("exception %i in the delivery of #DF is a triple fault", (second) => {
    f.k.queueException(f.at, 8, 0);
    f.k.queueException(f.at, second, 0);
    expect([f.vm.stopReason, f.vcpu.event, f.vcpu.pending]).toEqual([TRIPLE_FAULT, 0, STOP]);
  });

  test("three page faults in a row shut the VM down, and the first reason counts", () => {
    for (let i = 0; i < 3; i++) f.k.queuePageFault(f.at, 0x1000n, 2);
    f.k.stopVm(f.at - 0x1000, 1, 7);
    expect([f.vm.stopReason, f.vm.stopCode]).toEqual([TRIPLE_FAULT, 0]);
  });

  test.each([TYPE.INTERRUPT, TYPE.NMI, TYPE.SOFTWARE_INTERRUPT, TYPE.SOFTWARE_EXCEPTION])(
    "an exception in the delivery of an event of type %i takes its place",
    (type) => {
      f.k.requeue(f.at, info(type === TYPE.NMI ? 2 : 3, type), 0, 2);
      f.k.queueException(f.at, 11, 0x50);
      f.k.injectEvents(f.at);
      expect(entry()).toBe(info(11, TYPE.EXCEPTION, 1));
    },
  );
});

describe("an exception that is injected", () => {
  test("#PF writes CR2, and only then", () => {
    f.m.current.cr2 = 0x55n;
    f.k.queuePageFault(f.at, 0xdead_b000n, 6);
    expect(f.m.current.cr2).toBe(0x55n);
    f.k.injectEvents(f.at);
    expect([f.m.current.cr2, read(F.ENTRY_EXCEPTION_ERROR_CODE)]).toEqual([0xdead_b000n, 6n]);
  });

  test("a #PF that becomes #DF leaves CR2", () => {
    f.m.current.cr2 = 0x55n;
    f.k.queueException(f.at, 13, 0);
    f.k.queueException(f.at, 13, 0);
    f.k.injectEvents(f.at);
    expect([entry(), f.m.current.cr2]).toEqual([info(8, TYPE.EXCEPTION, 1), 0x55n]);
  });

  // biome-ignore format: a table
  const RF: [vector: number, set: boolean][] = [
    [0, true], [1, false], [3, false], [4, false], [5, true], [6, true], [7, true], [8, false],
    [10, true], [11, true], [12, true], [13, true], [14, true], [16, true], [17, true], [18, false], [19, true],
  ];
  test.each(RF)("exception %i: RF in the image of RFLAGS is %s", (vector, set) => {
    f.fields.set(F.GUEST_RFLAGS, 0x202n);
    f.k.queueException(f.at, vector, 0);
    f.k.injectEvents(f.at);
    expect(read(F.GUEST_RFLAGS)).toBe(set ? 0x1_0202n : 0x202n);
  });

  test("has no error code in real mode", () => {
    f.fields.set(F.GUEST_CR0, 0x30n);
    f.k.queueException(f.at, 13, 0x10);
    f.k.injectEvents(f.at);
    expect(entry()).toBe(info(13, TYPE.EXCEPTION));
  });

  test("#DB gives DR6 its bits and clears GD, LBR and BTF", () => {
    Object.assign(f.vcpu, { dr6: 0xffff_0ff3n, debugLive: 0 });
    f.fields.set(F.GUEST_DR7, 0x2400n).set(F.GUEST_DEBUGCTL, 0x43n);
    f.k.queueDebug(f.at, 0x4004n);
    f.k.injectEvents(f.at);
    expect(f.vcpu.dr6).toBe(0xffff_4ff4n);
    expect([read(F.GUEST_DR7), read(F.GUEST_DEBUGCTL)]).toEqual([0x400n, 0x40n]);
  });

  test("#DB finds DR6 in the register once the guest uses it", () => {
    Object.assign(f.vcpu, { dr6: 0xffff_0ff0n, debugLive: 1 });
    f.m.current.dr[6] = 0xffff_0ff0n;
    f.k.queueDebug(f.at, 0x2001n);
    f.k.injectEvents(f.at);
    expect([f.m.current.dr[6], f.k.readGuestDr6(f.at)]).toEqual([0xffff_2ff1n, 0xffff_2ff1n]);
  });

  // biome-ignore format: a table
  const STEPS: [name: string, blocking: bigint, flags: bigint, debugctl: bigint, pending: bigint, wanted: bigint][] = [
    ["STI and TF: a step is recorded", 1n, 0x302n, 0n, 0n, 0x4000n],
    ["MOV SS and TF: a step is recorded beside a breakpoint", 2n, 0x102n, 0n, 0x1001n, 0x5001n],
    ["MOV SS and TF with BTF: none is", 2n, 0x102n, 2n, 0x4000n, 0n],
    ["MOV SS without TF: none is", 2n, 2n, 0n, 0x4000n, 0n],
    ["no shadow: what was recorded stays", 0n, 0x102n, 0n, 0n, 0n],
  ];
  test.each(STEPS)("%s", (_name, blocking, flags, debugctl, pending, wanted) => {
    f.fields.set(F.GUEST_INTERRUPTIBILITY, blocking).set(F.GUEST_RFLAGS, flags);
    f.fields.set(F.GUEST_DEBUGCTL, debugctl).set(F.GUEST_PENDING_DEBUG, pending);
    f.k.queueException(f.at, 13, 0);
    f.k.injectEvents(f.at);
    expect(read(F.GUEST_PENDING_DEBUG)).toBe(wanted);
  });
});

describe("an event whose delivery an exit interrupted", () => {
  // biome-ignore format: a table
  const EVENTS: [name: string, vectoring: number, length: number][] = [
    ["an external interrupt", info(0x30, TYPE.INTERRUPT), 0],
    ["#GP", info(13, TYPE.EXCEPTION, 1), 0],
    ["#UD", info(6, TYPE.EXCEPTION), 0],
    ["INT n", info(0x80, TYPE.SOFTWARE_INTERRUPT), 2],
    ["INT1", info(1, TYPE.PRIVILEGED), 1],
    ["INT3", info(3, TYPE.SOFTWARE_EXCEPTION), 1],
    ["an NMI", info(2, TYPE.NMI), 0],
  ];
  test.each(EVENTS)("%s is injected again", (_name, vectoring, length) => {
    const hasError = (vectoring & 0x800) !== 0;
    f.fields.set(F.IDT_VECTORING_INFO, BigInt(vectoring | 0x1000)); // bit 12 is undefined
    f.fields.set(F.IDT_VECTORING_ERROR_CODE, 0x58n).set(F.EXIT_INSTRUCTION_LENGTH, BigInt(length || 9));
    f.k.recoverEvent(f.at);
    expect(f.k.injectEvents(f.at)).toBe(1);
    expect(entry()).toBe(vectoring);
    if (hasError) expect(read(F.ENTRY_EXCEPTION_ERROR_CODE)).toBe(0x58n);
    if (length) expect(read(F.ENTRY_INSTRUCTION_LENGTH)).toBe(BigInt(length));
    expect(f.vcpu.event).toBe(0);
  });

  test("none was being delivered: none is injected", () => {
    f.fields.set(F.IDT_VECTORING_INFO, 0x30n);
    f.k.recoverEvent(f.at);
    expect([f.k.injectEvents(f.at), entry()]).toEqual([0, 0]);
  });

  test("#GP loses its error code if the guest is in real mode", () => {
    f.fields.set(F.GUEST_CR0, 0x30n).set(F.IDT_VECTORING_INFO, BigInt(info(13, TYPE.EXCEPTION, 1)));
    f.k.recoverEvent(f.at);
    f.k.injectEvents(f.at);
    expect(entry()).toBe(info(13, TYPE.EXCEPTION));
  });

  test("an NMI unblocks NMIs for its second injection", () => {
    f.fields.set(F.IDT_VECTORING_INFO, BigInt(info(2, TYPE.NMI))).set(F.GUEST_INTERRUPTIBILITY, 8n);
    f.k.recoverEvent(f.at);
    f.k.injectEvents(f.at);
    expect(read(F.GUEST_INTERRUPTIBILITY)).toBe(0n);
  });

  test("an NMI that gives way to an exception leaves NMIs blocked", () => {
    f.fields.set(F.IDT_VECTORING_INFO, BigInt(info(2, TYPE.NMI))).set(F.GUEST_INTERRUPTIBILITY, 8n);
    f.k.recoverEvent(f.at);
    f.k.queueException(f.at, 17, 0);
    f.k.injectEvents(f.at);
    expect([entry(), read(F.GUEST_INTERRUPTIBILITY)]).toEqual([info(17, TYPE.EXCEPTION, 1), 8n]);
  });

  // biome-ignore format: a table
  test.each<[string, number, number, bigint]>([
    ["blocks NMIs again", 0x1000, 0, 8n],
    ["does not, if the exit was in the delivery of an event", 0x1000, VALID, 0n],
    ["does not, if it unblocked nothing", 0, 0, 0n],
  ])("an IRET that faulted %s", (_name, unblocked, vectoring, wanted) => {
    f.fields.set(F.IDT_VECTORING_INFO, BigInt(vectoring));
    f.k.restoreNmiBlocking(unblocked);
    expect(read(F.GUEST_INTERRUPTIBILITY)).toBe(wanted);
  });
});

describe("an NMI", () => {
  const queue = (count: number) => {
    for (let i = 0; i < count; i++) f.k.queueNmi(f.at);
  };
  const window = () => (read(F.PROCESSOR_CONTROLS) & NMI_WINDOW) !== 0n;

  test("goes in at once if nothing blocks it", () => {
    queue(1);
    expect([f.k.injectEvents(f.at), entry(), window()]).toEqual([1, info(2, TYPE.NMI), false]);
    expect([f.vcpu.nmisPending, f.vcpu.pending & PENDING_NMI]).toEqual([0, 0]);
  });

  test.each([1n, 2n, 8n])("waits for its window under blocking %i", (blocking) => {
    f.fields.set(F.GUEST_INTERRUPTIBILITY, blocking);
    f.vcpu.nmiServed = blocking === 8n ? 1 : 0;
    queue(1);
    expect([f.k.injectEvents(f.at), entry(), window()]).toEqual([0, 0, true]);
    expect([f.vcpu.nmisPending, f.vcpu.pending & PENDING_NMI]).toEqual([1, 0]);
  });

  test("a second one is held and gets a window; a third is lost", () => {
    queue(3);
    f.k.injectEvents(f.at);
    expect([entry(), f.vcpu.nmisPending, window()]).toEqual([info(2, TYPE.NMI), 1, true]);
  });

  test("goes in if the blocking is not that of an NMI injected before: another vCPU's, in an emulator", () => {
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 8n);
    queue(1);
    expect([f.k.injectEvents(f.at), entry(), window()]).toEqual([1, info(2, TYPE.NMI), false]);
    expect(read(F.GUEST_INTERRUPTIBILITY)).toBe(0n);
  });

  test("leaves no blocking behind when the vCPU comes back to a CPU after its IRET", () => {
    f.vcpu.nmiServed = 1;
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 8n);
    f.k.restoreNmi(f.at);
    expect(read(F.GUEST_INTERRUPTIBILITY)).toBe(8n);
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 0n); // the IRET
    f.k.restoreNmi(f.at);
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 9n);
    f.k.restoreNmi(f.at);
    expect([read(F.GUEST_INTERRUPTIBILITY), f.vcpu.nmiServed]).toEqual([1n, 0]);
  });

  test("that comes while one is served is held, alone; with the next one it is delivered", () => {
    queue(1);
    f.k.injectEvents(f.at);
    leave();
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 8n);
    queue(5);
    expect([f.k.injectEvents(f.at), entry(), f.vcpu.nmisPending, window()]).toEqual([0, 0, 1, true]);
    f.fields.set(F.GUEST_INTERRUPTIBILITY, 0n); // its IRET
    f.k.requestNmiWindow(f.at, false);
    expect([f.k.injectEvents(f.at), entry(), f.vcpu.nmisPending]).toEqual([1, info(2, TYPE.NMI), 0]);
  });

  test("that comes with an exception asks for a window behind it", () => {
    queue(1);
    f.k.queueException(f.at, 13, 0);
    expect(f.k.injectEvents(f.at)).toBe(1);
    expect([entry(), f.vcpu.nmisPending, window()]).toEqual([info(13, TYPE.EXCEPTION, 1), 1, true]);
    leave();
    f.k.requestNmiWindow(f.at, false);
    expect([f.k.injectEvents(f.at), entry(), window()]).toEqual([1, info(2, TYPE.NMI), false]);
  });
});

describe("an interrupt can be taken", () => {
  // biome-ignore format: a table
  test.each<[string, bigint, bigint, bigint, number]>([
    ["with IF and no shadow", 0x202n, 0n, 0n, 1],
    ["not with IF = 0", 2n, 0n, 0n, 0],
    ["not after STI", 0x202n, 1n, 0n, 0],
    ["not after MOV SS", 0x202n, 2n, 0n, 0],
    ["while NMIs are blocked", 0x202n, 8n, 0n, 1],
    ["not beside another event", 0x202n, 0n, BigInt(info(13, TYPE.EXCEPTION, 1)), 0],
  ])("%s", (_name, flags, blocking, injected, can) => {
    f.fields.set(F.GUEST_RFLAGS, flags).set(F.GUEST_INTERRUPTIBILITY, blocking).set(F.ENTRY_INTERRUPTION_INFO, injected);
    expect(f.k.canTakeInterrupt(f.at)).toBe(can);
  });

  test("its window is a control that comes and goes", () => {
    const before = read(F.PROCESSOR_CONTROLS);
    f.k.requestInterruptWindow(f.at, true);
    expect(read(F.PROCESSOR_CONTROLS)).toBe(before | INTERRUPT_WINDOW);
    f.k.requestInterruptWindow(f.at, false);
    expect(read(F.PROCESSOR_CONTROLS)).toBe(before);
  });

  test("it is injected without more", () => {
    f.k.injectInterrupt(f.at, 0xec);
    expect(entry()).toBe(info(0xec, TYPE.INTERRUPT));
  });
});

test("INT1 that exited is stepped over", () => {
  f.fields.set(F.GUEST_RIP, 0x1000n).set(F.EXIT_INSTRUCTION_LENGTH, 1n);
  f.k.skipIcebp();
  expect(read(F.GUEST_RIP)).toBe(0x1001n);
});

test("INT1 that exited behind MOV SS is the end of the shadow, and of the step that was put off", () => {
  f.fields.set(F.GUEST_RIP, 0x1000n).set(F.EXIT_INSTRUCTION_LENGTH, 1n);
  f.fields.set(F.GUEST_INTERRUPTIBILITY, 0xan).set(F.GUEST_PENDING_DEBUG, 0x5001n);
  f.k.skipIcebp();
  expect([read(F.GUEST_INTERRUPTIBILITY), read(F.GUEST_PENDING_DEBUG)]).toEqual([8n, 0n]);
});
