// Copies and fills: library calls of short and long lengths, and loops over words by hand.

const A: usize = 0x20000;
const B: usize = 0x30000;

export function setup(): void {
  for (let i: u32 = 0; i < 0x8000; i++) store<u8>(A + i, <u8>(i * 3 + (i >> 6)));
}

function copyWords(to: usize, from: usize, words: u32): void {
  for (let i: u32 = 0; i < words; i++) store<u64>(to + (i << 3), load<u64>(from + (i << 3)));
}

function fillWords(to: usize, value: u32, words: u32): void {
  for (let i: u32 = 0; i < words; i++) store<u32>(to + (i << 2), value);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const at = (i * 40) & 0x3ff8;
    memory.copy(B + at, A + (at ^ 0x1000), 24);
    memory.copy(B + 64 + at, A + at, (i & 127) + 8);
    memory.fill(B + 512 + at, <u8>i, (i & 63) + 1);
    memory.copy(B, A + 8, 4096);
    memory.fill(B + 0x4000, <u8>(i >> 3), 4096);
    copyWords(B + 0x2000, A + at, 512);
    fillWords(B + 0x3000, i, 256);
    sum = sum * 7 + load<u64>(B + at) + load<u64>(B + 0x2000 + (at & 0xff8));
  }
  return sum;
}
