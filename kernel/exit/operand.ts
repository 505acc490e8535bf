// The register operands of a decoded instruction and the address of its memory operand.

import { Vcpu } from "../vcpu/vcpu";
import { readGpr, readRip, writeGpr } from "../vendor";
import { maskOf, signExtend } from "./alu";
import { Form, Insn, Kind, NO_REGISTER } from "./decode";

/** Offset of the memory operand in its segment. */
export function effectiveAddress(vcpu: Vcpu, insn: Insn): u64 {
  let address = <u64>insn.displacement;
  if (insn.base == 16) address += readRip() + insn.length;
  else if (insn.base != NO_REGISTER) address += readGpr(vcpu, insn.base);
  if (insn.index != NO_REGISTER) address += readGpr(vcpu, insn.index) << insn.scaleLog2;
  if (insn.kind == Kind.BT && (insn.flags & Form.IMMEDIATE) == 0) address += bitOffset(vcpu, insn);
  return address & maskOf(insn.addressBytes);
}

/** BT with a register: the bit string reaches beyond the operand, in units of the operand's size. */
function bitOffset(vcpu: Vcpu, insn: Insn): u64 {
  const bit = <i64>signExtend(readGpr(vcpu, insn.register), insn.bytes);
  return <u64>((bit >> (3 + ctz<u32>(insn.bytes))) * <i64>insn.bytes);
}

/** The register operand, cut to the operand's size; AH..BH where the encoding says so. */
export function registerOperand(vcpu: Vcpu, insn: Insn): u64 {
  if ((insn.flags & Form.HIGH_BYTE) != 0) return (readGpr(vcpu, insn.register - 4) >> 8) & 0xff;
  return readGpr(vcpu, insn.register) & maskOf(insn.bytes);
}

export function setRegisterOperand(vcpu: Vcpu, insn: Insn, value: u64): void {
  if ((insn.flags & Form.HIGH_BYTE) == 0) {
    setSized(vcpu, insn.register, insn.bytes, value);
    return;
  }
  const old = readGpr(vcpu, insn.register - 4);
  writeGpr(vcpu, insn.register - 4, (old & ~(<u64>0xff00)) | ((value & 0xff) << 8));
}

/** Writes 1 or 2 bytes of a register and keeps the rest; 4 bytes clear the upper half. */
export function setSized(vcpu: Vcpu, register: u32, bytes: u32, value: u64): void {
  const mask = maskOf(bytes);
  const kept: u64 = bytes < 4 ? readGpr(vcpu, register) & ~mask : 0;
  writeGpr(vcpu, register, kept | (value & mask));
}

/** The second source: an immediate, or the register. */
export function source(vcpu: Vcpu, insn: Insn): u64 {
  if ((insn.flags & Form.IMMEDIATE) != 0) return insn.immediate & maskOf(insn.bytes);
  return registerOperand(vcpu, insn);
}
