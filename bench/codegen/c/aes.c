#include "kernel.h"

static uint32_t T[4][256], keys[44];
static uint8_t sbox[256];

static uint32_t twice(uint32_t x) { return (x << 1 ^ (x & 0x80 ? 0x11b : 0)) & 0xff; }
static uint32_t rotl(uint32_t x, int by) { return x << (by & 31) | x >> (-by & 31); }

static uint32_t substitute(uint32_t x) {
  return sbox[x & 0xff] | (uint32_t)sbox[x >> 8 & 0xff] << 8 | (uint32_t)sbox[x >> 16 & 0xff] << 16 |
         (uint32_t)sbox[x >> 24] << 24;
}

static void expand(void) {
  for (uint32_t i = 0; i < 4; i++) keys[i] = 0x03020100 + i * 0x04040404;
  uint32_t constant = 1;
  for (uint32_t i = 4; i < 44; i++) {
    uint32_t word = keys[i - 1];
    if ((i & 3) == 0) {
      word = substitute(rotl(word, 24)) ^ constant;
      constant = twice(constant);
    }
    keys[i] = keys[i - 4] ^ word;
  }
}

void aes_setup(void) {
  uint32_t p = 1, q = 1;
  do {
    p = (p ^ twice(p)) & 0xff;
    q ^= q << 1;
    q ^= q << 2;
    q ^= q << 4;
    q &= 0xff;
    if (q & 0x80) q ^= 0x09;
    uint32_t x = q ^ q << 1 ^ q << 2 ^ q << 3 ^ q << 4;
    sbox[p] = x ^ x >> 8 ^ 0x63;
  } while (p != 1);
  sbox[0] = 0x63;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t s = sbox[i];
    uint32_t word = twice(s) | s << 8 | s << 16 | (twice(s) ^ s) << 24;
    for (int k = 0; k < 4; k++) T[k][i] = rotl(word, 8 * k);
  }
  expand();
}

static uint32_t column(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return T[0][a & 0xff] ^ T[1][b >> 8 & 0xff] ^ T[2][c >> 16 & 0xff] ^ T[3][d >> 24];
}

static uint32_t last_column(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return substitute((a & 0xff) | (b & 0xff00) | (c & 0xff0000) | (d & 0xff000000));
}

static void encrypt(uint32_t block[4]) {
  uint32_t a = block[0] ^ keys[0], b = block[1] ^ keys[1], c = block[2] ^ keys[2], d = block[3] ^ keys[3];
  for (int round = 1; round < 10; round++) {
    const uint32_t *key = keys + 4 * round;
    uint32_t w = column(a, b, c, d) ^ key[0], x = column(b, c, d, a) ^ key[1];
    uint32_t y = column(c, d, a, b) ^ key[2], z = column(d, a, b, c) ^ key[3];
    a = w;
    b = x;
    c = y;
    d = z;
  }
  block[0] = last_column(a, b, c, d) ^ keys[40];
  block[1] = last_column(b, c, d, a) ^ keys[41];
  block[2] = last_column(c, d, a, b) ^ keys[42];
  block[3] = last_column(d, a, b, c) ^ keys[43];
}

uint64_t aes_run(uint32_t n) {
  uint32_t block[4] = {0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c};
  for (uint32_t i = 0; i < n; i++) encrypt(block);
  return ((uint64_t)block[1] << 32 | block[0]) ^ ((uint64_t)block[3] << 32 | block[2]);
}
