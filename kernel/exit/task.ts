// A hardware task switch: VMX has none in the guest, so it is done here, for 32-bit and 16-bit TSSs.
// Everything up to the commit point may fault in the old task; after it, faults belong to the new one.
// Intel SDM Vol. 3, chapter "Task Management"; "Exit Qualification for Task Switches".

import { noteLongWork } from "../vcpu/current";
import { EventBit, EventType, dropEvent, queueDebug, queueException, Vector } from "../vcpu/event";
import { Segment, SegmentBit } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import {
  flushGuest,
  readCr0,
  readCr3,
  readCr4,
  readDr7,
  readGpr,
  readInstructionLength,
  readQualification,
  readRflags,
  readRip,
  readRsp,
  readSegmentAccess,
  readSegmentBase,
  readSelector,
  recoverEvent,
  setNmiBlocking,
  writeCr0,
  writeCr3,
  writeDr7,
  writeGpr,
  writeRflags,
  writeRip,
  writeRsp,
  writeSegment,
} from "../vendor";
import {
  accessOf,
  baseOf,
  limitOf,
  loadLdtr,
  loadTaskSegment,
  loadVirtual8086,
  readDescriptor,
  refuse,
  SYSTEM_ACCESS,
  writeDescriptor,
} from "./descriptor";
import { loadPdptes } from "./pdpte";
import { operandOf } from "./access";
import { readLinear, readPaging, writeLinear } from "./linear";
import { linearAddress } from "./segment";
import { CR0_PG, CR0_TS, CR4_PAE } from "../cpu/registerbits";

const enum Source {
  CALL = 0,
  IRET = 1,
  JMP = 2,
  GATE = 3,
}

// A TSS of 32 bits: offsets. Of 16 bits: the same things in words.
const LINK: usize = 0x00;
const CR3: usize = 0x1c;
const EIP: usize = 0x20;
const EFLAGS: usize = 0x24;
const EAX: usize = 0x28;
const ES: usize = 0x48;
const LDT: usize = 0x60;
const TRAP: usize = 0x64;
const TSS32_BYTES: u32 = 0x68;
const IP16: usize = 0x0e;
const FLAGS16: usize = 0x10;
const AX16: usize = 0x12;
const ES16: usize = 0x22;
const LDT16: usize = 0x2a;
const TSS16_BYTES: u32 = 0x2c;

const NT: u64 = 1 << 14;
const VM: u64 = 1 << 17;
const FIXED: u64 = 2;
const BUSY: u64 = (<u64>2) << 40;
const DR6_BT: u64 = 1 << 15;
const DR7_LOCAL: u64 = 0x155; // L0..L3, LE

/** Where the new TSS is read to, and the old one is built, in the vCPU's scratch (descriptor.ts uses its start). */
const NEW: usize = 256;
const OLD: usize = 512;

export function onTaskSwitch(vcpu: Vcpu): void {
  const q = <u32>readQualification();
  const source = q >> 30;
  dropEvent(vcpu);
  recoverEvent(vcpu);
  const event = vcpu.event;
  const error = vcpu.eventError;
  dropEvent(vcpu); // the switch delivers it
  readPaging(vcpu);
  if (!switchTask(vcpu, q & 0xffff, source, event)) return;
  if (source == Source.GATE && (event & EventBit.HAS_ERROR) != 0) pushError(vcpu, error);
  noteLongWork();
}

/** True when the new task is in place; false: a fault is queued, in the old or the new task. */
function switchTask(vcpu: Vcpu, selector: u32, source: u32, event: u32): bool {
  if (!readDescriptor(vcpu, selector, Vector.GP)) return false;
  const descriptor = vcpu.operand;
  const wide = (accessOf(descriptor) & 8) != 0;
  if (!checkTss(vcpu, selector, descriptor, source, wide)) return false;
  const oldSelector = readSelector(Segment.TR);
  if (!readLinear(vcpu, baseOf(descriptor), vcpu.scratch + NEW, wide ? TSS32_BYTES : TSS16_BYTES, SYSTEM_ACCESS))
    return false;
  if (!saveOld(vcpu, source, event)) return false;
  if ((source == Source.IRET || source == Source.JMP) && !setBusy(vcpu, oldSelector, false)) return false;
  if (source != Source.IRET && !setBusy(vcpu, selector, true)) return false;
  const nested = source == Source.CALL || source == Source.GATE;
  if (nested && !writeLink(vcpu, baseOf(descriptor), oldSelector)) return false;
  if (event != 0 && (event & EventBit.TYPE_MASK) >> EventBit.TYPE_SHIFT == EventType.NMI) setNmiBlocking(true);
  commit(vcpu, selector, descriptor);
  return loadNew(vcpu, wide, nested);
}

