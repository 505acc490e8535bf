// Instruction bytes -> Insn record. Pure: the bytes were read once by the caller, nothing of the guest
// is touched, so another vCPU that rewrites the code meanwhile changes nothing.
//
// Known are the integer instructions that take a memory operand, in ModRM or on the stack, and the moves of vector
// registers. What a device register never sees (arithmetic on vectors, x87) is refused with UNKNOWN, and the VM stops
// with a report.
// Intel SDM Vol. 2, "Instruction Format" and appendix "Opcode Map".

import { Part, VectorMove, vectorMove, vectorMove38 } from "./decodevector";

export const enum Decoded {
  OK = 0,
  TRUNCATED = 1, // the instruction goes on past the bytes given
  TOO_LONG = 2, // more than 15 bytes: #GP
  INVALID = 3, // #UD
  UNKNOWN = 4, // a valid instruction that the core does not execute
}

export const enum Kind {
  NONE = 0,
  ALU = 1, // aux: ADD OR ADC SBB AND SUB XOR CMP
  TEST = 2,
  MOV = 3,
  MOVZX = 4,
  MOVSX = 5,
  XCHG = 6,
  BT = 7, // aux: BT BTS BTR BTC
  MOVS = 8,
  CMPS = 9,
  STOS = 10,
  LODS = 11,
  SCAS = 12,
  INC = 13,
  DEC = 14,
  NOT = 15,
  NEG = 16,
  MUL = 17,
  IMUL = 18, // EDX:EAX
  DIV = 19,
  IDIV = 20,
  SHIFT = 21, // aux: ROL ROR RCL RCR SHL SHR SAL SAR
  IMUL2 = 22, // register <- register or immediate * memory
  CMPXCHG = 23,
  XADD = 24,
  CMPXCHG8B = 25, // or 16B with REX.W
  SETCC = 26, // aux: condition
  CMOVCC = 27,
  PUSH = 28,
  POP = 29,
  SHLD = 30,
  SHRD = 31,
  BSF = 32,
  BSR = 33,
  MOVBE = 34,
  NOP = 35, // hints and prefetches: no access takes place
  MOV_FROM_SEGMENT = 36,
  CALL = 37,
  JMP = 38,
  INS = 39,
  OUTS = 40,
  RET = 41,
  LEAVE = 42,
  ENTER = 43, // immediate: bytes of the frame; aux: nesting level, 0 to 15
  JMP_FAR = 44,
  MOV_TO_SEGMENT = 45,
  LLDT = 46,
  LTR = 47,
  STORE_SYSTEM = 48, // aux: SLDT STR SMSW
  COUNT = 49, // aux: POPCNT TZCNT LZCNT
  VECTOR = 50, // a move; aux: Part
}

/** Insn.flags, and the upper bits of an opcode's attributes. */
export const enum Form {
  AUX_SHIFT = 8, // 4 bits
  MODRM = 0x1000,
  BYTE = 0x2000, // 8-bit operand
  TO_REGISTER = 0x4000, // memory is the source
  IMM8 = 0x8000, // sign-extended
  IMM_OPERAND = 0x10000, // of the operand's size, at most 32 bits, sign-extended
  GROUP = 0x20000, // ModRM.reg is part of the opcode
  ABSOLUTE = 0x40000, // MOV to and from a full address in the instruction
  STRING = 0x80000,
  COUNT_CL = 0x100000,
  COUNT_ONE = 0x200000,
  SOURCE8 = 0x400000, // MOVZX, MOVSX: the memory operand is a byte
  SOURCE16 = 0x800000,
  SOURCE32 = 0x1000000,
  STACK = 0x2000000, // operand size 64 in 64-bit mode without REX.W
  HIGH_BYTE = 0x4000000, // the register operand is AH, CH, DH or BH (reg 4..7)
  IMMEDIATE = 0x8000000, // an immediate was present
  MEMORY = 0x10000000, // has a memory operand
  NOT_16 = 0x20000000, // 32-bit where others would be 16-bit
  IMPLICIT = 0x40000000, // touches the stack
}

export const enum Prefix {
  LOCK = 1,
  REPNE = 2,
  REP = 4,
  OPERAND = 8,
  ADDRESS = 16,
}

export const NO_REGISTER: u32 = 0xff;
export const MAX_INSTRUCTION_BYTES: u32 = 15;
const RIP_RELATIVE: u32 = 16; // Insn.base

