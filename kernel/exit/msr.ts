// RDMSR and WRMSR. The processor has checked CPL. The kind of the MSR decides; a refusal is #GP(0).

import { rdmsr, wrmsr } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { advance, readSegmentBase, readSysenter, writeSegmentBase, writeSysenter } from "../vendor";
import { Segment } from "../vcpu/exit";
import { readClockMsr, writeClockMsr } from "../vdev/kvmclock";
import { msrRead, msrWrite, vlapicOf, writeApicBase } from "../virq/vlapic";
import { readTscDeadline, writeTscDeadline } from "../virq/vtimer";
import { rdtsc } from "../cpu/insn";
import { updateApicLeaf } from "./cpuid";
import { GuestFeature } from "./cpuidpolicy";
import { raiseGp } from "./fault";
import {
  readDebugctl,
  writeDebugctl,
  writeEferMsr,
  writeMiscEnable,
  writeSpecCtrl,
  writePredCmd,
  guestArchCapabilities,
} from "./msrcpu";
import { readMcBank, writeMcBank } from "./msrmc";
import { MC_BANKS, kindOf, MsrKind, VARIABLE_MTRRS } from "./msrpolicy";
import { readFixed, readVariable, writeDefType, writeFixed, writePat, writeVariable } from "./mtrr";
import { guestTsc } from "./simple";
import { followApicMode } from "./apicmode";
import { writeTsc, writeTscAdjust } from "./tsc";
import { readEfer, readPat } from "../vendor";

const FEATURE_CONTROL_LOCKED: u64 = 1;
const MTRR_CAP: u64 = VARIABLE_MTRRS | (1 << 8) | (1 << 10); // fixed ranges, write combining
const APIC_ENABLE: u64 = 1 << 11;

export function onRdmsr(vcpu: Vcpu): void {
  if (!readMsr(vcpu, <u32>vcpu.rcx)) {
    raiseGp(vcpu);
    return;
  }
  vcpu.rax = vcpu.operand & 0xffff_ffff;
  vcpu.rdx = vcpu.operand >> 32;
  advance(vcpu);
}

export function onWrmsr(vcpu: Vcpu): void {
  if (writeMsr(vcpu, <u32>vcpu.rcx, (vcpu.rdx << 32) | (vcpu.rax & 0xffff_ffff))) advance(vcpu);
  else raiseGp(vcpu);
}

/** True: the value is in Vcpu.operand. */
export function readMsr(vcpu: Vcpu, msr: u32): bool {
  switch (kindOf(msr)) {
    case MsrKind.ZERO:
    case MsrKind.IGNORED:
      return give(vcpu, 0);
    case MsrKind.TSC:
      return give(vcpu, guestTsc(vcpu));
    case MsrKind.TSC_ADJUST:
      return give(vcpu, vcpu.tscAdjust);
    case MsrKind.APIC_BASE:
      return give(vcpu, vcpu.apicBase);
    case MsrKind.FEATURE_CONTROL:
      return give(vcpu, FEATURE_CONTROL_LOCKED);
    case MsrKind.SPEC_CTRL:
      return (vcpu.featureBits & GuestFeature.SPEC_CTRL) != 0 && give(vcpu, vcpu.specCtrl);
    case MsrKind.MICROCODE:
      return give(vcpu, vcpu.biosSignature);
    case MsrKind.MTRR_CAP:
      return give(vcpu, MTRR_CAP);
    case MsrKind.ARCH_CAPABILITIES:
      return (vcpu.featureBits & GuestFeature.ARCH_CAPABILITIES) != 0 && give(vcpu, guestArchCapabilities());
    case MsrKind.SYSENTER:
      return give(vcpu, readSysenter(msr));
    case MsrKind.MCG_CAP:
      return give(vcpu, MC_BANKS);
    case MsrKind.MCG_STATUS:
      return give(vcpu, 0);
    case MsrKind.MISC_ENABLE:
      return give(vcpu, vcpu.miscEnable);
    case MsrKind.DEBUGCTL:
      return give(vcpu, readDebugctl());
    case MsrKind.MTRR_VARIABLE:
      return give(vcpu, readVariable(vcpu, msr));
    case MsrKind.MTRR_FIXED:
      return give(vcpu, readFixed(vcpu, msr));
    case MsrKind.PAT:
      return give(vcpu, readPat());
    case MsrKind.MTRR_DEF_TYPE:
      return give(vcpu, vcpu.mtrrDefType);
    case MsrKind.MC_BANK:
      return give(vcpu, readMcBank(vcpu, msr));
    case MsrKind.TSC_DEADLINE:
      return give(vcpu, readTscDeadline(vlapicOf(vcpu)));
    case MsrKind.X2APIC:
      return msrRead(vlapicOf(vcpu), msr) && give(vcpu, vlapicOf(vcpu).msrValue);
    case MsrKind.EFER:
      return give(vcpu, readEfer(vcpu));
    case MsrKind.SYSCALL:
      return give(vcpu, rdmsr(msr)); // switched with the vCPU: the register holds the guest's
    case MsrKind.SEGMENT_BASE:
      return give(vcpu, readSegmentBase(segmentOf(msr)));
    case MsrKind.TSC_AUX:
      return (vcpu.featureBits & GuestFeature.RDTSCP) != 0 && give(vcpu, vcpu.tscAux);
    case MsrKind.KVM_CLOCK:
      return give(vcpu, readClockMsr(vcpu, msr));
    default:
      return unknown(vcpu);
  }
}

