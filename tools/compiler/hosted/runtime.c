/*
 * Runs hosted modules in a Linux process: maps linear memory where the code expects it, turns faults
 * into traps with a place in the source.
 *
 * Low window: index i is the address i; 64 KiB to 4 GiB are reserved, as many pages are accessible as
 * the module declares. Gs window: 8 GiB and a page are reserved anywhere, and GS points at index 0.
 * Entry stubs use WRGSBASE, which Linux allows from 5.9 on.
 */
#define _GNU_SOURCE
#include "basalt.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/ucontext.h>

#define PAGE 65536ull
#define LOW_END (1ull << 32)
#define GS_RESERVED ((8ull << 30) + PAGE)
#define SIGNAL_STACK_BYTES 65536
#define HWCAP2_FSGSBASE 2

static sigjmp_buf *current; /* where a trap lands; null outside basalt_call */
static const struct basalt_module *current_module;
static const struct basalt_site *last_site;
static const struct basalt_module *low_module;

static const struct basalt_site *find_site(const struct basalt_module *m, const char *rip) {
  uint64_t low = 0, high = m ? m->site_count : 0;
  while (low < high) {
    uint64_t middle = (low + high) / 2;
    if ((const char *)m->sites[middle].rip < rip)
      low = middle + 1;
    else
      high = middle;
  }
  return m && low < m->site_count && m->sites[low].rip == rip ? &m->sites[low] : 0;
}

/* A module may call another one: the site is in one of those that are open. */
enum { MAX_OPEN = 4096 };
static const struct basalt_module *open_modules[MAX_OPEN];

static const struct basalt_site *find_any_site(const char *rip) {
  const struct basalt_site *site = find_site(current_module, rip);
  for (int i = 0; !site && i < MAX_OPEN; i++) site = find_site(open_modules[i], rip);
  return site;
}

/* Of the registers in instruction-encoding order. */
static uint64_t register_value(const ucontext_t *context, int number) {
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context->uc_mcontext.gregs[order[number & 15]];
}

/* #DE of a signed division: the divisor is 0, or the quotient of the smallest number by -1 does not fit. */
static int division_kind(const struct basalt_site *site, const ucontext_t *context) {
  if (!site || !site->divisor) return BASALT_DIVIDE_BY_ZERO;
  int number = site->divisor - 1;
  uint64_t value = register_value(context, number);
  if (!(number & 16)) value = (uint32_t)value;
  return value ? BASALT_INTEGER_OVERFLOW : BASALT_DIVIDE_BY_ZERO;
}

static int is_near_stack(uint64_t address, uint64_t rsp) { return address - rsp + 2 * PAGE < 4 * PAGE; }

static int trap_kind(int signal, const siginfo_t *info, const ucontext_t *context, const struct basalt_site *site) {
  uint64_t rsp = context->uc_mcontext.gregs[REG_RSP];
  if (signal == SIGFPE) return division_kind(site, context);
  if (signal == SIGILL) return site ? (int)site->kind : BASALT_UNREACHABLE;
  if (!site && is_near_stack((uint64_t)info->si_addr, rsp)) return BASALT_STACK_OVERFLOW;
  return BASALT_MEMORY_OUT_OF_BOUNDS;
}

static void on_fault(int signal, siginfo_t *info, void *raw) {
  const ucontext_t *context = raw;
  if (!current) {
    /* Not ours: die of it. */
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, 0);
    return;
  }
  last_site = find_any_site((const char *)context->uc_mcontext.gregs[REG_RIP]);
  siglongjmp(*current, trap_kind(signal, info, context, last_site) + 1);
}

static void install_handlers(void) {
  static int installed;
  if (installed) return;
  installed = 1;
  stack_t stack = {.ss_sp = malloc(SIGNAL_STACK_BYTES), .ss_size = SIGNAL_STACK_BYTES};
  sigaltstack(&stack, 0);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  for (int i = 0; i < 4; i++) sigaction(signals[i], &action, 0);
}

static void fail(const char *what) {
  fprintf(stderr, "basalt: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void *reserve(void *at, uint64_t bytes, int fixed) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed ? MAP_FIXED_NOREPLACE : 0);
  void *got = mmap(at, bytes, PROT_NONE, flags, -1, 0);
  if (got == MAP_FAILED || (fixed && got != at)) fail("cannot reserve linear memory");
  return got;
}

static void map_low(const struct basalt_module *m) {
  if (low_module) {
    fprintf(stderr, "basalt: one module at a time can use the low window\n");
    exit(2);
  }
  low_module = m;
  reserve((void *)PAGE, LOW_END - PAGE, 1);
  uint64_t end = m->memory_pages * PAGE;
  if (end > PAGE && mprotect((void *)PAGE, end - PAGE, PROT_READ | PROT_WRITE)) fail("cannot map linear memory");
}

static void map_gs(const struct basalt_module *m) {
  if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
    fprintf(stderr, "basalt: the gs window needs WRGSBASE, which this processor or kernel does not offer\n");
    exit(2);
  }
  char *base = reserve(0, GS_RESERVED, 0);
  uint64_t bytes = m->memory_pages * PAGE;
  if (bytes && mprotect(base, bytes, PROT_READ | PROT_WRITE)) fail("cannot map linear memory");
  *m->memory_base = base;
}

