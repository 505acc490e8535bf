// Exceptions that exit, physical interrupts, windows, HLT and signals.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import { skylake, westmere } from "../../fake/profiles/processors.ts";
import type { GuestExit } from "../../fake/vmx.ts";
import { CR0_SHADOW, enterLong, enterProtected, Seg, TABLES } from "./mode.ts";

const VALID = 0x8000_0000;
const HARDWARE = 3 << 8;
const PRIVILEGED_SOFTWARE = 5 << 8;
const WITH_ERROR = 0x800;
const NMI_UNBLOCKED = 0x1000;
const NMI_BLOCKING = 8n;
const MTF = 37;
const DB = 1;
const AC = 17;

function exception(vector: number, more: Partial<GuestExit> = {}, type = HARDWARE): GuestExit {
  return {
    reason: EXIT.EXCEPTION_OR_NMI,
    info: (VALID | type | vector | (more.error === undefined ? 0 : WITH_ERROR)) >>> 0,
    ...more,
  };
}

test("#DB goes back to the guest with its DR6", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.write(F.GUEST_RFLAGS, 0x102n);
    yield exception(DB, { qualification: 0x4001n });
    expect([cpu.injected?.vector, cpu.injected?.type, cpu.injected?.error]).toEqual([DB, 3, null]);
    cpu.write(F.GUEST_RFLAGS, 2n);
    yield { reason: EXIT.DR_ACCESS, length: 3 };
    expect(cpu.m.current.dr[6] & 0x400fn).toBe(0x4001n);
  });
});

test("#AC goes back with its error code", async () => {
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    yield exception(AC, { error: 0 });
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([AC, 0]);
    enterLong(cpu, 0);
  });
});

test("INT1 is a trap: RIP moves past it", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    const rip = cpu.rip;
    yield exception(DB, { length: 1 }, PRIVILEGED_SOFTWARE);
    expect(cpu.injected?.vector).toBe(DB);
    // Delivered as a hardware exception behind the instruction, or as INT1 with its length.
    if (cpu.injected?.type === 5) expect([cpu.rip, cpu.injected.length]).toEqual([rip, 1]);
    else expect(cpu.rip).toBe(rip + 1n);
  });
});

test("neither INT1 nor general detect reports a single step that MOV SS put off", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    cpu.write(F.GUEST_RFLAGS, 0x102n);
    const reported = function* (exit: GuestExit): Generator<GuestExit, bigint, void> {
      cpu.write(F.GUEST_INTERRUPTIBILITY, 2n);
      cpu.write(F.GUEST_PENDING_DEBUG, 0x4000n);
      yield exit;
      expect(cpu.injected?.vector).toBe(DB);
      cpu.write(F.GUEST_INTERRUPTIBILITY, 0n);
      cpu.write(F.GUEST_PENDING_DEBUG, 0n);
      yield { reason: EXIT.DR_ACCESS, length: 3 }; // brings DR6 into the register
      const dr6 = cpu.m.current.dr[6] & 0xe00fn;
      cpu.m.current.dr[6] = 0xffff_0ff0n;
      return dr6;
    };
    expect(yield* reported(exception(DB, { length: 1, qualification: 0x4000n }, PRIVILEGED_SOFTWARE))).toBe(0n);
    expect(yield* reported(exception(DB, { qualification: 0x6000n }))).toBe(0x2000n);
    cpu.write(F.GUEST_RFLAGS, 2n);
  });
});

test("an exception during IRET of an NMI handler blocks NMIs again", async () => {
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    yield { ...exception(AC, { error: 0 }), info: (VALID | HARDWARE | WITH_ERROR | NMI_UNBLOCKED | AC) >>> 0 };
    expect(cpu.read(F.GUEST_INTERRUPTIBILITY) & NMI_BLOCKING).toBe(NMI_BLOCKING);
    cpu.write(F.GUEST_INTERRUPTIBILITY, 0n);
    enterLong(cpu, 0);
  });
});

