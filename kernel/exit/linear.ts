// Guest-linear memory for handlers: reads and writes through the guest's own paging, page by page, with
// the fault it would take. Ranges that are not memory go to the devices.

import { casGuest, copyFromGuest, copyToGuest, bytesAt, loadGuest, storeGuest, writableBytesAt } from "../mm/guestmem";
import { GuestPaging, isCanonical, walk, Walk } from "../mm/gva";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { isLongMode64, readCpl, readCr0, readCr3, readCr4, readEfer, readPdpte, readRflags } from "../vendor";
import { isMmio, mmioRead, mmioWrite } from "../vdev/bus";
import { raiseGp, raisePf } from "./fault";
import { CR4_PAE, EFER_LMA } from "../cpu/registerbits";

/** Paging state of the last readPaging(), and the answer of the last translation. */
export function pagingOf(vcpu: Vcpu): GuestPaging {
  return changetype<GuestPaging>(vcpu.paging);
}

/** The vCPU's paging state, read from its registers. Once an exit, before the first translate(). */
export function readPaging(vcpu: Vcpu): GuestPaging {
  const p = pagingOf(vcpu);
  p.cr0 = readCr0();
  p.cr3 = readCr3(vcpu);
  p.cr4 = readCr4();
  p.efer = readEfer(vcpu);
  p.rflags = readRflags();
  if ((p.efer & EFER_LMA) == 0 && (p.cr4 & CR4_PAE) != 0) readPdptes(p);
  return p;
}

function readPdptes(p: GuestPaging): void {
  p.pdpte0 = readPdpte(0);
  p.pdpte1 = readPdpte(1);
  p.pdpte2 = readPdpte(2);
  p.pdpte3 = readPdpte(3);
}

/** Walk bits of an ordinary access at the current privilege level. */
export function ordinary(access: u32): u32 {
  return readCpl() == 3 ? access | Walk.USER : access;
}

/** Translates; the answer is in GuestPaging.gpa. False: #PF (or #GP for a non-canonical address) is queued. */
export function translate(vcpu: Vcpu, gva: u64, access: u32): bool {
  const p = pagingOf(vcpu);
  if ((p.efer & EFER_LMA) != 0 && !isCanonical(p, gva)) {
    raiseGp(vcpu);
    return false;
  }
  if (walk(ramOf(vcpu.vm), p, gva, access)) return true;
  raisePf(vcpu, gva, p.error);
  return false;
}

/** Bytes from `gva` to the end of its 4 KiB page, at most `bytes`. */
function inPage(gva: u64, bytes: u32): u32 {
  const room: u32 = 4096 - (<u32>gva & 0xfff);
  return room < bytes ? room : bytes;
}

/** Reads `bytes` at `gva` to `ptr`. False: a fault is queued. readPaging() came before. */
export function readLinear(vcpu: Vcpu, gva: u64, ptr: usize, bytes: u32, access: u32): bool {
  while (bytes) {
    const step = inPage(gva, bytes);
    if (!translate(vcpu, gva, access)) return false;
    readPhysical(vcpu, pagingOf(vcpu).gpa, ptr, step);
    gva += step;
    ptr += step;
    bytes -= step;
  }
  return true;
}

/** Writes `bytes` from `ptr` to `gva`. Both pages of a write across a boundary are checked before the first byte changes. */
export function writeLinear(vcpu: Vcpu, gva: u64, ptr: usize, bytes: u32, access: u32): bool {
  if (!probeWrite(vcpu, gva, bytes, access)) return false;
  while (bytes) {
    const step = inPage(gva, bytes);
    if (!translate(vcpu, gva, access | Walk.WRITE)) return false;
    writePhysical(vcpu, pagingOf(vcpu).gpa, ptr, step);
    gva += step;
    ptr += step;
    bytes -= step;
  }
  return true;
}

/** True if `bytes` (at most a page) at `gva` could be written; else the fault is queued. */
function probeWrite(vcpu: Vcpu, gva: u64, bytes: u32, access: u32): bool {
  const step = inPage(gva, bytes);
  if (step == bytes) return true; // a single page faults before it changes anything
  return translate(vcpu, gva, access | Walk.WRITE) && translate(vcpu, gva + step, access | Walk.WRITE);
}

