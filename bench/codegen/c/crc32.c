#include "kernel.h"

enum { BYTES = 0x4000 };
static uint32_t table[256];
static uint8_t data[BYTES];

void crc32_setup(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
    table[i] = c;
  }
  for (uint32_t i = 0; i < BYTES; i++) data[i] = i * 7 + (i >> 3);
}

static uint32_t crc(const uint8_t *from, uint32_t bytes) {
  uint32_t c = 0xffffffff;
  for (uint32_t i = 0; i < bytes; i++) c = table[(c ^ from[i]) & 0xff] ^ c >> 8;
  return ~c;
}

uint64_t crc32_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum = sum * 5 + crc(data + (i & 15), BYTES - 16);
  return sum;
}
