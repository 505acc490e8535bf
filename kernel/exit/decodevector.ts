// Moves between memory and a vector or MMX register, by opcode and mandatory prefix: what is moved, and to where in the
// register. Arithmetic on vectors is not among them: nobody computes with a device's register as its operand.
// Intel SDM Vol. 2, "Instruction Set Reference" and appendix "Opcode Map".

/** Which part of the register the memory operand is. */
export const enum Part {
  WHOLE = 0, // 16 bytes, or 32 of a 256-bit VEX encoding
  LOW = 1, // a load clears the rest of the 128 bits
  LOW_HALF = 2, // MOVLPS, MOVLPD: a load keeps the other half
  HIGH_HALF = 3, // MOVHPS, MOVHPD: likewise
  MMX = 4, // 8 bytes of an MMX register; a load of 4 clears the rest
}

/** A move as vectorMove() gives it. 0 is none. */
export const enum VectorMove {
  PART = 0x7,
  BYTES_SHIFT = 4, // 4, 8 or 16
  BYTES_MASK = 0x1f0,
  TO_REGISTER = 0x200,
  ALIGNED = 0x400, // #GP unless the operand is aligned to its size
  IS = 0x800, // there is a move
}

/** Mandatory prefix: none, 66H, F3H, F2H, as a VEX prefix counts them. */
const enum Mandatory {
  NONE = 0,
  P66 = 1,
  PF3 = 2,
  PF2 = 3,
}

const WHOLE: u32 = VectorMove.IS | (16 << VectorMove.BYTES_SHIFT);
const WHOLE_ALIGNED: u32 = WHOLE | VectorMove.ALIGNED;
const FOUR: u32 = VectorMove.IS | (4 << VectorMove.BYTES_SHIFT);
const EIGHT: u32 = VectorMove.IS | (8 << VectorMove.BYTES_SHIFT);

/** The move of opcode 0FH `opcode`; 0: it is none. `wide`: REX.W or VEX.W. */
export function vectorMove(opcode: u32, mandatory: u32, wide: bool): u32 {
  switch (opcode) {
    case 0x10: // MOVUPS MOVUPD MOVSS MOVSD
      return unaligned(mandatory) | VectorMove.TO_REGISTER;
    case 0x11:
      return unaligned(mandatory);
    case 0x12: // MOVLPS MOVLPD
      return half(mandatory, Part.LOW_HALF, VectorMove.TO_REGISTER);
    case 0x13:
      return half(mandatory, Part.LOW_HALF, 0);
    case 0x16: // MOVHPS MOVHPD
      return half(mandatory, Part.HIGH_HALF, VectorMove.TO_REGISTER);
    case 0x17:
      return half(mandatory, Part.HIGH_HALF, 0);
    case 0x28: // MOVAPS MOVAPD
      return mandatory <= <u32>Mandatory.P66 ? WHOLE_ALIGNED | VectorMove.TO_REGISTER : 0;
    case 0x29:
    case 0x2b: // MOVNTPS MOVNTPD
      return mandatory <= <u32>Mandatory.P66 ? WHOLE_ALIGNED : 0;
    case 0x6e: // MOVD MOVQ
      return general(mandatory, wide, VectorMove.TO_REGISTER);
    case 0x6f: // MOVQ MOVDQA MOVDQU
      return packed(mandatory, VectorMove.TO_REGISTER);
    case 0x7e:
      if (mandatory == Mandatory.PF3) return EIGHT | Part.LOW | VectorMove.TO_REGISTER;
      return general(mandatory, wide, 0);
    case 0x7f:
      return packed(mandatory, 0);
    case 0xd6: // MOVQ
      return mandatory == Mandatory.P66 ? EIGHT | Part.LOW : 0;
    case 0xe7: // MOVNTQ MOVNTDQ
      return mandatory == Mandatory.P66 ? WHOLE_ALIGNED : mandatory == Mandatory.NONE ? EIGHT | Part.MMX : 0;
    case 0xf0: // LDDQU
      return mandatory == Mandatory.PF2 ? WHOLE | VectorMove.TO_REGISTER : 0;
    default:
      return 0;
  }
}

/** The move of opcode 0FH 38H `opcode`: MOVNTDQA. */
export function vectorMove38(opcode: u32, mandatory: u32): u32 {
  return opcode == 0x2a && mandatory == Mandatory.P66 ? WHOLE_ALIGNED | VectorMove.TO_REGISTER : 0;
}

function unaligned(mandatory: u32): u32 {
  if (mandatory == Mandatory.PF3) return FOUR | Part.LOW;
  return mandatory == Mandatory.PF2 ? EIGHT | Part.LOW : WHOLE;
}

function half(mandatory: u32, part: u32, direction: u32): u32 {
  return mandatory <= <u32>Mandatory.P66 ? EIGHT | part | direction : 0;
}

function general(mandatory: u32, wide: bool, direction: u32): u32 {
  if (mandatory > <u32>Mandatory.P66) return 0;
  return (wide ? EIGHT : FOUR) | (mandatory == Mandatory.P66 ? <u32>Part.LOW : <u32>Part.MMX) | direction;
}

function packed(mandatory: u32, direction: u32): u32 {
  if (mandatory == Mandatory.PF2) return 0;
  if (mandatory == Mandatory.NONE) return EIGHT | Part.MMX | direction;
  return (mandatory == Mandatory.P66 ? WHOLE_ALIGNED : WHOLE) | direction;
}
