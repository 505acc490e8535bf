/** Which function selects instructions for which operation. */

import type { Op, Value } from "../../ir.ts";
import type { Selector } from "../select.ts";
import * as arith from "./arith.ts";
import * as atomic from "./atomic.ts";
import * as bulk from "./bulk.ts";
import { lowerCall, lowerCallIndirect } from "./call.ts";
import { lowerCompare, lowerSelect } from "./compare.ts";
import { lowerIntrinsic } from "./insn.ts";
import * as memory from "./memory.ts";

type Lower = (s: Selector, v: Value) => void;

/** Comes with the function's entry, with the edge, with the call, or needs no instruction. */
const nothing: Lower = () => {};

const TABLE: Record<Op, Lower> = {
  add: arith.lowerAdd,
  sub: arith.lowerSub,
  mul: arith.lowerMul,
  mulh_u: arith.lowerMulHigh("mul"),
  mulh_s: arith.lowerMulHigh("imul1"),
  and: arith.lowerAnd,
  or: arith.lowerBitwise("or"),
  xor: arith.lowerBitwise("xor"),
  shl: arith.lowerShift,
  shr_s: arith.lowerShift,
  shr_u: arith.lowerShift,
  rotl: arith.lowerShift,
  rotr: arith.lowerShift,
  div_u: arith.lowerUnsignedDivision,
  rem_u: arith.lowerUnsignedDivision,
  div_s: arith.lowerSignedDivision,
  rem_s: arith.lowerSignedDivision,
  eq: lowerCompare,
  ne: lowerCompare,
  lt_s: lowerCompare,
  lt_u: lowerCompare,
  le_s: lowerCompare,
  le_u: lowerCompare,
  gt_s: lowerCompare,
  gt_u: lowerCompare,
  ge_s: lowerCompare,
  ge_u: lowerCompare,
  eqz: lowerCompare,
  clz: arith.lowerCountZeros,
  ctz: arith.lowerCountZeros,
  popcnt: arith.lowerPopcount,
  extend8_s: arith.lowerExtend(8),
  extend16_s: arith.lowerExtend(16),
  extend32_s: arith.lowerExtend(32),
  sext: arith.lowerSext,
  zext: arith.lowerZext,
  bswap: arith.lowerBswap,
  wrap: nothing,
  const: nothing,
  param: nothing,
  phi: nothing,
  proj: nothing,
  select: lowerSelect,
  load: memory.lowerLoad,
  store: memory.lowerStore,
  atomic_rmw: atomic.lowerRmw,
  atomic_cmpxchg: atomic.lowerCmpxchg,
  fence: atomic.lowerFence,
  memory_copy: bulk.lowerCopy,
  memory_fill: bulk.lowerFill,
  memory_init: bulk.lowerInit,
  data_drop: bulk.lowerDataDrop,
  memory_size: memory.lowerMemorySize,
  global_get: memory.lowerGlobalGet,
  global_set: memory.lowerGlobalSet,
  call: lowerCall,
  call_indirect: lowerCallIndirect,
  intrinsic: lowerIntrinsic,
};

export function lowering(v: Value): Lower {
  return TABLE[v.op];
}
