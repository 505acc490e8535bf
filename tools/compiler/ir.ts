/**
 * The SSA form between the Wasm reader and instruction selection.
 *
 * A function is a list of basic blocks; a block holds phis, ordinary values in execution order, and
 * one terminator. A value is an operation with typed operands that are other values; it is its own
 * result. An i32 value says nothing about bits 63..32 of the register that will hold it: who needs
 * them zero asks `zext`, which selection drops when the producer already clears them.
 */

export type Type = "i32" | "i64";

/** A place in the source: index into Module.files, 1-based line, 1-based column. */
export interface Loc {
  file: number;
  line: number;
  column: number;
}

export enum TrapKind {
  UNREACHABLE = 0,
  DIVIDE_BY_ZERO = 1,
  INTEGER_OVERFLOW = 2,
  MEMORY_OUT_OF_BOUNDS = 3,
  INDIRECT_CALL_TYPE = 4,
  TABLE_OUT_OF_BOUNDS = 5,
  UNALIGNED_ATOMIC = 6,
  STACK_OVERFLOW = 7,
  UNSUPPORTED = 8,
}

export type BinaryOp =
  | "add"
  | "sub"
  | "mul"
  | "and"
  | "or"
  | "xor"
  | "shl"
  | "shr_s"
  | "shr_u"
  | "rotl"
  | "rotr"
  | "div_s"
  | "div_u"
  | "rem_s"
  | "rem_u"
  /** High half of the unsigned (signed) product; made by strength reduction of constant division. */
  | "mulh_u"
  | "mulh_s";

export type CompareOp = "eq" | "ne" | "lt_s" | "lt_u" | "le_s" | "le_u" | "gt_s" | "gt_u" | "ge_s" | "ge_u";

export type UnaryOp =
  | "clz"
  | "ctz"
  | "popcnt"
  | "eqz"
  | "extend8_s"
  | "extend16_s"
  | "extend32_s"
  /** i64 -> i32 */
  | "wrap"
  /** i32 -> i64 */
  | "zext"
  | "sext"
  | "bswap";

export type RmwOp = "add" | "sub" | "and" | "or" | "xor" | "xchg";

export type Op =
  | BinaryOp
  | CompareOp
  | UnaryOp
  | "const"
  | "param"
  | "phi"
  | "select" // args: condition (i32), value if non-zero, value if zero
  | "load" // args: address (i32); mem
  | "store" // args: address (i32), value; mem; no result
  | "atomic_rmw" // args: address, operand; mem, rmw; result is the old value, zero-extended
  | "atomic_cmpxchg" // args: address, expected, replacement; mem; result is the old value, zero-extended
  | "fence"
  | "memory_copy"
  | "memory_fill" // args: destination, source or value, bytes; fill: mem.bits is the value's width (8 if absent), bytes a multiple of it
  | "memory_init" // args: destination, source offset, bytes; index = segment
  | "data_drop" // index = segment
  | "memory_size"
  | "global_get"
  | "global_set" // index = global
  | "call" // index = function; args
  | "call_indirect" // index = type; args, and the table index last
  | "intrinsic" // name = row of the intrinsic table; args
  | "proj"; // args: a call with several results; imm = which

/** Memory access: `offset` is Wasm's static offset, 0 .. 2^32-1, added without wrapping. */
export interface Mem {
  bits: 8 | 16 | 32 | 64;
  /** For loads narrower than the result: sign-extend. */
  signed: boolean;
  offset: number;
  /** Sequentially consistent Wasm atomic (load, store, rmw, cmpxchg): naturally aligned or it traps. */
  atomic: boolean;
}

export interface Value {
  id: number;
  op: Op;
  /** null: no result. Type of a compare or eqz result is i32; its operand type is that of args[0]. */
  type: Type | null;
  args: Value[];
  block: Block;
  loc: Loc | null;
  /** const: the value as an unsigned number of its width. param, proj: which one. */
  imm?: bigint;
  /** call, call_indirect, global_*, memory_init, data_drop. */
  index?: number;
  mem?: Mem;
  rmw?: RmwOp;
  name?: string;
  /** Result types of a call with more than one result (type is null then, read through proj). */
  results?: Type[];
}

export type Terminator =
  | { kind: "jump"; target: Block; loc: Loc | null }
  /** Goes to `then` when `condition` is non-zero. `likely`: true if `then` is expected, false if `otherwise` is. */
  | { kind: "branch"; condition: Value; then: Block; otherwise: Block; likely?: boolean; loc: Loc | null }
  /** br_table: index is unsigned; anything past the end goes to `fallback`. */
  | { kind: "switch"; index: Value; targets: Block[]; fallback: Block; loc: Loc | null }
  | { kind: "return"; values: Value[]; loc: Loc | null }
  | { kind: "trap"; trap: TrapKind; loc: Loc | null };

export interface Block {
  id: number;
  /**
   * phi.args are in the order of preds. An edge that occurs twice (a switch) occurs twice here, and its
   * phi arguments are equal. A branch never has the same block on both sides.
   */
  phis: Value[];
  body: Value[];
  terminator: Terminator;
  preds: Block[];
  /** Filled in by analysis: how many loops enclose this block; estimated executions per entry of the function. */
  loopDepth: number;
  frequency: number;
}

export interface Func {
  /** Position in Wasm's function index space (imports first). */
  index: number;
  /** Name from the name section: `kernel/exit/cpuid/onCpuid`. */
  name: string;
  /** Names under which the module exports it. */
  exports: string[];
  params: Type[];
  results: Type[];
  /** blocks[0] is the entry and has no preds. */
  blocks: Block[];
  nextId: number;
  loc: Loc | null;
  /** True if it stands in the table and can be reached by call_indirect. */
  inTable: boolean;
  /** Canonical signature: index into Module.types of the first equal one. call_indirect compares this. */
  type: number;
  /** Hosted target: why the body was replaced by a trap (floats); its params and results are then empty. */
  unsupported?: string;
}

export interface Signature {
  params: Type[];
  results: Type[];
  /** Mentions a type outside the subset (floats); params and results are then empty and nothing may call through it. */
  unsupported?: boolean;
}

/** Where an imported global, table or memory comes from (hosted target). */
export interface ImportName {
  module: string;
  name: string;
}

export interface GlobalVar {
  index: number;
  name: string;
  type: Type;
  mutable: boolean;
  /** Initial value as an unsigned number of its width. */
  init: bigint;
  exports: string[];
  import?: ImportName;
}

/** A function that the module imports. Module "insn" names an intrinsic; others are host calls (hosted target). */
export interface ImportedFunc {
  index: number;
  module: string;
  name: string;
  signature: Signature;
  /** Canonical signature, as in Func.type. */
  type: number;
  /** Names under which the module exports the import itself. */
  exports: string[];
}

export interface DataSegment {
  /** Address of an active segment; null: passive, for memory_init. */
  address: number | null;
  bytes: Uint8Array;
}

export interface Module {
  files: string[];
  imports: ImportedFunc[];
  funcs: Func[];
  types: Signature[];
  globals: GlobalVar[];
  /** Function index of each table slot; null: empty. One table, of fixed size. */
  table: (number | null)[];
  tableExports: string[];
  tableImport?: ImportName;
  data: DataSegment[];
  /** Fixed size of linear memory in 64 KiB pages; null: no memory. */
  memoryPages: { initial: number; maximum: number } | null;
  memoryExports: string[];
  memoryImport?: ImportName;
  start: number | null;
}
