// Executes one instruction with a memory operand that the processor could not complete, because the
// operand is a device register. The order is the processor's: read the bytes, decode, find the operand,
// check and translate everything, read, compute, write, then registers, flags and RIP. A fault before the
// last step leaves the guest as it was.

import { noteLongWork } from "../vcpu/current";
import { queueException, Vector } from "../vcpu/event";
import { Segment } from "../vcpu/exit";
import { Gpr, gpr, setGpr, Vcpu } from "../vcpu/vcpu";
import { codeSizeLog2, isLongMode64, readGpr, readRflags, readSelector, skip, writeGpr, writeRflags } from "../vendor";
import { aluOf, codeOf, exchangeOperand, isExitOperand, loadOperand, Operand, operandOf, storeOperand } from "./access";
import { codeMemoOf, fetchInstruction } from "./fetch";
import { findOperand } from "./segment";
import { readOperandAt, readPaging, writeOperandAt } from "./linear";
import { effectiveAddress, registerOperand, setRegisterOperand, setSized, source } from "./operand";
import { insnIn, keep, placeFor, Plain, recall } from "./recent";
import { moveVector } from "./vector";
import { runStack, usesStack } from "./stackinsn";
import { runDescriptor, usesDescriptors } from "./segmentinsn";
import {
  Alu,
  arithmetic,
  bitScan,
  bitTest,
  condition,
  countBits,
  decrement,
  divide,
  divideSigned,
  divides,
  doubleShift,
  Flag,
  increment,
  logic,
  maskOf,
  multiply,
  multiplySigned,
  negate,
  shift,
  signExtend,
  swapBytes,
} from "./alu";
import { Emulated } from "./emulated";
import { Decoded, decode, Form, Insn, Kind, MAX_INSTRUCTION_BYTES, NO_REGISTER, Prefix } from "./decode";
import { stopWithReport } from "./unexpected";

/** Elements of a repeated string instruction in one exit; the rest follows after the next entry. */
const ELEMENTS_PER_EXIT: u64 = 256;
/** A locked store that another vCPU keeps defeating is given up to the guest, which repeats the instruction. */
const LOCK_RETRIES: u32 = 64;

/** Executes the instruction at the guest's RIP. */
export function emulate(vcpu: Vcpu): Emulated {
  const known = recall(vcpu);
  if (known == null) return fetchAndRun(vcpu);
  const insn = insnIn(known);
  if ((known.plain & Plain.MOVE) != 0 && move(vcpu, insn)) return Emulated.DONE;
  readPaging(vcpu);
  return run(vcpu, insn, true);
}

function fetchAndRun(vcpu: Vcpu): Emulated {
  const long = isLongMode64();
  const code = codeOf(vcpu);
  const available = fetchInstruction(vcpu, code, long);
  if (available == 0) return Emulated.NO_CODE;
  const place = placeFor(vcpu);
  const insn = insnIn(place);
  const result = decode(insn, code, available, long ? 8 : 1 << codeSizeLog2());
  if (result == Decoded.TRUNCATED) return available < MAX_INSTRUCTION_BYTES ? Emulated.NO_CODE : Emulated.UNKNOWN;
  if (result == Decoded.UNKNOWN) return Emulated.UNKNOWN;
  if (result != Decoded.OK) {
    queueException(vcpu, result == Decoded.TOO_LONG ? Vector.GP : Vector.UD, 0);
    return Emulated.DONE;
  }
  if ((insn.flags & (Form.MEMORY | Form.IMPLICIT)) == 0) return Emulated.UNKNOWN;
  if (insn.kind == Kind.INS || insn.kind == Kind.OUTS) return Emulated.UNKNOWN; // they exit for their port
  if (long) keep(vcpu, place, codeMemoOf(vcpu), code);
  return run(vcpu, insn, long);
}

/** The exit's paging state has been read (readPaging). */
function run(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  aluOf(vcpu).flags = readRflags();
  return (insn.flags & Form.STRING) != 0 ? runString(vcpu, insn, long) : runOnce(vcpu, insn, long);
}

/**
 * What drivers do all the time: a MOV between a register, or an immediate, and the operand that the processor has just
 * translated. False: it is not that simple, and nothing was done.
 */
