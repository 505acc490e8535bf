#include "kernel.h"

static uint8_t data[4096];

void siphash_setup(void) {
  for (uint32_t i = 0; i < sizeof data; i++) data[i] = i * 29 + 3;
}

static uint64_t rotl(uint64_t x, int by) { return x << by | x >> (64 - by); }

#define SIPROUND                                                                                                       \
  do {                                                                                                                 \
    v0 += v1;                                                                                                          \
    v1 = rotl(v1, 13) ^ v0;                                                                                            \
    v0 = rotl(v0, 32);                                                                                                 \
    v2 += v3;                                                                                                          \
    v3 = rotl(v3, 16) ^ v2;                                                                                            \
    v0 += v3;                                                                                                          \
    v3 = rotl(v3, 21) ^ v0;                                                                                            \
    v2 += v1;                                                                                                          \
    v1 = rotl(v1, 17) ^ v2;                                                                                            \
    v2 = rotl(v2, 32);                                                                                                 \
  } while (0)

static uint64_t siphash(const uint8_t *from, size_t bytes, uint64_t k0, uint64_t k1) {
  uint64_t v0 = k0 ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
  uint64_t v2 = k0 ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;
  size_t whole = bytes & ~(size_t)7;
  uint64_t tail = (uint64_t)bytes << 56;
  for (size_t i = whole; i < bytes; i++) tail |= (uint64_t)from[i] << ((i - whole) << 3);
  for (size_t i = 0; i <= whole; i += 8) {
    uint64_t word = tail;
    if (i < whole) memcpy(&word, from + i, 8);
    v3 ^= word;
    for (int k = 0; k < 2; k++) SIPROUND;
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (int k = 0; k < 4; k++) SIPROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t siphash_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += siphash(data + (i & 1023), 8 + (i & 31), 0x0706050403020100, sum);
  return sum;
}
