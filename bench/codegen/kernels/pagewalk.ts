// Four-level page-table walks with 4 KiB, 2 MiB and 1 GiB leaves. Physical addresses are indices of linear memory.

const ROOT: usize = 0x20000;
const PRESENT: u64 = 1;
const LARGE: u64 = 0x80;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

export function setup(): void {
  let next: usize = ROOT + 0x1000;
  memory.fill(ROOT, 0, 0x40000);
  const pdpt = next;
  next += 0x1000;
  store<u64>(ROOT, <u64>pdpt | PRESENT);
  const pd = next;
  next += 0x1000;
  store<u64>(pdpt, <u64>pd | PRESENT);
  for (let i: u32 = 1; i < 4; i++) store<u64>(pdpt + (i << 3), ((<u64>i) << 30) | LARGE | PRESENT);
  for (let i: u32 = 0; i < 32; i++) {
    store<u64>(pd + (i << 3), <u64>next | PRESENT);
    for (let k: u32 = 0; k < 512; k++)
      if (k % 7 != 3) store<u64>(next + (k << 3), ((<u64>(i * 512 + k) * 0x3000) & ADDRESS) | PRESENT);
    next += 0x1000;
  }
  for (let i: u32 = 32; i < 256; i++) store<u64>(pd + (i << 3), ((<u64>i) << 21) | LARGE | PRESENT);
}

/** Physical address of `va`, or all ones if it is not mapped. */
function translate(va: u64): u64 {
  let table: u64 = <u64>ROOT;
  for (let shift: u32 = 39; shift > 12; shift -= 9) {
    const entry = load<u64>(<usize>table + ((<usize>(va >> shift) & 511) << 3));
    if (!(entry & PRESENT)) return u64.MAX_VALUE;
    if (entry & LARGE) {
      const mask = ((<u64>1) << shift) - 1;
      return (entry & ADDRESS & ~mask) | (va & mask);
    }
    table = entry & ADDRESS;
  }
  const entry = load<u64>(<usize>table + ((<usize>(va >> 12) & 511) << 3));
  if (!(entry & PRESENT)) return u64.MAX_VALUE;
  return (entry & ADDRESS) | (va & 0xfff);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  let random: u64 = 1;
  for (let i: u32 = 0; i < n; i++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const mask: u64 = random >> 62 == 0 ? 0x1_ffff_ffff : 0x07ff_ffff;
    sum += translate((random >> 20) & mask);
  }
  return sum;
}