@unmanaged
export class Insn {
  kind: u32; // Kind
  flags: u32; // Form
  aux: u32;
  length: u32; // bytes of the whole instruction
  prefixes: u32; // Prefix
  rex: u32; // 40H..4FH, 0: none
  bytes: u32; // operand size: 1, 2, 4, 8
  memoryBytes: u32; // size of the memory operand
  addressBytes: u32; // 2, 4, 8
  segment: u32; // segment register of the memory operand, overrides applied
  register: u32; // ModRM.reg with REX.R
  rm: u32; // ModRM.rm with REX.B where it is a register, else NO_REGISTER
  base: u32; // register number, RIP_RELATIVE, or NO_REGISTER
  index: u32;
  scaleLog2: u32;
  displacement: i64;
  immediate: u64; // sign-extended
  vex: u32; // bytes of the vector that a VEX prefix names, 16 or 32; 0: no VEX
  vvvv: u32; // its further register
  aligned: u32; // 1: #GP unless the operand is aligned to its size
  // Scratch of the decoder
  at: usize;
  end: usize;
  start: usize;
  opcodeAt: usize; // the last byte of the opcode
  mode: u32;
  overriding: u32;
}

/**
 * Decodes the instruction in the `available` bytes at `bytes`. `mode`: 2, 4 or 8, the size of a near
 * address in the current code segment (16-bit, 32-bit, 64-bit).
 */
export function decode(insn: Insn, bytes: usize, available: u32, mode: u32): Decoded {
  memory.fill(changetype<usize>(insn), 0, offsetof<Insn>());
  insn.start = bytes;
  insn.at = bytes;
  insn.end = bytes + (available < MAX_INSTRUCTION_BYTES ? available : MAX_INSTRUCTION_BYTES);
  insn.mode = mode;
  insn.overriding = NO_REGISTER;
  insn.rm = NO_REGISTER;
  insn.base = NO_REGISTER;
  insn.index = NO_REGISTER;
  let result = decodeAll(insn);
  if (result == Decoded.TRUNCATED && available >= MAX_INSTRUCTION_BYTES) result = Decoded.TOO_LONG;
  return result;
}

function decodeAll(insn: Insn): Decoded {
  if (!readPrefixes(insn)) return Decoded.TRUNCATED;
  if (insn.at >= insn.end) return Decoded.TRUNCATED;
  const opcode = takeByte(insn);
  let attributes: u32;
  if (opcode == 0xc4 || opcode == 0xc5) return decodeVex(insn, opcode == 0xc4);
  if (opcode == 0x0f) {
    if (insn.at >= insn.end) return Decoded.TRUNCATED;
    const second = takeByte(insn);
    if (second == 0x38) {
      if (insn.at >= insn.end) return Decoded.TRUNCATED;
      attributes = threeByteOpcode(insn, takeByte(insn));
    } else {
      attributes = twoByteOpcode(insn, second);
    }
  } else {
    attributes = oneByteOpcode(insn, opcode);
  }
  if (attributes == 0) return Decoded.UNKNOWN;
  insn.kind = attributes & 0xff;
  insn.aux = (attributes >> Form.AUX_SHIFT) & 15;
  insn.flags = attributes & ~(<u32>0xfff);
  setSizes(insn);
  return decodeOperands(insn, opcode);
}

function decodeOperands(insn: Insn, opcode: u32): Decoded {
  if ((insn.flags & Form.STRING) != 0) {
    insn.segment = insn.overriding != NO_REGISTER ? insn.overriding : 3;
    insn.flags |= Form.MEMORY;
    return finish(insn);
  }
  if ((insn.flags & Form.ABSOLUTE) != 0) return decodeAbsolute(insn);
  if ((insn.flags & Form.MODRM) == 0) return decodeImplicit(insn, opcode);
  const status = decodeModRm(insn);
  if (status != Decoded.OK) return status;
  if ((insn.flags & Form.GROUP) != 0 && !resolveGroup(insn, opcode)) return Decoded.UNKNOWN;
  markHighByte(insn);
  return decodeImmediate(insn);
}

/** No ModRM: PUSH, POP, CALL, RET, LEAVE, ENTER. The register, if any, is in the opcode. */
function decodeImplicit(insn: Insn, opcode: u32): Decoded {
  insn.register = (opcode & 7) | ((insn.rex & 1) << 3);
  if (insn.kind == Kind.CALL && insn.mode == 8) insn.bytes = 8; // 66H counts for nothing
  if (insn.kind == Kind.RET && insn.mode == 8) insn.bytes = 8;
  insn.memoryBytes = insn.bytes;
  if (insn.kind == Kind.ENTER) {
    if (insn.end - insn.at < 3) return Decoded.TRUNCATED;
    insn.immediate = <u64>load<u16>(insn.at);
    insn.aux = <u32>load<u8>(insn.at, 2) & 31;
    insn.at += 3;
    return finish(insn);
  }
  if (opcode != 0xc2) return decodeImmediate(insn);
  if (insn.end - insn.at < 2) return Decoded.TRUNCATED;
  insn.immediate = <u64>load<u16>(insn.at);
  insn.at += 2;
  return finish(insn);
}

