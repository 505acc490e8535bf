#include "kernel.h"

#define P1 0x9e3779b185ebca87u
#define P2 0xc2b2ae3d27d4eb4fu
#define P3 0x165667b19e3779f9u
#define P4 0x85ebca77c2b2ae63u
#define P5 0x27d4eb2f165667c5u
static uint8_t data[0x4000];

void xxhash_setup(void) {
  for (uint32_t i = 0; i < sizeof data; i++) data[i] = i * 131 + (i >> 7);
}

static uint64_t rotl(uint64_t x, int by) { return x << by | x >> (64 - by); }
static uint64_t read64(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, 8);
  return x;
}
static uint32_t read32(const uint8_t *p) {
  uint32_t x;
  memcpy(&x, p, 4);
  return x;
}
static uint64_t round64(uint64_t accumulator, uint64_t input) { return rotl(accumulator + input * P2, 31) * P1; }
static uint64_t merge(uint64_t hash, uint64_t accumulator) { return (hash ^ round64(0, accumulator)) * P1 + P4; }

static uint64_t xxh64(const uint8_t *p, size_t bytes, uint64_t seed) {
  const uint8_t *end = p + bytes;
  uint64_t hash;
  if (bytes >= 32) {
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    const uint8_t *limit = end - 32;
    do {
      a = round64(a, read64(p));
      b = round64(b, read64(p + 8));
      c = round64(c, read64(p + 16));
      d = round64(d, read64(p + 24));
      p += 32;
    } while (p <= limit);
    hash = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
    hash = merge(merge(merge(merge(hash, a), b), c), d);
  } else {
    hash = seed + P5;
  }
  hash += bytes;
  while (p + 8 <= end) {
    hash = rotl(hash ^ round64(0, read64(p)), 27) * P1 + P4;
    p += 8;
  }
  if (p + 4 <= end) {
    hash = rotl(hash ^ read32(p) * P1, 23) * P2 + P3;
    p += 4;
  }
  while (p < end) {
    hash = rotl(hash ^ *p * P5, 11) * P1;
    p++;
  }
  hash = (hash ^ hash >> 33) * P2;
  hash = (hash ^ hash >> 29) * P3;
  return hash ^ hash >> 32;
}

uint64_t xxhash_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    sum += xxh64(data + (i & 63), 4096 + (i & 31), sum);
    sum += xxh64(data + (i & 255), i & 63, sum);
  }
  return sum;
}
