// Faults of the core: what struck, where, and how the stack got there. Everything here only reads the
// machine and writes this CPU's own area or the log; what follows a fatal fault is decided in
// drivers/fault.ts. The tables are those of docs/architecture.md, "Tables for faults".
// Intel SDM Vol. 3, "Exception and Interrupt Reference".

import { PERCPU_FAULT, STACK_SLOT_BYTES, STACKS_BASE } from "../config";
import * as log from "../lib/log";
import { cpuBlock, imageBoundary, imageload64, rdmsrSafe, writeCr3 } from "./insn";
import { TrapFrame } from "./trapframe";

/** What imageBoundary() tells. */
const enum Boundary {
  TEXT = 0,
  RODATA = 1,
  BUILD_ID = 7,
  FRAMES = 9,
  FRAMES_END = 10,
  TRAPS = 11,
  TRAPS_END = 12,
}

export const MAX_DEPTH: u32 = 24;
const UNKNOWN_FRAME: u32 = 0xffff_ffff;
/** How far the innermost return address is searched for: all of a main stack. */
const SCAN_WORDS: u32 = 5120;
/** No TrapKind: the instruction stands for no Wasm trap. */
export const NO_TRAP: u32 = 0xff;

/** This CPU's area: written by its fault handlers, NMI and #MC included, hence plain stores only. */
@unmanaged
export class FaultArea {
  contained: u32; // 1 while a trap may unwind to onTrap
  depth: u32; // reports under way on this CPU
  nmiCount: u32; // since the last takeNmi()
  machineCheckCount: u32;
  traceCount: u32;
  nmiTraceCount: u32;
  machineCheckStatus: u64; // IA32_MCG_STATUS of the last #MC
  // trace at +64, NMI's trace at +256: up to MAX_DEPTH return addresses
}
const TRACE: usize = 64;
const NMI_TRACE: usize = 256;

export function area(): FaultArea {
  return changetype<FaultArea>(cpuBlock() + PERCPU_FAULT);
}

/** From here to leaveContained() a trap on this CPU unwinds to onTrap instead of stopping the host. */
export function enterContained(): void {
  area().contained = 1;
}

export function leaveContained(): void {
  area().contained = 0;
}

export function isContained(): bool {
  return area().contained != 0;
}

// ---- Walking the stack

/** Whether `va` lies in the image's text. */
export function isText(va: u64): bool {
  return va >= imageBoundary(Boundary.TEXT) && va < imageBoundary(Boundary.RODATA);
}

/** Whether 8 bytes at `va` lie in one of this CPU's stacks, guard pages left out. */
function isStack(va: u64): bool {
  const offset = va - STACKS_BASE;
  if (va & 7 || va < STACKS_BASE || offset / STACK_SLOT_BYTES != load<u32>(cpuBlock(), 4)) return false;
  const page = (offset & (STACK_SLOT_BYTES - 1)) >> 12;
  // Guards at 0, 5, 0AH, 0FH, 14H and 1FH: see docs/architecture.md.
  return (page != 0x1f && page % 5 != 0) || (page > 0x14 && page < 0x1f);
}

/**
 * The u64 whose low half is the largest not above `offset` in the sorted table from `first` to `end`
 * (host-virtual addresses); 0 if there is none.
 */
function lookUp(first: u64, end: u64, offset: u32): u64 {
  let low: u64 = 0;
  let high: u64 = first < end ? (end - first) >> 3 : 0;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (<u32>imageload64(first + (middle << 3)) <= offset) low = middle + 1;
    else high = middle;
  }
  return low ? imageload64(first + ((low - 1) << 3)) : 0;
}

/** Bytes from RSP to the return address in the function at `rip`; UNKNOWN_FRAME if no table tells. */
function frameBytes(rip: u64): u32 {
  const offset = <u32>(rip - imageBoundary(Boundary.TEXT));
  const entry = lookUp(imageBoundary(Boundary.FRAMES), imageBoundary(Boundary.FRAMES_END), offset);
  return entry == 0 ? UNKNOWN_FRAME : <u32>(entry >> 32);
}

/** The Wasm trap (TrapKind) that the instruction at `rip` stands for, or NO_TRAP. */
export function trapKind(rip: u64): u32 {
  if (!isText(rip)) return NO_TRAP;
  const offset = <u32>(rip - imageBoundary(Boundary.TEXT));
  const entry = lookUp(imageBoundary(Boundary.TRAPS), imageBoundary(Boundary.TRAPS_END), offset);
  return entry != 0 && <u32>entry == offset ? <u32>(entry >> 32) & 0xff : NO_TRAP;
}

