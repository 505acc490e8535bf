#include "kernel.h"

enum { SIZE = 256, NEXT = 1, WRITE = 2 };
struct desc {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
static struct desc desc[SIZE];
static struct {
  uint16_t flags, index, ring[SIZE];
} avail;
static struct {
  uint16_t flags, index;
  struct {
    uint32_t id, length;
  } ring[SIZE];
} used;
static uint8_t data[0x10000 + 64];

void ring_setup(void) {
  memset(desc, 0, sizeof desc);
  memset(&avail, 0, sizeof avail);
  memset(&used, 0, sizeof used);
  memset(data, 0, sizeof data);
  for (uint32_t i = 0; i < 0x10000; i++) data[i] = i * 7 + (i >> 8);
}

static void offer(uint32_t head, uint32_t length, uint32_t seed) {
  uint32_t id = head;
  for (uint32_t i = 0; i < length; i++) {
    struct desc *d = &desc[id];
    uint32_t next = (id + 1) & (SIZE - 1);
    d->address = (uint64_t)(data + ((seed + i * 640) & 0xfff0));
    d->length = 16 + (seed >> i & 31);
    d->flags = i + 1 == length ? WRITE : NEXT;
    d->next = next;
    id = next;
  }
  avail.ring[avail.index & (SIZE - 1)] = head;
  avail.index++;
}

static uint16_t serve(uint16_t last) {
  uint16_t end = avail.index;
  while (last != end) {
    uint32_t head = avail.ring[last & (SIZE - 1)], id = head, sum = 0, written = 0;
    for (uint32_t guard = 0; guard < SIZE; guard++) {
      struct desc *d = &desc[id];
      uint8_t *address = (uint8_t *)d->address;
      uint16_t flags = d->flags;
      if (flags & WRITE) {
        memcpy(address, &sum, 4);
        written += d->length;
      } else {
        uint32_t bytes = d->length;
        for (uint32_t i = 0; i < bytes; i += 4) {
          uint32_t word;
          memcpy(&word, address + i, 4);
          sum += word;
        }
      }
      if (!(flags & NEXT)) break;
      id = d->next & (SIZE - 1);
    }
    used.ring[used.index & (SIZE - 1)].id = head;
    used.ring[used.index & (SIZE - 1)].length = written + (sum & 0xff);
    used.index++;
    last++;
  }
  return last;
}

uint64_t ring_run(uint32_t n) {
  ring_setup();
  uint64_t sum = 0;
  uint16_t last = 0;
  uint32_t head = 0;
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < 16; k++) {
      uint32_t length = 2 + ((i + k) & 3);
      offer(head, length, i * 977 + k * 131);
      head = (head + length) & (SIZE - 1);
    }
    last = serve(last);
    sum = sum * 31 + used.ring[(uint16_t)(last - 1) & (SIZE - 1)].length;
  }
  return sum;
}
