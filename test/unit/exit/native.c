/* Executes 64-bit user-mode instructions on this machine's processor: the reference for the emulator of device
   accesses. A line of input: code (hex), RFLAGS, 15 registers (all but RSP; RAX RCX RDX RBX RBP RSI RDI R8..R15),
   64 bytes of memory for DATA (hex), an XSAVE area with x87, SSE and AVX (hex; "-": none). A line of output: signal
   (0: none), RFLAGS, registers, memory, the area. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define DATA 0x300000ul
#define CODE 0x310000ul
#define BYTES 64
#define AREA 832

uint64_t regs[16]; /* RFLAGS, then the registers */
uint64_t saved_rsp;
static sigjmp_buf back;
static volatile int signal_number;

void run(void);
void run_vector(void);
uint8_t area[AREA] __attribute__((aligned(64)));
void finish(void);
__asm__(
    ".text\n.globl run, finish\n"
    "run: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, saved_rsp(%rip)\n"
    "pushq regs(%rip)\npopfq\n"
    "mov regs+8(%rip), %rax\nmov regs+16(%rip), %rcx\nmov regs+24(%rip), %rdx\nmov regs+32(%rip), %rbx\n"
    "mov regs+40(%rip), %rbp\nmov regs+48(%rip), %rsi\nmov regs+56(%rip), %rdi\nmov regs+64(%rip), %r8\n"
    "mov regs+72(%rip), %r9\nmov regs+80(%rip), %r10\nmov regs+88(%rip), %r11\nmov regs+96(%rip), %r12\n"
    "mov regs+104(%rip), %r13\nmov regs+112(%rip), %r14\nmov regs+120(%rip), %r15\n"
    "jmp *target(%rip)\n"
    "finish:\n"
    "mov %rax, regs+8(%rip)\nmov %rcx, regs+16(%rip)\nmov %rdx, regs+24(%rip)\nmov %rbx, regs+32(%rip)\n"
    "mov %rbp, regs+40(%rip)\nmov %rsi, regs+48(%rip)\nmov %rdi, regs+56(%rip)\nmov %r8, regs+64(%rip)\n"
    "mov %r9, regs+72(%rip)\nmov %r10, regs+80(%rip)\nmov %r11, regs+88(%rip)\nmov %r12, regs+96(%rip)\n"
    "mov %r13, regs+104(%rip)\nmov %r14, regs+112(%rip)\nmov %r15, regs+120(%rip)\n"
    "mov saved_rsp(%rip), %rsp\npushfq\npopq regs(%rip)\ncld\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
    "run_vector:\n"
    "mov $7, %eax\nxor %edx, %edx\nxrstor64 area(%rip)\ncall run\n"
    "mov $7, %eax\nxor %edx, %edx\nxsave64 area(%rip)\nret\n"
    ".data\ntarget: .quad 0x310000\n.text\n");

static void caught(int number) {
  signal_number = number;
  siglongjmp(back, 1);
}

static int hex(const char *text, uint8_t *out) {
  int n = 0;
  unsigned byte;
  while (sscanf(text + 2 * n, "%2x", &byte) == 1) out[n++] = byte;
  return n;
}

int main(void) {
  static char code[64], data[2 * BYTES + 8], state[2 * AREA + 8];
  static uint8_t stack[65536];
  stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternative, 0);
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER};
  int numbers[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP};
  for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, 0);
  mmap((void *)DATA, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  uint8_t *text = mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  while (scanf("%63s %" SCNx64, code, &regs[0]) == 2) {
    for (int i = 1; i < 16; i++) if (scanf("%" SCNx64, &regs[i]) != 1) return 1;
    if (scanf("%130s", data) != 1) return 1;
    if (scanf("%1670s", state) != 1) return 1;
    int vectors = hex(state, area) == AREA;
    memset((void *)DATA, 0xcc, 4096);
    hex(data, (uint8_t *)DATA);
    int n = hex(code, text);
    static const uint8_t jump[6] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp *0(%rip) */
    memcpy(text + n, jump, 6);
    uint64_t to = (uint64_t)finish;
    memcpy(text + n + 6, &to, 8);
    regs[0] |= 0x202;
    signal_number = 0;
    if (sigsetjmp(back, 1) == 0) {
      if (vectors) run_vector();
      else run();
    }
    __asm__ volatile("cld; emms");
    printf("%d", signal_number);
    for (int i = 0; i < 16; i++) printf(" %" PRIx64, regs[i]);
    printf(" ");
    for (int i = 0; i < BYTES; i++) printf("%02x", ((uint8_t *)DATA)[i]);
    printf(" ");
    for (int i = 0; vectors && i < AREA; i++) printf("%02x", area[i]);
    printf("\n");
  }
  return 0;
}