function finish(insn: Insn): Decoded {
  insn.length = <u32>(insn.at - insn.start);
  if ((insn.prefixes & Prefix.LOCK) != 0 && !isLockable(insn)) return Decoded.INVALID;
  return Decoded.OK;
}

/** Instructions that take LOCK with a memory destination; any other with LOCK is #UD. */
function isLockable(insn: Insn): bool {
  if ((insn.flags & (Form.MEMORY | Form.TO_REGISTER)) != Form.MEMORY) return insn.kind == Kind.XCHG;
  switch (insn.kind) {
    case Kind.ALU:
      return insn.aux != 7;
    case Kind.BT:
      return insn.aux != 0;
    case Kind.INC:
    case Kind.DEC:
    case Kind.NOT:
    case Kind.NEG:
    case Kind.XCHG:
    case Kind.XADD:
    case Kind.CMPXCHG:
    case Kind.CMPXCHG8B:
      return true;
    default:
      return false;
  }
}

// ---- Prefixes and sizes

function takeByte(insn: Insn): u32 {
  const byte = <u32>load<u8>(insn.at);
  insn.at++;
  return byte;
}

/** Legacy prefixes in any order, then REX; a REX that a legacy prefix follows does not count. */
function readPrefixes(insn: Insn): bool {
  while (insn.at < insn.end) {
    const byte = <u32>load<u8>(insn.at);
    if (insn.mode == 8 && (byte & 0xf0) == 0x40) {
      insn.rex = byte;
      insn.at++;
      continue;
    }
    if (!legacyPrefix(insn, byte)) return true;
    insn.rex = 0;
    insn.at++;
  }
  return false;
}

function legacyPrefix(insn: Insn, byte: u32): bool {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
      if (insn.mode != 8) insn.overriding = (byte >> 3) & 3; // ES CS SS DS; ignored in 64-bit mode
      return true;
    case 0x64:
    case 0x65:
      insn.overriding = byte - 0x60; // FS 4, GS 5
      return true;
    case 0x66:
      insn.prefixes |= Prefix.OPERAND;
      return true;
    case 0x67:
      insn.prefixes |= Prefix.ADDRESS;
      return true;
    case 0xf0:
      insn.prefixes |= Prefix.LOCK;
      return true;
    case 0xf2:
      insn.prefixes = (insn.prefixes & ~(<u32>Prefix.REP)) | Prefix.REPNE;
      return true;
    case 0xf3:
      insn.prefixes = (insn.prefixes & ~(<u32>Prefix.REPNE)) | Prefix.REP;
      return true;
    default:
      return false;
  }
}

function setSizes(insn: Insn): void {
  const operandPrefix = (insn.prefixes & Prefix.OPERAND) != 0;
  const addressPrefix = (insn.prefixes & Prefix.ADDRESS) != 0;
  if (insn.mode == 8) {
    const wide = (insn.rex & 8) != 0 || ((insn.flags & Form.STACK) != 0 && !operandPrefix);
    insn.bytes = wide ? 8 : operandPrefix ? 2 : 4;
    insn.addressBytes = addressPrefix ? 4 : 8;
  } else {
    insn.bytes = (insn.mode == 2) != operandPrefix ? 2 : 4;
    insn.addressBytes = (insn.mode == 2) != addressPrefix ? 2 : 4;
  }
  if ((insn.flags & Form.BYTE) != 0) insn.bytes = 1;
  if ((insn.flags & Form.NOT_16) != 0 && insn.bytes == 2) insn.bytes = 4;
  if (insn.kind == Kind.VECTOR) return;
  insn.memoryBytes = insn.bytes;
  if ((insn.flags & Form.SOURCE8) != 0) insn.memoryBytes = 1;
  else if ((insn.flags & Form.SOURCE16) != 0) insn.memoryBytes = 2;
  else if ((insn.flags & Form.SOURCE32) != 0) insn.memoryBytes = min(insn.bytes, 4);
  if (insn.kind == Kind.CMPXCHG8B) insn.memoryBytes = insn.bytes == 8 ? 16 : 8;
}

// ---- Opcodes

