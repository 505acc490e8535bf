// Heap sort of 64-bit keys.

const DATA: usize = 0x20000;
const COUNT: u32 = 2048;

export function setup(): void {}

function sift(root: u32, end: u32): void {
  const value = load<u64>(DATA + (root << 3));
  for (;;) {
    let child: u32 = 2 * root + 1;
    if (child >= end) break;
    if (child + 1 < end && load<u64>(DATA + (child << 3)) < load<u64>(DATA + ((child + 1) << 3))) child++;
    const largest = load<u64>(DATA + (child << 3));
    if (largest <= value) break;
    store<u64>(DATA + (root << 3), largest);
    root = child;
  }
  store<u64>(DATA + (root << 3), value);
}

function sort(): void {
  for (let i: u32 = COUNT / 2; i > 0; i--) sift(i - 1, COUNT);
  for (let end: u32 = COUNT - 1; end > 0; end--) {
    const last = load<u64>(DATA + (end << 3));
    store<u64>(DATA + (end << 3), load<u64>(DATA));
    store<u64>(DATA, last);
    sift(0, end);
  }
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  let random: u64 = 99;
  for (let round: u32 = 0; round < n; round++) {
    for (let i: u32 = 0; i < COUNT; i++) {
      random = random * 6364136223846793005 + 1442695040888963407;
      store<u64>(DATA + (i << 3), random ^ (random >> 29));
    }
    sort();
    sum = sum * 31 + load<u64>(DATA + ((round & (COUNT - 1)) << 3));
  }
  return sum;
}
