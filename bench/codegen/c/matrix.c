#include "kernel.h"

enum { SIZE = 32 };
static uint32_t a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

void matrix_setup(void) {
  uint32_t random = 9;
  for (uint32_t i = 0; i < SIZE * SIZE; i++) {
    random = random * 1664525 + 1013904223;
    a[i / SIZE][i % SIZE] = random >> 8;
    b[i / SIZE][i % SIZE] = random >> 4;
  }
}

static void multiply(void) {
  for (uint32_t i = 0; i < SIZE; i++)
    for (uint32_t j = 0; j < SIZE; j++) {
      uint32_t sum = 0;
      for (uint32_t k = 0; k < SIZE; k++) sum += a[i][k] * b[k][j];
      c[i][j] = sum;
    }
}

static void transpose(void) {
  for (uint32_t i = 0; i < SIZE; i++)
    for (uint32_t j = 0; j < i; j++) {
      uint32_t one = c[i][j];
      c[i][j] = c[j][i];
      c[j][i] = one;
    }
}

uint64_t matrix_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    multiply();
    transpose();
    uint32_t place = i & 1023;
    a[place / SIZE][place % SIZE] = c[place / SIZE][place % SIZE];
    sum = sum * 5 + c[3][7];
  }
  return sum;
}
