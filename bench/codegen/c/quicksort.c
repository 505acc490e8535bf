#include "kernel.h"

enum { COUNT = 4096 };
static uint32_t data[COUNT];

void quicksort_setup(void) {}

static void insertion(int low, int high) {
  for (int i = low + 1; i <= high; i++) {
    uint32_t value = data[i];
    int k = i;
    while (k > low) {
      uint32_t before = data[k - 1];
      if (before <= value) break;
      data[k] = before;
      k--;
    }
    data[k] = value;
  }
}

static void sort(int low, int high) {
  if (high - low < 12) {
    insertion(low, high);
    return;
  }
  uint32_t pivot = data[(low + high) >> 1];
  int i = low, k = high;
  while (i <= k) {
    while (data[i] < pivot) i++;
    while (data[k] > pivot) k--;
    if (i <= k) {
      uint32_t a = data[i];
      data[i] = data[k];
      data[k] = a;
      i++;
      k--;
    }
  }
  sort(low, k);
  sort(i, high);
}

uint64_t quicksort_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t round = 0; round < n; round++) {
    uint32_t random = round;
    for (uint32_t i = 0; i < COUNT; i++) {
      random = random * 1664525 + 1013904223;
      data[i] = random;
    }
    sort(0, COUNT - 1);
    sum = sum * 31 + data[round & (COUNT - 1)];
  }
  return sum;
}
