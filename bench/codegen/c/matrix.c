#include "kernel.h"

enum { SIZE = 31 };
static uint32_t a[SIZE * SIZE], b[SIZE * SIZE], c[SIZE * SIZE];
static uint32_t size_now;

void matrix_setup(void) {
  uint32_t random = 9;
  size_now = SIZE;
  for (uint32_t i = 0; i < SIZE * SIZE; i++) {
    random = random * 1664525 + 1013904223;
    a[i] = random >> 8;
    b[i] = random >> 4;
  }
}

static void multiply(uint32_t size) {
  for (uint32_t i = 0; i < size; i++)
    for (uint32_t j = 0; j < size; j++) {
      uint32_t sum = 0;
      for (uint32_t k = 0; k < size; k++) sum += a[i * size + k] * b[k * size + j];
      c[i * size + j] = sum;
    }
}

static void transpose(uint32_t size) {
  for (uint32_t i = 0; i < size; i++)
    for (uint32_t j = 0; j < i; j++) {
      uint32_t one = c[i * size + j];
      c[i * size + j] = c[j * size + i];
      c[j * size + i] = one;
    }
}

uint64_t matrix_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t size = *(volatile uint32_t *)&size_now;
    multiply(size);
    transpose(size);
    a[i & 511] = c[i & 511];
    sum = sum * 5 + c[3 * size + 7];
  }
  return sum;
}
