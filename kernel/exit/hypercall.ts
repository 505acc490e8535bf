// VMCALL: Basalt's hypercalls (docs/hypercalls.md). RAX: number; RBX, RCX, RDX: arguments; RAX: result.
// From CPL 0 only, else #UD, so that a guest's kernel decides who may call.

import { copyFromGuest } from "../mm/guestmem";
import { stopVm } from "../vcpu/event";
import { HostWork, noteWork } from "../vcpu/current";
import { ramOf, StopReason } from "../vcpu/vm";
import { Vcpu } from "../vcpu/vcpu";
import { advance, readCpl } from "../vendor";
import { printByte } from "../vdev/console";
import { sendIpiToSet } from "../virq/ipi";
import { raiseUd } from "./fault";

export const enum Hypercall {
  VERSION = 0,
  CONSOLE_WRITE = 1, // RBX: guest-physical address, RCX: bytes (at most 1024)
  YIELD = 2,
  SHUTDOWN = 3, // RBX: exit code
  SEND_IPI = 10, // RBX, RCX: APIC IDs as bits 0 to 127, from RDX on; RSI: vector and delivery mode as in an ICR
}

/** Results. An unknown number gets UNKNOWN; so a guest finds out what there is. */
const UNKNOWN: u64 = 0xffff_ffff_ffff_ffda; // -38
const BAD_ADDRESS: u64 = 0xffff_ffff_ffff_fff2; // -14
const BAD_ARGUMENT: u64 = 0xffff_ffff_ffff_ffea; // -22
/** Major version in bits 31:16, minor in 15:0. */
const VERSION: u64 = 0x0001_0000;
const MAX_WRITE: u64 = 1024;
/** Delivery mode, vector, and the level bits that mean nothing for these modes. */
const ICR_MODE_AND_VECTOR: u64 = 0xc7ff;

export function onHypercall(vcpu: Vcpu): void {
  if (readCpl() != 0) {
    raiseUd(vcpu);
    return;
  }
  vcpu.rax = call(vcpu, vcpu.rax);
  advance(vcpu);
}

function call(vcpu: Vcpu, number: u64): u64 {
  if (number == Hypercall.VERSION) return VERSION;
  if (number == Hypercall.CONSOLE_WRITE) return consoleWrite(vcpu, vcpu.rbx, vcpu.rcx);
  if (number == Hypercall.YIELD) {
    noteWork(HostWork.YIELD);
    return 0;
  }
  if (number == Hypercall.SEND_IPI) return sendIpis(vcpu);
  if (number != Hypercall.SHUTDOWN) return UNKNOWN;
  stopVm(vcpu.vm, StopReason.POWER_OFF, <u32>vcpu.rbx);
  return 0;
}

/** The number of vCPUs that took it. A destination field or shorthand in the ICR makes no sense here. */
function sendIpis(vcpu: Vcpu): u64 {
  const icr = vcpu.rsi;
  if ((icr & ~ICR_MODE_AND_VECTOR) != 0) return BAD_ARGUMENT;
  return <u64>sendIpiToSet(vcpu.vm, vcpu.rbx, vcpu.rcx, <u32>vcpu.rdx, <u32>icr);
}

function consoleWrite(vcpu: Vcpu, gpa: u64, bytes: u64): u64 {
  if (bytes > MAX_WRITE) return BAD_ARGUMENT;
  if (copyFromGuest(ramOf(vcpu.vm), vcpu.scratch, gpa, <usize>bytes)) return BAD_ADDRESS;
  for (let i: usize = 0; i < <usize>bytes; i++) printByte(vcpu.vm, load<u8>(vcpu.scratch + i));
  return bytes;
}
