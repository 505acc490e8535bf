// Moves between a device, or memory, and a vector register. The registers are the guest's own during an exit: they go to
// the vCPU's save area and come back from it, and nothing computes with them.
// Intel SDM Vol. 2, "Exception Conditions" of SSE, MMX and AVX instructions; Vol. 1, "MMX Register and the x87 FPU".

import { queueException, Vector } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { hostXcr0, loadVector, readCr0, readCr4, readRflags, storeVector, vectorOffset } from "../vendor";
import { loadPart, operandOf, storePart, translateOperand } from "./access";
import { Form, Insn } from "./decode";
import { Part } from "./decodevector";
import { effectiveAddress } from "./operand";
import { linearAddress } from "./segment";
import { CR0_EM, CR0_PE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, RFLAGS_VM } from "../cpu/registerbits";

const SSE_AVX: u64 = 6;

// The save area: FXSAVE's layout, then XSAVE's header.
const FSW: usize = 2;
const TAGS: usize = 4;
const MM0: usize = 32;
const XMM0: usize = 160;
const XSTATE_BV: usize = 512;
const X87: u64 = 1;
const SSE: u64 = 2;
/** Components by their bits in XCR0. */
const AVX_BIT: u32 = 2;
const ZMM_HIGH_BIT: u32 = 6;
const TOP_SHIFT: u32 = 11;
const TOP_MASK: u32 = 7 << 11;
const SUMMARY: u32 = 0x80; // FSW.ES: an unmasked exception is pending

/** False: a fault is queued and nothing has changed. RIP is the caller's. */
export function moveVector(vcpu: Vcpu, insn: Insn, long: bool): bool {
  if (!mayUse(vcpu, insn)) return false;
  const write = (insn.flags & Form.TO_REGISTER) == 0;
  const bytes = insn.memoryBytes;
  if (!linearAddress(vcpu, insn.segment, effectiveAddress(vcpu, insn), bytes, write, long)) return false;
  const gva = operandOf(vcpu).value;
  if (insn.aligned != 0 && (<u32>gva & (bytes - 1)) != 0) return raise(vcpu, Vector.GP);
  const area = storeVector(vcpu);
  if (insn.aux == Part.MMX && (load<u16>(area, FSW) & SUMMARY) != 0) return raise(vcpu, Vector.MF);
  if (!translateOperand(vcpu, gva, bytes, write)) return false;
  if (insn.aux == Part.MMX) moveMmx(vcpu, insn, area, write);
  else if (write) storeRegister(vcpu, insn, area);
  else loadRegister(vcpu, insn, area);
  return true;
}

function raise(vcpu: Vcpu, vector: u32): bool {
  queueException(vcpu, vector, 0);
  return false;
}

/** What the guest's control registers say to an instruction of this kind. */
function mayUse(vcpu: Vcpu, insn: Insn): bool {
  const cr0 = readCr0();
  if (insn.vex != 0) {
    const protectedMode = (cr0 & CR0_PE) != 0 && (readRflags() & RFLAGS_VM) == 0;
    const enabled = (readCr4() & CR4_OSXSAVE) != 0 && (vcpu.xcr0 & SSE_AVX) == SSE_AVX;
    if (!protectedMode || !enabled) return raise(vcpu, Vector.UD);
  } else if ((cr0 & CR0_EM) != 0 || (insn.aux != Part.MMX && (readCr4() & CR4_OSFXSR) == 0)) {
    return raise(vcpu, Vector.UD);
  }
  return (cr0 & CR0_TS) == 0 || raise(vcpu, Vector.NM);
}

// ---- XMM and YMM

function xmmAt(area: usize, register: u32): usize {
  return area + XMM0 + ((<usize>register) << 4);
}

function highAt(area: usize, register: u32): usize {
  return area + vectorOffset(AVX_BIT) + ((<usize>register) << 4);
}

