// Tight loops over memory: a checksum with carry, a minimum, a search for a byte, a comparison.

const A: usize = 0x20000;
const B: usize = 0x28000;
const BYTES: u32 = 0x4000;

export function setup(): void {
  for (let i: u32 = 0; i < BYTES; i++) {
    const byte = <u8>((i * 2654435761) >> 13) | 1;
    store<u8>(A + i, byte);
    store<u8>(B + i, byte);
  }
  store<u8>(A + BYTES - 3, 0);
  store<u8>(B + BYTES - 2, 0x55);
}

/** The Internet checksum. */
function checksum(from: usize, bytes: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < bytes; i += 2) {
    sum += load<u16>(from + i);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

function minimum(from: usize, count: u32): i32 {
  let least = i32.MAX_VALUE;
  for (let i: u32 = 0; i < count; i++) {
    const value = load<i32>(from + (i << 2));
    least = value < least ? value : least;
  }
  return least;
}

/** Index of the first `byte`, or `bytes`. */
function find(from: usize, byte: u32, bytes: u32): u32 {
  let i: u32 = 0;
  while (i < bytes && load<u8>(from + i) != byte) i++;
  return i;
}

/** Number of equal bytes in front. */
function match(a: usize, b: usize, bytes: u32): u32 {
  let i: u32 = 0;
  while (i < bytes && load<u8>(a + i) == load<u8>(b + i)) i++;
  return i;
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    sum += checksum(A + (i & 8), BYTES - 8);
    sum = sum * 3 + minimum(A + (i & 4), (BYTES - 4) >> 2);
    sum += find(A, 0, BYTES);
    sum += match(A, B, BYTES - 8);
  }
  return sum;
}
