// Call-heavy recursion: Fibonacci, Ackermann, a walk over a binary tree in memory.

const TREE: usize = 0x20000; // u32 left, u32 right, u64 value
const NODES: u32 = 1023;

export function setup(): void {
  for (let i: u32 = 0; i < NODES; i++) {
    const at = TREE + (i << 4);
    const left: u32 = 2 * i + 1;
    store<u32>(at, left < NODES ? <u32>TREE + (left << 4) : 0);
    store<u32>(at, left + 1 < NODES ? <u32>TREE + ((left + 1) << 4) : 0, 4);
    store<u64>(at, i * 3, 8);
  }
}

function fibonacci(n: u32): u32 {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

function ackermann(m: u32, n: u32): u32 {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

function depthSum(node: usize, depth: u64): u64 {
  if (node == 0) return 0;
  const below = depthSum(load<u32>(node), depth + 1) + depthSum(load<u32>(node, 4), depth + 1);
  return below + load<u64>(node, 8) * depth;
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++)
    sum = sum * 3 + fibonacci(16 + (i & 3)) + ackermann(2, 9 + (i & 3)) + depthSum(TREE, i);
  return sum;
}
