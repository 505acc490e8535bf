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
import {
  CR0_AM,
  CR0_CD,
  CR0_ET,
  CR0_NE,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  CR4_LA57,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PKE,
  CR4_PSE,
  CR4_SMEP,
  EFER_LMA,
  EFER_LME,
} from "../cpu/registerbits";

const MP_EM_TS: u64 = 0xe;
const CR0_DEFINED: u64 = CR0_PE | MP_EM_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/** A change of these makes PAE paging load its PDPTEs again. */
const CR0_RELOAD: u64 = CR0_PG | CR0_CD | CR0_NW;
const CR4_RELOAD: u64 = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
const CR4_FLUSH: u64 = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP | CR4_PCIDE | CR4_LA57;

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
      return finish(vcpu, setCr0(vcpu, readCr0() & ~CR0_TS));
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
  const value = (old & ~MP_EM_TS) | (source & (MP_EM_TS | CR0_PE));
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
  const value = (wanted & CR0_DEFINED) | CR0_ET;
  if ((value & (CR0_PG | CR0_PE)) == CR0_PG || (value & (CR0_NW | CR0_CD)) == CR0_NW) return false;
  if (((old ^ value) & CR0_PG) != 0 && !mayChangePaging(vcpu, value)) return false;
  const efer = readEfer(vcpu);
  if (reloadsPdptes(old, value, efer) && !loadPdptes(vcpu, readCr3(vcpu))) return false;
  if ((value & CR0_PE) == 0 && !vcpu.unrestricted && (old & CR0_PE) != 0) return refuseRealMode(vcpu);
  writeCr0(vcpu, value);
  if (((old ^ value) & CR0_PG) != 0 && (efer & EFER_LME) != 0)
    writeEfer(vcpu, (value & CR0_PG) != 0 ? efer | EFER_LMA : efer & ~EFER_LMA);
  if (((old ^ value) & (CR0_PG | CR0_WP)) != 0) flushGuest(vcpu);
  return true;
}

/** What the processor checks when PG changes. */
function mayChangePaging(vcpu: Vcpu, value: u64): bool {
  const cr4 = readCr4();
  const long = (<u32>readSegmentAccess(Segment.CS) & SegmentBit.LONG) != 0;
  const efer = readEfer(vcpu);
  if ((value & CR0_PG) == 0) return (cr4 & CR4_PCIDE) == 0 && !(long && (efer & EFER_LMA) != 0);
  if ((efer & EFER_LME) == 0) return true;
  return (cr4 & CR4_PAE) != 0 && !long && (readSegmentAccess(Segment.TR) & SegmentBit.TYPE_MASK) != TSS16_BUSY;
}

/** PAE paging (not IA-32e mode) after this write, and something that loads the PDPTEs changed. */
function reloadsPdptes(old: u64, value: u64, efer: u64): bool {
  return (
    (value & CR0_PG) != 0 && ((old ^ value) & CR0_RELOAD) != 0 && (efer & EFER_LME) == 0 && (readCr4() & CR4_PAE) != 0
  );
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
  if (long && (changed & (CR4_PAE | CR4_LA57)) != 0) return false;
  if ((changed & value & CR4_PCIDE) != 0 && (!long || (readCr3(vcpu) & 0xfff) != 0)) return false;
  const pae = (readCr0() & CR0_PG) != 0 && !long && (value & CR4_PAE) != 0;
  if (pae && (changed & CR4_RELOAD) != 0 && !loadPdptes(vcpu, readCr3(vcpu))) return false;
  writeCr4(vcpu, value);
  if ((changed & CR4_FLUSH) != 0) flushGuest(vcpu);
  if ((changed & (CR4_OSXSAVE | CR4_PKE)) != 0) updateCr4Leaves(vcpu, value);
  return true;
}

function setCr8(vcpu: Vcpu, value: u64): bool {
  if (value > 15) return false;
  writeCr8(vlapicOf(vcpu), value);
  return true;
}