function readPhysical(vcpu: Vcpu, gpa: u64, ptr: usize, bytes: u32): void {
  if (bytesAt(ramOf(vcpu.vm), gpa) >= bytes && !isMmio(vcpu, gpa)) {
    copyFromGuest(ramOf(vcpu.vm), ptr, gpa, bytes);
    return;
  }
  for (let done: u32 = 0; done < bytes; ) {
    const step = chunk(gpa + done, bytes - done);
    storeBytes(ptr + done, step, mmioRead(vcpu, gpa + done, step));
    done += step;
  }
}

function writePhysical(vcpu: Vcpu, gpa: u64, ptr: usize, bytes: u32): void {
  if (bytesAt(ramOf(vcpu.vm), gpa) >= bytes && !isMmio(vcpu, gpa)) {
    copyToGuest(ramOf(vcpu.vm), gpa, ptr, bytes); // ROM: dropped
    return;
  }
  for (let done: u32 = 0; done < bytes; ) {
    const step = chunk(gpa + done, bytes - done);
    mmioWrite(vcpu, gpa + done, step, loadBytes(ptr + done, step));
    done += step;
  }
}

/** Largest naturally aligned access of 1, 2, 4 or 8 bytes at `gpa` within `bytes`. */
function chunk(gpa: u64, bytes: u32): u32 {
  for (let size: u32 = 8; size > 1; size >>= 1) {
    if (bytes >= size && (<u32>gpa & (size - 1)) == 0) return size;
  }
  return 1;
}

function storeBytes(ptr: usize, bytes: u32, value: u64): void {
  if (bytes == 8) store<u64>(ptr, value);
  else if (bytes == 4) store<u32>(ptr, <u32>value);
  else if (bytes == 2) store<u16>(ptr, <u16>value);
  else store<u8>(ptr, <u8>value);
}

function loadBytes(ptr: usize, bytes: u32): u64 {
  if (bytes == 8) return load<u64>(ptr);
  if (bytes == 4) return load<u32>(ptr);
  if (bytes == 2) return load<u16>(ptr);
  return load<u8>(ptr);
}

// ---- Operands of 1, 2, 4 or 8 bytes, the common case without a buffer

/** An operand within one page, at its guest-physical address: memory, else a device. */
export function readOperandAt(vcpu: Vcpu, gpa: u64, bytes: u32): u64 {
  if (bytesAt(ramOf(vcpu.vm), gpa) < bytes || isMmio(vcpu, gpa)) return mmioRead(vcpu, gpa, bytes);
  return loadGuest(gpa, bytes);
}

export function writeOperandAt(vcpu: Vcpu, gpa: u64, bytes: u32, value: u64): void {
  if (bytesAt(ramOf(vcpu.vm), gpa) < bytes || isMmio(vcpu, gpa)) mmioWrite(vcpu, gpa, bytes, value);
  else if (writableBytesAt(ramOf(vcpu.vm), gpa) >= bytes) storeGuest(gpa, bytes, value);
}

/** Memory that no device hides. */
export function isMemory(vcpu: Vcpu, gpa: u64, bytes: u32): bool {
  return bytesAt(ramOf(vcpu.vm), gpa) >= bytes && !isMmio(vcpu, gpa);
}

/**
 * Replaces memory at `gpa` if it still holds `expected`: the second half of a locked read-modify-write.
 * Devices are written unconditionally. False: it changed, do it again.
 */
export function exchangeOperandAt(vcpu: Vcpu, gpa: u64, bytes: u32, expected: u64, value: u64): bool {
  if (isMemory(vcpu, gpa, bytes) && writableBytesAt(ramOf(vcpu.vm), gpa) >= bytes) {
    return casGuest(gpa, bytes, expected, value) == expected;
  }
  writeOperandAt(vcpu, gpa, bytes, value);
  return true;
}

/** 64-bit mode proper. */
export function is64(): bool {
  return isLongMode64();
}
