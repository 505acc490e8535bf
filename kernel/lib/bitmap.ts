// Bits in linear memory, 64 to a word: `map` is 8-byte aligned. Not atomic: the owner's lock covers it.

export function testBit(map: usize, index: u32): bool {
  return ((load<u64>(map + ((<usize>(index >> 6)) << 3)) >> (index & 63)) & 1) != 0;
}

export function setBit(map: usize, index: u32): void {
  const at = map + ((<usize>(index >> 6)) << 3);
  store<u64>(at, load<u64>(at) | ((<u64>1) << (index & 63)));
}

export function clearBit(map: usize, index: u32): void {
  const at = map + ((<usize>(index >> 6)) << 3);
  store<u64>(at, load<u64>(at) & ~((<u64>1) << (index & 63)));
}

/** Index of the first set bit below `bitCount`, or -1. */
export function firstSet(map: usize, bitCount: u32): i32 {
  for (let i: u32 = 0; i < bitCount; i += 64) {
    const word = load<u64>(map + <usize>(i >> 3));
    if (word == 0) continue;
    const index = i + <u32>ctz(word);
    return index < bitCount ? index : -1;
  }
  return -1;
}