/** Attributes of a one-byte opcode, 0 where the core does not know it. */
function oneByteOpcode(insn: Insn, opcode: u32): u32 {
  if (opcode < 0x40) return aluOpcode(opcode);
  if (opcode >= 0x50 && opcode < 0x58) return Kind.PUSH | Form.IMPLICIT | Form.STACK;
  if (opcode >= 0x58 && opcode < 0x60) return Kind.POP | Form.IMPLICIT | Form.STACK;
  switch (opcode) {
    case 0x63: // MOVSXD in 64-bit mode; ARPL elsewhere is refused in decodeModRm's caller by its form
      return Kind.MOVSX | Form.MODRM | Form.TO_REGISTER | Form.SOURCE32;
    case 0x68:
      return Kind.PUSH | Form.IMPLICIT | Form.STACK | Form.IMM_OPERAND;
    case 0x6a:
      return Kind.PUSH | Form.IMPLICIT | Form.STACK | Form.IMM8;
    case 0x69:
      return Kind.IMUL2 | Form.MODRM | Form.TO_REGISTER | Form.IMM_OPERAND;
    case 0x6b:
      return Kind.IMUL2 | Form.MODRM | Form.TO_REGISTER | Form.IMM8;
    case 0x6c:
      return Kind.INS | Form.STRING | Form.BYTE;
    case 0x6d:
      return Kind.INS | Form.STRING;
    case 0x6e:
      return Kind.OUTS | Form.STRING | Form.BYTE;
    case 0x6f:
      return Kind.OUTS | Form.STRING;
    case 0x80:
    case 0x82: // as 80H outside of 64-bit mode
      return Kind.ALU | Form.MODRM | Form.GROUP | Form.BYTE | Form.IMM8;
    case 0x81:
      return Kind.ALU | Form.MODRM | Form.GROUP | Form.IMM_OPERAND;
    case 0x83:
      return Kind.ALU | Form.MODRM | Form.GROUP | Form.IMM8;
    case 0x84:
      return Kind.TEST | Form.MODRM | Form.BYTE;
    case 0x85:
      return Kind.TEST | Form.MODRM;
    case 0x86:
      return Kind.XCHG | Form.MODRM | Form.BYTE;
    case 0x87:
      return Kind.XCHG | Form.MODRM;
    case 0x88:
      return Kind.MOV | Form.MODRM | Form.BYTE;
    case 0x89:
      return Kind.MOV | Form.MODRM;
    case 0x8a:
      return Kind.MOV | Form.MODRM | Form.BYTE | Form.TO_REGISTER;
    case 0x8b:
      return Kind.MOV | Form.MODRM | Form.TO_REGISTER;
    case 0x8c:
      return Kind.MOV_FROM_SEGMENT | Form.MODRM | Form.SOURCE16;
    case 0x8e:
      return Kind.MOV_TO_SEGMENT | Form.MODRM | Form.TO_REGISTER | Form.SOURCE16;
    case 0x8f:
      return Kind.POP | Form.MODRM | Form.GROUP | Form.STACK | Form.IMPLICIT;
    case 0xa0:
      return Kind.MOV | Form.ABSOLUTE | Form.BYTE | Form.TO_REGISTER;
    case 0xa1:
      return Kind.MOV | Form.ABSOLUTE | Form.TO_REGISTER;
    case 0xa2:
      return Kind.MOV | Form.ABSOLUTE | Form.BYTE;
    case 0xa3:
      return Kind.MOV | Form.ABSOLUTE;
    case 0xa4:
      return Kind.MOVS | Form.STRING | Form.BYTE;
    case 0xa5:
      return Kind.MOVS | Form.STRING;
    case 0xa6:
      return Kind.CMPS | Form.STRING | Form.BYTE;
    case 0xa7:
      return Kind.CMPS | Form.STRING;
    case 0xaa:
      return Kind.STOS | Form.STRING | Form.BYTE;
    case 0xab:
      return Kind.STOS | Form.STRING;
    case 0xac:
      return Kind.LODS | Form.STRING | Form.BYTE;
    case 0xad:
      return Kind.LODS | Form.STRING;
    case 0xae:
      return Kind.SCAS | Form.STRING | Form.BYTE;
    case 0xaf:
      return Kind.SCAS | Form.STRING;
    case 0xc0:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.BYTE | Form.IMM8;
    case 0xc1:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.IMM8;
    case 0xc2:
    case 0xc3:
      return Kind.RET | Form.IMPLICIT | Form.STACK;
    case 0xc6:
      return Kind.MOV | Form.MODRM | Form.GROUP | Form.BYTE | Form.IMM8;
    case 0xc7:
      return Kind.MOV | Form.MODRM | Form.GROUP | Form.IMM_OPERAND;
    case 0xc8:
      return Kind.ENTER | Form.IMPLICIT | Form.STACK;
    case 0xc9:
      return Kind.LEAVE | Form.IMPLICIT | Form.STACK;
    case 0xd0:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.BYTE | Form.COUNT_ONE;
    case 0xd1:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.COUNT_ONE;
    case 0xd2:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.BYTE | Form.COUNT_CL;
    case 0xd3:
      return Kind.SHIFT | Form.MODRM | Form.GROUP | Form.COUNT_CL;
    case 0xe8:
      return Kind.CALL | Form.IMPLICIT | Form.STACK | Form.IMM_OPERAND;
    case 0xf6:
      return Kind.TEST | Form.MODRM | Form.GROUP | Form.BYTE;
    case 0xf7:
      return Kind.TEST | Form.MODRM | Form.GROUP;
    case 0xfe:
      return Kind.INC | Form.MODRM | Form.GROUP | Form.BYTE;
    case 0xff:
      return Kind.INC | Form.MODRM | Form.GROUP;
    default:
      return 0;
  }
}