function storeRegister(vcpu: Vcpu, insn: Insn, area: usize): void {
  const low = xmmAt(area, insn.register);
  storeBytes(vcpu, 0, min(insn.memoryBytes, 16), insn.aux == Part.HIGH_HALF ? low + 8 : low);
  if (insn.memoryBytes == 32) storeBytes(vcpu, 16, 16, highAt(area, insn.register));
}

/** `bytes` from `from` to the memory operand's byte `at` on: quadwords, or one piece that is smaller. */
function storeBytes(vcpu: Vcpu, at: u32, bytes: u32, from: usize): void {
  if (bytes < 8) storePart(vcpu, at, bytes, load<u32>(from));
  else for (let i: u32 = 0; i < bytes; i += 8) storePart(vcpu, at + i, 8, load<u64>(from + i));
}

function loadRegister(vcpu: Vcpu, insn: Insn, area: usize): void {
  const to = xmmAt(area, insn.register);
  const merged = insn.vex != 0 ? xmmAt(area, insn.vvvv) : to;
  const first = loadPart(vcpu, 0, min(insn.memoryBytes, 8));
  const second = insn.memoryBytes > 8 ? loadPart(vcpu, 8, 8) : 0;
  if (insn.memoryBytes == 32) loadHigh(vcpu, highAt(area, insn.register));
  else if (insn.vex != 0) clearHigh(highAt(area, insn.register));
  if (insn.vex != 0) clearAbove(area, insn.register);
  const low = insn.aux == Part.HIGH_HALF ? load<u64>(merged) : first;
  const high = insn.aux == Part.HIGH_HALF ? first : insn.aux == Part.LOW_HALF ? load<u64>(merged, 8) : second;
  store<u64>(to, low);
  store<u64>(to, high, 8);
  finish(vcpu, area, insn.vex != 0 ? hostXcr0() & ~X87 : SSE);
}

function loadHigh(vcpu: Vcpu, to: usize): void {
  const low = loadPart(vcpu, 16, 8);
  store<u64>(to, low);
  store<u64>(to, loadPart(vcpu, 24, 8), 8);
}

function clearHigh(at: usize): void {
  store<u64>(at, 0);
  store<u64>(at, 0, 8);
}

/** A VEX load clears its register up to the longest vector that the processor has. */
function clearAbove(area: usize, register: u32): void {
  const offset = vectorOffset(ZMM_HIGH_BIT);
  if (offset) memory.fill(area + offset + ((<usize>register) << 5), 0, 32);
}

/** The registers take what the area holds; `changed`: components that are not in their initial state any more. */
function finish(vcpu: Vcpu, area: usize, changed: u64): void {
  if (hostXcr0()) store<u64>(area, load<u64>(area, XSTATE_BV) | changed, XSTATE_BV);
  loadVector(vcpu);
}

// ---- MMX: the mantissas of the x87 registers, by their place instead of their distance from the top of the stack

/** As every MMX instruction does, it marks all registers valid and puts the top of the stack to 0. */
function moveMmx(vcpu: Vcpu, insn: Insn, area: usize, write: bool): void {
  const top = (load<u16>(area, FSW) & TOP_MASK) >> TOP_SHIFT;
  placeByNumber(area, top, vcpu.scratch);
  store<u16>(area, <u16>(load<u16>(area, FSW) & ~TOP_MASK), FSW);
  store<u8>(area, 0xff, TAGS);
  const at = area + MM0 + ((<usize>(insn.register & 7)) << 4);
  if (write) storePart(vcpu, 0, insn.memoryBytes, load<u64>(at));
  else {
    store<u64>(at, loadPart(vcpu, 0, insn.memoryBytes));
    store<u16>(at, 0xffff, 8); // the exponent of a register that MMX wrote
  }
  finish(vcpu, area, X87);
}

/** The area holds ST(0) first, which is the register number `top`; afterwards it holds R0 first. `copy`: 128 bytes. */
function placeByNumber(area: usize, top: u32, copy: usize): void {
  memory.copy(copy, area + MM0, 128);
  for (let n: u32 = 0; n < 8; n++)
    memory.copy(area + MM0 + ((<usize>n) << 4), copy + ((<usize>((n - top) & 7)) << 4), 16);
}
