#include "kernel.h"

enum { BYTES = 0x2000 };
static uint8_t code[BYTES];
static uint64_t regs[16];

void dispatch_setup(void) {
  uint32_t random = 1;
  for (uint32_t i = 0; i < BYTES; i++) {
    random = random * 1103515245 + 12345;
    code[i] = random >> 16;
  }
}

static uint64_t step(uint32_t pc, uint64_t accumulator) {
  uint32_t byte = code[pc], at = byte >> 4;
  switch (byte & 15) {
  case 0:
    return accumulator + regs[at];
  case 1:
    return accumulator - regs[at];
  case 2:
    return accumulator ^ regs[at];
  case 3:
    regs[at] = accumulator;
    return accumulator;
  case 4:
    return accumulator << at;
  case 5:
    return accumulator >> at;
  case 6:
    return accumulator * 31 + 7;
  case 7:
    return regs[at] < accumulator ? accumulator + 1 : accumulator - 1;
  case 8:
    regs[at]++;
    return accumulator;
  case 9:
    return accumulator << 17 | accumulator >> 47;
  case 10:
    return accumulator | (uint64_t)byte << 20;
  case 11:
    return accumulator & ~regs[at];
  case 12:
    return __builtin_popcountll(accumulator) + (accumulator << 8);
  case 13:
    return (uint64_t)(uint32_t)regs[at] * 3 + accumulator;
  case 14:
    memcpy(&regs[at], &accumulator, 4);
    return accumulator + 5;
  default:
    return ~accumulator;
  }
}

uint64_t dispatch_run(uint32_t n) {
  memset(regs, 0, sizeof regs);
  uint64_t accumulator = 0x12345678;
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t pc = 0; pc < BYTES; pc++) accumulator = step(pc, accumulator);
  return accumulator;
}