/** False: #GP(0), nothing changed. */
export function writeMsr(vcpu: Vcpu, msr: u32, value: u64): bool {
  switch (kindOf(msr)) {
    case MsrKind.IGNORED:
    case MsrKind.MICROCODE_TRIGGER:
      return true;
    case MsrKind.TSC:
      return writeTsc(vcpu, value);
    case MsrKind.TSC_ADJUST:
      return writeTscAdjust(vcpu, value);
    case MsrKind.APIC_BASE:
      return setApicBase(vcpu, value);
    case MsrKind.SPEC_CTRL:
      return (vcpu.featureBits & GuestFeature.SPEC_CTRL) != 0 && writeSpecCtrl(vcpu, value);
    case MsrKind.PRED_CMD:
      return (vcpu.featureBits & GuestFeature.SPEC_CTRL) != 0 && writePredCmd(value);
    case MsrKind.MICROCODE:
      return true; // software writes 0 before it asks with CPUID
    case MsrKind.SYSENTER:
      return isCanonical(value) && writeSysenter(msr, value);
    case MsrKind.MCG_STATUS:
      return value == 0;
    case MsrKind.MISC_ENABLE:
      return writeMiscEnable(vcpu, value);
    case MsrKind.DEBUGCTL:
      return writeDebugctl(value);
    case MsrKind.MTRR_VARIABLE:
      return writeVariable(vcpu, msr, value);
    case MsrKind.MTRR_FIXED:
      return writeFixed(vcpu, msr, value);
    case MsrKind.PAT:
      return writePat(value);
    case MsrKind.MTRR_DEF_TYPE:
      return writeDefType(vcpu, value);
    case MsrKind.MC_BANK:
      return writeMcBank(vcpu, msr, value);
    case MsrKind.TSC_DEADLINE:
      return setDeadline(vcpu, value);
    case MsrKind.X2APIC:
      return msrWrite(vlapicOf(vcpu), msr, value);
    case MsrKind.EFER:
      return writeEferMsr(vcpu, value);
    case MsrKind.SYSCALL:
      return writeSyscall(msr, value);
    case MsrKind.SEGMENT_BASE:
      return isCanonical(value) && writeSegmentBase(segmentOf(msr), value);
    case MsrKind.TSC_AUX:
      return setTscAux(vcpu, value);
    case MsrKind.KVM_CLOCK:
      return writeClockMsr(vcpu, msr, value);
    default:
      return unknown(vcpu);
  }
}

function give(vcpu: Vcpu, value: u64): bool {
  vcpu.operand = value;
  return true;
}

function unknown(vcpu: Vcpu): bool {
  vcpu.vm.unknownMsrs += 1;
  return false;
}

/** Linear addresses of 48 bits. */
export function isCanonical(value: u64): bool {
  return <u64>(((<i64>value) << 16) >> 16) == value;
}

function segmentOf(msr: u32): u32 {
  return msr == 0xc000_0100 ? Segment.FS : Segment.GS;
}

function setApicBase(vcpu: Vcpu, value: u64): bool {
  if (!writeApicBase(vlapicOf(vcpu), value)) return false;
  updateApicLeaf(vcpu, (value & APIC_ENABLE) != 0);
  followApicMode(vcpu);
  return true;
}

function setDeadline(vcpu: Vcpu, value: u64): bool {
  writeTscDeadline(vlapicOf(vcpu), value, rdtsc());
  return true;
}

/** Not reached while these pass through; a processor that drops the MSR bitmap comes here. */
function writeSyscall(msr: u32, value: u64): bool {
  if (msr != 0xc000_0081 && msr != 0xc000_0084 && !isCanonical(value)) return false;
  wrmsr(msr, value);
  return true;
}

function setTscAux(vcpu: Vcpu, value: u64): bool {
  if ((vcpu.featureBits & GuestFeature.RDTSCP) == 0 || value >> 32 != 0) return false;
  vcpu.tscAux = value;
  wrmsr(0xc000_0103, value);
  return true;
}