/**
 * Stores the return addresses above `rip`, `rsp` at `out` (u64 each, at most MAX_DEPTH, `rip` first)
 * and returns how many. Reads stacks and tables only.
 */
export function walk(rip: u64, rsp: u64, out: usize): u32 {
  store<u64>(out, rip);
  let count: u32 = 1;
  let at = rsp;
  let here = rip;
  while (count < MAX_DEPTH) {
    at = returnSlot(here, at, count == 1);
    if (at == 0) break;
    // A return address is the instruction after the CALL: the table search must hit the CALL itself.
    here = imageload64(at) - 1;
    store<u64>(out + ((<usize>count) << 3), here);
    count++;
    at += 8;
  }
  return count;
}

/** Where on the stack the return address of the function at `rip` lies; 0 if it cannot be found. */
function returnSlot(rip: u64, rsp: u64, isInnermost: bool): u64 {
  const bytes = isText(rip) ? frameBytes(rip) : UNKNOWN_FRAME;
  if (bytes != UNKNOWN_FRAME) {
    const slot = rsp + bytes;
    if (isStack(slot) && isText(imageload64(slot))) return slot;
    if (!isInnermost) return 0;
  }
  // NASM routines, a jump into nowhere, or a fault inside a prologue, where RSP has not moved as far
  // as in the body: the nearest address that fits.
  return scan(rsp, isInnermost ? SCAN_WORDS : 1);
}

function scan(rsp: u64, words: u32): u64 {
  let slot = (rsp + 7) & ~(<u64>7);
  for (let i: u32 = 0; i < words; i++, slot += 8) {
    if (isStack(slot) && isText(imageload64(slot))) return slot;
  }
  return 0;
}

// ---- Reporting

const VECTOR_NAMES: StaticArray<string> = [
  "#DE divide error",
  "#DB debug",
  "NMI",
  "#BP breakpoint",
  "#OF overflow",
  "#BR bound range",
  "#UD invalid opcode",
  "#NM device not available",
  "#DF double fault",
  "vector 9",
  "#TS invalid TSS",
  "#NP segment not present",
  "#SS stack fault",
  "#GP general protection",
  "#PF page fault",
  "vector 15",
  "#MF x87 error",
  "#AC alignment check",
  "#MC machine check",
  "#XM SIMD error",
  "#VE virtualization exception",
  "#CP control protection",
];

/** TrapKind of tools/compiler/ir.ts. */
const TRAP_NAMES: StaticArray<string> = [
  "unreachable code (a panic or a failed check)",
  "division by zero",
  "integer overflow",
  "memory access out of bounds",
  "indirect call of the wrong type",
  "table index out of bounds",
  "unaligned atomic access",
  "stack overflow",
  "unsupported instruction",
];

export function vectorName(vector: u32): string {
  return vector < <u32>VECTOR_NAMES.length ? unchecked(VECTOR_NAMES[vector]) : "reserved vector";
}

export function trapName(kind: u32): string {
  return kind < <u32>TRAP_NAMES.length ? unchecked(TRAP_NAMES[kind]) : "trap";
}

const VECTOR_PF: u64 = 14;

/** Logs everything about the fault in `frame`: what, registers, backtrace. */
export function report(frame: TrapFrame): void {
  reportHead(frame);
  reportRegisters(frame);
  const trace = changetype<usize>(area()) + TRACE;
  area().traceCount = walk(frame.rip, frame.rsp, trace);
  reportTrace(trace, area().traceCount);
}

function reportHead(frame: TrapFrame): void {
  log.begin(log.Level.ERROR, "fault");
  log.str(vectorName(<u32>frame.vector));
  log.str(" on CPU ");
  log.dec(load<u32>(cpuBlock(), 4));
  log.str(", error code ");
  log.hex(frame.error);
  if (frame.vector == VECTOR_PF) {
    log.str(pageFaultKind(frame));
    log.hex(frame.cr2);
  }
  const kind = trapKind(frame.rip);
  if (kind != NO_TRAP) {
    log.str(": ");
    log.str(trapName(kind));
  }
  log.end();
}

