/** Which i32 values have bits 63..32 clear in the register that holds them. */

import { intrinsic } from "../../intrinsics.ts";
import type { Block, Func, Value } from "../../ir.ts";
import type { SelectContext } from "../select.ts";

/**
 * Every 32-bit instruction clears the upper half, so only these say otherwise: a wrapped i64, which
 * is its source's register; an argument of an export on metal, where the caller need not care; an
 * intrinsic that does not promise it; and what chooses among such values.
 */
export function knownZeroUpper(context: SelectContext, func: Func, order: Block[]): (v: Value) => boolean {
  const values = order.flatMap((b) => [...b.phis, ...b.body]);
  const choices = values.filter((v) => v.type === "i32" && (v.op === "phi" || v.op === "select"));
  const dirty = new Set<Value>();
  const callersExtend = context.target === "hosted" || func.exports.length === 0;
  const isClear = (v: Value): boolean => {
    switch (v.op) {
      case "wrap":
        return isWrapClear(v.args[0] as Value);
      case "param":
        return callersExtend;
      case "intrinsic":
        return intrinsic(v.name ?? "")?.zeroExtended ?? false;
      default:
        return !dirty.has(v);
    }
  };
  const chosen = (v: Value): Value[] => (v.op === "select" ? v.args.slice(1) : v.args);
  for (let changed = true; changed; ) {
    changed = false;
    for (const v of choices) {
      if (dirty.has(v) || chosen(v).every(isClear)) continue;
      dirty.add(v);
      changed = true;
    }
  }
  const clear = (v: Value): boolean => (v.type === "i32" ? isClear(v) : isWrapClear(v));
  // Is the upper half of an i64 clear?
  function isWrapClear(v: Value): boolean {
    switch (v.op) {
      case "zext":
        return true;
      case "load":
        return !v.mem?.signed && (v.mem?.bits ?? 64) <= 32;
      case "shr_u":
        return v.args[1]?.op === "const" && ((v.args[1].imm as bigint) & 63n) >= 32n;
      case "and":
        return v.args.some((a) => a.op === "const" && (a.imm as bigint) >> 32n === 0n);
      case "const":
        return (v.imm as bigint) >> 32n === 0n;
      default:
        return false;
    }
  }
  return clear;
}
