#include "kernel.h"

enum { BYTES = 0x4000 };
static uint8_t text[BYTES];

static uint32_t pick(uint32_t random) {
  uint32_t kind = random >> 28;
  if (kind < 7) return 'a' + (random >> 8 & 15);
  if (kind < 11) return '0' + (random >> 8 & 7);
  if (kind < 13) return ' ';
  if (kind == 13) return '\n';
  return kind == 14 ? '=' : 'A' + (random >> 8 & 15);
}

void parse_setup(void) {
  uint32_t random = 17;
  for (uint32_t i = 0; i < BYTES; i++) {
    random = random * 1664525 + 1013904223;
    text[i] = pick(random);
  }
}

static int is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static int is_letter(uint32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static uint64_t parse(void) {
  uint32_t at = 0, words = 0, signs = 0;
  uint64_t sum = 0;
  while (at < BYTES) {
    uint32_t c = text[at];
    if (is_digit(c)) {
      uint64_t value = 0;
      while (at < BYTES && is_digit(text[at])) {
        value = value * 10 + (text[at] - '0');
        at++;
      }
      sum += value;
    } else if (is_letter(c)) {
      uint32_t hash = 5381;
      while (at < BYTES) {
        uint32_t letter = text[at];
        if (!is_letter(letter) && !is_digit(letter)) break;
        hash = (hash << 5) + hash + letter;
        at++;
      }
      words++;
      sum ^= hash;
    } else {
      if (c != ' ' && c != '\n') signs++;
      at++;
    }
  }
  return sum + ((uint64_t)words << 32) + ((uint64_t)signs << 48);
}

uint64_t parse_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum = sum * 3 + parse();
  return sum;
}
