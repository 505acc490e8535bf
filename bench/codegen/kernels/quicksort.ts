// Quicksort by recursion with insertion sort below 12 elements.

const DATA: usize = 0x20000;
const COUNT: u32 = 4096;

export function setup(): void {}

function insertion(low: i32, high: i32): void {
  for (let i = low + 1; i <= high; i++) {
    const value = load<u32>(DATA + ((<usize>i) << 2));
    let k = i;
    while (k > low) {
      const before = load<u32>(DATA + ((<usize>(k - 1)) << 2));
      if (before <= value) break;
      store<u32>(DATA + ((<usize>k) << 2), before);
      k--;
    }
    store<u32>(DATA + ((<usize>k) << 2), value);
  }
}

function sort(low: i32, high: i32): void {
  if (high - low < 12) {
    insertion(low, high);
    return;
  }
  const pivot = load<u32>(DATA + ((<usize>((low + high) >> 1)) << 2));
  let i = low;
  let k = high;
  while (i <= k) {
    while (load<u32>(DATA + ((<usize>i) << 2)) < pivot) i++;
    while (load<u32>(DATA + ((<usize>k) << 2)) > pivot) k--;
    if (i <= k) {
      const a = load<u32>(DATA + ((<usize>i) << 2));
      store<u32>(DATA + ((<usize>i) << 2), load<u32>(DATA + ((<usize>k) << 2)));
      store<u32>(DATA + ((<usize>k) << 2), a);
      i++;
      k--;
    }
  }
  sort(low, k);
  sort(i, high);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let round: u32 = 0; round < n; round++) {
    let random: u32 = round;
    for (let i: u32 = 0; i < COUNT; i++) {
      random = random * 1664525 + 1013904223;
      store<u32>(DATA + (i << 2), random);
    }
    sort(0, COUNT - 1);
    sum = sum * 31 + load<u32>(DATA + ((round & (COUNT - 1)) << 2));
  }
  return sum;
}
