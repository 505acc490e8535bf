#include "kernel.h"

enum { COUNT = 0x1000 };
static uint8_t ops[COUNT];
static uint32_t keys[COUNT];

typedef uint64_t (*operation)(uint64_t, uint64_t);
static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t mix(uint64_t a, uint64_t b) { return (a << 9 | a >> 55) ^ b; }
static uint64_t take(uint64_t a, uint64_t b) { return a - (b >> 3); }
static uint64_t spread(uint64_t a, uint64_t b) { return (a | b) * 0x9e3779b97f4a7c15u; }
static const operation operations[] = {add, mix, take, spread};

typedef int (*comparison)(uint32_t, uint32_t);
static int ascending(uint32_t a, uint32_t b) { return a < b ? -1 : a > b ? 1 : 0; }
static int by_low_bits(uint32_t a, uint32_t b) { return (int)(a & 0xfffff) - (int)(b & 0xfffff); }

void indirect_setup(void) {
  uint32_t random = 3;
  for (uint32_t i = 0; i < COUNT; i++) {
    random = random * 1664525 + 1013904223;
    ops[i] = random >> 30;
    keys[i] = i * 37;
  }
}

static uint32_t search(uint32_t key, comparison compare) {
  uint32_t low = 0, high = COUNT;
  while (low < high) {
    uint32_t middle = (low + high) >> 1;
    if (compare(keys[middle], key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

uint64_t indirect_run(uint32_t n) {
  uint64_t value = 1;
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < COUNT; k++) value = operations[ops[k]](value, k);
    for (uint32_t k = 0; k < 64; k++) {
      uint32_t key = (uint32_t)(value >> 20) & 0x1ffff;
      value += search(key + k, k & 1 ? ascending : by_low_bits);
    }
  }
  return value;
}
