// Operand values that find bugs: edges of every width, shift counts, powers of two and neighbours.

import type { IntType } from "./opcodes.ts";
import type { Random } from "./random.ts";

const small = [0n, 1n, 2n, 3n, 4n, 5n, 7n, 8n, 10n, 16n, 31n, 32n, 33n, 63n, 64n, 65n, 100n, 1000n];
const edges = [
  ...[0x7fn, 0x80n, 0xffn, 0x100n, 0x7fffn, 0x8000n, 0xffffn, 0x10000n],
  ...[0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n],
  ...[0x8080_8080_8080_8080n, 0x0123_4567_89ab_cdefn, 0xffff_ffff_8000_0000n, 0xffff_ffff_7fff_ffffn],
];

const bits = (type: IntType): 32 | 64 => (type === "i32" ? 32 : 64);

/** As an unsigned number of its width. */
export function interesting(random: Random, type: IntType): bigint {
  const width = bits(type);
  switch (random.below(6)) {
    case 0:
      return random.pick(small);
    case 1:
      return BigInt.asUintN(width, -random.pick(small));
    case 2:
      return BigInt.asUintN(width, random.pick(edges));
    case 3:
      return BigInt.asUintN(width, (1n << BigInt(random.below(width))) + BigInt(random.between(-1, 1)));
    case 4:
      return BigInt.asUintN(width, BigInt(random.u32() & 0xffff));
    default:
      return BigInt.asUintN(width, random.u64());
  }
}

/** A divisor known at compile time, now and then 0 and -1. */
export function divisor(random: Random, type: IntType): bigint {
  const value = interesting(random, type);
  return value === 0n && !random.chance(20) ? 3n : value;
}
