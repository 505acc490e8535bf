// INIT, start-up IPIs and interrupts between vCPUs, through the whole core.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R, type Vcpu } from "../../fake/guest.ts";
import type { GuestExit } from "../../fake/vmx.ts";

/** Writes the xAPIC's ICR through WRMSR in x2APIC mode: one exit. */
function icr(cpu: Vcpu, value: bigint): GuestExit {
  cpu.set(R.RCX, 0x830);
  cpu.set(R.RAX, value & 0xffff_ffffn);
  cpu.set(R.RDX, value >> 32n);
  return instruction(EXIT.WRMSR, 2);
}

function x2apic(cpu: Vcpu): GuestExit {
  cpu.set(R.RCX, 0x1b);
  cpu.set(R.RAX, 0xfee0_0d00);
  cpu.set(R.RDX, 0);
  return instruction(EXIT.WRMSR, 2);
}

test("a start-up IPI begins in real mode at its page", async () => {
  let started = false;
  const { ended } = await guest(
    function* (cpu) {
      yield x2apic(cpu);
      yield icr(cpu, (1n << 32n) | 0x4500n);
      yield icr(cpu, (1n << 32n) | 0x4608n);
      for (let i = 0; i < 100 && !started; i++) yield { reason: EXIT.PAUSE, length: 2 };
      expect(started).toBe(true);
    },
    {
      others: [
        function* (cpu) {
          started = true;
          expect(cpu.read(0x802)).toBe(0x800n);
          expect(cpu.read(0x6808)).toBe(0x8000n);
          expect(cpu.rip).toBe(0n);
          expect(cpu.read(F.GUEST_CR0) & 1n).toBe(0n);
          while (true) yield { reason: EXIT.PAUSE, length: 2 };
        },
      ],
    },
  );
  expect(ended).toContain("powered off, code 0");
});

test("the first vCPU enters with its protocol's state, whatever was created after it", async () => {
  await guest(
    function* (cpu) {
      expect(cpu.get(R.RAX)).toBe(0x2bad_b002n);
      expect(cpu.read(F.GUEST_CR0) & 1n).toBe(1n);
      expect(cpu.rip).not.toBe(0xfff0n);
      yield { reason: EXIT.PAUSE, length: 2 };
    },
    { others: [function* () {}, function* () {}] },
  );
});
