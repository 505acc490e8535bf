// What stands between a guest, the core and the next guest in the predictors: IA32_SPEC_CTRL and IBPB, as the
// processor's profile asks for them. The instructions of switch.asm itself are looked at in the built image.

import { expect, test } from "vitest";
import { EXIT, guest, instruction, R, type Vcpu, wrmsr } from "../../fake/guest.ts";
import { cascadeLake, nehalem, sapphireRapids, skylake } from "../../fake/profiles/processors.ts";
import type { GuestExit } from "../../fake/vmx.ts";

const FLAG = {
  CLEAR_REGISTERS: 1,
  FILL_RSB: 2,
  VERW: 4,
  CLEAR_BHB: 8,
  SPEC_CTRL: 16,
  FLUSH_L1D: 32,
  FILL_RSB_16: 64,
  GUARD_RSB: 128,
};
const IBRS = 1n;
const BHI_DIS_S = 0x400n;
const auto = { commandLine: "mitigations=auto" };

const flags = (cpu: Vcpu) => cpu.record.entryFlags as number;

function* writeSpecCtrl(cpu: Vcpu, value: bigint): Generator<GuestExit, void, void> {
  yield wrmsr(cpu, 0x48, value);
  expect(cpu.injected).toBe(null);
}

test("IBRS at each exit, and what the guest wrote at each entry", async () => {
  await guest(
    function* (cpu) {
      expect(flags(cpu) & FLAG.SPEC_CTRL).toBe(FLAG.SPEC_CTRL);
      expect(cpu.record.specCtrlHost).toBe(1);
      expect(cpu.m.current.rdmsr(0x48)).toBe(0n); // the guest's
      yield* writeSpecCtrl(cpu, IBRS);
      expect(cpu.m.current.rdmsr(0x48)).toBe(IBRS);
      expect(flags(cpu) & FLAG.SPEC_CTRL).toBe(0); // the same on both sides
      yield* writeSpecCtrl(cpu, 2n);
      expect(cpu.m.current.rdmsr(0x48)).toBe(2n);
      expect(flags(cpu) & ~FLAG.SPEC_CTRL).toBe(FLAG.FILL_RSB_16 | FLAG.VERW | FLAG.FLUSH_L1D | FLAG.CLEAR_REGISTERS);
    },
    { ...auto, profile: skylake },
  );
});

test("enhanced IBRS stays on, and costs no exchange until the guest asks for more", async () => {
  await guest(
    function* (cpu) {
      expect(cpu.m.current.rdmsr(0x48)).toBe(IBRS);
      expect(flags(cpu) & FLAG.SPEC_CTRL).toBe(0);
      expect(flags(cpu) & (FLAG.CLEAR_BHB | FLAG.GUARD_RSB)).toBe(FLAG.CLEAR_BHB | FLAG.GUARD_RSB);
      yield* writeSpecCtrl(cpu, 4n);
      expect(cpu.m.current.rdmsr(0x48)).toBe(IBRS | 4n);
      cpu.set(R.RCX, 0x48);
      yield instruction(EXIT.RDMSR, 2);
      expect(cpu.get(R.RAX)).toBe(4n); // as it wrote it
      yield* writeSpecCtrl(cpu, 0n);
      expect(flags(cpu) & FLAG.SPEC_CTRL).toBe(0);
    },
    { ...auto, profile: cascadeLake },
  );
});

test("BHI_DIS_S is set for good where it is, in guests too", async () => {
  await guest(
    function* (cpu) {
      expect(cpu.m.current.rdmsr(0x48)).toBe(IBRS | BHI_DIS_S);
      expect(flags(cpu) & FLAG.CLEAR_BHB).toBe(0);
      yield instruction(EXIT.CPUID, 2);
    },
    { ...auto, profile: sapphireRapids },
  );
});

test("without the MSR nothing touches it; with mitigations off nothing is done", async () => {
  await guest(
    function* (cpu) {
      expect(flags(cpu)).toBe(FLAG.CLEAR_REGISTERS | FLAG.FILL_RSB_16);
      yield instruction(EXIT.CPUID, 2);
    },
    { ...auto, profile: nehalem },
  );
  await guest(
    function* (cpu) {
      expect(flags(cpu)).toBe(0);
      expect(cpu.m.current.rdmsr(0x48)).toBe(0n);
      yield instruction(EXIT.CPUID, 2);
    },
    { profile: skylake },
  );
});
