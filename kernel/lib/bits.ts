// Arithmetic on addresses and masks.

export function alignDown(value: u64, alignment: u64): u64 {
  return value & ~(alignment - 1);
}

/** Rounds up to a multiple of `alignment`, a power of two; wraps to 0 at the top of the space. */
export function alignUp(value: u64, alignment: u64): u64 {
  return (value + (alignment - 1)) & ~(alignment - 1);
}

export function isAligned(value: u64, alignment: u64): bool {
  return (value & (alignment - 1)) == 0;
}

/** A mask of the low `count` bits, 0 to 64. */
export function lowMask(count: u32): u64 {
  return count >= 64 ? u64.MAX_VALUE : ((<u64>1) << count) - 1;
}

/** Whether [base, base + bytes) lies below `limit`, with no wrap. */
export function fitsBelow(base: u64, bytes: u64, limit: u64): bool {
  return bytes <= limit && base <= limit - bytes;
}
