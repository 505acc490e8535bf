#include "kernel.h"

enum { QUEUES = 16, COUNT = 1024 };
struct node {
  struct node *next;
  uint32_t key;
  uint64_t weight;
};
static struct node nodes[COUNT];
static struct node *heads[QUEUES];

void list_setup(void) {
  uint32_t random = 77;
  for (uint32_t i = 0; i < COUNT; i++) {
    random = random * 1664525 + 1013904223;
    nodes[i].key = random >> 8;
    nodes[i].weight = i;
  }
}

static void insert(struct node **link, struct node *item) {
  while (*link && (*link)->key < item->key) link = &(*link)->next;
  item->next = *link;
  *link = item;
}

static uint64_t weight_of(struct node *at) {
  uint64_t sum = 0;
  for (; at; at = at->next) {
    sum = sum * 7 + at->weight;
    at->weight++;
  }
  return sum;
}

uint64_t list_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t round = 0; round < n; round++) {
    for (uint32_t q = 0; q < QUEUES; q++) heads[q] = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
      nodes[i].key = nodes[i].key * 1103515245 + 12345;
      insert(&heads[nodes[i].key >> 28], &nodes[i]);
    }
    for (uint32_t q = 0; q < QUEUES; q++) sum += weight_of(heads[q]);
  }
  return sum;
}
