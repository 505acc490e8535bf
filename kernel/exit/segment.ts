// From segment and offset to a linear address, with the checks of the current mode: the one place that knows them.

import { Segment, SegmentBit, SegmentState } from "../vcpu/exit";
import { Vector, queueException } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { isCanonical } from "../mm/gva";
import { readSegment } from "../vendor";
import { operandOf, segmentOf, translateOperand } from "./access";
import { pagingOf } from "./linear";

/** Checks and translates the `bytes` bytes at segment:offset into operandOf(vcpu). False: a fault is queued. */
export function findOperand(vcpu: Vcpu, segment: u32, offset: u64, bytes: u32, write: bool, long: bool): bool {
  if (!linearAddress(vcpu, segment, offset, bytes, write, long)) return false;
  return translateOperand(vcpu, operandOf(vcpu).value, bytes, write);
}

/**
 * Linear address of `bytes` bytes at segment:offset, in Operand.value. False: #GP or #SS is queued. `offset` has been
 * cut to the address size already.
 */
export function linearAddress(vcpu: Vcpu, segment: u32, offset: u64, bytes: u32, write: bool, long: bool): bool {
  const operand = operandOf(vcpu);
  const state = segmentOf(vcpu);
  if (long) {
    let address = offset;
    if (segment >= <u32>Segment.FS) {
      readSegment(segment, state);
      address += state.base;
    }
    operand.value = address;
    if (isCanonical(pagingOf(vcpu), address)) return true;
    return refuse(vcpu, segment);
  }
  readSegment(segment, state);
  operand.value = (state.base + offset) & 0xffff_ffff;
  return checkLimit(state, offset, bytes, write) || refuse(vcpu, segment);
}

/** #SS for the stack segment, #GP for the others; always false. */
function refuse(vcpu: Vcpu, segment: u32): bool {
  queueException(vcpu, segment == Segment.SS ? Vector.SS : Vector.GP, 0);
  return false;
}

/** Type and limit of a data access outside of 64-bit mode. SDM Vol. 3, "Limit Checking", "Type Checking". */
function checkLimit(state: SegmentState, offset: u64, bytes: u32, write: bool): bool {
  if ((state.access & SegmentBit.UNUSABLE) != 0) return false;
  const code = (state.access & 8) != 0;
  if (write ? code || (state.access & 2) == 0 : code && (state.access & 2) == 0) return false;
  const last = offset + bytes - 1;
  const top: u64 = (state.access & SegmentBit.DEFAULT_BIG) != 0 ? 0xffff_ffff : 0xffff;
  if (!code && (state.access & 4) != 0) return offset > <u64>state.limit && last <= top; // expand-down
  return last <= <u64>state.limit;
}