/** 00H..3FH: eight operations with the same six forms; the two without a memory operand are not ours. */
function aluOpcode(opcode: u32): u32 {
  const form = opcode & 7;
  if (form > 3) return 0;
  const size: u32 = (form & 1) == 0 ? Form.BYTE : 0;
  const direction: u32 = form >= 2 ? Form.TO_REGISTER : 0;
  return Kind.ALU | ((opcode >> 3) << Form.AUX_SHIFT) | Form.MODRM | size | direction;
}

function twoByteOpcode(insn: Insn, opcode: u32): u32 {
  if (opcode >= 0x40 && opcode < 0x50)
    return Kind.CMOVCC | ((opcode & 15) << Form.AUX_SHIFT) | Form.MODRM | Form.TO_REGISTER;
  if (opcode >= 0x90 && opcode < 0xa0) return Kind.SETCC | ((opcode & 15) << Form.AUX_SHIFT) | Form.MODRM | Form.BYTE;
  if (opcode >= 0x18 && opcode < 0x20) return Kind.NOP | Form.MODRM;
  const move = vectorMove(opcode, mandatoryPrefix(insn), (insn.rex & 8) != 0);
  if (move & VectorMove.IS) return vectorAttributes(insn, move);
  switch (opcode) {
    case 0x00: // SLDT STR LLDT LTR
    case 0x01: // SMSW
      return Kind.STORE_SYSTEM | Form.MODRM | Form.GROUP | Form.SOURCE16;
    case 0x0d: // PREFETCHW
      return Kind.NOP | Form.MODRM;
    case 0xa3:
      return Kind.BT | Form.MODRM;
    case 0xa4:
      return Kind.SHLD | Form.MODRM | Form.IMM8;
    case 0xa5:
      return Kind.SHLD | Form.MODRM | Form.COUNT_CL;
    case 0xab:
      return Kind.BT | (1 << Form.AUX_SHIFT) | Form.MODRM;
    case 0xac:
      return Kind.SHRD | Form.MODRM | Form.IMM8;
    case 0xad:
      return Kind.SHRD | Form.MODRM | Form.COUNT_CL;
    case 0xae: // CLFLUSH and CLFLUSHOPT (/7), CLWB (66H /6); the rest of the group is refused
      return Kind.NOP | Form.MODRM | Form.GROUP;
    case 0xaf:
      return Kind.IMUL2 | Form.MODRM | Form.TO_REGISTER;
    case 0xb0:
      return Kind.CMPXCHG | Form.MODRM | Form.BYTE;
    case 0xb1:
      return Kind.CMPXCHG | Form.MODRM;
    case 0xb3:
      return Kind.BT | (2 << Form.AUX_SHIFT) | Form.MODRM;
    case 0xb6:
      return Kind.MOVZX | Form.MODRM | Form.TO_REGISTER | Form.SOURCE8;
    case 0xb7:
      return Kind.MOVZX | Form.MODRM | Form.TO_REGISTER | Form.SOURCE16;
    case 0xb8:
      return (insn.prefixes & Prefix.REP) != 0 ? Kind.COUNT | Form.MODRM | Form.TO_REGISTER : 0;
    case 0xba:
      return Kind.BT | Form.MODRM | Form.GROUP | Form.IMM8;
    case 0xbb:
      return Kind.BT | (3 << Form.AUX_SHIFT) | Form.MODRM;
    case 0xbc: // with F3H TZCNT and LZCNT; on processors without them the prefix means nothing
      return scanOr(insn, Kind.BSF, 1);
    case 0xbd:
      return scanOr(insn, Kind.BSR, 2);
    case 0xbe:
      return Kind.MOVSX | Form.MODRM | Form.TO_REGISTER | Form.SOURCE8;
    case 0xbf:
      return Kind.MOVSX | Form.MODRM | Form.TO_REGISTER | Form.SOURCE16;
    case 0xc0:
      return Kind.XADD | Form.MODRM | Form.BYTE;
    case 0xc1:
      return Kind.XADD | Form.MODRM;
    case 0xc3: // MOVNTI
      return Kind.MOV | Form.MODRM | Form.NOT_16;
    case 0xc7:
      return Kind.CMPXCHG8B | Form.MODRM | Form.GROUP;
    default:
      return 0;
  }
}

