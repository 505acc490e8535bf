// The simulated machine keeps the manual's promises that the other tests build on.

import { expect, test } from "vitest";
import { PageFault } from "../../fake/faults.ts";
import { intrinsics } from "../../fake/insn.ts";
import { machine } from "../../fake/machine.ts";
import { PTE } from "../../fake/paging.ts";

const ENTRY = ["kernel/cpu/trapframe.ts"];
const MIB = 1024 * 1024;

// biome-ignore lint/suspicious/noExplicitAny: called with plain numbers and bigints
type Calls = Record<string, (...args: any[]) => any>;

async function booted() {
  const m = await machine({ entries: ENTRY, paging: "boot" });
  return { m, insn: intrinsics(m) as unknown as Calls };
}

test("RAM that nobody wrote is not zero", async () => {
  const { m } = await booted();
  expect(m.ram.read64(64 * MIB)).toBe(0xa5a5a5a5a5a5a5a5n);
});

test("the boot tables reach the low 4 GiB, read-only through the device window", async () => {
  const { insn } = await booted();
  insn.tablestore64(0x200_0000n, 7n);
  expect(insn.tableload64(0x200_0000n)).toBe(7n);
  expect(insn.deviceload64(0x200_0000n)).toBe(7n);
  expect(() => insn.devicestore64(0x200_0000n, 8n)).toThrow(PageFault);
  expect(() => insn.guestload8(0n)).toThrow("not present");
});

test("no page of the boot tables is writable and executable", async () => {
  const { m } = await booted();
  const pages = m.mappings();
  expect(pages.length).toBeGreaterThan(1000);
  expect(pages.filter((p) => p.writable && p.executable)).toEqual([]);
});

test("a translation stays until INVLPG, also when the page table itself was replaced", async () => {
  const { m, insn } = await booted();
  const pa = 0x4000_0000n;
  expect(insn.tableload64(pa)).toBe(0xffffffffffffffffn); // beyond 512 MiB: open bus
  const va = 0xffff_b000_0000_0000n + pa;
  const pd = Number(
    m.ram.read64(Number(m.ram.read64(Number(m.current.cr3) + 8 * 352) & 0xfffff000n) + 8) & 0xfffff000n,
  );
  m.ram.write64(pd, 0n);
  expect(() => insn.tableload64(pa)).not.toThrow();
  insn.invlpg(va);
  expect(() => insn.tableload64(pa)).toThrow(PageFault);
  expect(m.current.cr2).toBe(va);
});

test("MOV to CR3 keeps global pages, a change of CR4.PGE drops them", async () => {
  const { m, insn } = await booted();
  const root = Number(m.current.cr3);
  insn.writeCr4(m.current.cr4 | 0x80n);
  const pdpt = Number(m.ram.read64(root + 8 * 352) & 0xfffff000n);
  const pd = Number(m.ram.read64(pdpt) & 0xfffff000n);
  m.ram.write64(pd + 8 * 16, m.ram.read64(pd + 8 * 16) | PTE.G);
  insn.tableload64(0x200_0000n);
  m.ram.write64(pd + 8 * 16, 0n);
  insn.writeCr3(BigInt(root));
  expect(() => insn.tableload64(0x200_0000n)).not.toThrow();
  insn.writeCr4(m.current.cr4 & ~0x80n);
  expect(() => insn.tableload64(0x200_0000n)).toThrow(PageFault);
});

test("a denied write on a stale translation says that the tables would allow it", async () => {
  const { m, insn } = await booted();
  const root = Number(m.current.cr3);
  insn.deviceload8(0n);
  m.ram.write64(root + 8 * 384, m.ram.read64(root + 8 * 384) | PTE.W);
  const attempt = () => insn.devicestore8(0n, 1);
  expect(attempt).toThrow("stale translation");
  expect(attempt).not.toThrow();
});

test("writes that the processor refuses raise #GP", async () => {
  const { m, insn } = await booted();
  expect(() => insn.wrmsr(0x277, 0x0200000000000000n)).toThrow("#GP");
  expect(() => insn.rdmsr(0x12345)).toThrow("#GP");
  expect(insn.rdmsrSafe(0x12345, 0x20000)).toBe(0);
  expect(() => insn.writeCr4(1n << 40n)).toThrow("#GP");
  expect(() => insn.writeCr0(0x2000_0001n)).toThrow("#GP");
  expect(() => insn.writeCr3(1n << 60n)).toThrow("#GP");
  expect(m.counts.rdmsr).toBe(0); // only what the core calls is counted
});

test("the APIC goes to x2APIC and back to xAPIC only through off", async () => {
  const { m, insn } = await booted();
  insn.wrmsr(0x1b, 0xfee00d00n);
  expect(insn.rdmsr(0x802)).toBe(0n);
  expect(() => insn.wrmsr(0x1b, 0xfee00900n)).toThrow("#GP");
  insn.wrmsr(0x1b, 0xfee00100n);
  expect((m.current.cpuid(1, 0)[3] >> 9) & 1).toBe(0);
});