function move(vcpu: Vcpu, insn: Insn): bool {
  let gva = <u64>insn.displacement;
  if (insn.base != NO_REGISTER) gva += gpr(vcpu, insn.base);
  if (insn.index != NO_REGISTER) gva += gpr(vcpu, insn.index) << insn.scaleLog2;
  const bytes = insn.bytes;
  const write = (insn.flags & Form.TO_REGISTER) == 0;
  if (!isExitOperand(vcpu, gva, bytes, write)) return false;
  if (!write) setPlain(vcpu, insn.register, bytes, readOperandAt(vcpu, vcpu.exitGpa, bytes));
  else {
    const value = (insn.flags & Form.IMMEDIATE) != 0 ? insn.immediate : gpr(vcpu, insn.register);
    writeOperandAt(vcpu, vcpu.exitGpa, bytes, value & maskOf(bytes));
  }
  skip(insn.length);
  return true;
}

/** A register but RSP takes a value of its size; 4 bytes clear the upper half. */
function setPlain(vcpu: Vcpu, register: u32, bytes: u32, value: u64): void {
  if (bytes >= 4) setGpr(vcpu, register, value);
  else setSized(vcpu, register, bytes, value);
}

function runOnce(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  if (insn.kind == Kind.CMPXCHG8B && insn.memoryBytes == 16) return Emulated.UNKNOWN; // no device has 16-byte registers
  if (insn.kind == Kind.VECTOR) return moveVector(vcpu, insn, long) ? skipOver(insn) : Emulated.DONE;
  if (usesStack(insn.kind)) return runStack(vcpu, insn, long);
  if (usesDescriptors(insn.kind)) return runDescriptor(vcpu, insn, long);
  if (insn.kind != Kind.NOP && !findMemory(vcpu, insn, long)) return Emulated.DONE;
  if (insn.kind != Kind.NOP && !execute(vcpu, insn)) return Emulated.DONE;
  if (changesFlags(insn.kind)) writeRflags(aluOf(vcpu).flags);
  return skipOver(insn);
}

function skipOver(insn: Insn): Emulated {
  skip(insn.length);
  return Emulated.DONE;
}

/** The moves leave RFLAGS alone. */
function changesFlags(kind: u32): bool {
  return kind != Kind.MOV && kind != Kind.MOVZX;
}

// ---- Operands

/** The operand that ModRM names. False: a fault is queued. */
function findMemory(vcpu: Vcpu, insn: Insn, long: bool): bool {
  const offset = effectiveAddress(vcpu, insn);
  return findOperand(vcpu, insn.segment, offset, insn.memoryBytes, writesMemory(insn), long);
}

function writesMemory(insn: Insn): bool {
  if ((insn.flags & Form.TO_REGISTER) != 0) return false;
  switch (insn.kind) {
    case Kind.ALU:
      return insn.aux != 7;
    case Kind.BT:
      return insn.aux != 0;
    case Kind.TEST:
    case Kind.MUL:
    case Kind.IMUL:
    case Kind.DIV:
    case Kind.IDIV:
      return false;
    default:
      return true;
  }
}

// ---- One instruction

/** False: a fault is queued and nothing has changed. */
function execute(vcpu: Vcpu, insn: Insn): bool {
  switch (insn.kind) {
    case Kind.MOV:
      if ((insn.flags & Form.TO_REGISTER) != 0) setAccumulatorOrRegister(vcpu, insn, loadOperand(vcpu));
      else storeOperand(vcpu, movSource(vcpu, insn));
      return true;
    case Kind.MOVZX:
      setSized(vcpu, insn.register, insn.bytes, loadOperand(vcpu));
      return true;
    case Kind.MOVSX:
      setSized(vcpu, insn.register, insn.bytes, signExtend(loadOperand(vcpu), insn.memoryBytes));
      return true;
    case Kind.MOVBE:
      if ((insn.flags & Form.TO_REGISTER) != 0)
        setSized(vcpu, insn.register, insn.bytes, swapBytes(loadOperand(vcpu), insn.bytes));
      else storeOperand(vcpu, swapBytes(registerOperand(vcpu, insn), insn.bytes));
      return true;
    case Kind.MOV_FROM_SEGMENT:
      if ((insn.register & 7) > <u32>Segment.GS) return invalidOpcode(vcpu);
      storeOperand(vcpu, readSelector(insn.register & 7));
      return true;
    case Kind.SETCC:
      storeOperand(vcpu, condition(aluOf(vcpu).flags, insn.aux) ? 1 : 0);
      return true;
    case Kind.CMOVCC:
      return moveIf(vcpu, insn);
    case Kind.MUL:
    case Kind.IMUL:
    case Kind.DIV:
    case Kind.IDIV:
      return multiplyOrDivide(vcpu, insn);
    default:
      return executeOnMemory(vcpu, insn);
  }
}

