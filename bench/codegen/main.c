/*
 * Times the variants of one kernel in turn: `main ROUNDS SAMPLE_MICROSECONDS`. Prints the iterations
 * that one sample runs, then for each variant its name, the least nanoseconds of a sample, and the checksum.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct variant {
  const char *name;
  int (*open)(void); /* 0: fine */
  void (*setup)(void);
  uint64_t (*run)(uint32_t);
};
extern const struct variant variants[];
extern const int variant_count;

/* CPU time of this thread: what others do on the machine counts only through the caches. */
static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint64_t time_of(const struct variant *v, uint32_t n, uint64_t *sum) {
  uint64_t start = now();
  *sum = v->run(n);
  return now() - start;
}

/* Iterations that take the first variant about `ns`. */
static uint32_t calibrate(uint64_t ns) {
  uint64_t sum, n = 1;
  for (;;) {
    uint64_t took = time_of(&variants[0], n, &sum);
    if (took * 2 > ns) return n * ns / took ? n * ns / took : 1;
    n *= 2;
  }
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 30;
  uint64_t sample = (argc > 2 ? strtoull(argv[2], 0, 10) : 5000) * 1000;
  uint64_t best[8], sums[8];
  for (int v = 0; v < variant_count; v++) {
    if (variants[v].open()) {
      fprintf(stderr, "%s does not open\n", variants[v].name);
      return 1;
    }
    variants[v].setup();
    best[v] = UINT64_MAX;
  }
  uint32_t n = calibrate(sample);
  for (int v = 0; v < variant_count; v++) variants[v].setup();
  for (int round = 0; round < rounds; round++)
    for (int v = 0; v < variant_count; v++) {
      uint64_t took = time_of(&variants[v], n, &sums[v]);
      if (took < best[v]) best[v] = took;
    }
  printf("%u\n", n);
  for (int v = 0; v < variant_count; v++)
    printf("%s %lu %lu\n", variants[v].name, (unsigned long)best[v], (unsigned long)sums[v]);
  return 0;
}
