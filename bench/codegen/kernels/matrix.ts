// Products of matrices of integers, and their transposes.

const A: usize = 0x20000;
const B: usize = 0x30000;
const C: usize = 0x40000;
const SIZE: u32 = 32;

export function setup(): void {
  let random: u32 = 9;
  for (let i: u32 = 0; i < SIZE * SIZE; i++) {
    random = random * 1664525 + 1013904223;
    store<u32>(A + (i << 2), random >> 8);
    store<u32>(B + (i << 2), random >> 4);
  }
}

function at(matrix: usize, row: u32, column: u32): usize {
  return matrix + ((row * SIZE + column) << 2);
}

function multiply(): void {
  for (let i: u32 = 0; i < SIZE; i++)
    for (let j: u32 = 0; j < SIZE; j++) {
      let sum: u32 = 0;
      for (let k: u32 = 0; k < SIZE; k++) sum += load<u32>(at(A, i, k)) * load<u32>(at(B, k, j));
      store<u32>(at(C, i, j), sum);
    }
}

function transpose(): void {
  for (let i: u32 = 0; i < SIZE; i++)
    for (let j: u32 = 0; j < i; j++) {
      const one = load<u32>(at(C, i, j));
      store<u32>(at(C, i, j), load<u32>(at(C, j, i)));
      store<u32>(at(C, j, i), one);
    }
}

export function run(n: u32): u64 {
  let sum: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    multiply();
    transpose();
    store<u32>(A + ((i & 1023) << 2), load<u32>(C + ((i & 1023) << 2)));
    sum = sum * 5 + load<u32>(at(C, 3, 7));
  }
  return sum;
}
