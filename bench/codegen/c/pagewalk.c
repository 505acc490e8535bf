#include "kernel.h"

enum { PRESENT = 1, LARGE = 0x80 };
static const uint64_t ADDRESS = 0x000ffffffffff000;
static _Alignas(4096) uint8_t physical[0x40000];
static const uint64_t ROOT = 0;

static uint64_t *table_at(uint64_t pa) { return (uint64_t *)(physical + pa); }

void pagewalk_setup(void) {
  uint64_t next = 0x1000;
  memset(physical, 0, sizeof physical);
  uint64_t pdpt = next;
  next += 0x1000;
  table_at(ROOT)[0] = pdpt | PRESENT;
  uint64_t pd = next;
  next += 0x1000;
  table_at(pdpt)[0] = pd | PRESENT;
  for (uint64_t i = 1; i < 4; i++) table_at(pdpt)[i] = i << 30 | LARGE | PRESENT;
  for (uint64_t i = 0; i < 32; i++) {
    table_at(pd)[i] = next | PRESENT;
    for (uint64_t k = 0; k < 512; k++)
      if (k % 7 != 3) table_at(next)[k] = ((i * 512 + k) * 0x3000 & ADDRESS) | PRESENT;
    next += 0x1000;
  }
  for (uint64_t i = 32; i < 256; i++) table_at(pd)[i] = i << 21 | LARGE | PRESENT;
}

static uint64_t translate(uint64_t va) {
  uint64_t table = ROOT;
  for (unsigned shift = 39; shift > 12; shift -= 9) {
    uint64_t entry = table_at(table)[va >> shift & 511];
    if (!(entry & PRESENT)) return UINT64_MAX;
    if (entry & LARGE) {
      uint64_t mask = (1ull << shift) - 1;
      return (entry & ADDRESS & ~mask) | (va & mask);
    }
    table = entry & ADDRESS;
  }
  uint64_t entry = table_at(table)[va >> 12 & 511];
  if (!(entry & PRESENT)) return UINT64_MAX;
  return (entry & ADDRESS) | (va & 0xfff);
}

uint64_t pagewalk_run(uint32_t n) {
  uint64_t sum = 0, random = 1;
  for (uint32_t i = 0; i < n; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t mask = random >> 62 == 0 ? 0x1ffffffff : 0x07ffffff;
    sum += translate(random >> 20 & mask);
  }
  return sum;
}
