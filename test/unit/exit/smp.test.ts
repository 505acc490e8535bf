// INIT, start-up IPIs and interrupts between vCPUs, through the whole core.

import { expect, test } from "vitest";
import { EXIT, F, guest, INIT_1, R, SIPI_1, wrmsr } from "../../fake/guest.ts";

test("a start-up IPI begins in real mode at its page", async () => {
  let started = false;
  const { ended } = await guest(
    function* (cpu) {
      yield wrmsr(cpu, 0x1b, 0xfee0_0d00);
      yield wrmsr(cpu, 0x830, INIT_1);
      yield wrmsr(cpu, 0x830, SIPI_1);
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
