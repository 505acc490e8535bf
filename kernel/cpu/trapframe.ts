// What boot/vectors.asm saves when vectors 0..31 arrive: all registers, in linear memory, because
// ordinary loads cannot reach the stack. NASM gets the offsets through kernel/abi.ts.

import { PERCPU_FRAME_BYTES, PERCPU_FRAMES } from "../config";
import { cpuBlock } from "./insn";

/** Which of a CPU's frames: each stack that can interrupt another has its own. */
export const enum FrameSlot {
  EXCEPTION = 0,
  NMI = 1,
  MACHINE_CHECK = 2,
  DOUBLE_FAULT = 3,
}

/** Registers in instruction-encoding order, then what the processor pushed. All u64. */
@unmanaged
export class TrapFrame {
  rax: u64;
  rcx: u64;
  rdx: u64;
  rbx: u64;
  rsp: u64; // of the interrupted code
  rbp: u64;
  rsi: u64;
  rdi: u64;
  r8: u64;
  r9: u64;
  r10: u64;
  r11: u64;
  r12: u64;
  r13: u64;
  r14: u64;
  r15: u64;
  rip: u64;
  cs: u64;
  rflags: u64;
  ss: u64;
  vector: u64;
  error: u64; // 0 for vectors without an error code
  cr2: u64; // as it was on entry, for every vector
  cr3: u64;
}

if (offsetof<TrapFrame>("rsp") != 32) ERROR("TrapFrame: registers are not in encoding order");
if (offsetof<TrapFrame>("rip") != 128) ERROR("TrapFrame: RIP does not follow the registers");
if (offsetof<TrapFrame>() > 256) ERROR("TrapFrame is larger than PERCPU_FRAME_BYTES");

/** This CPU's frame in `slot`. */
export function frameOf(slot: FrameSlot): TrapFrame {
  return changetype<TrapFrame>(cpuBlock() + PERCPU_FRAMES + <usize>slot * PERCPU_FRAME_BYTES);
}