function checkTss(vcpu: Vcpu, selector: u32, descriptor: u64, source: u32, wide: bool): bool {
  const access = accessOf(descriptor);
  const busy = (descriptor & BUSY) != 0;
  const vector = source == Source.IRET ? Vector.TS : Vector.GP;
  if ((access & 0x15) != 1 || busy != (source == Source.IRET)) return refuse(vcpu, vector, selector);
  if ((access & SegmentBit.PRESENT) == 0) return refuse(vcpu, Vector.NP, selector);
  if (limitOf(descriptor) < (wide ? TSS32_BYTES - 1 : TSS16_BYTES - 1)) return refuse(vcpu, Vector.TS, selector);
  return true;
}

// ---- The old task

/** Writes the dynamic fields of the current TSS. */
function saveOld(vcpu: Vcpu, source: u32, event: u32): bool {
  const base = readSegmentBase(Segment.TR);
  const wide = (readSegmentAccess(Segment.TR) & 8) != 0;
  const image = vcpu.scratch + OLD;
  const flags = source == Source.IRET ? readRflags() & ~NT : readRflags();
  const rip = readRip() + (skipsInstruction(source, event) ? readInstructionLength() : 0);
  return wide ? saveOld32(vcpu, base, image, rip, flags) : saveOld16(vcpu, base, image, rip, flags);
}

/** CALL, JMP, IRET and software interrupts return behind themselves; faults and interrupts to where they struck. */
function skipsInstruction(source: u32, event: u32): bool {
  return (
    source != Source.GATE ||
    (event & EventBit.TYPE_MASK) >> <u32>EventBit.TYPE_SHIFT >= <u32>EventType.SOFTWARE_INTERRUPT
  );
}

function saveOld32(vcpu: Vcpu, base: u64, image: usize, rip: u64, flags: u64): bool {
  store<u32>(image, <u32>rip, EIP);
  store<u32>(image, <u32>flags, EFLAGS);
  for (let i: u32 = 0; i < 8; i++) store<u32>(image + ((<usize>i) << 2), <u32>readGpr(vcpu, i), EAX);
  for (let i: u32 = 0; i < 6; i++) store<u32>(image + ((<usize>i) << 2), readSelector(i), ES);
  return writeLinear(vcpu, base + EIP, image + EIP, <u32>(LDT - EIP), SYSTEM_ACCESS);
}

function saveOld16(vcpu: Vcpu, base: u64, image: usize, rip: u64, flags: u64): bool {
  store<u16>(image, <u16>rip, IP16);
  store<u16>(image, <u16>flags, FLAGS16);
  for (let i: u32 = 0; i < 8; i++) store<u16>(image + ((<usize>i) << 1), <u16>readGpr(vcpu, i), AX16);
  for (let i: u32 = 0; i < 4; i++) store<u16>(image + ((<usize>i) << 1), <u16>readSelector(i), ES16);
  return writeLinear(vcpu, base + IP16, image + IP16, <u32>(LDT16 - IP16), SYSTEM_ACCESS);
}

function setBusy(vcpu: Vcpu, selector: u32, busy: bool): bool {
  if (!readDescriptor(vcpu, selector, Vector.TS)) return false;
  return writeDescriptor(vcpu, selector, busy ? vcpu.operand | BUSY : vcpu.operand & ~BUSY);
}

/** The new TSS remembers which task it came from. */
function writeLink(vcpu: Vcpu, base: u64, selector: u32): bool {
  store<u16>(vcpu.scratch, <u16>selector);
  return writeLinear(vcpu, base + LINK, vcpu.scratch, 2, SYSTEM_ACCESS);
}

// ---- The new task

/** From here on faults are the new task's. */
function commit(vcpu: Vcpu, selector: u32, descriptor: u64): void {
  writeSegment(Segment.TR, selector, baseOf(descriptor), limitOf(descriptor), accessOf(descriptor) | 2);
  writeCr0(vcpu, readCr0() | CR0_TS);
  writeDr7(readDr7() & ~DR7_LOCAL);
}

