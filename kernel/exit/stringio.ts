// INS and OUTS, with and without REP. One exit moves a bounded number of elements, so that a long
// transfer stays interruptible: RIP moves on only when RCX has reached zero.
// Intel SDM Vol. 3, "VM-Exit Instruction-Information Field as Used for INS and OUTS".

import { noteLongWork } from "../vcpu/current";
import { PortAccess, Segment } from "../vcpu/exit";
import { Gpr, gpr, Vcpu } from "../vcpu/vcpu";
import { advance, codeSizeLog2, hasStringInfo, readInstructionInfo, readRflags } from "../vendor";
import { portRead, portWrite } from "../vdev/bus";
import { codeOf, insnOf, loadOperand, storeOperand } from "./access";
import { maskOf } from "./alu";
import { decode } from "./decode";
import { fetchInstruction } from "./fetch";
import { is64, readPaging } from "./linear";
import { setSized } from "./operand";
import { findOperand } from "./segment";

const DF: u64 = 1 << 10;
const MAX_ELEMENTS: u64 = 256;

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
  const mask = maskOf(addressBytes);
  let left = rep ? gpr(vcpu, Gpr.RCX) & mask : 1;
  for (let moved: u64 = 0; left != 0 && moved < MAX_ELEMENTS; moved++) {
    const offset = gpr(vcpu, index) & mask;
    if (!element(vcpu, port, (access & PortAccess.IN) != 0, segment, offset, bytes)) return false;
    setSized(vcpu, index, addressBytes, offset + step);
    left--;
    if (rep) setSized(vcpu, Gpr.RCX, addressBytes, left);
  }
  if (left == 0) return true;
  noteLongWork();
  return false;
}

/** One element. INS checks its destination before the port is read: a device's byte is never lost to a fault. */
function element(vcpu: Vcpu, port: u32, input: bool, segment: u32, offset: u64, bytes: u32): bool {
  if (!findOperand(vcpu, segment, offset, bytes, input, is64())) return false;
  if (input) storeOperand(vcpu, portRead(vcpu, port, bytes));
  else portWrite(vcpu, port, bytes, <u32>loadOperand(vcpu));
  return true;
}
