#include "kernel.h"

enum { WORDS = 1024 };
static uint64_t map[WORDS];
static uint32_t hint;

void bitmap_setup(void) {
  memset(map, 0, sizeof map);
  hint = 0;
}

static uint32_t alloc(void) {
  for (uint32_t i = 0; i < WORDS; i++) {
    uint32_t word = (hint + i) & (WORDS - 1);
    uint64_t bits = map[word];
    if (bits != UINT64_MAX) {
      uint32_t bit = __builtin_ctzll(~bits);
      map[word] = bits | 1ull << bit;
      hint = word;
      return (word << 6) + bit;
    }
  }
  return UINT32_MAX;
}

static void release(uint32_t index) { map[index >> 6] &= ~(1ull << (index & 63)); }

static uint32_t find_run(uint32_t count) {
  uint32_t length = 0;
  for (uint32_t i = 0; i < WORDS << 6; i++) {
    if (map[i >> 6] >> (i & 63) & 1) {
      length = 0;
    } else {
      length++;
      if (length == count) return i + 1 - count;
    }
  }
  return UINT32_MAX;
}

static uint64_t population(void) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < WORDS; i++) sum += __builtin_popcountll(map[i]);
  return sum;
}

uint64_t bitmap_run(uint32_t n) {
  bitmap_setup();
  uint64_t sum = 0;
  uint32_t random = 12345;
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < 400; k++) sum += alloc();
    for (uint32_t k = 0; k < 390; k++) {
      random = random * 1664525 + 1013904223;
      release(random >> 8 & ((WORDS << 6) - 1));
    }
    sum += find_run(24);
    sum = sum * 3 + population();
  }
  return sum;
}
