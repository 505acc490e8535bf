// Exceptions that exit, and host NMIs. #DB and #AC are watched because their delivery can repeat for
// ever without a boundary at which the host gets in; #MC is the host's. Everything else is the guest's
// own business and never comes here. Intel SDM Vol. 3, "Exit Qualification for Debug Exceptions".

import { raiseMachineCheck, raiseNmi } from "../cpu/insn";
import { EventBit, EventType, queueDebug, queueException, Vector } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import {
  matchSingleStep,
  readInterruptionError,
  readInterruptionInfo,
  readQualification,
  readRflags,
  recoverEvent,
  restoreNmiBlocking,
  skipIcebp,
} from "../vendor";

/** B0..B3, BLD, BD, BS, BT, RTM of an exit qualification; DR6 has BLD and RTM inverted. */
const DR6_FROM_QUALIFICATION: u64 = 0xe00f;
const DR6_BD: u64 = 1 << 13;
const DR6_BS: u64 = 1 << 14;

export function onExceptionOrNmi(vcpu: Vcpu): void {
  const info = readInterruptionInfo();
  const type = (info & EventBit.TYPE_MASK) >> EventBit.TYPE_SHIFT;
  const vector = info & 0xff;
  recoverEvent(vcpu);
  if (type == EventType.NMI)
    raiseNmi(); // its handler's IRET ends the blocking of NMIs
  else if (vector == Vector.MC) raiseMachineCheck();
  else reflect(vcpu, vector, type, info);
}

function reflect(vcpu: Vcpu, vector: u32, type: u32, info: u32): void {
  if (vector != Vector.DF) restoreNmiBlocking(info);
  if (vector == Vector.DB) reflectDebug(vcpu, type);
  else queueException(vcpu, vector, readInterruptionError());
}

/** INT1 exits before it has moved RIP; it traps, and is no condition that DR6 reports. */
function reflectDebug(vcpu: Vcpu, type: u32): void {
  if (type == EventType.PRIVILEGED_EXCEPTION) {
    skipIcebp();
    queueDebug(vcpu, 0);
  } else {
    queueDebug(vcpu, conditions(readQualification()));
  }
  matchSingleStep(readRflags());
}

/** What DR6 gains. General detect is a fault: a single step that MOV SS put off is not reported with it. */
function conditions(qualification: u64): u64 {
  const bits = qualification & DR6_FROM_QUALIFICATION;
  return (bits & DR6_BD) != 0 ? bits & ~DR6_BS : bits;
}
