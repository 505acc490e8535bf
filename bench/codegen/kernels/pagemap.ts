// Maps and unmaps runs of pages in a four-level table, taking tables from a free list.

const ROOT: usize = 0x20000;
const POOL: usize = 0x21000;
const POOL_TABLES: u32 = 96;
const FREE: usize = 0x10_0000; // head of the free list
const PRESENT: u64 = 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

export function setup(): void {
  memory.fill(ROOT, 0, 0x1000);
  store<u64>(FREE, 0);
  for (let i: u32 = 0; i < POOL_TABLES; i++) freeTable(POOL + (i << 12));
}

function freeTable(table: usize): void {
  store<u64>(table, load<u64>(FREE));
  store<u64>(FREE, <u64>table);
}

/** A table of zeros, or 0. */
function allocTable(): usize {
  const table = <usize>load<u64>(FREE);
  if (table == 0) return 0;
  store<u64>(FREE, load<u64>(table));
  memory.fill(table, 0, 0x1000);
  return table;
}

/** Address of the leaf entry for `va`, making tables on the way; 0 if none is left. */
function leaf(va: u64, make: bool): usize {
  let table = ROOT;
  for (let shift: u32 = 39; shift > 12; shift -= 9) {
    const at = table + ((<usize>(va >> shift) & 511) << 3);
    let entry = load<u64>(at);
    if (!(entry & PRESENT)) {
      if (!make) return 0;
      const fresh = allocTable();
      if (fresh == 0) return 0;
      entry = <u64>fresh | PRESENT;
      store<u64>(at, entry);
    }
    table = <usize>(entry & ADDRESS);
  }
  return table + ((<usize>(va >> 12) & 511) << 3);
}

function map(va: u64, pa: u64, pages: u32, flags: u64): u32 {
  for (let i: u32 = 0; i < pages; i++) {
    const at = leaf(va, true);
    if (at == 0) return i;
    store<u64>(at, (pa & ADDRESS) | flags | PRESENT);
    va += 0x1000;
    pa += 0x1000;
  }
  return pages;
}

function unmap(va: u64, pages: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < pages; i++) {
    const at = leaf(va, false);
    if (at != 0) {
      sum += load<u64>(at);
      store<u64>(at, 0);
    }
    va += 0x1000;
  }
  return sum;
}

export function run(n: u32): u64 {
  setup();
  let sum: u64 = 0;
  let random: u64 = 7;
  for (let i: u32 = 0; i < n; i++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const va = (random >> 30) & 0x7ff_f000;
    const pages = <u32>(random >> 24) & 31;
    sum += map(va, random >> 8, pages, 6);
    sum += unmap(va + 0x2000, pages);
  }
  return sum;
}
