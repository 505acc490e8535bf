// A ring with atomic head and tail, a ticket lock, a bitmap of pending bits and counters, as CPUs share them.

const RING: usize = 0x20000;
const HEAD: usize = 0x30000;
const TAIL: usize = 0x30040;
const TICKET: usize = 0x30080;
const SERVING: usize = 0x30084;
const PENDING: usize = 0x300c0;
const COUNTS: usize = 0x30100;
const SLOTS: u32 = 64;

export function setup(): void {
  memory.fill(HEAD, 0, 1024);
}

function push(value: u64): bool {
  const head = atomic.load<u32>(HEAD);
  if (head - atomic.load<u32>(TAIL) >= SLOTS) return false;
  store<u64>(RING + ((head & (SLOTS - 1)) << 3), value);
  atomic.store<u32>(HEAD, head + 1);
  return true;
}

function pop(): u64 {
  const tail = atomic.load<u32>(TAIL);
  if (tail == atomic.load<u32>(HEAD)) return 0;
  const value = load<u64>(RING + ((tail & (SLOTS - 1)) << 3));
  atomic.store<u32>(TAIL, tail + 1);
  return value;
}

function lock(): void {
  const ticket = atomic.add<u32>(TICKET, 1);
  while (atomic.load<u32>(SERVING) != ticket) {}
}

function unlock(): void {
  atomic.store<u32>(SERVING, load<u32>(SERVING) + 1);
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    for (let k: u32 = 0; k < 48; k++) push(((<u64>k) << 8) + i);
    for (let value = pop(); value != 0; value = pop()) {
      const bit = (<u64>1) << (value & 63);
      if ((atomic.or<u64>(PENDING, bit) & bit) != 0) atomic.and<u64>(PENDING, ~bit);
      sum += value;
    }
    lock();
    store<u64>(COUNTS, load<u64>(COUNTS) + 1);
    unlock();
    const old = atomic.load<u64>(COUNTS + 8);
    if (atomic.cmpxchg<u64>(COUNTS + 8, old, old + sum) == old) sum ^= old;
  }
  return sum + atomic.load<u64>(PENDING);
}