test("#AC in the delivery of another contributory exception becomes what the manual's table says", async () => {
  await guest(function* (cpu) {
    enterLong(cpu, 3);
    yield exception(AC, { error: 0, idtVectoring: ((VALID | HARDWARE | 14) >>> 0) | WITH_ERROR, idtError: 4 });
    // #PF was being delivered and a benign exception came: #AC is handled first.
    expect([cpu.injected?.vector, cpu.injected?.error]).toEqual([AC, 0]);
    enterLong(cpu, 0);
  });
});

test("a host NMI during a guest's stay is the host's own", async () => {
  let seen = 0;
  await guest(function* (cpu) {
    const raise = cpu.m.kernel.onNmi;
    expect(raise).toBeDefined();
    yield { reason: EXIT.EXCEPTION_OR_NMI, info: (VALID | (2 << 8) | 2) >>> 0 };
    seen = cpu.m.counts.raiseNmi;
    expect(cpu.injected).toBe(null);
  });
  expect(seen).toBe(1);
});

test("a physical interrupt is acknowledged by the exit, and the guest goes on", async () => {
  await guest(function* (cpu) {
    const rip = cpu.rip;
    yield { reason: EXIT.PREEMPTION_TIMER };
    expect([cpu.injected, cpu.rip]).toEqual([null, rip]);
    yield { reason: EXIT.INTERRUPT_WINDOW };
    yield { reason: EXIT.NMI_WINDOW };
    yield { reason: MTF };
    yield { reason: EXIT.INIT_SIGNAL };
    yield { reason: 4 };
    yield { reason: EXIT.TPR_BELOW };
    yield { reason: EXIT.EXTERNAL_INTERRUPT, info: (VALID | 0xef) >>> 0 };
    expect([cpu.injected, cpu.rip]).toEqual([null, rip]);
  });
});

/** Arms the vCPU's own timer in one-shot mode. */
function* armTimer(cpu: Vcpu, vector: number, count: number): Generator<GuestExit, void, void> {
  const write = function* (msr: number, value: number): Generator<GuestExit, void, void> {
    yield wrmsr(cpu, msr, value);
    expect(cpu.injected).toBe(null);
  };
  yield* write(0x1b, 0xfee0_0d00);
  yield* write(0x80f, 0x1ff);
  yield* write(0x83e, 0xb);
  yield* write(0x832, vector);
  yield* write(0x838, count);
}

test("HLT sleeps until the guest's timer interrupts it", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    yield* armTimer(cpu, 0x41, 50_000);
    cpu.write(F.GUEST_RFLAGS, 0x202n);
    const rip = cpu.rip;
    const before = cpu.m.clock.ticks;
    yield instruction(EXIT.HLT, 1);
    expect([cpu.injected?.vector, cpu.injected?.type, cpu.rip]).toEqual([0x41, 0, rip + 1n]);
    expect(cpu.m.clock.ticks).toBeGreaterThan(before);
    cpu.write(F.GUEST_RFLAGS, 2n);
  });
});

test("an interrupt that the guest cannot take waits for the window", async () => {
  await guest(function* (cpu) {
    enterLong(cpu);
    yield* armTimer(cpu, 0x51, 1);
    const WINDOW = 1n << 2n;
    for (let i = 0; i < 50 && !(cpu.read(F.PROCESSOR_CONTROLS) & WINDOW); i++) {
      cpu.m.clock.advance(1_000_000);
      yield { reason: EXIT.PREEMPTION_TIMER };
      expect(cpu.injected).toBe(null); // IF is 0
    }
    expect(cpu.read(F.PROCESSOR_CONTROLS) & WINDOW).toBe(WINDOW);
    cpu.write(F.GUEST_RFLAGS, 0x202n);
    cpu.write(F.GUEST_INTERRUPTIBILITY, 1n); // behind STI
    yield { reason: EXIT.PREEMPTION_TIMER };
    expect(cpu.injected).toBe(null);
    cpu.write(F.GUEST_INTERRUPTIBILITY, 0n);
    yield { reason: EXIT.INTERRUPT_WINDOW };
    expect(cpu.injected?.vector).toBe(0x51);
    expect(cpu.read(F.PROCESSOR_CONTROLS) & WINDOW).toBe(0n);
    cpu.write(F.GUEST_RFLAGS, 2n);
  });
});

