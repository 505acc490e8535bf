// Instructions with a one-line answer.

import { rdrand, rdtsc } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { advance, flushGuest, readGpr, readInstructionInfo, writeGpr, writeRflags, readRflags } from "../vendor";
import { raiseGp } from "./fault";
import { merge } from "./io";

/** CF, OF, SF, ZF, AF, PF: what RDRAND and RDSEED define; only CF may be 1. */
const ARITHMETIC: u64 = 0x8d5;

/** INVD would lose the host's data; a guest cannot tell it from WBINVD, and its memory is coherent: nothing is done. */
export function onInvd(vcpu: Vcpu): void {
  advance(vcpu);
}

/** WBINVD: guests own no device whose DMA is not coherent. */
export function onWbinvd(vcpu: Vcpu): void {
  advance(vcpu);
}

/** Not intercepted, but a processor without the choice makes it exit. */
export function onInvlpg(vcpu: Vcpu): void {
  flushGuest(vcpu);
  advance(vcpu);
}

/** No performance counters: #GP(0), whichever counter and privilege. */
export function onRdpmc(vcpu: Vcpu): void {
  raiseGp(vcpu);
}

/** The guest's time-stamp counter. */
export function guestTsc(vcpu: Vcpu): u64 {
  return rdtsc() + vcpu.vm.tscOffset + vcpu.tscAdjust;
}

export function onRdtsc(vcpu: Vcpu): void {
  const tsc = guestTsc(vcpu);
  vcpu.rax = tsc & 0xffff_ffff;
  vcpu.rdx = tsc >> 32;
  advance(vcpu);
}

export function onRdtscp(vcpu: Vcpu): void {
  vcpu.rcx = vcpu.tscAux & 0xffff_ffff;
  onRdtsc(vcpu);
}

/** RDRAND, RDSEED: destination and operand size are in the instruction information. */
export function onRdrand(vcpu: Vcpu): void {
  const info = readInstructionInfo();
  const register = (info >> 3) & 15;
  const bytes: u32 = 2 << ((info >> 11) & 3);
  const ok = rdrand(vcpu.scratch);
  const value = ok ? load<u64>(vcpu.scratch) : 0;
  writeGpr(vcpu, register, merge(readGpr(vcpu, register), value, bytes));
  writeRflags((readRflags() & ~ARITHMETIC) | <u64>ok);
  advance(vcpu);
}