function invalidOpcode(vcpu: Vcpu): bool {
  queueException(vcpu, Vector.UD, 0);
  return false;
}

function movSource(vcpu: Vcpu, insn: Insn): u64 {
  if ((insn.flags & Form.ABSOLUTE) != 0) return readGpr(vcpu, Gpr.RAX) & maskOf(insn.bytes);
  return source(vcpu, insn);
}

function setAccumulatorOrRegister(vcpu: Vcpu, insn: Insn, value: u64): void {
  if ((insn.flags & Form.ABSOLUTE) != 0) setSized(vcpu, Gpr.RAX, insn.bytes, value);
  else setRegisterOperand(vcpu, insn, value);
}

/** A 32-bit CMOVcc clears the upper half of its destination whether it moves or not. */
function moveIf(vcpu: Vcpu, insn: Insn): bool {
  const value = loadOperand(vcpu);
  const taken = condition(aluOf(vcpu).flags, insn.aux);
  setSized(vcpu, insn.register, insn.bytes, taken ? value : readGpr(vcpu, insn.register));
  return true;
}

/**
 * Instructions that read memory and then write a register, the flags, or the memory.
 * @repeats at most LOCK_RETRIES times
 */
function executeOnMemory(vcpu: Vcpu, insn: Insn): bool {
  const alu = aluOf(vcpu);
  const flags = alu.flags;
  for (let i: u32 = 0; i < LOCK_RETRIES; i++) {
    alu.flags = flags;
    const old = loadOperand(vcpu);
    const result = compute(vcpu, insn, alu, old);
    if (!writesMemory(insn)) return true;
    const locked = (insn.prefixes & Prefix.LOCK) != 0 || insn.kind == Kind.XCHG;
    if (!locked) storeOperand(vcpu, result);
    else if (!exchangeOperand(vcpu, old, result)) continue;
    writeBack(vcpu, insn, old);
    return true;
  }
  return false;
}

/** The new value of the memory operand; loads into registers and comparisons take effect here. */
function compute(vcpu: Vcpu, insn: Insn, alu: Alu, old: u64): u64 {
  switch (insn.kind) {
    case Kind.ALU:
      return computeAlu(vcpu, insn, alu, old);
    case Kind.TEST:
      logic(alu, old & source(vcpu, insn), insn.bytes);
      return old;
    case Kind.XCHG:
      return registerOperand(vcpu, insn);
    case Kind.XADD:
      return arithmetic(alu, 0, old, registerOperand(vcpu, insn), insn.bytes);
    case Kind.BT:
      return bitTest(alu, insn.aux, old, <u32>source(vcpu, insn) & ((insn.bytes << 3) - 1));
    case Kind.INC:
      return increment(alu, old, insn.bytes);
    case Kind.DEC:
      return decrement(alu, old, insn.bytes);
    case Kind.NOT:
      return ~old & maskOf(insn.bytes);
    case Kind.NEG:
      return negate(alu, old, insn.bytes);
    case Kind.SHIFT:
      return shift(alu, insn.aux, old, shiftCount(vcpu, insn), insn.bytes);
    case Kind.SHLD:
    case Kind.SHRD:
      return doubleShift(
        alu,
        insn.kind == Kind.SHLD,
        old,
        registerOperand(vcpu, insn),
        shiftCount(vcpu, insn),
        insn.bytes,
      );
    case Kind.CMPXCHG:
      return compareExchange(vcpu, insn, alu, old);
    case Kind.CMPXCHG8B:
      return compareExchange8(vcpu, alu, old);
    case Kind.IMUL2:
      setSized(vcpu, insn.register, insn.bytes, multiplySigned(alu, old, source(vcpu, insn), insn.bytes));
      return old;
    case Kind.COUNT:
      setSized(vcpu, insn.register, insn.bytes, countBits(alu, insn.aux, old, insn.bytes));
      return old;
    default: // BSF, BSR
      setSized(vcpu, insn.register, insn.bytes, bitScan(alu, insn.kind == Kind.BSF, old, readGpr(vcpu, insn.register)));
      return old;
  }
}