function scanOr(insn: Insn, kind: u32, count: u32): u32 {
  const counts = (insn.prefixes & Prefix.REP) != 0;
  return (counts ? Kind.COUNT | (count << Form.AUX_SHIFT) : kind) | Form.MODRM | Form.TO_REGISTER;
}

function mandatoryPrefix(insn: Insn): u32 {
  if ((insn.prefixes & Prefix.REPNE) != 0) return 3;
  if ((insn.prefixes & Prefix.REP) != 0) return 2;
  return (insn.prefixes & Prefix.OPERAND) != 0 ? 1 : 0;
}

function vectorAttributes(insn: Insn, move: u32): u32 {
  insn.memoryBytes = (move & VectorMove.BYTES_MASK) >> VectorMove.BYTES_SHIFT;
  insn.aligned = (move & VectorMove.ALIGNED) != 0 ? 1 : 0;
  const direction = (move & VectorMove.TO_REGISTER) != 0 ? <u32>Form.TO_REGISTER : 0;
  return Kind.VECTOR | ((move & VectorMove.PART) << Form.AUX_SHIFT) | Form.MODRM | direction;
}

/**
 * C4H, C5H: a VEX prefix in 64-bit mode; elsewhere LES and LDS where a memory operand follows.
 * Intel SDM Vol. 2, "VEX Prefix".
 */
function decodeVex(insn: Insn, three: bool): Decoded {
  if (insn.at >= insn.end) return Decoded.TRUNCATED;
  if (insn.mode != 8 && load<u8>(insn.at) < 0xc0) return Decoded.UNKNOWN;
  const before = insn.prefixes & ~(<u32>Prefix.ADDRESS);
  if (insn.rex != 0 || before != 0) return Decoded.INVALID;
  const needed: usize = three ? 3 : 2;
  if (insn.end - insn.at < needed) return Decoded.TRUNCATED;
  const first = takeByte(insn);
  const last = three ? takeByte(insn) : first;
  const map: u32 = three ? first & 31 : 1;
  const inverted = three ? (~first >> 5) & 7 : (~first >> 5) & 4; // R X B
  const wide: u32 = three ? (last >> 4) & 8 : 0;
  insn.rex = 0x40 | (insn.mode == 8 ? inverted | wide : 0);
  insn.vvvv = (~last >> 3) & (insn.mode == 8 ? 15 : 7);
  insn.vex = (last & 4) != 0 ? 32 : 16;
  return decodeVexMove(insn, map, last & 3);
}

function decodeVexMove(insn: Insn, map: u32, mandatory: u32): Decoded {
  const opcode = takeByte(insn);
  let move: u32 = 0;
  if (map == 1) move = vectorMove(opcode, mandatory, (insn.rex & 8) != 0);
  if (map == 2) move = vectorMove38(opcode, mandatory);
  if ((move & VectorMove.IS) == 0) return Decoded.UNKNOWN;
  const part = move & VectorMove.PART;
  if (part == Part.MMX) return Decoded.INVALID;
  const attributes = vectorAttributes(insn, move);
  insn.kind = Kind.VECTOR;
  insn.aux = part;
  insn.flags = attributes & ~(<u32>0xfff);
  setSizes(insn);
  if (part == Part.WHOLE) insn.memoryBytes = insn.vex;
  else if (insn.vex == 32 && !isScalar(opcode)) return Decoded.INVALID;
  const status = decodeModRm(insn);
  if (status != Decoded.OK) return status;
  const merges = (part == Part.LOW_HALF || part == Part.HIGH_HALF) && (insn.flags & Form.TO_REGISTER) != 0;
  const isMemory = (insn.flags & Form.MEMORY) != 0;
  if (isMemory && !merges && insn.vvvv != 0) return Decoded.INVALID;
  return finish(insn);
}

