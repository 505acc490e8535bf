// AES-128 encryption with four tables that are computed at set-up.

const T: usize = 0x20000; // 4 tables of 256 u32
const SBOX: usize = 0x21000;
const KEYS: usize = 0x21100; // 44 u32
const BLOCK: usize = 0x21200;

function twice(x: u32): u32 {
  return ((x << 1) ^ (x & 0x80 ? 0x11b : 0)) & 0xff;
}

export function setup(): void {
  let p: u32 = 1;
  let q: u32 = 1;
  do {
    p = (p ^ twice(p)) & 0xff;
    q ^= q << 1;
    q ^= q << 2;
    q ^= q << 4;
    q &= 0xff;
    if (q & 0x80) q ^= 0x09;
    const x = q ^ (q << 1) ^ (q << 2) ^ (q << 3) ^ (q << 4);
    store<u8>(SBOX + p, <u8>((x ^ (x >> 8) ^ 0x63) & 0xff));
  } while (p != 1);
  store<u8>(SBOX, 0x63);
  for (let i: u32 = 0; i < 256; i++) {
    const s = <u32>load<u8>(SBOX + i);
    const word = twice(s) | (s << 8) | (s << 16) | ((twice(s) ^ s) << 24);
    for (let k: u32 = 0; k < 4; k++) store<u32>(T + (k << 10) + (i << 2), rotl<u32>(word, 8 * k));
  }
  expand();
}

function expand(): void {
  for (let i: u32 = 0; i < 4; i++) store<u32>(KEYS + (i << 2), 0x03020100 + i * 0x04040404);
  let constant: u32 = 1;
  for (let i: u32 = 4; i < 44; i++) {
    let word = load<u32>(KEYS + ((i - 1) << 2));
    if ((i & 3) == 0) {
      word = substitute(rotr<u32>(word, 8)) ^ constant;
      constant = twice(constant);
    }
    store<u32>(KEYS + (i << 2), load<u32>(KEYS + ((i - 4) << 2)) ^ word);
  }
}

function substitute(x: u32): u32 {
  return (
    <u32>load<u8>(SBOX + (x & 0xff)) |
    ((<u32>load<u8>(SBOX + ((x >> 8) & 0xff))) << 8) |
    ((<u32>load<u8>(SBOX + ((x >> 16) & 0xff))) << 16) |
    ((<u32>load<u8>(SBOX + (x >> 24))) << 24)
  );
}

function column(a: u32, b: u32, c: u32, d: u32): u32 {
  return (
    load<u32>(T + ((a & 0xff) << 2)) ^
    load<u32>(T + (((b >> 8) & 0xff) << 2), 0x400) ^
    load<u32>(T + (((c >> 16) & 0xff) << 2), 0x800) ^
    load<u32>(T + ((d >> 24) << 2), 0xc00)
  );
}

function lastColumn(a: u32, b: u32, c: u32, d: u32): u32 {
  return substitute((a & 0xff) | (b & 0xff00) | (c & 0xff0000) | (d & 0xff000000));
}

function encrypt(block: usize): void {
  let a = load<u32>(block) ^ load<u32>(KEYS);
  let b = load<u32>(block, 4) ^ load<u32>(KEYS, 4);
  let c = load<u32>(block, 8) ^ load<u32>(KEYS, 8);
  let d = load<u32>(block, 12) ^ load<u32>(KEYS, 12);
  for (let round: u32 = 1; round < 10; round++) {
    const key = KEYS + (round << 4);
    const w = column(a, b, c, d) ^ load<u32>(key);
    const x = column(b, c, d, a) ^ load<u32>(key, 4);
    const y = column(c, d, a, b) ^ load<u32>(key, 8);
    const z = column(d, a, b, c) ^ load<u32>(key, 12);
    a = w;
    b = x;
    c = y;
    d = z;
  }
  store<u32>(block, lastColumn(a, b, c, d) ^ load<u32>(KEYS, 160));
  store<u32>(block, lastColumn(b, c, d, a) ^ load<u32>(KEYS, 164), 4);
  store<u32>(block, lastColumn(c, d, a, b) ^ load<u32>(KEYS, 168), 8);
  store<u32>(block, lastColumn(d, a, b, c) ^ load<u32>(KEYS, 172), 12);
}

export function run(n: u32): u64 {
  store<u64>(BLOCK, 0x0706050403020100);
  store<u64>(BLOCK, 0x0f0e0d0c0b0a0908, 8);
  for (let i: u32 = 0; i < n; i++) encrypt(BLOCK);
  return load<u64>(BLOCK) ^ load<u64>(BLOCK, 8);
}
