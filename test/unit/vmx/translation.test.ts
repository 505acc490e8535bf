// Stale translations: the fake machine keeps what it derived from the EPT until INVEPT, and notes which VPIDs a CPU has used.

import { expect, test } from "vitest";
import { EXIT, guest, instruction, kernelImage, R, type Vcpu } from "../../fake/guest.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import type { GuestExit } from "../../fake/vmx.ts";

const APIC_PAGE = 0xfee0_0000n;
const MODE = { X: 0xfee0_0900, X2: 0xfee0_0d00, OFF: 0xfee0_0100 };
const OTHER = { bytes: kernelImage(), string: "guest=other memory=4M" };
const pause = { reason: EXIT.PAUSE, length: 2 };

function apicBase(cpu: Vcpu, value: number): GuestExit {
  cpu.set(R.RCX, 0x1b);
  cpu.set(R.RAX, value);
  cpu.set(R.RDX, 0);
  return instruction(EXIT.WRMSR, 2);
}

const isMapped = (cpu: Vcpu) => "hpa" in cpu.stay.access(APIC_PAGE, "read");

test("the APIC-access page is gone at the entry after xAPIC mode ends, and back when it begins again", async () => {
  const seen: boolean[] = [];
  await guest(
    function* (cpu) {
      seen.push(isMapped(cpu));
      for (const mode of [MODE.X2, MODE.OFF, MODE.X]) {
        yield apicBase(cpu, mode);
        seen.push(isMapped(cpu));
      }
    },
    { profile: bochs("corei7_haswell_4770") },
  );
  expect(seen).toEqual([true, false, false, true]);
});

test("each vCPU has a VPID of its own, and a CPU forgets it before it runs it for the first time", async () => {
  const vpids: bigint[] = [];
  const forgotten: boolean[] = [];
  await guest(
    function* (cpu) {
      const vpid = cpu.read(0);
      vpids[cpu.vm] = vpid;
      forgotten[cpu.vm] = cpu.m.current.vmx.invalidations.includes(`invvpid ${vpid}`);
      const before = cpu.m.current.vmx.invalidations.length;
      for (let i = 0; i < 4; i++) yield pause; // the guests take turns
      expect(cpu.m.current.vmx.invalidations.slice(before)).not.toContain(`invvpid ${vpid}`);
    },
    { modules: [OTHER] },
  );
  expect(forgotten).toEqual([true, true]);
  expect(vpids).not.toContain(0n);
  expect(vpids[0]).not.toBe(vpids[1]);
});

test("a CPU forgets what it derived from an EPTP before it enters a new VM", async () => {
  await guest(
    function* (cpu) {
      const eptp = cpu.read(0x201a);
      expect(cpu.m.current.vmx.invalidations).toContain(`invept ${eptp.toString(16)}h`);
      yield pause;
    },
    { modules: [OTHER] },
  );
});

test("INIT makes the CPU forget the VPID", async () => {
  const flushes: number[] = [];
  const wrmsr = (cpu: Vcpu, msr: number, low: number, high: number) => {
    Object.entries({ [R.RCX]: msr, [R.RAX]: low, [R.RDX]: high }).map(([r, value]) => cpu.set(Number(r), value));
    return instruction(EXIT.WRMSR, 2);
  };
  await guest(
    function* (cpu) {
      yield apicBase(cpu, MODE.X2);
      for (let round = 1; round <= 2; round++) {
        for (const command of [0x4500, 0x4608]) yield wrmsr(cpu, 0x830, command, 1);
        for (let i = 0; i < 50 && flushes.length < round; i++) yield pause;
      }
    },
    {
      others: [
        function* (cpu) {
          for (;;) {
            const mine = `invvpid ${cpu.read(0)}`;
            flushes.push(cpu.m.current.vmx.invalidations.filter((line) => line === mine).length);
            do yield pause;
            while (cpu.rip !== 0n);
          }
        },
      ],
    },
  );
  expect(flushes).toHaveLength(2);
  expect(flushes[1]).toBeGreaterThan(flushes[0]);
});

test("a guest that starts again does not see what its CPU remembered", async () => {
  let starts = 0;
  const flushes: number[] = [];
  await guest(
    function* (cpu) {
      for (; starts < 2; starts++) {
        const mine = `invvpid ${cpu.read(0)}`;
        flushes.push(cpu.m.current.vmx.invalidations.filter((line) => line === mine).length);
        expect(cpu.stay.access(0x20_0000n, "write")).toHaveProperty("hpa");
        expect(cpu.peek(0x20_0000)).toBe(0n);
        cpu.poke(0x20_0000, 0x55n);
        cpu.set(R.RAX, 6);
        yield instruction(EXIT.IO, 1, { qualification: BigInt(0xcf9 << 16) });
      }
    },
    { words: "restart=on" },
  );
  expect(starts).toBe(2);
  expect(flushes[1]).toBeGreaterThan(flushes[0]);
});
