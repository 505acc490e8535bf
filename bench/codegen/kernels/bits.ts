// Bit tricks: a bitmap's statistics, reversals, interleaving, a Galois shift register, division of 64-bit numbers.

const WORDS: usize = 0x20000;
const COUNT: u32 = 0x400;

export function setup(): void {
  let random: u64 = 0x9e3779b97f4a7c15;
  for (let i: u32 = 0; i < COUNT; i++) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    store<u64>(WORDS + (i << 3), random);
  }
}

function reverse(word: u64): u64 {
  word = ((word >> 1) & 0x5555555555555555) | ((word & 0x5555555555555555) << 1);
  word = ((word >> 2) & 0x3333333333333333) | ((word & 0x3333333333333333) << 2);
  word = ((word >> 4) & 0x0f0f0f0f0f0f0f0f) | ((word & 0x0f0f0f0f0f0f0f0f) << 4);
  return bswap<u64>(word);
}

function spread(word: u32): u64 {
  let wide = <u64>word;
  wide = (wide | (wide << 16)) & 0x0000ffff0000ffff;
  wide = (wide | (wide << 8)) & 0x00ff00ff00ff00ff;
  wide = (wide | (wide << 4)) & 0x0f0f0f0f0f0f0f0f;
  wide = (wide | (wide << 2)) & 0x3333333333333333;
  return (wide | (wide << 1)) & 0x5555555555555555;
}

function common(a: u64, b: u64): u64 {
  while (b != 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

function round(start: u64): u64 {
  let sum = start;
  for (let i: u32 = 0; i < COUNT; i++) {
    const word = load<u64>(WORDS + (i << 3));
    sum += clz(word) + (ctz(word) << 8);
    sum = rotl<u64>(sum, <u64>i) ^ reverse(word);
    sum += spread(<u32>word) | (spread(<u32>(word >> 32)) << 1);
    sum ^= word & -word;
    sum += (word & (word - 1)) == 0 ? 1 : word / (i + 3);
    if ((i & 31) == 0) sum += common(word >> 40, sum >> 40);
  }
  return sum;
}

export function run(n: u32): u64 {
  let sum: u64 = 1;
  for (let i: u32 = 0; i < n; i++) sum = round(sum);
  return sum;
}
