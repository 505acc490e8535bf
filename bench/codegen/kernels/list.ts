// Linked lists in a pool: insertion in order, search, removal, and a queue of ready items by priority.

const NODES: usize = 0x20000;
const HEADS: usize = 0x60000;
const QUEUES: u32 = 16;
const COUNT: u32 = 1024;

@unmanaged
class Node {
  next: usize;
  key: u32;
  weight: u64;
}

function node(i: u32): Node {
  return changetype<Node>(NODES + i * 16);
}

export function setup(): void {
  let random: u32 = 77;
  for (let i: u32 = 0; i < COUNT; i++) {
    random = random * 1664525 + 1013904223;
    node(i).key = random >> 8;
    node(i).weight = i;
  }
}

function insert(queue: usize, item: Node): void {
  let link = queue;
  for (let at = load<usize>(link); at != 0 && changetype<Node>(at).key < item.key; at = load<usize>(link)) link = at;
  item.next = load<usize>(link);
  store<usize>(link, changetype<usize>(item));
}

function weightOf(queue: usize): u64 {
  let sum: u64 = 0;
  for (let at = load<usize>(queue); at != 0; at = changetype<Node>(at).next) {
    const item = changetype<Node>(at);
    sum = sum * 7 + item.weight;
    item.weight += 1;
  }
  return sum;
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let round: u32 = 0; round < n; round++) {
    memory.fill(HEADS, 0, QUEUES * 4);
    for (let i: u32 = 0; i < COUNT; i++) {
      const item = node(i);
      item.key = item.key * 1103515245 + 12345;
      insert(HEADS + ((item.key >> 28) << 2), item);
    }
    for (let q: u32 = 0; q < QUEUES; q++) sum += weightOf(HEADS + (q << 2));
  }
  return sum;
}
