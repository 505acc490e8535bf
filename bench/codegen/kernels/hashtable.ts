// A chained hash table with nodes from a free list: insert, find, remove.

@unmanaged
class Entry {
  next: usize;
  uses: u32;
  key: u64;
  value: u64;
}
const BUCKETS: usize = 0x20000;
const BUCKET_COUNT: u32 = 1024;
const POOL: usize = 0x22000;
const POOL_COUNT: u32 = 2048;
const FREE: usize = 0x1fff0;

export function setup(): void {
  memory.fill(BUCKETS, 0, BUCKET_COUNT << 2);
  store<u32>(FREE, 0);
  for (let i: u32 = 0; i < POOL_COUNT; i++) release(changetype<Entry>(POOL + i * <usize>offsetof<Entry>()));
}

function release(entry: Entry): void {
  entry.next = load<u32>(FREE);
  store<u32>(FREE, <u32>changetype<usize>(entry));
}

function bucket(key: u64): usize {
  return BUCKETS + ((<usize>((key * 0x9e3779b97f4a7c15) >> 40) & (BUCKET_COUNT - 1)) << 2);
}

function find(key: u64): usize {
  let at = <usize>load<u32>(bucket(key));
  while (at) {
    const entry = changetype<Entry>(at);
    if (entry.key == key) return at;
    at = entry.next;
  }
  return 0;
}

function insert(key: u64, value: u64): bool {
  const found = find(key);
  if (found) {
    const entry = changetype<Entry>(found);
    entry.value = value;
    entry.uses++;
    return true;
  }
  const free = <usize>load<u32>(FREE);
  if (!free) return false;
  const entry = changetype<Entry>(free);
  store<u32>(FREE, <u32>entry.next);
  const head = bucket(key);
  entry.key = key;
  entry.value = value;
  entry.uses = 1;
  entry.next = load<u32>(head);
  store<u32>(head, <u32>free);
  return true;
}

function remove(key: u64): u64 {
  let link = bucket(key);
  let at = <usize>load<u32>(link);
  while (at) {
    const entry = changetype<Entry>(at);
    if (entry.key == key) {
      store<u32>(link, <u32>entry.next);
      const value = entry.value + entry.uses;
      release(entry);
      return value;
    }
    link = at + offsetof<Entry>("next");
    at = entry.next;
  }
  return 0;
}

export function run(n: u32): u64 {
  setup();
  let sum: u64 = 0;
  let random: u64 = 17;
  for (let i: u32 = 0; i < n; i++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const key = (random >> 40) & 0xfff;
    if (insert(key, random)) sum++;
    const found = find((random >> 20) & 0xfff);
    if (found) sum += changetype<Entry>(found).value;
    sum += remove((random >> 50) & 0xfff);
  }
  return sum;
}
