#include "kernel.h"

static uint8_t a[0x10000], b[0x10000];

void copyfill_setup(void) {
  memset(b, 0, sizeof b);
  for (uint32_t i = 0; i < 0x8000; i++) a[i] = i * 3 + (i >> 6);
}

static void copy_words(void *to, const void *from, uint32_t words) {
  uint64_t *t = to;
  const uint64_t *f = from;
  for (uint32_t i = 0; i < words; i++) t[i] = f[i];
}

static void fill_words(void *to, uint32_t value, uint32_t words) {
  uint32_t *t = to;
  for (uint32_t i = 0; i < words; i++) t[i] = value;
}

static uint64_t read64(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, 8);
  return x;
}

uint64_t copyfill_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t at = i * 40 & 0x3ff8;
    memmove(b + at, a + (at ^ 0x1000), 24);
    memmove(b + 64 + at, a + at, (i & 127) + 8);
    memset(b + 512 + at, i, (i & 63) + 1);
    memmove(b, a + 8, 4096);
    memset(b + 0x4000, i >> 3, 4096);
    copy_words(b + 0x2000, a + at, 512);
    fill_words(b + 0x3000, i, 256);
    sum = sum * 7 + read64(b + at) + read64(b + 0x2000 + (at & 0xff8));
  }
  return sum;
}
