#include "kernel.h"

enum { POOL_TABLES = 96, PRESENT = 1 };
static const uint64_t ADDRESS = 0x000ffffffffff000;
typedef struct table {
  uint64_t entries[512];
} table;
static _Alignas(4096) table root, pool[POOL_TABLES];
static table *free_list;

static void free_table(table *t) {
  t->entries[0] = (uint64_t)free_list;
  free_list = t;
}

static table *alloc_table(void) {
  table *t = free_list;
  if (!t) return NULL;
  free_list = (table *)t->entries[0];
  memset(t, 0, sizeof *t);
  return t;
}

void pagemap_setup(void) {
  memset(&root, 0, sizeof root);
  free_list = NULL;
  for (int i = 0; i < POOL_TABLES; i++) free_table(&pool[i]);
}

static uint64_t *leaf(uint64_t va, bool make) {
  table *t = &root;
  for (unsigned shift = 39; shift > 12; shift -= 9) {
    uint64_t *at = &t->entries[va >> shift & 511];
    uint64_t entry = *at;
    if (!(entry & PRESENT)) {
      if (!make) return NULL;
      table *fresh = alloc_table();
      if (!fresh) return NULL;
      entry = (uint64_t)fresh | PRESENT;
      *at = entry;
    }
    t = (table *)(entry & ADDRESS);
  }
  return &t->entries[va >> 12 & 511];
}

static uint32_t map(uint64_t va, uint64_t pa, uint32_t pages, uint64_t flags) {
  for (uint32_t i = 0; i < pages; i++) {
    uint64_t *at = leaf(va, true);
    if (!at) return i;
    *at = (pa & ADDRESS) | flags | PRESENT;
    va += 0x1000;
    pa += 0x1000;
  }
  return pages;
}

static uint64_t unmap(uint64_t va, uint32_t pages) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < pages; i++) {
    uint64_t *at = leaf(va, false);
    if (at) {
      sum += *at;
      *at = 0;
    }
    va += 0x1000;
  }
  return sum;
}

uint64_t pagemap_run(uint32_t n) {
  pagemap_setup();
  uint64_t sum = 0, random = 7;
  for (uint32_t i = 0; i < n; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t va = random >> 30 & 0x7fff000;
    uint32_t pages = (uint32_t)(random >> 24) & 31;
    sum += map(va, random >> 8, pages, 6);
    sum += unmap(va + 0x2000, pages);
  }
  return sum;
}
