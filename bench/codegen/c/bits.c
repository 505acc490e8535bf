#include "kernel.h"

enum { COUNT = 0x400 };
static uint64_t words[COUNT];

void bits_setup(void) {
  uint64_t random = 0x9e3779b97f4a7c15;
  for (uint32_t i = 0; i < COUNT; i++) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    words[i] = random;
  }
}

static uint64_t reverse(uint64_t word) {
  word = (word >> 1 & 0x5555555555555555) | (word & 0x5555555555555555) << 1;
  word = (word >> 2 & 0x3333333333333333) | (word & 0x3333333333333333) << 2;
  word = (word >> 4 & 0x0f0f0f0f0f0f0f0f) | (word & 0x0f0f0f0f0f0f0f0f) << 4;
  return __builtin_bswap64(word);
}

static uint64_t spread(uint32_t word) {
  uint64_t wide = word;
  wide = (wide | wide << 16) & 0x0000ffff0000ffff;
  wide = (wide | wide << 8) & 0x00ff00ff00ff00ff;
  wide = (wide | wide << 4) & 0x0f0f0f0f0f0f0f0f;
  wide = (wide | wide << 2) & 0x3333333333333333;
  return (wide | wide << 1) & 0x5555555555555555;
}

static uint64_t common(uint64_t a, uint64_t b) {
  while (b != 0) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static uint64_t rotate(uint64_t word, uint32_t count) { return word << (count & 63) | word >> (-count & 63); }

static uint64_t round_of(uint64_t start) {
  uint64_t sum = start;
  for (uint32_t i = 0; i < COUNT; i++) {
    uint64_t word = words[i];
    sum += (word ? __builtin_clzll(word) : 64) + ((uint64_t)(word ? __builtin_ctzll(word) : 64) << 8);
    sum = rotate(sum, i) ^ reverse(word);
    sum += spread(word) | spread(word >> 32) << 1;
    sum ^= word & -word;
    sum += (word & (word - 1)) == 0 ? 1 : word / (i + 3);
    if ((i & 31) == 0) sum += common(word >> 40, sum >> 40);
  }
  return sum;
}

uint64_t bits_run(uint32_t n) {
  uint64_t sum = 1;
  for (uint32_t i = 0; i < n; i++) sum = round_of(sum);
  return sum;
}
