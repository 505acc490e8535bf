#include "kernel.h"

enum { COUNT = 2048 };
static uint64_t data[COUNT];

void heapsort_setup(void) {}

static void sift(uint32_t root, uint32_t end) {
  uint64_t value = data[root];
  for (;;) {
    uint32_t child = 2 * root + 1;
    if (child >= end) break;
    if (child + 1 < end && data[child] < data[child + 1]) child++;
    uint64_t largest = data[child];
    if (largest <= value) break;
    data[root] = largest;
    root = child;
  }
  data[root] = value;
}

static void sort(void) {
  for (uint32_t i = COUNT / 2; i > 0; i--) sift(i - 1, COUNT);
  for (uint32_t end = COUNT - 1; end > 0; end--) {
    uint64_t last = data[end];
    data[end] = data[0];
    data[0] = last;
    sift(0, end);
  }
}

uint64_t heapsort_run(uint32_t n) {
  uint64_t sum = 0, random = 99;
  for (uint32_t round = 0; round < n; round++) {
    for (uint32_t i = 0; i < COUNT; i++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      data[i] = random ^ random >> 29;
    }
    sort();
    sum = sum * 31 + data[round & (COUNT - 1)];
  }
  return sum;
}
