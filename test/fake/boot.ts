// The page tables with which boot/entry.asm enters the core, made in the simulated image's bss.

import type { Machine } from "./machine.ts";
import { PTE } from "./paging.ts";

const TABLE_WINDOW = 0xffff_b000_0000_0000n;
const DEVICE_WINDOW = 0xffff_c000_0000_0000n;
const IMAGE_BASE = 0xffff_ffff_8000_0000n;
const STACKS_BASE = 0xffff_ffff_c000_0000n;
const LINEAR_START = 0x1_0000n;
const PERCPU_BASE = 0x40_0000n;
const STACK_GUARDS = 0x8010_8421;
const PAGE = 4096;

/** Builds the boot root, loads it on the boot CPU, and returns its physical address. */
export function enterBootTables(m: Machine): number {
  const { image, ram } = m;
  let next = image.tables;
  const take = (): number => {
    const table = next;
    next += PAGE;
    if (next > image.end) throw new Error("boot tables do not fit the simulated image");
    ram.fill(table, 0, PAGE);
    return table;
  };
  const root = take();

  function entryAt(va: bigint, lastLevel: number): number {
    let table = root;
    for (let level = 4; level > lastLevel; level--) {
      const at = table + 8 * Number((va >> BigInt(12 + 9 * (level - 1))) & 511n);
      if (!(ram.read64(at) & PTE.P)) ram.write64(at, BigInt(take()) | PTE.P | PTE.W);
      table = Number(ram.read64(at) & 0x000f_ffff_ffff_f000n);
    }
    return table + 8 * Number((va >> BigInt(12 + 9 * (lastLevel - 1))) & 511n);
  }
  function map(va: bigint, from: number, to: number, flags: bigint): void {
    let at = 0;
    for (let pa = from; pa < to; pa += PAGE) {
      const page = va + BigInt(pa - from);
      at = at && page & 0x1f_ffffn ? at + 8 : entryAt(page, 1);
      ram.write64(at, BigInt(pa) | PTE.P | flags);
    }
  }

  const image64 = (pa: number) => IMAGE_BASE + BigInt(pa);
  map(image64(image.start), image.start, image.rodata, 0n);
  map(image64(image.rodata), image.rodata, image.data, PTE.NX);
  map(image64(image.data), image.data, image.linear, PTE.W | PTE.NX);
  map(image64(image.bss), image.bss, image.end, PTE.W | PTE.NX);
  map(LINEAR_START, image.linear, image.bss, PTE.W | PTE.NX);
  map(PERCPU_BASE, image.percpu, image.percpu + 4 * PAGE, PTE.W | PTE.NX);
  for (let page = 0; page < 32; page++) {
    const pa = image.stacks + page * PAGE;
    if (!((STACK_GUARDS >>> page) & 1)) map(STACKS_BASE + BigInt(page * PAGE), pa, pa + PAGE, PTE.W | PTE.NX);
  }
  for (let gib = 0; gib < 4; gib++) {
    const at = entryAt(TABLE_WINDOW + (BigInt(gib) << 30n), 2);
    for (let i = 0; i < 512; i++) {
      ram.write64(at + 8 * i, (BigInt(512 * gib + i) << 21n) | PTE.P | PTE.W | PTE.PS | PTE.NX);
    }
  }
  // The device window shares the table window's PDPT, without the right to write.
  const top = (va: bigint) => root + 8 * Number((va >> 39n) & 511n);
  ram.write64(top(DEVICE_WINDOW), ram.read64(top(TABLE_WINDOW)) & ~PTE.W);
  m.cpus[0].cr3 = BigInt(root);
  return root;
}