function computeAlu(vcpu: Vcpu, insn: Insn, alu: Alu, old: u64): u64 {
  if ((insn.flags & Form.TO_REGISTER) == 0) return arithmetic(alu, insn.aux, old, source(vcpu, insn), insn.bytes);
  const result = arithmetic(alu, insn.aux, registerOperand(vcpu, insn), old, insn.bytes);
  if (insn.aux != 7) setRegisterOperand(vcpu, insn, result);
  return old;
}

function shiftCount(vcpu: Vcpu, insn: Insn): u32 {
  if ((insn.flags & Form.COUNT_ONE) != 0) return 1;
  return (insn.flags & Form.COUNT_CL) != 0 ? <u32>readGpr(vcpu, Gpr.RCX) & 0xff : <u32>insn.immediate & 0xff;
}

/** ZF tells whether the accumulator matched; the memory is written either way, as the bus cycle demands. */
function compareExchange(vcpu: Vcpu, insn: Insn, alu: Alu, old: u64): u64 {
  const accumulator = readGpr(vcpu, Gpr.RAX) & maskOf(insn.bytes);
  arithmetic(alu, 7, accumulator, old, insn.bytes);
  return (alu.flags & Flag.ZF) != 0 ? registerOperand(vcpu, insn) : old;
}

function compareExchange8(vcpu: Vcpu, alu: Alu, old: u64): u64 {
  const expected = (readGpr(vcpu, Gpr.RDX) << 32) | (readGpr(vcpu, Gpr.RAX) & 0xffff_ffff);
  alu.flags = old == expected ? alu.flags | Flag.ZF : alu.flags & ~(<u64>Flag.ZF);
  if (old != expected) return old;
  return (readGpr(vcpu, Gpr.RCX) << 32) | (readGpr(vcpu, Gpr.RBX) & 0xffff_ffff);
}

/** Registers that take the old value of the memory, once the store has taken place. */
function writeBack(vcpu: Vcpu, insn: Insn, old: u64): void {
  if (insn.kind == Kind.XCHG || insn.kind == Kind.XADD) {
    setRegisterOperand(vcpu, insn, old);
    return;
  }
  if ((aluOf(vcpu).flags & Flag.ZF) != 0) return;
  if (insn.kind == Kind.CMPXCHG) setSized(vcpu, Gpr.RAX, insn.bytes, old);
  if (insn.kind != Kind.CMPXCHG8B) return;
  writeGpr(vcpu, Gpr.RAX, old & 0xffff_ffff);
  writeGpr(vcpu, Gpr.RDX, old >> 32);
}

/** One-operand forms with AX, or DX:AX, EDX:EAX, RDX:RAX. False: #DE is queued. */
function multiplyOrDivide(vcpu: Vcpu, insn: Insn): bool {
  const alu = aluOf(vcpu);
  const memory = loadOperand(vcpu);
  const bytes = insn.bytes;
  const low = readGpr(vcpu, Gpr.RAX) & maskOf(bytes);
  const high = bytes == 1 ? (readGpr(vcpu, Gpr.RAX) >> 8) & 0xff : readGpr(vcpu, Gpr.RDX) & maskOf(bytes);
  let result: u64;
  if (insn.kind == Kind.MUL) result = multiply(alu, low, memory, bytes);
  else if (insn.kind == Kind.IMUL) result = multiplySigned(alu, low, memory, bytes);
  else if (insn.kind == Kind.DIV) {
    if (!divides(high, memory)) return divideError(vcpu);
    result = divide(alu, high, low, memory, bytes);
  } else {
    if (!divideSigned(alu, high, low, memory, bytes, changetype<usize>(operandOf(vcpu)) + offsetof<Operand>("value")))
      return divideError(vcpu);
    result = operandOf(vcpu).value;
  }
  if (bytes == 1) {
    setSized(vcpu, Gpr.RAX, 2, (alu.high << 8) | result);
    return true;
  }
  setSized(vcpu, Gpr.RAX, bytes, result);
  setSized(vcpu, Gpr.RDX, bytes, alu.high);
  return true;
}

