import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";
import { PTE } from "../../fake/paging.ts";

const TIMEOUT = 9;
const VA = 0xffff_b000_0200_0000n;

async function threeCpus() {
  const m = await machine({
    entries: ["kernel/mm/shootdown.ts", "kernel/cpu/percpu.ts", "test/unit/mm/shootdown.as.ts"],
    cpus: 3,
    paging: "boot",
    ticks: { pause: 1_000_000 },
  });
  m.kernel.useX2apic();
  for (const cpu of m.cpus) {
    m.kernel.initBlock(cpu.index, cpu.apicId);
    m.kernel.offer(cpu.index, 1, 2);
    cpu.cr3 = m.cpus[0].cr3;
    cpu.lapic.writeBase(0xfee0_0c00n);
    cpu.lapic.write(0xf0, 0x1ff);
    if (cpu.index) cpu.state = "idle";
    m.on(cpu.index, () => m.translate(VA));
  }
  // Take the 2 MiB page at VA out of the tables: every CPU still has it in its TLB.
  const root = Number(m.cpus[0].cr3);
  const pdpt = Number(m.ram.read64(root + 8 * 352) & 0xffff_f000n);
  const pd = Number(m.ram.read64(pdpt) & 0xffff_f000n);
  m.ram.write64(pd + 8 * 16, m.ram.read64(pd + 8 * 16) & ~PTE.P);
  for (const cpu of m.cpus) m.on(cpu.index, () => expect(() => m.translate(VA)).not.toThrow());
  return m;
}

test("after a shootdown no CPU has the translation, and each was asked once", async () => {
  for (const pages of [1n, 512n]) {
    const m = await threeCpus();
    expect(m.kernel.flushEverywhere(VA, pages)).toBe(0);
    for (const cpu of m.cpus) m.on(cpu.index, () => expect(() => m.translate(VA)).toThrow("not present"));
    expect(m.counts.invlpg).toBe(pages === 1n ? 3 : 0);
  }
});

test("a CPU that does not answer ends the wait with its number in the log", async () => {
  const m = await threeCpus();
  m.kernel.turnDeaf();
  expect(m.kernel.flushEverywhere(VA, 1n)).toBe(TIMEOUT);
  expect(logLines(m)).toContain("shootdown: CPU 1 does not answer");
  expect(m.kernel.flushEverywhere(VA, 1n)).toBe(TIMEOUT); // the lock was given back
});

test("CPUs that are not online are left alone", async () => {
  const m = await threeCpus();
  m.kernel.initBlock(7, 7);
  expect(m.kernel.flushEverywhere(VA, 1n)).toBe(0);
});

test("a request that was carried out is not carried out twice", async () => {
  const m = await threeCpus();
  m.kernel.flushEverywhere(VA, 1n);
  const before = m.counts.invlpg;
  m.kernel.onShootdown();
  expect(m.counts.invlpg).toBe(before);
});