/** VMOVSS and VMOVSD ignore the vector length. */
function isScalar(opcode: u32): bool {
  return opcode == 0x10 || opcode == 0x11;
}

/** 0FH 38H: MOVBE and MOVNTDQA. With F2H MOVBE's opcodes are CRC32. */
function threeByteOpcode(insn: Insn, opcode: u32): u32 {
  const move = vectorMove38(opcode, mandatoryPrefix(insn));
  if (move & VectorMove.IS) return vectorAttributes(insn, move);
  if ((insn.prefixes & Prefix.REPNE) != 0) return 0;
  if (opcode == 0xf0) return Kind.MOVBE | Form.MODRM | Form.TO_REGISTER;
  if (opcode == 0xf1) return Kind.MOVBE | Form.MODRM;
  return 0;
}

/** ModRM.reg as part of the opcode. `opcode` is the first byte; 0FH stands for the two-byte groups. */
function resolveGroup(insn: Insn, opcode: u32): bool {
  const extension = insn.register & 7;
  insn.register = NO_REGISTER;
  switch (insn.kind) {
    case Kind.ALU:
    case Kind.SHIFT:
      insn.aux = extension;
      return opcode != 0x82 || insn.mode != 8;
    case Kind.MOV:
    case Kind.POP:
      return extension == 0;
    case Kind.CMPXCHG8B:
      return extension == 1;
    case Kind.NOP:
      return extension == 7 || (extension == 6 && (insn.prefixes & Prefix.OPERAND) != 0);
    case Kind.BT:
      insn.aux = extension & 3;
      return extension >= 4;
    case Kind.TEST:
      return resolveUnary(insn, extension);
    case Kind.STORE_SYSTEM:
      return resolveSystem(insn, extension);
    default:
      return resolveIncDec(insn, extension);
  }
}

/** F6H, F7H: TEST TEST NOT NEG MUL IMUL DIV IDIV. */
function resolveUnary(insn: Insn, extension: u32): bool {
  if (extension < 2) insn.flags |= insn.bytes == 1 ? Form.IMM8 : Form.IMM_OPERAND;
  else insn.kind = Kind.NOT + (extension - 2);
  return true;
}

/** 0FH 00H: SLDT STR LLDT LTR - -; 0FH 01H: - - - - SMSW. Of a register they are nothing to us. */
function resolveSystem(insn: Insn, extension: u32): bool {
  if ((insn.flags & Form.MEMORY) == 0) return false;
  const second = <u32>load<u8>(insn.opcodeAt);
  if (second == 1) {
    insn.aux = 2;
    return extension == 4;
  }
  insn.aux = extension;
  if (extension >= 2) {
    insn.kind = extension == 2 ? Kind.LLDT : Kind.LTR;
    insn.flags |= Form.TO_REGISTER;
  }
  return extension < 4;
}

/** FEH, FFH: INC DEC CALL CALL-FAR JMP JMP-FAR PUSH; the transfers and PUSH in FFH only. */
function resolveIncDec(insn: Insn, extension: u32): bool {
  if (extension == 1) insn.kind = Kind.DEC;
  if (extension < 2) return true;
  if ((insn.flags & Form.BYTE) != 0) return false;
  if (extension == 5) return resolveJmpFar(insn);
  if (extension != 2 && extension != 4 && extension != 6) return false;
  insn.kind = extension == 2 ? Kind.CALL : extension == 4 ? Kind.JMP : Kind.PUSH;
  insn.flags |= Form.STACK | Form.TO_REGISTER;
  if (insn.kind != Kind.JMP) insn.flags |= Form.IMPLICIT;
  if (insn.mode == 8 && (extension != 6 || (insn.prefixes & Prefix.OPERAND) == 0)) insn.bytes = 8;
  insn.memoryBytes = insn.bytes;
  return true;
}

/** m16:16, m16:32, m16:64; of a register it does not exist. */
function resolveJmpFar(insn: Insn): bool {
  if ((insn.flags & Form.MEMORY) == 0) return false;
  insn.kind = Kind.JMP_FAR;
  insn.flags |= Form.TO_REGISTER;
  insn.memoryBytes = insn.bytes + 2;
  return true;
}

// ---- Operands

