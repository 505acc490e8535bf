#include "kernel.h"

enum { BYTES = 0x4000 };
static _Alignas(16) uint8_t a[BYTES], b[BYTES];

void loops_setup(void) {
  for (uint32_t i = 0; i < BYTES; i++) {
    uint8_t byte = (i * 2654435761u >> 13) | 1;
    a[i] = byte;
    b[i] = byte;
  }
  a[BYTES - 3] = 0;
  b[BYTES - 2] = 0x55;
}

static uint32_t checksum(const uint8_t *from, uint32_t bytes) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < bytes; i += 2) {
    uint16_t word;
    memcpy(&word, from + i, 2);
    sum += word;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

static int32_t minimum(const uint8_t *from, uint32_t count) {
  int32_t least = INT32_MAX;
  for (uint32_t i = 0; i < count; i++) {
    int32_t value;
    memcpy(&value, from + 4 * i, 4);
    least = value < least ? value : least;
  }
  return least;
}

static uint32_t find(const uint8_t *from, uint32_t byte, uint32_t bytes) {
  uint32_t i = 0;
  while (i < bytes && from[i] != byte) i++;
  return i;
}

static uint32_t match(const uint8_t *x, const uint8_t *y, uint32_t bytes) {
  uint32_t i = 0;
  while (i < bytes && x[i] == y[i]) i++;
  return i;
}

uint64_t loops_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    sum += checksum(a + (i & 8), BYTES - 8);
    sum = sum * 3 + minimum(a + (i & 4), (BYTES - 4) >> 2);
    sum += find(a, 0, BYTES);
    sum += match(a, b, BYTES - 8);
  }
  return sum;
}