function divideError(vcpu: Vcpu): bool {
  queueException(vcpu, Vector.DE, 0);
  return false;
}

// ---- String instructions

/**
 * MOVS, CMPS, STOS, LODS, SCAS, with their repeat prefixes. Each element is complete before the next
 * begins, so a fault or the end of this exit's share leaves RCX, RSI and RDI as the processor would.
 * @repeats at most ELEMENTS_PER_EXIT times
 */
function runString(vcpu: Vcpu, insn: Insn, long: bool): Emulated {
  const repeated = (insn.prefixes & (Prefix.REP | Prefix.REPNE)) != 0;
  const mask = maskOf(insn.addressBytes);
  if (!repeated) return runElement(vcpu, insn, long) ? finishString(vcpu, insn) : Emulated.DONE;
  for (let i: u64 = 0; i < ELEMENTS_PER_EXIT; i++) {
    const count = readGpr(vcpu, Gpr.RCX) & mask;
    if (count == 0) return finishString(vcpu, insn);
    if (!runElement(vcpu, insn, long)) return Emulated.DONE;
    setSized(vcpu, Gpr.RCX, insn.addressBytes, count - 1);
    if (comparisonEnds(vcpu, insn)) return finishString(vcpu, insn);
  }
  writeRflags(aluOf(vcpu).flags);
  noteLongWork();
  return Emulated.DONE; // RIP stays: the guest goes on with what RCX has left
}

function finishString(vcpu: Vcpu, insn: Insn): Emulated {
  writeRflags(aluOf(vcpu).flags);
  skip(insn.length);
  return Emulated.DONE;
}

/** CMPS and SCAS end when ZF is not what the prefix asks for. */
function comparisonEnds(vcpu: Vcpu, insn: Insn): bool {
  if (insn.kind != Kind.CMPS && insn.kind != Kind.SCAS) return false;
  const equal = (aluOf(vcpu).flags & Flag.ZF) != 0;
  return (insn.prefixes & Prefix.REPNE) != 0 ? equal : !equal;
}

/** One element; false: a fault is queued. RSI and RDI move only when it is complete. */
function runElement(vcpu: Vcpu, insn: Insn, long: bool): bool {
  const usesSource = insn.kind == Kind.MOVS || insn.kind == Kind.CMPS || insn.kind == Kind.LODS;
  const usesDestination = insn.kind != Kind.LODS;
  let value = readGpr(vcpu, Gpr.RAX) & maskOf(insn.bytes);
  if (usesSource) {
    if (!findElement(vcpu, insn, insn.segment, Gpr.RSI, false, long)) return false;
    value = loadOperand(vcpu);
  }
  if (usesDestination && !destination(vcpu, insn, value, long)) return false;
  if (insn.kind == Kind.LODS) setSized(vcpu, Gpr.RAX, insn.bytes, value);
  if (usesSource) step(vcpu, insn, Gpr.RSI);
  if (usesDestination) step(vcpu, insn, Gpr.RDI);
  return true;
}

/** ES:DI takes the value, or is compared with it. */
function destination(vcpu: Vcpu, insn: Insn, value: u64, long: bool): bool {
  const writes = insn.kind == Kind.MOVS || insn.kind == Kind.STOS;
  if (!findElement(vcpu, insn, Segment.ES, Gpr.RDI, writes, long)) return false;
  if (writes) storeOperand(vcpu, value);
  else arithmetic(aluOf(vcpu), 7, value, loadOperand(vcpu), insn.bytes);
  return true;
}

function findElement(vcpu: Vcpu, insn: Insn, segment: u32, register: u32, write: bool, long: bool): bool {
  const offset = readGpr(vcpu, register) & maskOf(insn.addressBytes);
  return findOperand(vcpu, segment, offset, insn.bytes, write, long);
}

function step(vcpu: Vcpu, insn: Insn, register: u32): void {
  const down = (aluOf(vcpu).flags & Flag.DF) != 0;
  const by: u64 = down ? 0 - <u64>insn.bytes : insn.bytes;
  setSized(vcpu, register, insn.addressBytes, readGpr(vcpu, register) + by);
}

/** emulate(), and what follows where it cannot. */
export function emulateAt(vcpu: Vcpu): void {
  if (emulate(vcpu) == Emulated.UNKNOWN)
    stopWithReport(vcpu, "an instruction with a device operand that is not emulated");
}
