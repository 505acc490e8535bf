// MOV to and from control registers, CLTS and LMSW: the checks that the processor would make, and what
// a change of mode means. The processor has checked CPL. Intel SDM Vol. 2, "MOV—Move to/from Control
// Registers"; Vol. 3, "Control Registers" and "Initializing IA-32e Mode".

import { CrAccess, Segment, SegmentBit } from "../vcpu/exit";
import { StopReason } from "../vcpu/vm";
import { stopVm } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import {
  advance,
  flushGuest,
  readCr0,
  readCr3,
  readCr4,
  readCrQualification,
  readEfer,
  readGpr,
  readSegmentAccess,
  writeCr0,
  writeCr3,
  writeCr4,
  writeEfer,
  writeGpr,
} from "../vendor";
import { readCr8, vlapicOf, writeCr8 } from "../virq/vlapic";
import { updateCr4Leaves } from "./cpuid";
import { raiseGp } from "./fault";
import { is64 } from "./linear";
import { loadPdptes } from "./pdpte";
import { report } from "./report";

const PE: u64 = 1 << 0;
const MP_EM_TS: u64 = 0xe;
const TS: u64 = 1 << 3;
const ET: u64 = 1 << 4;
const NE: u64 = 1 << 5;
const WP: u64 = 1 << 16;
const AM: u64 = 1 << 18;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
const CR0_DEFINED: u64 = PE | MP_EM_TS | ET | NE | WP | AM | NW | CD | PG;

const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const PGE: u64 = 1 << 7;
const LA57: u64 = 1 << 12;
const PCIDE: u64 = 1 << 17;
const OSXSAVE: u64 = 1 << 18;
const SMEP: u64 = 1 << 20;
const PKE: u64 = 1 << 22;
/** A change of these makes PAE paging load its PDPTEs again. */
const CR0_RELOAD: u64 = PG | CD | NW;
const CR4_RELOAD: u64 = PAE | PGE | PSE | SMEP;
const CR4_FLUSH: u64 = PAE | PGE | PSE | SMEP | PCIDE | LA57;

const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const TSS16_BUSY: u32 = 3;

export function onCrAccess(vcpu: Vcpu): void {
  const q = readCrQualification();
  const register = q & 15;
  const general = (q >> 8) & 15;
  switch ((q >> 4) & 3) {
    case CrAccess.MOV_TO:
      return moveTo(vcpu, register, operand(vcpu, general));
    case CrAccess.MOV_FROM:
      return moveFrom(vcpu, register, general);
    case CrAccess.CLTS:
      return finish(vcpu, setCr0(vcpu, readCr0() & ~TS));
    default:
      return loadMachineStatus(vcpu, <u64>(q >> 16));
  }
}

/** Outside 64-bit mode the operand is 32 bits wide. */
function operand(vcpu: Vcpu, general: u32): u64 {
  const value = readGpr(vcpu, general);
  return is64() ? value : value & 0xffff_ffff;
}

function moveTo(vcpu: Vcpu, register: u32, value: u64): void {
  switch (register) {
    case 0:
      return finish(vcpu, setCr0(vcpu, value));
    case 3:
      return finish(vcpu, setCr3(vcpu, value));
    case 4:
      return finish(vcpu, setCr4(vcpu, value));
    default:
      return finish(vcpu, setCr8(vcpu, value));
  }
}

function moveFrom(vcpu: Vcpu, register: u32, general: u32): void {
  if (register == 3) writeGpr(vcpu, general, readCr3(vcpu));
  else writeGpr(vcpu, general, readCr8(vlapicOf(vcpu)));
  advance(vcpu);
}

/** LMSW sets PE, MP, EM and TS, and cannot clear PE. */
function loadMachineStatus(vcpu: Vcpu, source: u64): void {
  const old = readCr0();
  const value = (old & ~MP_EM_TS) | (source & (MP_EM_TS | PE));
  finish(vcpu, setCr0(vcpu, value));
}

