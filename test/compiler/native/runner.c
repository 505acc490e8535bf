/*
 * Runs a script of actions on the hosted modules that are linked into this program and writes each
 * outcome to a mapped file, so that what was done survives a crash.
 *
 *     runner SCRIPT OUTCOMES FIRST_ACTION SECONDS
 *
 * SCRIPT is 64-bit words: the number of actions; then for each action its length in words and the
 * words below; names stand in place as length in bytes and padded bytes.
 * OUTCOMES: the number of finished actions, then for each: status, number of values, values.
 */
#include "basalt.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

extern const struct basalt_module *const runner_modules[]; /* generated table */

enum { OPEN, CALL, HASH, GLOBAL, LINK, HOST, CLOSE };
/* Statuses beside 0 (fine) and a trap's kind + 1. */
enum { NO_SUCH_NAME = 200, TIMEOUT = 201 };

static uint64_t *outcomes, *out;
static volatile int finished;

static void emit(uint64_t status, const uint64_t *values, int count) {
  out[0] = status;
  out[1] = count;
  for (int i = 0; i < count; i++) out[2 + i] = values[i];
  out += 2 + count;
  outcomes[0]++;
}

static void on_timer(int signal) {
  (void)signal;
  out[0] = TIMEOUT;
  out[1] = 0;
  outcomes[0]++;
  _exit(3);
}

/* Leaves nothing of what the System V convention lets a callee clobber. */
#define TRASH()                                                                                                        \
  __asm__ volatile("mov $0x5a5a5a5a5a5a5a5a, %%rcx\n\tmov %%rcx, %%rdx\n\tmov %%rcx, %%rsi\n\tmov %%rcx, %%rdi\n\t"    \
                   "mov %%rcx, %%r8\n\tmov %%rcx, %%r9\n\tmov %%rcx, %%r10\n\tmov %%rcx, %%r11" ::                     \
                       : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory")

static void host_nothing(void) { TRASH(); }

/* Also in oracle.ts. The upper half of `a` is not part of the argument. */
static uint64_t host_mix(uint32_t a, uint64_t b) {
  uint64_t x = (b ^ a) * 0x9e3779b97f4a7c15u;
  x ^= x >> 29;
  TRASH();
  return x;
}

/* The module whose function is being called. */
static const struct basalt_module *calling;

/* Also in oracle.ts: writes linear memory behind the module's back, in its first 128 KiB. */
static void host_poke(uint32_t address, uint64_t value) {
  address &= ~7u;
  int is_mapped = address < 0x20000 && (calling->window == BASALT_GS || address >= 0x10000);
  if (is_mapped) memcpy(basalt_memory(calling) + address, &value, 8);
  TRASH();
}

static void *const host_functions[] = {(void *)host_nothing, (void *)host_mix, (void *)host_poke};

static const struct basalt_export *find_export(const struct basalt_module *m, const uint64_t *name) {
  for (uint64_t i = 0; i < m->export_count; i++)
    if (m->exports[i].bytes == name[0] && !memcmp(m->exports[i].name, name + 1, name[0])) return &m->exports[i];
  return 0;
}

static const uint64_t *after(const uint64_t *name) { return name + 1 + (name[0] + 7) / 8; }

/* Also in oracle.ts: two multiplicative hashes over 32-bit words. */
static uint64_t hash(const struct basalt_module *m, uint64_t from) {
  const uint32_t *words = (const uint32_t *)basalt_memory(m);
  uint32_t a = 0x811c9dc5, b = 0x9747b28c;
  for (uint64_t i = from / 4; i < m->memory_pages * 16384; i++) {
    a = (a ^ words[i]) * 0x01000193;
    b = (b + words[i]) * 0x85ebca6b ^ b >> 15;
  }
  return (uint64_t)b << 32 | a;
}

static void call(const struct basalt_module *m, const uint64_t *a) {
  const struct basalt_export *export = find_export(m, a);
  a = after(a);
  uint64_t results[64] = {0};
  if (!export) {
    emit(NO_SUCH_NAME, 0, 0);
    return;
  }
  calling = m;
  int status = basalt_call(m, export->address, a + 2, a[0], results, a[1]);
  emit(status, results, status ? 0 : a[1]);
}

static void link_slot(const struct basalt_module *m, uint64_t import, void *address) {
  if (import < m->import_count && address) {
    *m->imports[import].slot = address;
    emit(0, 0, 0);
  } else
    emit(NO_SUCH_NAME, 0, 0);
}

static void perform(const uint64_t *a) {
  const struct basalt_module *m = runner_modules[a[1]];
  const struct basalt_export *export;
  int status;
  uint64_t value;
  switch (a[0]) {
  case OPEN:
    status = basalt_open(m);
    if (!status && m->start) status = basalt_call(m, (void *)m->start, 0, 0, 0, 0);
    emit(status, 0, 0);
    break;
  case CALL:
    call(m, a + 2);
    break;
  case HASH:
    value = hash(m, a[2]);
    emit(0, &value, 1);
    break;
  case GLOBAL:
    export = find_export(m, a + 2);
    value = export ? *(uint64_t *)export->address : 0;
    emit(export ? 0 : NO_SUCH_NAME, &value, export ? 1 : 0);
    break;
  case LINK:
    export = find_export(runner_modules[a[3]], a + 4);
    link_slot(m, a[2], export ? export->address : 0);
    break;
  case HOST:
    link_slot(m, a[2], host_functions[a[3]]);
    break;
  case CLOSE:
    basalt_close(m);
    emit(0, 0, 0);
    break;
  }
}

static void *map(const char *path, int writable) {
  int file = open(path, writable ? O_RDWR : O_RDONLY);
  struct stat status;
  if (file < 0 || fstat(file, &status)) {
    perror(path);
    exit(2);
  }
  return mmap(0, status.st_size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file, 0);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const uint64_t *script = map(argv[1], 0);
  outcomes = map(argv[2], 1);
  out = outcomes + 1;
  struct itimerval timer = {.it_value = {.tv_sec = atol(argv[4])}};
  signal(SIGPROF, on_timer);
  uint64_t first = strtoull(argv[3], 0, 10);
  const uint64_t *action = script + 1;
  for (uint64_t i = 0; i < script[0]; i++, action += action[0]) {
    if (i < first) continue;
    if (action[1] == OPEN) setitimer(ITIMER_PROF, &timer, 0);
    perform(action + 1);
  }
  return 0;
}