test("IA32_SPEC_CTRL and IA32_PRED_CMD take their defined bits where the guest has them", async () => {
  await guest(
    function* (cpu) {
      const write = function* (msr: number, value: bigint): Generator<GuestExit, boolean, void> {
        yield wrmsr(cpu, msr, value);
        return cpu.injected === null;
      };
      expect(yield* write(0x48, 1n)).toBe(true);
      expect(yield* write(0x48, 7n)).toBe(true);
      cpu.set(R.RCX, 0x48);
      yield instruction(EXIT.RDMSR, 2);
      expect(cpu.get(R.RAX)).toBe(7n);
      for (const value of [8n, 0x400n, 1n << 63n]) expect(yield* write(0x48, value)).toBe(false);
      expect(yield* write(0x48, 0n)).toBe(true);
      expect(yield* write(0x49, 1n)).toBe(true);
      expect(yield* write(0x49, 2n)).toBe(false);
      cpu.set(R.RCX, 0x10a);
      yield instruction(EXIT.RDMSR, 2);
      expect(cpu.injected).toBe(null);
    },
    { profile: skylake, commandLine: "mitigations=auto" },
  );
});

test("string instructions on a processor that does not say segment and address size", async () => {
  await guest(
    function* (cpu) {
      enterLong(cpu);
      cpu.poke(Number(cpu.rip), [0x64, 0x6f]); // fs: outsd
      cpu.write(0x6806 + 2 * Seg.FS, 0x1000);
      cpu.set(R.RSI, 0x20_0000);
      yield instruction(EXIT.IO, 2, { qualification: BigInt((0x5000 << 16) | 0x10 | 3) });
      expect(cpu.get(R.RSI)).toBe(0x20_0004n);
      cpu.poke(Number(cpu.rip), [0x67, 0x6c]); // insb to [edi]
      cpu.set(R.RDI, 0xffff_ffff_0020_0000n);
      yield instruction(EXIT.IO, 2, { qualification: BigInt((0x5000 << 16) | 0x18) });
      expect(cpu.get(R.RDI)).toBe(0x20_0001n);
      expect(cpu.peek(0x20_0000, 1)).toBe(0xffn);
    },
    { profile: { ...westmere, msrs: withoutStringInfo(westmere.msrs) } },
  );
});

/** IA32_VMX_BASIC bit 54: INS and OUTS report instruction information. */
function withoutStringInfo(msrs: Record<string, bigint>): Record<string, bigint> {
  expect(msrs["480"] & (1n << 54n)).not.toBe(0n);
  return { ...msrs, "480": msrs["480"] & ~(1n << 54n) };
}

test("a processor without unrestricted guest refuses real mode in one clear line", async () => {
  const profile = { ...westmere, msrs: { ...westmere.msrs, "48b": westmere.msrs["48b"] & ~(1n << 39n) } };
  const { ended, log } = await guest(
    function* (cpu) {
      enterProtected(cpu);
      cpu.set(R.RCX, 0x10);
      yield instruction(EXIT.CR_ACCESS, 3, { qualification: BigInt(R.RCX << 8) });
      throw new Error("the guest ran on");
    },
    { profile },
  );
  expect(log.join("\n")).toContain("real mode needs the processor feature unrestricted guest");
  expect(ended).toContain("test ended");
});

test("without unrestricted guest, paging-off guests write CR3 for later", async () => {
  const profile = { ...westmere, msrs: { ...westmere.msrs, "48b": westmere.msrs["48b"] & ~(1n << 39n) } };
  await guest(
    function* (cpu) {
      expect(cpu.read(CR0_SHADOW) & (1n << 31n)).toBe(0n);
      expect(cpu.read(F.GUEST_CR0) & (1n << 31n)).toBe(1n << 31n); // the identity table
      cpu.set(R.RCX, TABLES);
      yield instruction(EXIT.CR_ACCESS, 3, { qualification: BigInt(3 | (R.RCX << 8)) });
      expect(cpu.injected).toBe(null);
      yield instruction(EXIT.CR_ACCESS, 3, { qualification: BigInt(3 | 0x10 | (R.RDX << 8)) });
      expect(cpu.get(R.RDX)).toBe(BigInt(TABLES));
      expect(cpu.read(F.GUEST_CR3)).not.toBe(BigInt(TABLES));
    },
    { profile },
  );
});