/** Error-code bits: 1 write, 4 instruction fetch. Intel SDM Vol. 3, "Page-Fault Exceptions". */
function pageFaultKind(frame: TrapFrame): string {
  if (isGuard(frame.cr2)) return ": stack overflow at ";
  if (frame.error & 16) return ": execution of ";
  return frame.error & 2 ? ": write to " : ": read of ";
}

/** Whether `va` lies in a guard page of some CPU's stacks. */
function isGuard(va: u64): bool {
  if (va < STACKS_BASE) return false;
  const page = ((va - STACKS_BASE) & (STACK_SLOT_BYTES - 1)) >> 12;
  return page == 0x1f || (page <= 0x14 && page % 5 == 0);
}

function reportRegisters(frame: TrapFrame): void {
  four("rip", frame.rip, "rsp", frame.rsp, "rflags", frame.rflags, "cr2", frame.cr2);
  four("rax", frame.rax, "rcx", frame.rcx, "rdx", frame.rdx, "rbx", frame.rbx);
  four("rbp", frame.rbp, "rsi", frame.rsi, "rdi", frame.rdi, "cr3", frame.cr3);
  four("r8", frame.r8, "r9", frame.r9, "r10", frame.r10, "r11", frame.r11);
  four("r12", frame.r12, "r13", frame.r13, "r14", frame.r14, "r15", frame.r15);
}

function four(na: string, a: u64, nb: string, b: u64, nc: string, c: u64, nd: string, d: u64): void {
  log.begin(log.Level.ERROR, "fault");
  register(na, a);
  register(nb, b);
  register(nc, c);
  register(nd, d);
  log.end();
}

function register(name: string, value: u64): void {
  log.str(name);
  log.char(0x20);
  log.hexDigits(value, 16);
  log.char(0x20);
}

/** Logs the build and `count` addresses at `trace`. */
export function reportTrace(trace: usize, count: u32): void {
  log.begin(log.Level.ERROR, "fault");
  log.str("build ");
  const id = imageBoundary(Boundary.BUILD_ID);
  log.hexDigits(bswap(imageload64(id)), 16);
  log.hexDigits(bswap(imageload64(id + 8)), 16);
  log.end();
  for (let i: u32 = 0; i < count; i++) {
    log.begin(log.Level.ERROR, "fault");
    log.str("at 0x");
    log.hexDigits(load<u64>(trace + ((<usize>i) << 3)), 16);
    log.end();
  }
}

/** Resets this CPU, and a PC with it: no page is mapped, so the fault and the double fault cannot be delivered. */
export function tripleFault(): void {
  writeCr3(0xffff_f000);
}

// ---- NMI and #MC: no lock, no log, this CPU's area only

/** Notes an NMI and where it struck. */
export function noteNmi(frame: TrapFrame): void {
  const own = area();
  own.nmiTraceCount = walk(frame.rip, frame.rsp, changetype<usize>(own) + NMI_TRACE);
  own.nmiCount++;
}

const IA32_MCG_STATUS: u32 = 0x17a;
const MCG_RIPV: u64 = 1; // the interrupted code can go on

/** Notes a machine check; false if the CPU cannot go on where it was. Intel SDM Vol. 3, "IA32_MCG_STATUS MSR". */
export function noteMachineCheck(): bool {
  const own = area();
  own.machineCheckStatus = 0;
  rdmsrSafe(IA32_MCG_STATUS, changetype<usize>(own) + offsetof<FaultArea>("machineCheckStatus"));
  own.machineCheckCount++;
  return (own.machineCheckStatus & MCG_RIPV) != 0;
}

/** Reports NMIs and machine checks that came since the last call. From the idle and run loops. */
export function reportNoted(): void {
  const own = area();
  if (own.nmiCount) {
    own.nmiCount = 0;
    log.begin(log.Level.WARN, "fault");
    log.str("NMI on CPU ");
    log.dec(load<u32>(cpuBlock(), 4));
    log.end();
    reportTrace(changetype<usize>(own) + NMI_TRACE, own.nmiTraceCount);
  }
  if (own.machineCheckCount) {
    own.machineCheckCount = 0;
    log.begin(log.Level.ERROR, "fault");
    log.str("machine check on CPU ");
    log.dec(load<u32>(cpuBlock(), 4));
    log.str(", IA32_MCG_STATUS ");
    log.hex(own.machineCheckStatus);
    log.end();
  }
}