static void remember(const struct basalt_module *m, int opened) {
  for (int i = 0; i < MAX_OPEN; i++) {
    if (open_modules[i] != (opened ? 0 : m)) continue;
    open_modules[i] = opened ? m : 0;
    return;
  }
}

uint8_t *basalt_memory(const struct basalt_module *m) { return m->window == BASALT_GS ? *m->memory_base : 0; }

int basalt_open(const struct basalt_module *m) {
  install_handlers();
  memcpy(m->data, m->data_initial, m->data_bytes);
  if (m->window == BASALT_GS)
    map_gs(m);
  else
    map_low(m);
  remember(m, 1);
  last_site = 0;
  uint64_t first = m->window == BASALT_GS ? 0 : PAGE;
  for (uint64_t i = 0; i < m->segment_count; i++) {
    const struct basalt_segment *s = &m->segments[i];
    if (s->address == ~0ull) continue;
    if (s->address + s->bytes > m->memory_pages * PAGE || (s->bytes && s->address < first))
      return BASALT_MEMORY_OUT_OF_BOUNDS + 1;
    memcpy(basalt_memory(m) + s->address, s->data, s->bytes);
  }
  return 0;
}

void basalt_close(const struct basalt_module *m) {
  remember(m, 0);
  if (m->window == BASALT_GS) {
    munmap(*m->memory_base, GS_RESERVED);
    *m->memory_base = 0;
  } else if (low_module == m) {
    munmap((void *)PAGE, LOW_END - PAGE);
    low_module = 0;
  }
}

/* Six arguments travel in registers, the rest on the stack; RAX comes back. */
static uint64_t call_system_v(void *entry, const uint64_t *arguments, int count) {
  uint64_t result, registers[6] = {0};
  for (int i = 0; i < count && i < 6; i++) registers[i] = arguments[i];
  uint64_t on_stack = count > 6 ? count - 6 : 0;
  __asm__ volatile("mov %%rsp, %%r12\n\t"
                   "sub $128, %%rsp\n\t"
                   "mov %[n], %%rax\n\t"
                   "lea (,%%rax,8), %%rcx\n\t"
                   "sub %%rcx, %%rsp\n\t"
                   "and $-16, %%rsp\n\t"
                   "1: test %%rax, %%rax\n\t"
                   "jz 2f\n\t"
                   "mov -8(%[more],%%rax,8), %%rcx\n\t"
                   "mov %%rcx, -8(%%rsp,%%rax,8)\n\t"
                   "dec %%rax\n\t"
                   "jmp 1b\n\t"
                   "2: mov %[entry], %%rax\n\t"
                   "mov 0(%[regs]), %%rdi\n\t"
                   "mov 8(%[regs]), %%rsi\n\t"
                   "mov 16(%[regs]), %%rdx\n\t"
                   "mov 24(%[regs]), %%rcx\n\t"
                   "mov 32(%[regs]), %%r8\n\t"
                   "mov 40(%[regs]), %%r9\n\t"
                   "call *%%rax\n\t"
                   "mov %%r12, %%rsp\n\t"
                   : "=&a"(result)
                   : [n] "r"(on_stack), [more] "r"(arguments + 6), [entry] "r"(entry), [regs] "r"(registers)
                   : "r12", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
  return result;
}

int basalt_call(const struct basalt_module *m, void *entry, const uint64_t *arguments, int count, uint64_t *results,
                int result_count) {
  sigjmp_buf here, *const outer = current;
  const struct basalt_module *const outer_module = current_module;
  uint64_t shifted[1 + count];
  last_site = 0;
  int trap = sigsetjmp(here, 0);
  if (!trap) {
    current = &here;
    current_module = m;
    shifted[0] = (uint64_t)results;
    if (count) memcpy(shifted + 1, arguments, count * sizeof(uint64_t));
    int hidden = result_count > 1;
    uint64_t value = call_system_v(entry, hidden ? shifted : shifted + 1, count + hidden);
    if (result_count == 1) results[0] = value;
  }
  current = outer;
  current_module = outer_module;
  return trap;
}

const struct basalt_site *basalt_last_site(void) { return last_site; }
