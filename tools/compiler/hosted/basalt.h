/*
 * What a hosted object (npm run compile -- FILE --hosted -o FILE.o) offers to a Linux program.
 *
 * Each exported function is a C symbol with the System V calling convention: <prefix><name>, where
 * bytes of the name outside [A-Za-z0-9_] become _xx (two hex digits). i32 is uint32_t, i64 uint64_t. One result
 * comes back in RAX; with several, a hidden first argument points to uint64_t[n] that receives
 * them. The object also exports one descriptor, <prefix>module; one object is one instance.
 *
 * Link with runtime.c, as a position-independent executable (the low window covers 64 KiB to 4 GiB).
 */
#ifndef BASALT_H
#define BASALT_H
#include <stdint.h>

/* Numbered as TrapKind in tools/compiler/ir.ts. */
enum basalt_trap {
  BASALT_UNREACHABLE = 0,
  BASALT_DIVIDE_BY_ZERO = 1,
  BASALT_INTEGER_OVERFLOW = 2,
  BASALT_MEMORY_OUT_OF_BOUNDS = 3,
  BASALT_INDIRECT_CALL_TYPE = 4,
  BASALT_TABLE_OUT_OF_BOUNDS = 5,
  BASALT_UNALIGNED_ATOMIC = 6,
  BASALT_STACK_OVERFLOW = 7,
  BASALT_UNSUPPORTED = 8,
};

enum basalt_window { BASALT_LOW = 0, BASALT_GS = 1 };
enum basalt_kind { BASALT_FUNC = 0, BASALT_TABLE = 1, BASALT_MEMORY = 2, BASALT_GLOBAL = 3 };

/* signature: "iI:I" is (i32, i64) -> i64; a global's is "i" or "I". Strings end in a zero byte that `bytes` does not count. */
struct basalt_export {
  const char *name;
  uint64_t bytes;
  uint64_t kind;
  void *address; /* function: its System V entry; global: its cell of 8 bytes; else null */
  const char *signature;
};

/* A function import that is no intrinsic. The code calls through *slot, a System V function; null traps as UNSUPPORTED. */
struct basalt_import {
  const char *module;
  const char *name;
  void **slot;
  const char *signature;
};

struct basalt_segment {
  uint64_t address; /* active: index in linear memory; passive: ~0 */
  const uint8_t *data;
  uint64_t bytes;
};

struct basalt_site {
  void *rip; /* of the instruction that traps */
  uint64_t kind;
  const char *function;
  const char *file; /* null: unknown */
  uint64_t line;
  uint64_t divisor; /* of a signed division: number of its register + 1, + 16 if 64 bits wide; 0: none */
};

struct basalt_module {
  uint64_t window;
  uint64_t memory_pages; /* of 64 KiB */
  uint64_t has_memory;
  void **memory_base; /* gs window: the cell that entry stubs load GS from; basalt_open sets it */
  uint64_t export_count;
  const struct basalt_export *exports;
  uint64_t import_count;
  const struct basalt_import *imports;
  uint64_t segment_count;
  const struct basalt_segment *segments;
  uint64_t site_count; /* sorted by rip */
  const struct basalt_site *sites;
  void *data; /* writable state (globals, dropped segments): data_bytes of it, and its initial value */
  const void *data_initial;
  uint64_t data_bytes;
  void (*start)(void); /* null: none */
};

/* All return 0, or a trap as kind + 1. */

/* Maps the memory, copies active segments in order, sets globals back. Does not run start. */
int basalt_open(const struct basalt_module *m);
/* Unmaps the memory. In the low window one module at a time may be open. */
void basalt_close(const struct basalt_module *m);
/* Calls a System V entry with `count` 64-bit argument slots; results: room for `result_count`. */
int basalt_call(const struct basalt_module *m, void *entry, const uint64_t *arguments, int count, uint64_t *results, int result_count);
/* Where the last trap was: null if its RIP is in no table. */
const struct basalt_site *basalt_last_site(void);
/* Linear memory as this process sees it (low window: index 64 KiB is the first that exists). */
uint8_t *basalt_memory(const struct basalt_module *m);

#endif
