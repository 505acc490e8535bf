// The whole path of an exit on the fake machine: entry, exit, dispatch, handler, resume.

import { expect, test } from "vitest";
import { EXIT, F, guest, instruction, R } from "../../fake/guest.ts";

test("CPUID leaf 1 hides VMX, announces a hypervisor and moves RIP past the instruction", async () => {
  const { ended } = await guest(function* (cpu) {
    const rip = cpu.rip;
    cpu.set(R.RAX, 1);
    yield instruction(EXIT.CPUID, 2);
    expect(cpu.get(R.RCX) & 0x20n).toBe(0n);
    expect(cpu.get(R.RCX) & 0x8000_0000n).toBe(0x8000_0000n);
    expect(cpu.rip).toBe(rip + 2n);
    expect(cpu.injected).toBeNull();
  });
  expect(ended).toContain("powered off, code 0");
});

test("an emulated instruction ends an interrupt shadow, clears RF, and a single step comes due", async () => {
  await guest(function* (cpu) {
    cpu.write(F.GUEST_RFLAGS, 0x1_0302n); // RF, IF, TF
    cpu.write(F.GUEST_INTERRUPTIBILITY, 1n);
    cpu.write(F.GUEST_PENDING_DEBUG, 0x4000n);
    yield instruction(EXIT.CPUID, 2);
    expect(cpu.read(F.GUEST_INTERRUPTIBILITY)).toBe(0n);
    expect(cpu.read(F.GUEST_RFLAGS)).toBe(0x302n);
    expect(cpu.read(F.GUEST_PENDING_DEBUG) & 0x4000n).toBe(0x4000n);
    cpu.write(F.GUEST_RFLAGS, 2n);
    cpu.write(F.GUEST_PENDING_DEBUG, 0n);
  });
});