function loadNew(vcpu: Vcpu, wide: bool, nested: bool): bool {
  const image = vcpu.scratch + NEW;
  const flags = wide ? <u64>load<u32>(image, EFLAGS) : <u64>load<u16>(image, FLAGS16);
  if (wide && !loadCr3(vcpu, <u64>load<u32>(image, CR3))) return false;
  writeRip(wide ? <u64>load<u32>(image, EIP) : <u64>load<u16>(image, IP16));
  writeRflags((flags & 0x3f_7fd5) | FIXED | (nested ? NT : 0));
  loadGeneral(vcpu, image, wide);
  return loadSegments(vcpu, image, wide, (flags & VM) != 0) && trapFlag(vcpu, image, wide);
}

/** CR3 is loaded if paging is on; PAE paging loads its PDPTEs with it. */
function loadCr3(vcpu: Vcpu, cr3: u64): bool {
  if ((readCr0() & CR0_PG) == 0 || cr3 == readCr3(vcpu)) return true;
  if ((readCr4() & CR4_PAE) != 0 && !loadPdptes(vcpu, cr3)) {
    queueException(vcpu, Vector.GP, 0);
    return false;
  }
  writeCr3(vcpu, cr3);
  flushGuest(vcpu);
  readPaging(vcpu);
  return true;
}

function loadGeneral(vcpu: Vcpu, image: usize, wide: bool): void {
  for (let i: u32 = 0; i < 8; i++) {
    const value = wide
      ? <u64>load<u32>(image + ((<usize>i) << 2), EAX)
      : <u64>load<u16>(image + ((<usize>i) << 1), AX16);
    writeGpr(vcpu, i, wide ? value : (readGpr(vcpu, i) & 0xffff_0000) | value);
  }
}

function selectorAt(image: usize, wide: bool, segment: u32): u32 {
  if (wide) return load<u16>(image + ((<usize>segment) << 2), ES);
  return segment > <u32>Segment.DS ? 0 : load<u16>(image + ((<usize>segment) << 1), ES16);
}

/** LDTR first, then CS (which gives the new CPL), SS and the data segments. */
function loadSegments(vcpu: Vcpu, image: usize, wide: bool, virtual8086: bool): bool {
  if (!loadLdtr(vcpu, wide ? load<u16>(image, LDT) : load<u16>(image, LDT16))) return false;
  if (virtual8086) {
    for (let i: u32 = 0; i <= <u32>Segment.GS; i++) loadVirtual8086(i, selectorAt(image, wide, i));
    return true;
  }
  const cpl = selectorAt(image, wide, Segment.CS) & 3;
  return (
    loadTaskSegment(vcpu, Segment.CS, selectorAt(image, wide, Segment.CS), cpl) &&
    loadTaskSegment(vcpu, Segment.SS, selectorAt(image, wide, Segment.SS), cpl) &&
    loadTaskSegment(vcpu, Segment.DS, selectorAt(image, wide, Segment.DS), cpl) &&
    loadTaskSegment(vcpu, Segment.ES, selectorAt(image, wide, Segment.ES), cpl) &&
    loadTaskSegment(vcpu, Segment.FS, selectorAt(image, wide, Segment.FS), cpl) &&
    loadTaskSegment(vcpu, Segment.GS, selectorAt(image, wide, Segment.GS), cpl)
  );
}

/** The TSS's T flag: #DB when the task begins. */
function trapFlag(vcpu: Vcpu, image: usize, wide: bool): bool {
  if (wide && (load<u16>(image, TRAP) & 1) != 0) queueDebug(vcpu, DR6_BT);
  return true;
}

/** The exception that came through the gate has an error code: it goes onto the new stack. */
function pushError(vcpu: Vcpu, error: u32): void {
  const wide = (readSegmentAccess(Segment.TR) & 8) != 0;
  const bytes: u32 = wide ? 4 : 2;
  const mask: u64 = (readSegmentAccess(Segment.SS) & SegmentBit.DEFAULT_BIG) != 0 ? 0xffff_ffff : 0xffff;
  const sp = (readRsp() - bytes) & mask;
  if (!linearAddress(vcpu, Segment.SS, sp, bytes, true, false)) return;
  store<u32>(vcpu.scratch, error);
  if (!writeLinear(vcpu, operandOf(vcpu).value, vcpu.scratch, bytes, SYSTEM_ACCESS)) return;
  writeRsp((readRsp() & ~mask) | sp);
}
