// INS and OUTS, with and without REP. One exit moves at most what is left of a page, so that a long
// transfer stays interruptible: RIP moves on only when RCX has reached zero.
// Intel SDM Vol. 3, "VM-Exit Instruction-Information Field as Used for INS and OUTS".

import { Walk } from "../mm/gva";
import { PortAccess, Segment, SegmentBit } from "../vcpu/exit";
import { Gpr, gpr, setGpr, Vcpu } from "../vcpu/vcpu";
import {
  advance,
  codeSizeLog2,
  hasStringInfo,
  readInstructionInfo,
  readRflags,
  readSegmentAccess,
  readSegmentBase,
  readSegmentLimit,
} from "../vendor";
import { portRead, portWrite } from "../vdev/bus";
import { codeOf, insnOf } from "./access";
import { decode } from "./decode";
import { fetchInstruction } from "./fetch";
import { raiseGp, raiseSs } from "./fault";
import { merge } from "./io";
import { is64, ordinary, readOperand, readPaging, translate, writeOperand } from "./linear";

const DF: u64 = 1 << 10;
const MAX_ELEMENTS: u64 = 1024;

export function onStringPort(vcpu: Vcpu, port: u32, access: u32): void {
  const info = hasStringInfo() ? readInstructionInfo() : decodedInfo(vcpu);
  const addressBytes: u32 = 2 << ((info >> 7) & 7);
  const input = (access & PortAccess.IN) != 0;
  const segment = input ? <u32>Segment.ES : (info >> 15) & 7;
  readPaging(vcpu);
  if (transfer(vcpu, port, access, segment, input ? <u32>Gpr.RDI : <u32>Gpr.RSI, addressBytes)) advance(vcpu);
}

/** Processors without the information: segment and address size from the instruction's own prefixes. */
function decodedInfo(vcpu: Vcpu): u32 {
  const insn = insnOf(vcpu);
  decode(insn, codeOf(vcpu), fetchInstruction(vcpu, codeOf(vcpu), is64()), is64() ? 8 : 1 << codeSizeLog2());
  const size: u32 = insn.addressBytes == 8 ? 2 : insn.addressBytes == 4 ? 1 : 0;
  return (size << 7) | (insn.segment << 15);
}

/**
 * True: all elements were moved. False: a fault is queued, or the rest comes with the next exit.
 * @repeats at most MAX_ELEMENTS times
 */
function transfer(vcpu: Vcpu, port: u32, access: u32, segment: u32, index: u32, addressBytes: u32): bool {
  const rep = (access & PortAccess.REP) != 0;
  const bytes = access & PortAccess.SIZE_MASK;
  const step: u64 = (readRflags() & DF) != 0 ? -(<u64>bytes) : <u64>bytes;
  let left = rep ? maskTo(gpr(vcpu, Gpr.RCX), addressBytes) : 1;
  for (let moved: u64 = 0; left != 0 && moved < MAX_ELEMENTS; moved++) {
    const offset = maskTo(gpr(vcpu, index), addressBytes);
    if (!element(vcpu, port, (access & PortAccess.IN) != 0, segment, offset, bytes)) return false;
    setGpr(vcpu, index, mergeAddress(gpr(vcpu, index), offset + step, addressBytes));
    left--;
    if (rep) setGpr(vcpu, Gpr.RCX, mergeAddress(gpr(vcpu, Gpr.RCX), left, addressBytes));
  }
  return left == 0;
}

/** One element. INS checks its destination before the port is read: a device's byte is never lost to a fault. */
function element(vcpu: Vcpu, port: u32, input: bool, segment: u32, offset: u64, bytes: u32): bool {
  if (!checkSegment(vcpu, segment, offset, bytes, input)) return false;
  const gva = linearOf(segment, offset);
  if (!input) {
    if (!readOperand(vcpu, gva, bytes, ordinary(Walk.READ))) return false;
    portWrite(vcpu, port, bytes, <u32>vcpu.operand);
    return true;
  }
  const access = ordinary(Walk.READ);
  if (!translateRange(vcpu, gva, bytes, access | Walk.WRITE)) return false;
  return writeOperand(vcpu, gva, bytes, portRead(vcpu, port, bytes), access);
}

function translateRange(vcpu: Vcpu, gva: u64, bytes: u32, access: u32): bool {
  if (!translate(vcpu, gva, access)) return false;
  const last = gva + bytes - 1;
  return ((gva ^ last) & ~(<u64>0xfff)) == 0 || translate(vcpu, last & ~(<u64>0xfff), access);
}

export function linearOf(segment: u32, offset: u64): u64 {
  if (!is64()) return (offset + readSegmentBase(segment)) & 0xffff_ffff;
  return segment >= <u32>Segment.FS ? offset + readSegmentBase(segment) : offset;
}

/**
 * Segment checks of a memory operand outside 64-bit mode: usable, readable or writable, within the limit.
 * False: #SS or #GP is queued. Intel SDM Vol. 3, "Limit Checking" and "Type Checking".
 */
export function checkSegment(vcpu: Vcpu, segment: u32, offset: u64, bytes: u32, write: bool): bool {
  if (is64() || segmentAllows(segment, offset, bytes, write)) return true;
  if (segment == Segment.SS) raiseSs(vcpu);
  else raiseGp(vcpu);
  return false;
}

function segmentAllows(segment: u32, offset: u64, bytes: u32, write: bool): bool {
  const access = readSegmentAccess(segment);
  if ((access & SegmentBit.UNUSABLE) != 0) return false;
  const code = (access & 8) != 0;
  if (write && (code || (access & 2) == 0)) return false;
  if (!write && code && (access & 2) == 0) return false;
  const limit = <u64>readSegmentLimit(segment);
  const last = offset + bytes - 1;
  if (code || (access & 4) == 0) return last <= limit;
  const top: u64 = (access & SegmentBit.DEFAULT_BIG) != 0 ? 0xffff_ffff : 0xffff;
  return offset > limit && last <= top;
}

export function maskTo(value: u64, bytes: u32): u64 {
  return bytes == 8 ? value : bytes == 4 ? value & 0xffff_ffff : value & 0xffff;
}

/** A register written with an address of 2, 4 or 8 bytes. */
export function mergeAddress(old: u64, value: u64, bytes: u32): u64 {
  return merge(old, maskTo(value, bytes), bytes);
}
