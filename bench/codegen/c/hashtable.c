#include "kernel.h"

enum { BUCKET_COUNT = 1024, POOL_COUNT = 2048 };
struct entry {
  struct entry *next;
  uint32_t uses;
  uint64_t key, value;
};
static struct entry *buckets[BUCKET_COUNT], *free_list;
static struct entry pool[POOL_COUNT];

static void release(struct entry *e) {
  e->next = free_list;
  free_list = e;
}

void hashtable_setup(void) {
  memset(buckets, 0, sizeof buckets);
  free_list = NULL;
  for (uint32_t i = 0; i < POOL_COUNT; i++) release(&pool[i]);
}

static struct entry **bucket(uint64_t key) { return &buckets[key * 0x9e3779b97f4a7c15u >> 40 & (BUCKET_COUNT - 1)]; }

static struct entry *find(uint64_t key) {
  for (struct entry *e = *bucket(key); e; e = e->next)
    if (e->key == key) return e;
  return NULL;
}

static bool insert(uint64_t key, uint64_t value) {
  struct entry *e = find(key);
  if (e) {
    e->value = value;
    e->uses++;
    return true;
  }
  e = free_list;
  if (!e) return false;
  free_list = e->next;
  struct entry **head = bucket(key);
  e->key = key;
  e->value = value;
  e->uses = 1;
  e->next = *head;
  *head = e;
  return true;
}

static uint64_t take(uint64_t key) {
  for (struct entry **link = bucket(key);; link = &(*link)->next) {
    struct entry *e = *link;
    if (!e) return 0;
    if (e->key == key) {
      *link = e->next;
      uint64_t value = e->value + e->uses;
      release(e);
      return value;
    }
  }
}

uint64_t hashtable_run(uint32_t n) {
  hashtable_setup();
  uint64_t sum = 0, random = 17;
  for (uint32_t i = 0; i < n; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t key = random >> 40 & 0xfff;
    if (insert(key, random)) sum++;
    struct entry *found = find(random >> 20 & 0xfff);
    if (found) sum += found->value;
    sum += take(random >> 50 & 0xfff);
  }
  return sum;
}
