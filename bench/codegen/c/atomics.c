#include "kernel.h"

enum { SLOTS = 64 };
static uint64_t ring[SLOTS];
static _Alignas(64) uint32_t head_place, tail_place, ticket_place, serving;
static _Alignas(64) uint64_t pending, counts[2];

#define LOAD(p) __atomic_load_n(&(p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(&(p), v, __ATOMIC_SEQ_CST)

void atomics_setup(void) {
  head_place = tail_place = ticket_place = serving = 0;
  pending = counts[0] = counts[1] = 0;
}

static int push(uint64_t value) {
  uint32_t head = LOAD(head_place);
  if (head - LOAD(tail_place) >= SLOTS) return 0;
  ring[head & (SLOTS - 1)] = value;
  STORE(head_place, head + 1);
  return 1;
}

static uint64_t pop(void) {
  uint32_t tail = LOAD(tail_place);
  if (tail == LOAD(head_place)) return 0;
  uint64_t value = ring[tail & (SLOTS - 1)];
  STORE(tail_place, tail + 1);
  return value;
}

static void lock(void) {
  uint32_t ticket = __atomic_fetch_add(&ticket_place, 1, __ATOMIC_SEQ_CST);
  while (LOAD(serving) != ticket) {
  }
}

static void unlock(void) { STORE(serving, serving + 1); }

uint64_t atomics_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < 48; k++) push(((uint64_t)k << 8) + i);
    for (uint64_t value = pop(); value != 0; value = pop()) {
      uint64_t bit = (uint64_t)1 << (value & 63);
      if (__atomic_fetch_or(&pending, bit, __ATOMIC_SEQ_CST) & bit) __atomic_fetch_and(&pending, ~bit, __ATOMIC_SEQ_CST);
      sum += value;
    }
    lock();
    counts[0]++;
    unlock();
    uint64_t old = LOAD(counts[1]);
    if (__atomic_compare_exchange_n(&counts[1], &old, old + sum, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) sum ^= old;
  }
  return sum + LOAD(pending);
}
