/** Calls: arguments to their places, the call, results out of theirs. */

import { type Signature, TrapKind, type Value } from "../../ir.ts";
import { type Place, placeRegisters, places } from "../abi.ts";
import { type Inst, imm, mem, reg } from "../machine.ts";
import { type Selector, sizeOf } from "../select.ts";

export function lowerCall(s: Selector, v: Value): void {
  const index = v.index as number;
  const callee = s.context.signatureOf(index);
  passArguments(s, v.args, callee);
  const call = s.emit("call", 8);
  call.symbol = s.context.labelOf(index);
  call.callee = index;
  finishCall(s, v, call, callee, s.context.clobbersOf(index));
}

/** The table stands in read-only data: a code address for each slot, then a signature number for each. */
export function lowerCallIndirect(s: Selector, v: Value): void {
  const { module } = s.context;
  const type = v.index as number;
  const signature = module.types[type] as Signature;
  const index = s.zeroExtended(v.args[v.args.length - 1] as Value);
  const slots = module.table.length;
  s.emit("cmp", 4, index, imm(slots));
  trapIf(s, "ae", TrapKind.TABLE_OUT_OF_BOUNDS);
  const table = s.temp(true);
  s.emit("lea", 8, table, mem("symbol", { symbol: "basalt_table" })).remat = true;
  s.emit("cmp", 4, mem("host", { base: table.reg, index: index.reg, scale: 4, disp: slots * 8 }), imm(type));
  trapIf(s, "ne", TrapKind.INDIRECT_CALL_TYPE);
  passArguments(s, v.args.slice(0, -1), signature);
  const call = s.emit("callr", 8, mem("host", { base: table.reg, index: index.reg, scale: 8, disp: 0 }));
  call.calleeType = type;
  finishCall(s, v, call, signature, s.context.clobbersOfType(type));
}

function trapIf(s: Selector, cond: "ae" | "ne", trap: TrapKind): void {
  const inst = s.emit("trapif", 4);
  inst.cond = cond;
  inst.trap = trap;
}

function passArguments(s: Selector, args: Value[], signature: Signature): void {
  const { arguments: list, stackBytes } = places(signature);
  s.mfunc.outgoingBytes = Math.max(s.mfunc.outgoingBytes, stackBytes);
  args.forEach((arg, i) => {
    const place = list[i] as Place;
    if ("stack" in place) passOnStack(s, arg, place.stack);
  });
  args.forEach((arg, i) => {
    const place = list[i] as Place;
    if ("reg" in place) s.moveZeroExtended(reg(place.reg), arg);
  });
}

function passOnStack(s: Selector, arg: Value, offset: number): void {
  const source = sizeOf(arg) === 8 ? s.regOrImm(arg) : s.zeroExtended(arg);
  s.emit("mov", 8, mem("out", { disp: offset }), source);
}

function finishCall(s: Selector, v: Value, call: Inst, signature: Signature, clobbers: number): void {
  const { arguments: args, results } = places(signature);
  s.mfunc.makesCalls = true;
  call.uses = placeRegisters(args.slice(0, signature.params.length));
  call.defs = placeRegisters(results);
  call.clobbers = clobbers & ~call.defs;
  takeResults(s, v, results, signature);
}

function takeResults(s: Selector, v: Value, list: Place[], signature: Signature): void {
  const wanted = signature.results.length === 1 ? [v] : (s.projections.get(v) ?? []);
  for (const value of wanted) {
    if (!s.isDemanded(value)) continue;
    const place = list[signature.results.length === 1 ? 0 : Number(value.imm)] as Place;
    s.emit("mov", sizeOf(value), s.result(value), "reg" in place ? reg(place.reg) : mem("out", { disp: place.stack }));
  }
}
