#include "kernel.h"

enum { BYTES = 0x4000 };
static uint8_t text[BYTES];

void utf8_setup(void) {
  uint32_t random = 5, at = 0;
  while (at < BYTES - 4) {
    random = random * 1664525 + 1013904223;
    uint32_t kind = random >> 29, bits = random >> 8 & 0xffff;
    if (kind < 5) {
      text[at++] = bits & 0x7f;
    } else if (kind == 5) {
      text[at++] = 0xc4 | (bits & 15);
      text[at++] = 0x80 | bits >> 10;
    } else if (kind == 6) {
      text[at++] = 0xe1 + (bits & 7);
      text[at++] = 0x80 | (bits >> 4 & 63);
      text[at++] = 0x80 | bits >> 10;
    } else {
      text[at++] = bits;
    }
  }
  while (at < BYTES) text[at++] = 0x20;
}

static uint64_t decode(const uint8_t *from, uint32_t bytes) {
  uint32_t needed = 0, point = 0, count = 0, bad = 0;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < bytes; i++) {
    uint32_t byte = from[i];
    if (needed > 0) {
      if ((byte & 0xc0) == 0x80) {
        point = point << 6 | (byte & 63);
        needed--;
        if (needed == 0) {
          count++;
          sum += point;
        }
        continue;
      }
      bad++;
      needed = 0;
    }
    if (byte < 0x80) {
      count++;
      sum += byte;
    } else if (byte >= 0xc2 && byte <= 0xdf) {
      needed = 1;
      point = byte & 31;
    } else if (byte >= 0xe0 && byte <= 0xef) {
      needed = 2;
      point = byte & 15;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
      needed = 3;
      point = byte & 7;
    } else {
      bad++;
    }
  }
  return sum + ((uint64_t)count << 32) + ((uint64_t)bad << 48);
}

uint64_t utf8_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum = sum * 3 + decode(text + (i & 7), BYTES - 8);
  return sum;
}
