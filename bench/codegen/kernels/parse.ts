// A text parser: words, numbers and signs of a configuration language, one pass over the bytes.

const TEXT: usize = 0x20000;
const BYTES: u32 = 0x4000;

function pick(random: u32): u32 {
  const kind = random >> 28;
  if (kind < 7) return 0x61 + ((random >> 8) & 15);
  if (kind < 11) return 0x30 + ((random >> 8) & 7);
  if (kind < 13) return 0x20;
  if (kind == 13) return 0x0a;
  return kind == 14 ? 0x3d : 0x41 + ((random >> 8) & 15);
}

export function setup(): void {
  let random: u32 = 17;
  for (let i: u32 = 0; i < BYTES; i++) {
    random = random * 1664525 + 1013904223;
    store<u8>(TEXT + i, <u8>pick(random));
  }
}

function isDigit(c: u32): bool {
  return c >= 0x30 && c <= 0x39;
}

function isLetter(c: u32): bool {
  return (c >= 0x61 && c <= 0x7a) || (c >= 0x41 && c <= 0x5a) || c == 0x5f;
}

function parse(): u64 {
  let at: u32 = 0;
  let words: u32 = 0;
  let signs: u32 = 0;
  let sum: u64 = 0;
  while (at < BYTES) {
    const c = <u32>load<u8>(TEXT + at);
    if (isDigit(c)) {
      let value: u64 = 0;
      while (at < BYTES && isDigit(load<u8>(TEXT + at))) {
        value = value * 10 + (load<u8>(TEXT + at) - 0x30);
        at++;
      }
      sum += value;
    } else if (isLetter(c)) {
      let hash: u32 = 5381;
      while (at < BYTES) {
        const letter = <u32>load<u8>(TEXT + at);
        if (!isLetter(letter) && !isDigit(letter)) break;
        hash = (hash << 5) + hash + letter;
        at++;
      }
      words++;
      sum ^= hash;
    } else {
      if (c != 0x20 && c != 0x0a) signs++;
      at++;
    }
  }
  return sum + ((<u64>words) << 32) + ((<u64>signs) << 48);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) sum = sum * 3 + parse();
  return sum;
}
