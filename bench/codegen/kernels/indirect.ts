// Calls through a table: operations chosen by data, and a comparator passed to a search.

const OPS: usize = 0x20000;
const KEYS: usize = 0x30000;
const COUNT: u32 = 0x1000;

type Operation = (a: u64, b: u64) => u64;
function add(a: u64, b: u64): u64 {
  return a + b;
}
function mix(a: u64, b: u64): u64 {
  return rotl<u64>(a, 9) ^ b;
}
function take(a: u64, b: u64): u64 {
  return a - (b >> 3);
}
function spread(a: u64, b: u64): u64 {
  return (a | b) * 0x9e3779b97f4a7c15;
}
const operations: StaticArray<Operation> = [add, mix, take, spread];

type Compare = (a: u32, b: u32) => i32;
function ascending(a: u32, b: u32): i32 {
  return a < b ? -1 : a > b ? 1 : 0;
}
function byLowBits(a: u32, b: u32): i32 {
  return <i32>(a & 0xfffff) - <i32>(b & 0xfffff);
}

export function setup(): void {
  let random: u32 = 3;
  for (let i: u32 = 0; i < COUNT; i++) {
    random = random * 1664525 + 1013904223;
    store<u8>(OPS + i, <u8>(random >> 30));
    store<u32>(KEYS + (i << 2), i * 37);
  }
}

function search(key: u32, compare: Compare): u32 {
  let low: u32 = 0;
  let high = COUNT;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(load<u32>(KEYS + (middle << 2)), key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function run(n: u32): u64 {
  let value: u64 = 1;
  for (let i: u32 = 0; i < n; i++) {
    for (let k: u32 = 0; k < COUNT; k++) value = unchecked(operations[load<u8>(OPS + k)])(value, k);
    for (let k: u32 = 0; k < 64; k++) {
      const key = <u32>(value >> 20) & 0x1ffff;
      value += search(key + k, k & 1 ? ascending : byLowBits);
    }
  }
  return value;
}
