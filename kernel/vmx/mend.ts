// Guest state that a processor can leave at an exit and refuses at the next entry. On silicon no usable segment is without its
// accessed bit; in Bochs 2.7 a register that was null in protected mode and is loaded in real mode gets base and selector, and
// keeps type 0. Intel SDM Vol. 3, "Checks on Guest Segment Registers".

import { Segment, SegmentBit } from "../vcpu/exit";
import { vmwrite } from "../cpu/insn";
import { RFLAGS_VM } from "../cpu/registerbits";
import { segmentAccess } from "./field";
import { readRflags, readSegmentAccess } from "./register";

/** Data, readable and writable, accessed: what real mode has. */
const REAL_TYPE: u32 = 3;

/** After an entry that failed by the guest's state. True: something was mended, and the entry may be tried again. */
export function mendSegments(): bool {
  if ((readRflags() & RFLAGS_VM) != 0) return false;
  let mended: bool = false;
  for (let i: u32 = 0; i <= <u32>Segment.GS; i++) {
    const access = readSegmentAccess(i);
    if (i == <u32>Segment.CS || (access & (SegmentBit.UNUSABLE | SegmentBit.TYPE_MASK)) != 0) continue;
    vmwrite(segmentAccess(i), access | REAL_TYPE);
    mended = true;
  }
  return mended;
}
