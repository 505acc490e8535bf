import { expect, test } from "vitest";
import { memory, Owner, WINDOW } from "./fixture.ts";

test("each CPU's TSS leads #PF, #DF, #MC and NMI to stacks of their own, between guards", async () => {
  const m = await memory({ enter: true, cpus: 2 });
  m.kernel.mapCpu(1);
  for (const cpu of [0, 1]) {
    const frame = Number(m.kernel.allocFrame(Owner.TABLE));
    m.on(cpu, () => {
      if (cpu === 1) m.current.cr3 = m.kernel.coreRoot();
      m.kernel.useDescriptors(BigInt(frame), cpu);
    });
    const { gdt, gdtLimit, tr } = m.cpus[cpu].descriptors;
    expect(gdt).toBe(WINDOW.table + BigInt(frame));
    expect(gdtLimit).toBe(tr + 15);
    const low = m.ram.read64(frame + tr);
    const base = ((low >> 16n) & 0xff_ffffn) | ((low >> 32n) & 0xff00_0000n) | (m.ram.read64(frame + tr + 8) << 32n);
    expect(base).toBe(WINDOW.table + BigInt(frame) + 0x80n);
    expect(low & 0xffffn).toBe(103n);
    const tss = frame + 0x80;
    for (let ist = 1; ist <= 4; ist++) {
      const top = m.ram.read64(tss + 28 + 8 * ist);
      expect(m.mappings().some((p) => p.va === top - 4096n)).toBe(true);
      expect(m.mappings().some((p) => p.va === top)).toBe(false);
      expect((top - WINDOW.stacks) >> 17n).toBe(BigInt(cpu));
    }
    expect(m.ram.read16(tss + 102)).toBe(104); // no I/O permission map within the limit
    expect(m.ram.read64(frame + 8)).toBe(0x00af_9b00_0000_ffffn);
  }
});
