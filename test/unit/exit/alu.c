/* Executes integer instructions on this machine's processor: the reference for kernel/exit/alu.ts.
   Each line of input: operation size a b flags count; output: result high flags (hexadecimal). */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t u64;

#define BEGIN "push %[f]\n\tpopfq\n\t"
#define END "\n\tpushfq\n\tpop %[f]"

#define BINARY(name)                                                                                     \
  static u64 name(int size, u64 a, u64 b, u64 *f) {                                                      \
    switch (size) {                                                                                      \
      case 1: __asm__ volatile(BEGIN #name "b %b[b], %b[a]" END : [a] "+q"(a), [f] "+r"(*f) : [b] "q"(b) : "cc"); break; \
      case 2: __asm__ volatile(BEGIN #name "w %w[b], %w[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b) : "cc"); break; \
      case 4: __asm__ volatile(BEGIN #name "l %k[b], %k[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b) : "cc"); break; \
      default: __asm__ volatile(BEGIN #name "q %q[b], %q[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b) : "cc"); break; \
    }                                                                                                    \
    return a;                                                                                            \
  }
#define UNARY(name)                                                                                      \
  static u64 name(int size, u64 a, u64 b, u64 *f) {                                                      \
    (void)b;                                                                                             \
    switch (size) {                                                                                      \
      case 1: __asm__ volatile(BEGIN #name "b %b[a]" END : [a] "+q"(a), [f] "+r"(*f) : : "cc"); break;   \
      case 2: __asm__ volatile(BEGIN #name "w %w[a]" END : [a] "+r"(a), [f] "+r"(*f) : : "cc"); break;   \
      case 4: __asm__ volatile(BEGIN #name "l %k[a]" END : [a] "+r"(a), [f] "+r"(*f) : : "cc"); break;   \
      default: __asm__ volatile(BEGIN #name "q %q[a]" END : [a] "+r"(a), [f] "+r"(*f) : : "cc"); break;  \
    }                                                                                                    \
    return a;                                                                                            \
  }
#define SHIFT(name)                                                                                      \
  static u64 name(int size, u64 a, u64 b, u64 *f) {                                                      \
    switch (size) {                                                                                      \
      case 1: __asm__ volatile(BEGIN #name "b %%cl, %b[a]" END : [a] "+q"(a), [f] "+r"(*f) : "c"(b) : "cc"); break; \
      case 2: __asm__ volatile(BEGIN #name "w %%cl, %w[a]" END : [a] "+r"(a), [f] "+r"(*f) : "c"(b) : "cc"); break; \
      case 4: __asm__ volatile(BEGIN #name "l %%cl, %k[a]" END : [a] "+r"(a), [f] "+r"(*f) : "c"(b) : "cc"); break; \
      default: __asm__ volatile(BEGIN #name "q %%cl, %q[a]" END : [a] "+r"(a), [f] "+r"(*f) : "c"(b) : "cc"); break; \
    }                                                                                                    \
    return a;                                                                                            \
  }

BINARY(add) BINARY(or) BINARY(adc) BINARY(sbb) BINARY(and) BINARY(sub) BINARY(xor) BINARY(cmp)
UNARY(inc) UNARY(dec) UNARY(neg)
SHIFT(rol) SHIFT(ror) SHIFT(rcl) SHIFT(rcr) SHIFT(shl) SHIFT(shr) SHIFT(sar)

static u64 wide(int size, u64 a, u64 b, u64 *f, u64 *high, int is_signed) {
  u64 d = 0;
  switch (size * 2 + is_signed) {
    case 2: __asm__ volatile(BEGIN "mulb %b[b]" END : "+a"(a), [f] "+r"(*f) : [b] "q"(b) : "cc"); break;
    case 3: __asm__ volatile(BEGIN "imulb %b[b]" END : "+a"(a), [f] "+r"(*f) : [b] "q"(b) : "cc"); break;
    case 4: __asm__ volatile(BEGIN "mulw %w[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
    case 5: __asm__ volatile(BEGIN "imulw %w[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
    case 8: __asm__ volatile(BEGIN "mull %k[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
    case 9: __asm__ volatile(BEGIN "imull %k[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
    case 16: __asm__ volatile(BEGIN "mulq %q[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
    default: __asm__ volatile(BEGIN "imulq %q[b]" END : "+a"(a), "=d"(d), [f] "+r"(*f) : [b] "r"(b) : "cc"); break;
  }
  if (size == 1) d = (a >> 8) & 0xff;
  *high = d;
  return a;
}

static u64 twice(int left, int size, u64 a, u64 b, u64 count, u64 *f) {
  switch (size * 2 + left) {
    case 4: __asm__ volatile(BEGIN "shrdw %%cl, %w[b], %w[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
    case 5: __asm__ volatile(BEGIN "shldw %%cl, %w[b], %w[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
    case 8: __asm__ volatile(BEGIN "shrdl %%cl, %k[b], %k[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
    case 9: __asm__ volatile(BEGIN "shldl %%cl, %k[b], %k[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
    case 16: __asm__ volatile(BEGIN "shrdq %%cl, %q[b], %q[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
    default: __asm__ volatile(BEGIN "shldq %%cl, %q[b], %q[a]" END : [a] "+r"(a), [f] "+r"(*f) : [b] "r"(b), "c"(count) : "cc"); break;
  }
  return a;
}

int main(void) {
  static u64 (*const table[])(int, u64, u64, u64 *) = {add, or, adc, sbb, and, sub, xor, cmp, inc, dec, neg, rol, ror, rcl, rcr, shl, shr, shl, sar};
  int operation, size;
  u64 a, b, f, count;
  while (scanf("%d %d %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &operation, &size, &a, &b, &f, &count) == 6) {
    u64 high = 0, result, flags = 0x202 | (f & 0x8d5);
    u64 mask = size == 8 ? ~0ull : (1ull << (size * 8)) - 1;
    if (operation < 19) result = table[operation](size, a, operation >= 11 ? count : b, &flags);
    else if (operation < 21) result = wide(size, a, b, &flags, &high, operation == 20);
    else result = twice(operation == 21, size, a, b, count, &flags);
    printf("%" PRIx64 " %" PRIx64 " %" PRIx64 "\n", result & mask, high & mask, flags & 0x8d5);
  }
  return 0;
}
