// Instructions that use the stack, or jump through memory, where the stack or the other operand is a device: PUSH, POP,
// CALL, RET, LEAVE, ENTER, JMP. Each finds and checks all of its operands before it changes a register.
// Intel SDM Vol. 2, "Instruction Set Reference"; Vol. 1, "Stacks".

import { queueException, Vector } from "../vcpu/event";
import { Segment, SegmentBit } from "../vcpu/exit";
import { Gpr, Vcpu } from "../vcpu/vcpu";
import { isCanonical } from "../mm/gva";
import {
  readGpr,
  readRip,
  readRsp,
  readSegmentAccess,
  readSegmentLimit,
  skip,
  writeGpr,
  writeRip,
  writeRsp,
} from "../vendor";
import { loadOperand, storeOperand } from "./access";
import { maskOf } from "./alu";
import { Form, Insn, Kind } from "./decode";
import { Emulated } from "./emulated";
import { pagingOf } from "./linear";
import { effectiveAddress, setSized } from "./operand";
import { findOperand } from "./segment";

export function usesStack(kind: u32): bool {
  switch (kind) {
    case Kind.PUSH:
    case Kind.POP:
    case Kind.CALL:
    case Kind.JMP:
    case Kind.RET:
    case Kind.LEAVE:
    case Kind.ENTER:
      return true;
    default:
      return false;
  }
}

/** UNKNOWN: nested ENTER, which no compiler makes. */
export function runStack(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  if (insn.kind == Kind.ENTER && insn.aux != 0) return Emulated.UNKNOWN;
  const rsp = readRsp();
  if (!execute(vcpu, insn, long)) writeRsp(rsp);
  return Emulated.DONE;
}

/** False: a fault is queued; RSP may have moved. */
function execute(vcpu: Vcpu, insn: Insn, long: bool): bool {
  switch (insn.kind) {
    case Kind.PUSH:
      return loadSource(vcpu, insn, long) && push(vcpu, vcpu.operand, insn.bytes, long) && finish(insn);
    case Kind.POP:
      return pop(vcpu, insn.bytes, long) && storePopped(vcpu, insn, long) && finish(insn);
    case Kind.CALL:
      return call(vcpu, insn, long);
    case Kind.JMP:
      return loadSource(vcpu, insn, long) && jump(vcpu, insn, vcpu.operand, long);
    case Kind.RET:
      return pop(vcpu, insn.bytes, long) && jump(vcpu, insn, vcpu.operand, long) && release(insn.immediate, long);
    case Kind.LEAVE:
      return leave(vcpu, insn, long);
    default:
      return enter(vcpu, insn, long);
  }
}

function finish(insn: Insn): bool {
  skip(insn.length);
  return true;
}

// ---- The stack

/** What of RSP the stack segment uses. */
function stackMask(long: bool): u64 {
  if (long) return u64.MAX_VALUE;
  return (readSegmentAccess(Segment.SS) & SegmentBit.DEFAULT_BIG) != 0 ? 0xffff_ffff : 0xffff;
}

function movePointer(to: u64, long: bool): void {
  const mask = stackMask(long);
  writeRsp((readRsp() & ~mask) | (to & mask));
}

function findStack(vcpu: Vcpu, offset: u64, bytes: u32, write: bool, long: bool): bool {
  return findOperand(vcpu, Segment.SS, offset & stackMask(long), bytes, write, long);
}

function push(vcpu: Vcpu, value: u64, bytes: u32, long: bool): bool {
  const to = readRsp() - bytes;
  if (!findStack(vcpu, to, bytes, true, long)) return false;
  storeOperand(vcpu, value & maskOf(bytes));
  movePointer(to, long);
  return true;
}

/** The value is in Vcpu.operand. */
function pop(vcpu: Vcpu, bytes: u32, long: bool): bool {
  const from = readRsp();
  if (!findStack(vcpu, from, bytes, false, long)) return false;
  vcpu.operand = loadOperand(vcpu);
  movePointer(from + bytes, long);
  return true;
}

