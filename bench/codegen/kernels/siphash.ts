// SipHash-2-4 of short keys, as a hash table would use it.

const DATA: usize = 0x20000;

export function setup(): void {
  for (let i: u32 = 0; i < 4096; i++) store<u8>(DATA + i, <u8>(i * 29 + 3));
}

function siphash(from: usize, bytes: usize, k0: u64, k1: u64): u64 {
  let v0 = k0 ^ 0x736f6d6570736575;
  let v1 = k1 ^ 0x646f72616e646f6d;
  let v2 = k0 ^ 0x6c7967656e657261;
  let v3 = k1 ^ 0x7465646279746573;
  const whole = bytes & ~7;
  let tail: u64 = (<u64>bytes) << 56;
  for (let i = whole; i < bytes; i++) tail |= (<u64>load<u8>(from + i)) << ((<u64>(i - whole)) << 3);
  for (let i: usize = 0; i <= whole; i += 8) {
    const word = i < whole ? load<u64>(from + i) : tail;
    v3 ^= word;
    for (let k: u32 = 0; k < 2; k++) {
      v0 += v1;
      v1 = rotl<u64>(v1, 13) ^ v0;
      v0 = rotl<u64>(v0, 32);
      v2 += v3;
      v3 = rotl<u64>(v3, 16) ^ v2;
      v0 += v3;
      v3 = rotl<u64>(v3, 21) ^ v0;
      v2 += v1;
      v1 = rotl<u64>(v1, 17) ^ v2;
      v2 = rotl<u64>(v2, 32);
    }
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (let k: u32 = 0; k < 4; k++) {
    v0 += v1;
    v1 = rotl<u64>(v1, 13) ^ v0;
    v0 = rotl<u64>(v0, 32);
    v2 += v3;
    v3 = rotl<u64>(v3, 16) ^ v2;
    v0 += v3;
    v3 = rotl<u64>(v3, 21) ^ v0;
    v2 += v1;
    v1 = rotl<u64>(v1, 17) ^ v2;
    v2 = rotl<u64>(v2, 32);
  }
  return v0 ^ v1 ^ v2 ^ v3;
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) sum += siphash(DATA + (i & 1023), 8 + (i & 31), 0x0706050403020100, sum);
  return sum;
}