function decodeModRm(insn: Insn): Decoded {
  if (insn.at >= insn.end) return Decoded.TRUNCATED;
  const modRm = takeByte(insn);
  const mod = modRm >> 6;
  const rm = modRm & 7;
  insn.opcodeAt = insn.at - 2;
  insn.register = ((modRm >> 3) & 7) | ((insn.rex & 4) << 1);
  if (mod == 3) {
    insn.rm = rm | ((insn.rex & 1) << 3);
    return Decoded.OK;
  }
  insn.flags |= Form.MEMORY;
  return insn.addressBytes == 2 ? decodeAddress16(insn, mod, rm) : decodeAddress(insn, mod, rm);
}

/** BX+SI BX+DI BP+SI BP+DI SI DI BP BX; BP as a base means SS. */
function decodeAddress16(insn: Insn, mod: u32, rm: u32): Decoded {
  let stack = false;
  if (mod == 0 && rm == 6) return decodeDisplacement(insn, 2, false);
  if (rm < 4) {
    insn.base = (rm & 2) != 0 ? 5 : 3;
    insn.index = (rm & 1) != 0 ? 7 : 6;
    stack = (rm & 2) != 0;
  } else {
    insn.base = rm == 4 ? 6 : rm == 5 ? 7 : rm == 6 ? 5 : 3;
    stack = rm == 6;
  }
  return decodeDisplacement(insn, mod == 0 ? 0 : mod == 1 ? 1 : 2, stack);
}

function decodeAddress(insn: Insn, mod: u32, rm: u32): Decoded {
  let baseField = rm;
  if (rm == 4) {
    if (insn.at >= insn.end) return Decoded.TRUNCATED;
    const sib = takeByte(insn);
    baseField = sib & 7;
    const index = ((sib >> 3) & 7) | ((insn.rex & 2) << 2);
    if (index != 4) insn.index = index;
    insn.scaleLog2 = sib >> 6;
  }
  if (mod == 0 && baseField == 5) {
    if (rm == 5 && insn.mode == 8) insn.base = RIP_RELATIVE;
    return decodeDisplacement(insn, 4, false);
  }
  insn.base = baseField | ((insn.rex & 1) << 3);
  const stack = insn.base == 4 || insn.base == 5;
  return decodeDisplacement(insn, mod == 0 ? 0 : mod == 1 ? 1 : 4, stack);
}

/** A sign-extended displacement of 0, 1, 2 or 4 bytes, and the segment that goes with the base. */
function decodeDisplacement(insn: Insn, bytes: u32, stack: bool): Decoded {
  insn.segment = insn.overriding != NO_REGISTER ? insn.overriding : stack ? 2 : 3;
  if (insn.end - insn.at < bytes) return Decoded.TRUNCATED;
  insn.displacement = <i64>takeSigned(insn, bytes);
  return Decoded.OK;
}

function takeSigned(insn: Insn, bytes: u32): u64 {
  const at = insn.at;
  insn.at += bytes;
  if (bytes == 1) return <u64>(<i64>load<i8>(at));
  if (bytes == 2) return <u64>(<i64>load<i16>(at));
  if (bytes == 4) return <u64>(<i64>load<i32>(at));
  return bytes == 8 ? load<u64>(at) : 0;
}

function decodeAbsolute(insn: Insn): Decoded {
  insn.segment = insn.overriding != NO_REGISTER ? insn.overriding : 3;
  insn.flags |= Form.MEMORY;
  if (insn.end - insn.at < insn.addressBytes) return Decoded.TRUNCATED;
  insn.displacement = <i64>takeSigned(insn, insn.addressBytes);
  return finish(insn);
}

/** AH..BH: an 8-bit register operand 4..7 without REX. */
function markHighByte(insn: Insn): void {
  const byteRegister = insn.bytes == 1 || (insn.flags & Form.SOURCE8) != 0;
  if (!byteRegister || insn.rex != 0) return;
  if (insn.bytes == 1 && insn.register >= 4 && insn.register < 8) insn.flags |= Form.HIGH_BYTE;
}

function decodeImmediate(insn: Insn): Decoded {
  if (insn.kind == Kind.MOVSX && (insn.flags & Form.SOURCE32) != 0 && insn.mode != 8) return Decoded.UNKNOWN; // ARPL
  let bytes: u32 = 0;
  if ((insn.flags & Form.IMM8) != 0) bytes = 1;
  else if ((insn.flags & Form.IMM_OPERAND) != 0) bytes = insn.bytes == 2 ? 2 : 4;
  if (bytes != 0) {
    if (insn.end - insn.at < bytes) return Decoded.TRUNCATED;
    insn.immediate = takeSigned(insn, bytes);
    insn.flags |= Form.IMMEDIATE;
  }
  return finish(insn);
}
