// Products of matrices of integers, and their transposes. Their size is known at run time only: gcc -O2 turns loops
// of a fixed count into vector instructions, which the core has no use for.

const A: usize = 0x20000;
const B: usize = 0x30000;
const C: usize = 0x40000;
const SIZE_AT: usize = 0x50000;
const SIZE: u32 = 31;

export function setup(): void {
  let random: u32 = 9;
  store<u32>(SIZE_AT, SIZE);
  for (let i: u32 = 0; i < SIZE * SIZE; i++) {
    random = random * 1664525 + 1013904223;
    store<u32>(A + (i << 2), random >> 8);
    store<u32>(B + (i << 2), random >> 4);
  }
}

function at(matrix: usize, size: u32, row: u32, column: u32): usize {
  return matrix + ((row * size + column) << 2);
}

function multiply(size: u32): void {
  for (let i: u32 = 0; i < size; i++)
    for (let j: u32 = 0; j < size; j++) {
      let sum: u32 = 0;
      for (let k: u32 = 0; k < size; k++) sum += load<u32>(at(A, size, i, k)) * load<u32>(at(B, size, k, j));
      store<u32>(at(C, size, i, j), sum);
    }
}

function transpose(size: u32): void {
  for (let i: u32 = 0; i < size; i++)
    for (let j: u32 = 0; j < i; j++) {
      const one = load<u32>(at(C, size, i, j));
      store<u32>(at(C, size, i, j), load<u32>(at(C, size, j, i)));
      store<u32>(at(C, size, j, i), one);
    }
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const size = load<u32>(SIZE_AT);
    multiply(size);
    transpose(size);
    store<u32>(A + ((i & 511) << 2), load<u32>(C + ((i & 511) << 2)));
    sum = sum * 5 + load<u32>(at(C, size, 3, 7));
  }
  return sum;
}
