// A guest's file as the boot loader left it: bytes at a physical address, read through the device
// window. Nothing here trusts the file: callers ask `has` before they read.

import { deviceload8, deviceload16, deviceload32, deviceload64 } from "../cpu/insn";

@unmanaged
export class Image {
  pa: u64;
  bytes: u64;
}

/** True if `count` bytes at `offset` lie within the file. */
export function has(image: Image, offset: u64, count: u64): bool {
  return offset <= image.bytes && count <= image.bytes - offset;
}

export function read8(image: Image, offset: u64): u32 {
  return deviceload8(image.pa + offset);
}

export function read16(image: Image, offset: u64): u32 {
  return deviceload16(image.pa + offset);
}

export function read32(image: Image, offset: u64): u32 {
  return deviceload32(image.pa + offset);
}

export function read64(image: Image, offset: u64): u64 {
  return deviceload64(image.pa + offset);
}
