// A guest's local APIC: the registers, in xAPIC (MMIO) and x2APIC (MSR) mode, and the priorities.
//
// The registers live in a 4 KiB page laid out as the manual's virtual-APIC page, so that the same
// bytes serve plain emulation, the TPR shadow and APIC-register virtualisation. Only the CPU that
// runs the vCPU touches that page. Everyone else posts: `accept` sets bits in the posted words with
// atomic operations, and the owner folds them into IRR and TMR before it looks (`sync`).
//
// Intel SDM Vol. 3, chapter "Advanced Programmable Interrupt Controller (APIC)".

import { mfence, rdtsc } from "../cpu/insn";
import { Status } from "../lib/status";
import { Pending, queueNmi, request, setPending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { arenaAlloc } from "../vcpu/vm";
import { sendIpi } from "./ipi";
import {
  APIC_BASE_BSP,
  APIC_BASE_EN,
  APIC_BASE_EXTD,
  APIC_BASE_RESERVED,
  APIC_DEFAULT_GPA,
  DeliveryMode,
  DFR_FLAT,
  ICR_ASSERT,
  ICR_LEVEL,
  ICR_PENDING,
  ICR_WRITABLE,
  LAPIC_VERSION,
  LapicError,
  LapicReg,
  LVT_MASKED,
  LVT_READ_ONLY,
  LVT_TIMER_MODE,
  LVT_WRITABLE,
  Shorthand,
  SVR_ENABLE,
  SVR_WRITABLE,
  X2_ACCESS,
  X2_READ,
  X2_WRITE,
  XAPIC_ACCESS,
} from "./lapicreg";
import { broadcastEoi } from "./vioapic";
import { onDivideWrite, onInitialCountWrite, onTimerModeWrite, readCurrentCount, resetTimer } from "./vtimer";

@unmanaged
export class Vlapic {
  /** Linear address of the register page, 4 KiB aligned; the virtual-APIC page when the CPU has one. */
  page: usize;
  vcpu: Vcpu;
  id: u32;
  /** Levels of the LINT pins (bit 0 LINT0, bit 1 LINT1). */
  lint: u32;
  /** IA32_APIC_BASE. Vcpu.apicBase is kept equal. */
  base: u64;
  /** Guest-physical address of the xAPIC page; NO_PAGE where none answers: disabled, or in x2APIC mode. */
  mmio: u64;
  /** Host TSC at which the count in TMICT began to run. */
  timerStart: u64;
  /** Host TSC of the timer's next expiry; 0: none. */
  timerDeadline: u64;
  /** IA32_TSC_DEADLINE as the guest wrote it; 0: disarmed. */
  tscDeadline: u64;
  /** The value of the last msrRead that succeeded. */
  msrValue: u64;
  /** Bit i: posted word i holds something. Atomic; set after the word. */
  posted: u32;
  /** Errors seen since the last write to ESR. Atomic. */
  errors: u32;
  /** 1: an ExtINT message asks for the 8259's vector. Atomic. */
  extInt: u32;
  /** 1: the CPU evaluates and delivers virtual interrupts itself (virtual-interrupt delivery). */
  hardwareDelivery: u32;
  /** 1: TMR changed, so the EOI-exit bitmap in the VMCS must be written again. */
  eoiBitmapStale: u32;
  /** Bit i: word i of IRR, of ISR, may hold something; the processor's own deliveries do not show (hardwareDelivery). */
  irrWords: u32;
  isrWords: u32;
  /** Highest vector in IRR, and in ISR; -1: none. Nothing is known of them while the processor delivers (hardwareDelivery). */
  requested: i32;
  serving: i32;
  /** For virtual-interrupt delivery: 1, RVI and SVI are to be computed anew; else the highest vector that came since they were. */
  statusStale: u32;
  newest: u32;
  /** Bits of physical addresses that the guest has, for IA32_APIC_BASE. */
  physicalBits: u32;
}
/** No guest-physical address has 64 bits: none, counted from here modulo 2^64, is in a page. */
const NO_PAGE: u64 = 1 << 63;
// Posted requests (eight u32) and, for each, whether it came level-triggered (eight u32).
const POSTED: usize = (offsetof<Vlapic>() + 7) & ~7;
const POSTED_LEVEL: usize = POSTED + 32;
export const VLAPIC_BYTES: usize = POSTED_LEVEL + 32;

/**
 * Gives `vcpu` its local APIC, in the state after power-up. Uses Vcpu.virtualApic as its page where the
 * vCPU has one. NO_MEMORY if the arena is full.
 */
export function createVlapic(vcpu: Vcpu, physicalBits: u32): Status {
  const at = arenaAlloc(vcpu.vm, VLAPIC_BYTES, 64);
  const page = vcpu.virtualApic ? vcpu.virtualApic : arenaAlloc(vcpu.vm, 4096, 4096);
  if (!at || !page) return Status.NO_MEMORY;
  const v = changetype<Vlapic>(at);
  v.page = page;
  v.vcpu = vcpu;
  v.id = vcpu.apicId;
  v.physicalBits = physicalBits;
  vcpu.virtualApic = page;
  vcpu.vlapic = at;
  powerUp(v);
  return Status.OK;
}

/** Power-up or platform reset: also IA32_APIC_BASE, and so xAPIC mode. */
export function powerUp(v: Vlapic): void {
  setBase(v, APIC_DEFAULT_GPA | APIC_BASE_EN | (v.vcpu.index == 0 ? APIC_BASE_BSP : 0));
  v.lint = 0;
  resetRegisters(v);
}

export function vlapicOf(vcpu: Vcpu): Vlapic {
  return changetype<Vlapic>(vcpu.vlapic);
}

/** INIT: the registers as after power-up; the ID, IA32_APIC_BASE and x2APIC mode stay. */
export function onInit(v: Vlapic): void {
  resetRegisters(v);
}

function setBase(v: Vlapic, base: u64): void {
  v.base = base;
  v.mmio = (base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN ? base & ~(<u64>0xfff) : NO_PAGE;
  v.vcpu.apicBase = base;
}

/** Power-up and INIT state. SDM Vol. 3, "Local APIC State After Power-Up or Reset". */
function resetRegisters(v: Vlapic): void {
  memory.fill(v.page, 0, 0x400);
  memory.fill(changetype<usize>(v) + POSTED, 0, 64);
  atomic.store<u32>(changetype<usize>(v) + offsetof<Vlapic>("posted"), 0);
  forgetRequests(v);
  v.errors = 0;
  v.extInt = 0;
  put(v, LapicReg.VERSION, LAPIC_VERSION);
  put(v, LapicReg.DFR, DFR_FLAT);
  put(v, LapicReg.SVR, 0xff);
  for (let reg: u32 = LapicReg.LVT_TIMER; reg <= <u32>LapicReg.LVT_ERROR; reg += 0x10) put(v, reg, LVT_MASKED);
  putIdentity(v);
  v.eoiBitmapStale = 1;
  resetTimer(v);
}

/** IRR and ISR were changed as a whole, or the processor begins or ceases to change them itself. */
export function forgetRequests(v: Vlapic): void {
  v.irrWords = ALL_WORDS;
  v.isrWords = ALL_WORDS;
  v.requested = topRequest(v);
  v.serving = topInService(v);
  v.newest = 0;
  v.statusStale = 1;
}

/** ID and LDR in the form of the current mode. SDM Vol. 3, "Deriving Logical x2APIC ID from the Local x2APIC ID". */
function putIdentity(v: Vlapic): void {
  if (isX2apic(v)) {
    put(v, LapicReg.ID, v.id);
    put(v, LapicReg.LDR, ((v.id >> 4) << 16) | (1 << (v.id & 15)));
  } else {
    put(v, LapicReg.ID, v.id << 24);
  }
}

// ---- Small questions

export function get(v: Vlapic, offset: u32): u32 {
  return load<u32>(v.page + offset);
}

export function put(v: Vlapic, offset: u32, value: u32): void {
  store<u32>(v.page + offset, value);
}

export function isEnabled(v: Vlapic): bool {
  return (v.base & APIC_BASE_EN) != 0;
}

export function isX2apic(v: Vlapic): bool {
  return (v.base & APIC_BASE_EXTD) != 0;
}

/** Enabled by IA32_APIC_BASE and by the spurious-interrupt vector register. */
export function isSoftwareEnabled(v: Vlapic): bool {
  return isEnabled(v) && (get(v, LapicReg.SVR) & SVR_ENABLE) != 0;
}

/** Guest-physical address of the xAPIC page; NO_PAGE when none answers (disabled or x2APIC). */
export function mmioBase(v: Vlapic): u64 {
  return v.mmio;
}

/** Highest vector set in one of the 256-bit registers (ISR, TMR or IRR); -1 if none. */
export function highest(v: Vlapic, reg: u32): i32 {
  for (let word: i32 = 7; word >= 0; word--) {
    const bits = load<u32>(v.page + reg + ((<usize>word) << 4));
    if (bits) return (word << 5) + 31 - <i32>clz<u32>(bits);
  }
  return -1;
}

const ALL_WORDS: u32 = 0xff;

function topRequest(v: Vlapic): i32 {
  return v.irrWords == 0 ? -1 : topmost(v, LapicReg.IRR, offsetof<Vlapic>("irrWords"));
}

function topInService(v: Vlapic): i32 {
  return v.isrWords == 0 ? -1 : topmost(v, LapicReg.ISR, offsetof<Vlapic>("isrWords"));
}

/** As highest(), but looks only at words that `hint` names; those that turn out empty are struck off. */
function topmost(v: Vlapic, reg: u32, hint: usize): i32 {
  const at = changetype<usize>(v) + hint;
  for (let words = load<u32>(at); words != 0; words = load<u32>(at)) {
    const word: u32 = clz<u32>(words) ^ 31;
    const bits = load<u32>(v.page + reg + ((<usize>word) << 4));
    if (bits) return <i32>((word << 5) + (clz<u32>(bits) ^ 31));
    store<u32>(at, words & ~((<u32>1) << word));
  }
  return -1;
}

function bitAddress(v: Vlapic, reg: u32, vector: u32): usize {
  return v.page + reg + ((<usize>vector >> 5) << 4);
}

export function testVector(v: Vlapic, reg: u32, vector: u32): bool {
  return ((load<u32>(bitAddress(v, reg, vector)) >> (vector & 31)) & 1) != 0;
}

// ---- Requests from anywhere

/**
 * Posts interrupt `vector` to `v`; any CPU may call it. False if it was dropped (APIC disabled, vector
 * below 16) or was already posted and so merges with the earlier one.
 */
export function accept(v: Vlapic, vector: u32, level: bool): bool {
  if (!isSoftwareEnabled(v)) return false;
  if (vector < 16) {
    raiseError(v, LapicError.RECEIVED_ILLEGAL_VECTOR);
    return false;
  }
  return post(v, vector, level);
}

function post(v: Vlapic, vector: u32, level: bool): bool {
  const word = changetype<usize>(v) + ((<usize>vector >> 5) << 2);
  const bit: u32 = 1 << (vector & 31);
  if (level) atomic.or<u32>(word + POSTED_LEVEL, bit);
  else atomic.and<u32>(word + POSTED_LEVEL, ~bit);
  const before = atomic.or<u32>(word + POSTED, bit);
  atomic.or<u32>(changetype<usize>(v) + offsetof<Vlapic>("posted"), 1 << (vector >> 5));
  request(v.vcpu, Pending.INTERRUPT);
  return (before & bit) == 0;
}

/** True if `vector` waits in IRR or in the posted words: a further one would merge with it. */
export function isRequested(v: Vlapic, vector: u32): bool {
  const word = changetype<usize>(v) + POSTED + ((<usize>vector >> 5) << 2);
  return ((atomic.load<u32>(word) >> (vector & 31)) & 1) != 0 || testVector(v, LapicReg.IRR, vector);
}

/** An NMI, INIT or ExtINT message, from any CPU. SMI is accepted and ignored: a guest has no SMM. */
export function acceptMessage(v: Vlapic, mode: u32): void {
  switch (mode) {
    case DeliveryMode.NMI:
      queueNmi(v.vcpu);
      break;
    case DeliveryMode.INIT:
      request(v.vcpu, Pending.INIT);
      break;
    case DeliveryMode.EXTINT:
      atomic.store<u32>(changetype<usize>(v) + offsetof<Vlapic>("extInt"), 1);
      request(v.vcpu, Pending.INTERRUPT);
      break;
  }
}

/** A start-up IPI. While one waits, a second changes nothing. */
export function acceptSipi(v: Vlapic, vector: u32): void {
  if (atomic.load<u32>(changetype<usize>(v.vcpu) + offsetof<Vcpu>("pending")) & Pending.SIPI) return;
  atomic.store<u32>(changetype<usize>(v.vcpu) + offsetof<Vcpu>("sipiVector"), vector & 0xff);
  request(v.vcpu, Pending.SIPI);
}

/** Folds the posted words into IRR and TMR. Only the CPU that owns the vCPU calls it. */
export function sync(v: Vlapic): void {
  const flag = changetype<usize>(v) + offsetof<Vlapic>("posted");
  if (!atomic.load<u32>(flag)) return;
  let words = atomic.xchg<u32>(flag, 0);
  while (words) {
    const word = <u32>ctz<u32>(words);
    words &= words - 1;
    const at = changetype<usize>(v) + ((<usize>word) << 2);
    const bits = atomic.xchg<u32>(at + POSTED, 0);
    if (!bits) continue;
    fold(v, word, bits, atomic.load<u32>(at + POSTED_LEVEL) & bits);
    noteRequest(v, (word << 5) + (clz<u32>(bits) ^ 31));
  }
}

/** New requests `bits` in word `word` of IRR, and how they came: `level` in TMR. noteRequest() is to follow. */
function fold(v: Vlapic, word: u32, bits: u32, level: u32): void {
  const at = v.page + ((<usize>word) << 4);
  const before = load<u32>(at, LapicReg.TMR);
  const after = (before & ~bits) | level;
  if (after != before) {
    store<u32>(at, after, LapicReg.TMR);
    v.eoiBitmapStale = 1;
  }
  store<u32>(at, load<u32>(at, LapicReg.IRR) | bits, LapicReg.IRR);
  v.irrWords |= 1 << word;
}

/** `vector` is the highest of those that fold() put into IRR. */
function noteRequest(v: Vlapic, vector: u32): void {
  if (v.hardwareDelivery) v.newest = max(v.newest, vector);
  else v.requested = max(v.requested, <i32>vector);
}

/** accept() for an edge of the vCPU's own timer, on its own CPU: no other CPU need be told. */
export function acceptHere(v: Vlapic, vector: u32): void {
  if (!isSoftwareEnabled(v)) return;
  if (vector < 16) {
    raiseError(v, LapicError.RECEIVED_ILLEGAL_VECTOR);
    return;
  }
  fold(v, vector >> 5, 1 << (vector & 31), 0);
  noteRequest(v, vector);
  setPending(v.vcpu, Pending.INTERRUPT);
}

/**
 * Logs errors for ESR. The error interrupt fires once, until a write to ESR arms it again.
 * SDM Vol. 3, "Error Handling".
 */
export function raiseError(v: Vlapic, bits: u32): void {
  const before = atomic.or<u32>(changetype<usize>(v) + offsetof<Vlapic>("errors"), bits);
  if (before) return;
  const lvt = get(v, LapicReg.LVT_ERROR);
  if (lvt & LVT_MASKED || !isSoftwareEnabled(v)) return;
  if ((lvt & 0xff) < 16)
    atomic.or<u32>(changetype<usize>(v) + offsetof<Vlapic>("errors"), LapicError.RECEIVED_ILLEGAL_VECTOR);
  else post(v, lvt & 0xff, false);
}

/** Fires an LVT entry that is not masked. False if nothing was delivered. */
export function fireLvt(v: Vlapic, reg: u32): bool {
  const lvt = get(v, reg);
  if (lvt & LVT_MASKED || !isEnabled(v)) return false;
  switch ((lvt >> 8) & 7) {
    case DeliveryMode.FIXED:
      return accept(v, lvt & 0xff, (reg == LapicReg.LVT_LINT0 || reg == LapicReg.LVT_LINT1) && (lvt & ICR_LEVEL) != 0);
    case DeliveryMode.NMI:
    case DeliveryMode.INIT:
      acceptMessage(v, (lvt >> 8) & 7);
      return true;
    default:
      return false; // SMI does nothing here; ExtINT is asked for by acceptsExtInt
  }
}

/** The level of pin LINT0 (0) or LINT1 (1). A rising edge fires the entry. */
export function setLint(v: Vlapic, pin: u32, level: bool): void {
  const bit: u32 = 1 << pin;
  const at = changetype<usize>(v) + offsetof<Vlapic>("lint");
  const before = level ? atomic.or<u32>(at, bit) : atomic.and<u32>(at, ~bit); // before the entry is read: see writeLvt()
  if (level && (before & bit) == 0) fireLvt(v, LapicReg.LVT_LINT0 + (pin << 4));
}

/** True if the 8259's request reaches this processor: APIC off, or LINT0 open in ExtINT mode. */
export function acceptsExtInt(v: Vlapic): bool {
  if (!isEnabled(v)) return true;
  const lvt = get(v, LapicReg.LVT_LINT0);
  return !(lvt & LVT_MASKED) && ((lvt >> 8) & 7) == DeliveryMode.EXTINT;
}

// ---- Priorities and acknowledgement

/** Processor priority: the higher of TPR and the class in service. SDM Vol. 3, "Task and Processor Priorities". */
export function processorPriority(v: Vlapic): u32 {
  const tpr = get(v, LapicReg.TPR) & 0xff;
  const serving = v.hardwareDelivery ? highest(v, LapicReg.ISR) : v.serving;
  const isrv: u32 = serving < 0 ? 0 : <u32>serving;
  return tpr >> 4 >= isrv >> 4 ? tpr : isrv & 0xf0;
}

/** The vector to deliver now, or -1: its class is above TPR's and above that of what is in service. `sync` first. */
export function nextVector(v: Vlapic): i32 {
  const vector = v.hardwareDelivery ? highest(v, LapicReg.IRR) : v.requested;
  if (vector < 0 || !isSoftwareEnabled(v)) return -1;
  const rank = vector >> 4;
  if (rank <= <i32>((get(v, LapicReg.TPR) >> 4) & 15)) return -1;
  const serving = v.hardwareDelivery ? highest(v, LapicReg.ISR) : v.serving;
  return rank > serving >> 4 ? vector : -1;
}

/** `vector`, of nextVector(), was given to the processor: from IRR to ISR, where it is the highest. */
export function acknowledge(v: Vlapic, vector: u32): void {
  const at = v.page + ((<usize>vector >> 5) << 4);
  const bit: u32 = 1 << (vector & 31);
  const left = load<u32>(at, LapicReg.IRR) & ~bit;
  store<u32>(at, left, LapicReg.IRR);
  if (!left) v.irrWords &= ~((<u32>1) << (vector >> 5));
  v.requested = topRequest(v);
  store<u32>(at, load<u32>(at, LapicReg.ISR) | bit, LapicReg.ISR);
  v.isrWords |= 1 << (vector >> 5);
  v.serving = <i32>vector;
}

/**
 * TPR value below which a request that waits would be delivered: the TPR threshold of the VMCS; 0 if TPR
 * blocks nothing. Not for a processor that delivers by itself. SDM Vol. 3, "TPR Virtualization".
 */
export function tprThreshold(v: Vlapic): u32 {
  const vector = v.requested;
  if (vector < 0) return 0;
  const tpr = (get(v, LapicReg.TPR) >> 4) & 15;
  const wanted = <u32>vector >> 4;
  return wanted <= tpr ? wanted : 0;
}

/** EOI: the highest vector in service ends. Level-triggered ones are broadcast to the I/O APIC. */
export function endOfInterrupt(v: Vlapic): void {
  const vector = v.hardwareDelivery ? highest(v, LapicReg.ISR) : v.serving;
  if (vector < 0) return;
  const at = bitAddress(v, LapicReg.ISR, <u32>vector);
  const left = load<u32>(at) & ~((<u32>1) << (vector & 31));
  store<u32>(at, left);
  if (!left) v.isrWords &= ~((<u32>1) << (vector >> 5));
  v.serving = topInService(v);
  v.statusStale = 1;
  onEoi(v, <u32>vector);
  lookAgain(v);
}

/** A priority fell or the APIC opened: a request that was held back may go in at the next entry. */
function lookAgain(v: Vlapic): void {
  if (v.hardwareDelivery || v.requested >= 0) setPending(v.vcpu, Pending.INTERRUPT);
}

/** The part of an EOI that hardware leaves to us (EOI-induced exit): `vector` has already left ISR. */
export function onEoi(v: Vlapic, vector: u32): void {
  if (testVector(v, LapicReg.TMR, vector)) broadcastEoi(v.vcpu.vm, vector);
}

/** The task priority as CR8 has it (0 to 15). */
export function readCr8(v: Vlapic): u64 {
  return <u64>((get(v, LapicReg.TPR) >> 4) & 15);
}

/** MOV to CR8; the caller has checked that bits 63..4 are zero. */
export function writeCr8(v: Vlapic, value: u64): void {
  put(v, LapicReg.TPR, (<u32>(value & 15)) << 4);
  lookAgain(v);
}

// ---- Register reads and writes, common to both modes

function readRegister(v: Vlapic, offset: u32): u32 {
  switch (offset >> 4) {
    case LapicReg.PPR >> 4:
      return processorPriority(v);
    case LapicReg.TMCCT >> 4:
      return readCurrentCount(v, rdtsc());
    default:
      return get(v, offset);
  }
}

/** A write whose access rights and reserved bits have been checked, and masked to what is writable. */
function writeRegister(v: Vlapic, offset: u32, value: u32): void {
  switch (offset >> 4) {
    case LapicReg.TPR >> 4:
      put(v, offset, value & 0xff);
      lookAgain(v);
      break;
    case LapicReg.EOI >> 4:
      endOfInterrupt(v);
      break;
    case LapicReg.LDR >> 4:
      put(v, offset, value & 0xff00_0000);
      break;
    case LapicReg.DFR >> 4:
      put(v, offset, value | 0x0fff_ffff);
      break;
    case LapicReg.SVR >> 4:
      writeSpurious(v, value & SVR_WRITABLE);
      break;
    case LapicReg.ESR >> 4:
      put(v, offset, atomic.xchg<u32>(changetype<usize>(v) + offsetof<Vlapic>("errors"), 0));
      break;
    case LapicReg.ICR_LOW >> 4:
      put(v, offset, value & ICR_WRITABLE);
      sendIpi(v, value & ICR_WRITABLE, get(v, LapicReg.ICR_HIGH) >> 24);
      break;
    case LapicReg.ICR_HIGH >> 4:
      put(v, offset, value & 0xff00_0000);
      break;
    case LapicReg.TMICT >> 4:
      onInitialCountWrite(v, value, rdtsc());
      break;
    case LapicReg.TDCR >> 4:
      onDivideWrite(v, value & 0xb, rdtsc());
      break;
    default:
      if (offset >= <u32>LapicReg.LVT_TIMER && offset <= <u32>LapicReg.LVT_ERROR) writeLvt(v, offset, value);
  }
}

/** Software disable masks every LVT entry, and they stay masked. SDM Vol. 3, "Local APIC State After It Has Been Software Disabled". */
function writeSpurious(v: Vlapic, value: u32): void {
  put(v, LapicReg.SVR, value);
  v.statusStale = 1;
  if (value & SVR_ENABLE) {
    lookAgain(v);
    return;
  }
  for (let reg: u32 = LapicReg.LVT_TIMER; reg <= <u32>LapicReg.LVT_ERROR; reg += 0x10)
    put(v, reg, get(v, reg) | LVT_MASKED);
  if (v.hardwareDelivery) setPending(v.vcpu, Pending.INTERRUPT); // the processor must hold requests back now
}

function writeLvt(v: Vlapic, offset: u32, value: u32): void {
  let lvt = value & lvtWritable(offset);
  if (!isSoftwareEnabled(v)) lvt |= LVT_MASKED;
  const before = get(v, offset);
  put(v, offset, lvt);
  if (offset == LapicReg.LVT_TIMER) {
    if ((before ^ lvt) & LVT_TIMER_MODE) onTimerModeWrite(v, before & LVT_TIMER_MODE, rdtsc());
    return;
  }
  // A level-triggered pin that is already high fires when its entry opens. One that rises meanwhile, on another CPU, sees the open
  // entry or is seen here.
  const pin = offset == LapicReg.LVT_LINT0 ? 1 : offset == LapicReg.LVT_LINT1 ? 2 : 0;
  if (pin == 0 || (before & LVT_MASKED) == 0 || (lvt & ICR_LEVEL) == 0) return;
  mfence();
  if ((v.lint & pin) != 0) fireLvt(v, offset);
}

function lvtWritable(offset: u32): u32 {
  return load<u32>(LVT_WRITABLE + ((<usize>offset - LapicReg.LVT_TIMER) >> 2));
}

// ---- xAPIC mode: memory-mapped

/**
 * A read of `bytes` at `offset` in the page. Registers are 32 bits wide at 16-byte steps; narrower reads
 * inside one are answered, anything else reads zero.
 */
export function mmioRead(v: Vlapic, offset: u32, bytes: u32): u32 {
  const within = offset & 15;
  if (within + bytes > 4) return 0;
  const reg = offset & 0xff0;
  if (!(xapicAccess(reg) & X2_READ)) {
    if (!xapicAccess(reg)) raiseError(v, LapicError.ILLEGAL_REGISTER_ADDRESS);
    return 0;
  }
  if (reg >= <u32>LapicReg.IRR && reg < <u32>LapicReg.ESR) sync(v);
  const value = readRegister(v, reg) >> (within << 3);
  return bytes == 4 ? value : value & ((1 << (bytes << 3)) - 1);
}

/** A write of `bytes` at `offset`; only aligned 32-bit writes count. */
export function mmioWrite(v: Vlapic, offset: u32, bytes: u32, value: u32): void {
  if (bytes != 4 || offset & 15) return;
  const access = xapicAccess(offset);
  if (access & X2_WRITE) writeRegister(v, offset, value);
  else if (!access) raiseError(v, LapicError.ILLEGAL_REGISTER_ADDRESS);
}

function xapicAccess(reg: u32): u32 {
  return reg < 0x400 ? <u32>load<u8>(XAPIC_ACCESS + (reg >> 4)) : 0;
}

/** APIC-write exit (trap-like): hardware has put the value into the page; do what the write causes. */
export function onApicWrite(v: Vlapic, offset: u32): void {
  const reg = offset & 0xff0;
  if (!(xapicAccess(reg) & X2_WRITE) && !(isX2apic(v) && reg == LapicReg.SELF_IPI)) return;
  const value = get(v, reg);
  if (isX2apic(v)) msrWrite(v, 0x800 + (reg >> 4), <u64>value);
  else writeRegister(v, reg, value);
}

// ---- x2APIC mode: MSRs 800H to 8FFH

/** RDMSR of 800H to 8FFH. False: #GP. The value is then in Vlapic.msrValue. */
export function msrRead(v: Vlapic, msr: u32): bool {
  const reg = msr - 0x800;
  if (!isX2apic(v) || reg >= 0x40 || !(load<u8>(X2_ACCESS + reg) & X2_READ)) return false;
  if (reg >= <u32>LapicReg.IRR >> 4 && reg < <u32>LapicReg.ESR >> 4) sync(v);
  let value = <u64>readRegister(v, reg << 4);
  if (reg == LapicReg.ICR_LOW >> 4) value |= (<u64>get(v, LapicReg.ICR_HIGH)) << 32;
  v.msrValue = value;
  return true;
}

/** WRMSR of 800H to 8FFH. False: #GP (not in x2APIC mode, read-only, or a reserved bit). */
export function msrWrite(v: Vlapic, msr: u32, value: u64): bool {
  const reg = msr - 0x800;
  if (!isX2apic(v) || reg >= 0x40 || !(load<u8>(X2_ACCESS + reg) & X2_WRITE)) return false;
  if (value & ~x2Writable(reg << 4)) return false;
  const low = <u32>value;
  switch (reg) {
    case LapicReg.ICR_LOW >> 4:
      put(v, LapicReg.ICR_LOW, low & ICR_WRITABLE);
      put(v, LapicReg.ICR_HIGH, <u32>(value >> 32));
      sendIpi(v, low & ICR_WRITABLE, <u32>(value >> 32));
      break;
    case LapicReg.SELF_IPI >> 4:
      sendIpi(v, low | ICR_ASSERT | ((<u32>Shorthand.SELF) << 18), 0);
      break;
    default:
      writeRegister(v, reg << 4, low);
  }
  return true;
}

/** Bits that may be written to a register in x2APIC mode; others are reserved and cause #GP. */
function x2Writable(offset: u32): u64 {
  switch (offset >> 4) {
    case LapicReg.TPR >> 4:
    case LapicReg.SELF_IPI >> 4:
      return 0xff;
    case LapicReg.EOI >> 4:
    case LapicReg.ESR >> 4:
      return 0;
    case LapicReg.SVR >> 4:
      return SVR_WRITABLE;
    case LapicReg.TDCR >> 4:
      return 0xb;
    case LapicReg.TMICT >> 4:
      return 0xffff_ffff;
    case LapicReg.ICR_LOW >> 4:
      return 0xffff_ffff_0000_0000 | <u64>(ICR_WRITABLE | ICR_PENDING);
    default:
      return <u64>(lvtWritable(offset) | LVT_READ_ONLY);
  }
}

// ---- IA32_APIC_BASE

/**
 * WRMSR IA32_APIC_BASE. False: #GP (reserved bits, or a transition that the manual forbids).
 * SDM Vol. 3, "x2APIC State Transitions". The page may move; the caller asks mmioBase again.
 */
export function writeApicBase(v: Vlapic, value: u64): bool {
  const reserved = APIC_BASE_RESERVED | ~(((<u64>1) << v.physicalBits) - 1);
  if (value & reserved) return false;
  const mode = value & (APIC_BASE_EN | APIC_BASE_EXTD);
  const before = v.base & (APIC_BASE_EN | APIC_BASE_EXTD);
  if (mode == APIC_BASE_EXTD) return false; // x2APIC without the APIC
  if (before == 0 && mode & APIC_BASE_EXTD) return false; // disabled to x2APIC
  if (before & APIC_BASE_EXTD && mode == APIC_BASE_EN) return false; // x2APIC back to xAPIC
  setBase(v, value);
  if (mode == before) return true;
  if (mode == 0 || before == 0) resetRegisters(v);
  else {
    put(v, LapicReg.ICR_HIGH, 0);
    putIdentity(v);
  }
  return true;
}
