// A byte state machine: counts and sums the code points of UTF-8 text, rejecting what is malformed.

const TEXT: usize = 0x20000;
const BYTES: u32 = 0x4000;

export function setup(): void {
  let random: u32 = 5;
  let at: u32 = 0;
  while (at < BYTES - 4) {
    random = random * 1664525 + 1013904223;
    const kind = random >> 29;
    const bits = (random >> 8) & 0xffff;
    if (kind < 5) {
      store<u8>(TEXT + at++, <u8>(bits & 0x7f));
    } else if (kind == 5) {
      store<u8>(TEXT + at++, <u8>(0xc4 | (bits & 15)));
      store<u8>(TEXT + at++, <u8>(0x80 | (bits >> 10)));
    } else if (kind == 6) {
      store<u8>(TEXT + at++, <u8>(0xe1 + (bits & 7)));
      store<u8>(TEXT + at++, <u8>(0x80 | ((bits >> 4) & 63)));
      store<u8>(TEXT + at++, <u8>(0x80 | (bits >> 10)));
    } else {
      store<u8>(TEXT + at++, <u8>bits);
    }
  }
  while (at < BYTES) store<u8>(TEXT + at++, 0x20);
}

function decode(from: usize, bytes: u32): u64 {
  let needed: u32 = 0;
  let point: u32 = 0;
  let count: u32 = 0;
  let bad: u32 = 0;
  let sum: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const byte = <u32>load<u8>(from + i);
    if (needed > 0) {
      if ((byte & 0xc0) == 0x80) {
        point = (point << 6) | (byte & 63);
        needed--;
        if (needed == 0) {
          count++;
          sum += point;
        }
        continue;
      }
      bad++;
      needed = 0;
    }
    if (byte < 0x80) {
      count++;
      sum += byte;
    } else if (byte >= 0xc2 && byte <= 0xdf) {
      needed = 1;
      point = byte & 31;
    } else if (byte >= 0xe0 && byte <= 0xef) {
      needed = 2;
      point = byte & 15;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
      needed = 3;
      point = byte & 7;
    } else {
      bad++;
    }
  }
  return sum + ((<u64>count) << 32) + ((<u64>bad) << 48);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) sum = sum * 3 + decode(TEXT + (i & 7), BYTES - 8);
  return sum;
}
