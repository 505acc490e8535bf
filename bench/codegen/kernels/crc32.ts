// CRC-32 by a table, a byte a step.

const TABLE: usize = 0x20000;
const DATA: usize = 0x21000;
const BYTES: u32 = 0x4000;

export function setup(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0xedb88320 : c >> 1;
    store<u32>(TABLE + (i << 2), c);
  }
  for (let i: u32 = 0; i < BYTES; i++) store<u8>(DATA + i, <u8>(i * 7 + (i >> 3)));
}

function crc(from: usize, bytes: u32): u32 {
  let c: u32 = 0xffff_ffff;
  for (let i: u32 = 0; i < bytes; i++) c = load<u32>(TABLE + (((c ^ load<u8>(from + i)) & 0xff) << 2)) ^ (c >> 8);
  return ~c;
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) sum = sum * 5 + crc(DATA + (i & 15), BYTES - 16);
  return sum;
}