/** `ok`: the write was legal and done; else #GP(0). */
function finish(vcpu: Vcpu, ok: bool): void {
  if (ok) advance(vcpu);
  else raiseGp(vcpu);
}

// ---- CR0

/** Writes CR0 as MOV does. False: #GP(0), nothing changed. Also for task switches and loaders. */
export function setCr0(vcpu: Vcpu, wanted: u64): bool {
  if (wanted >> 32 != 0) return false;
  const old = readCr0();
  const value = (wanted & CR0_DEFINED) | ET;
  if ((value & (PG | PE)) == PG || (value & (NW | CD)) == NW) return false;
  if (((old ^ value) & PG) != 0 && !mayChangePaging(vcpu, value)) return false;
  const efer = readEfer(vcpu);
  if (reloadsPdptes(old, value, efer) && !loadPdptes(vcpu, readCr3(vcpu))) return false;
  if ((value & PE) == 0 && !vcpu.unrestricted && (old & PE) != 0) return refuseRealMode(vcpu);
  writeCr0(vcpu, value);
  if (((old ^ value) & PG) != 0 && (efer & EFER_LME) != 0)
    writeEfer(vcpu, (value & PG) != 0 ? efer | EFER_LMA : efer & ~EFER_LMA);
  if (((old ^ value) & (PG | WP)) != 0) flushGuest(vcpu);
  return true;
}

/** What the processor checks when PG changes. */
function mayChangePaging(vcpu: Vcpu, value: u64): bool {
  const cr4 = readCr4();
  const long = (<u32>readSegmentAccess(Segment.CS) & SegmentBit.LONG) != 0;
  const efer = readEfer(vcpu);
  if ((value & PG) == 0) return (cr4 & PCIDE) == 0 && !(long && (efer & EFER_LMA) != 0);
  if ((efer & EFER_LME) == 0) return true;
  return (cr4 & PAE) != 0 && !long && (readSegmentAccess(Segment.TR) & SegmentBit.TYPE_MASK) != TSS16_BUSY;
}

/** PAE paging (not IA-32e mode) after this write, and something that loads the PDPTEs changed. */
function reloadsPdptes(old: u64, value: u64, efer: u64): bool {
  return (value & PG) != 0 && ((old ^ value) & CR0_RELOAD) != 0 && (efer & EFER_LME) == 0 && (readCr4() & PAE) != 0;
}

/** Real mode without unrestricted guest: said once, in words, and the VM ends. */
function refuseRealMode(vcpu: Vcpu): bool {
  report(vcpu, "real mode needs the processor feature unrestricted guest");
  stopVm(vcpu.vm, StopReason.UNSUPPORTED, 0);
  return true;
}

// ---- CR3, CR4, CR8

/** Only while paging is off without unrestricted guest: the value waits for paging. */
function setCr3(vcpu: Vcpu, value: u64): bool {
  writeCr3(vcpu, value);
  return true;
}

/** Writes CR4 as MOV does. False: #GP(0), nothing changed. */
export function setCr4(vcpu: Vcpu, value: u64): bool {
  if ((value & ~vcpu.cr4Allowed) != 0) return false;
  const old = readCr4();
  const changed = old ^ value;
  const efer = readEfer(vcpu);
  const long = (efer & EFER_LMA) != 0;
  if (long && (changed & (PAE | LA57)) != 0) return false;
  if ((changed & value & PCIDE) != 0 && (!long || (readCr3(vcpu) & 0xfff) != 0)) return false;
  const pae = (readCr0() & PG) != 0 && !long && (value & PAE) != 0;
  if (pae && (changed & CR4_RELOAD) != 0 && !loadPdptes(vcpu, readCr3(vcpu))) return false;
  writeCr4(vcpu, value);
  if ((changed & CR4_FLUSH) != 0) flushGuest(vcpu);
  if ((changed & (OSXSAVE | PKE)) != 0) updateCr4Leaves(vcpu, value);
  return true;
}

function setCr8(vcpu: Vcpu, value: u64): bool {
  if (value > 15) return false;
  writeCr8(vlapicOf(vcpu), value);
  return true;
}