function release(bytes: u64, long: bool): bool {
  movePointer(readRsp() + bytes, long);
  return true;
}

// ---- Operands

/** An immediate, a register or memory, to Vcpu.operand. */
function loadSource(vcpu: Vcpu, insn: Insn, long: bool): bool {
  if ((insn.flags & Form.IMMEDIATE) != 0) vcpu.operand = insn.immediate;
  else if ((insn.flags & Form.MEMORY) == 0) vcpu.operand = readGpr(vcpu, registerOf(insn));
  else {
    if (!findMemory(vcpu, insn, insn.bytes, false, long)) return false;
    vcpu.operand = loadOperand(vcpu);
  }
  return true;
}

function findMemory(vcpu: Vcpu, insn: Insn, bytes: u32, write: bool, long: bool): bool {
  return findOperand(vcpu, insn.segment, effectiveAddress(vcpu, insn), bytes, write, long);
}

/** In ModRM, or in the opcode. */
function registerOf(insn: Insn): u32 {
  return (insn.flags & Form.MODRM) != 0 ? insn.rm : insn.register;
}

/** An address with RSP in it counts from where the value was popped. */
function storePopped(vcpu: Vcpu, insn: Insn, long: bool): bool {
  const value = vcpu.operand;
  if ((insn.flags & Form.MEMORY) == 0) {
    setSized(vcpu, registerOf(insn), insn.bytes, value);
    return true;
  }
  if (!findMemory(vcpu, insn, insn.bytes, true, long)) return false;
  storeOperand(vcpu, value);
  return true;
}

// ---- Transfers

/** Outside of 64-bit mode the target lies within CS; in it, it is canonical. */
function mayGo(vcpu: Vcpu, to: u64, long: bool): bool {
  const fine = long ? isCanonical(pagingOf(vcpu), to) : to <= <u64>readSegmentLimit(Segment.CS);
  if (!fine) queueException(vcpu, Vector.GP, 0);
  return fine;
}

function go(insn: Insn, to: u64): bool {
  skip(insn.length);
  writeRip(to);
  return true;
}

function jump(vcpu: Vcpu, insn: Insn, target: u64, long: bool): bool {
  const to = target & maskOf(insn.bytes);
  return mayGo(vcpu, to, long) && go(insn, to);
}

function call(vcpu: Vcpu, insn: Insn, long: bool): bool {
  if (!loadSource(vcpu, insn, long)) return false;
  const next = readRip() + insn.length;
  const target = (insn.flags & Form.IMMEDIATE) != 0 ? next + vcpu.operand : vcpu.operand;
  const to = target & maskOf(insn.bytes);
  return mayGo(vcpu, to, long) && push(vcpu, next, insn.bytes, long) && go(insn, to);
}

// ---- Frames

function leave(vcpu: Vcpu, insn: Insn, long: bool): bool {
  movePointer(readGpr(vcpu, Gpr.RBP), long);
  if (!pop(vcpu, insn.bytes, long)) return false;
  setSized(vcpu, Gpr.RBP, insn.bytes, vcpu.operand);
  return finish(insn);
}

/** Level 0: RBP is saved and marks the frame; its bytes lie below, and the last of them must be writable. */
function enter(vcpu: Vcpu, insn: Insn, long: bool): bool {
  const below = readRsp() - insn.bytes - insn.immediate;
  if (!findStack(vcpu, below, insn.bytes, true, long)) return false;
  if (!push(vcpu, readGpr(vcpu, Gpr.RBP), insn.bytes, long)) return false;
  const frame = readRsp();
  release(0 - insn.immediate, long);
  const mask = stackMask(long);
  if (insn.bytes == 2) setSized(vcpu, Gpr.RBP, 2, frame);
  else writeGpr(vcpu, Gpr.RBP, (readGpr(vcpu, Gpr.RBP) & ~mask) | (frame & mask));
  return finish(insn);
}
