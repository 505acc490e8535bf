// A frame allocator over a bitmap of 64-bit words: first zero from a hint, runs, frees, population count.

const WORDS: u32 = 1024;
const MAP: usize = 0x20000;
const HINT: usize = 0x30000;

export function setup(): void {
  memory.fill(MAP, 0, WORDS << 3);
  store<u32>(HINT, 0);
}

/** Index of a bit that was clear and is set now; ~0 if the map is full. */
function alloc(): u32 {
  const hint = load<u32>(HINT);
  for (let i: u32 = 0; i < WORDS; i++) {
    const word = (hint + i) & (WORDS - 1);
    const at = MAP + (word << 3);
    const bits = load<u64>(at);
    if (bits != u64.MAX_VALUE) {
      const bit = <u32>ctz(~bits);
      store<u64>(at, bits | ((<u64>1) << bit));
      store<u32>(HINT, word);
      return (word << 6) + bit;
    }
  }
  return u32.MAX_VALUE;
}

function free(index: u32): void {
  const at = MAP + ((index >> 6) << 3);
  store<u64>(at, load<u64>(at) & ~((<u64>1) << (index & 63)));
}

/** First index of `count` clear bits in a row; ~0 if there is none. */
function findRun(count: u32): u32 {
  let length: u32 = 0;
  for (let i: u32 = 0; i < WORDS << 6; i++) {
    const bits = load<u64>(MAP + ((i >> 6) << 3));
    if ((bits >> (i & 63)) & 1) {
      length = 0;
    } else {
      length++;
      if (length == count) return i + 1 - count;
    }
  }
  return u32.MAX_VALUE;
}

function population(): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < WORDS; i++) sum += popcnt(load<u64>(MAP + (i << 3)));
  return sum;
}

export function run(n: u32): u64 {
  setup();
  let sum: u64 = 0;
  let random: u32 = 12345;
  for (let i: u32 = 0; i < n; i++) {
    for (let k: u32 = 0; k < 400; k++) sum += alloc();
    for (let k: u32 = 0; k < 390; k++) {
      random = random * 1664525 + 1013904223;
      free((random >> 8) & ((WORDS << 6) - 1));
    }
    sum += findRun(24);
    sum = sum * 3 + population();
  }
  return sum;
}
