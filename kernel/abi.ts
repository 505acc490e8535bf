// What NASM needs of the core's layouts and of kernel/config.ts. tools/image compiles this file alone and
// writes each export as a `%define` to abi.inc: no offset or constant is copied by hand.

import { CpuBlock } from "./cpu/percpu";
import { FrameSlot, TrapFrame } from "./cpu/trapframe";
import { EntryFlag, Vcpu } from "./vcpu/vcpu";

export {
  CODE_SELECTOR,
  DATA_SELECTOR,
  DEVICE_WINDOW,
  GUEST_WINDOW,
  IMAGE_BASE,
  IMAGE_PHYSICAL,
  IMAGE_TABLES,
  IST1_TOP,
  IST2_TOP,
  IST3_TOP,
  IST4_TOP,
  LINEAR_START,
  PERCPU_BASE,
  PERCPU_BYTES,
  PERCPU_FRAME_BYTES,
  PERCPU_FRAMES,
  SHARED_END,
  STACK_GUARDS,
  STACK_SLOT_BYTES,
  STACK_TOP,
  STACKS_BASE,
  TABLE_WINDOW,
  TRAMPOLINE_APIC_IDS,
  TRAMPOLINE_BRINGUP_CR3,
  TRAMPOLINE_CORE_CR3,
  TRAMPOLINE_CPU_COUNT,
  TSS_SELECTOR,
  VECTOR_STUBS,
} from "./config";

// kernel/cpu/percpu.ts
export const CPUBLOCK_SELF: usize = offsetof<CpuBlock>("self");
export const CPUBLOCK_INDEX: usize = offsetof<CpuBlock>("index");
export const CPUBLOCK_ENTRY_TSC: usize = offsetof<CpuBlock>("entryTsc");

// kernel/cpu/trapframe.ts
export const FRAME_EXCEPTION: u32 = FrameSlot.EXCEPTION;
export const FRAME_NMI: u32 = FrameSlot.NMI;
export const FRAME_MACHINE_CHECK: u32 = FrameSlot.MACHINE_CHECK;
export const FRAME_DOUBLE_FAULT: u32 = FrameSlot.DOUBLE_FAULT;
export const TRAPFRAME_RAX: usize = offsetof<TrapFrame>("rax");
export const TRAPFRAME_RCX: usize = offsetof<TrapFrame>("rcx");
export const TRAPFRAME_RDX: usize = offsetof<TrapFrame>("rdx");
export const TRAPFRAME_RBX: usize = offsetof<TrapFrame>("rbx");
export const TRAPFRAME_RSP: usize = offsetof<TrapFrame>("rsp");
export const TRAPFRAME_RBP: usize = offsetof<TrapFrame>("rbp");
export const TRAPFRAME_RSI: usize = offsetof<TrapFrame>("rsi");
export const TRAPFRAME_RDI: usize = offsetof<TrapFrame>("rdi");
export const TRAPFRAME_R8: usize = offsetof<TrapFrame>("r8");
export const TRAPFRAME_R9: usize = offsetof<TrapFrame>("r9");
export const TRAPFRAME_R10: usize = offsetof<TrapFrame>("r10");
export const TRAPFRAME_R11: usize = offsetof<TrapFrame>("r11");
export const TRAPFRAME_R12: usize = offsetof<TrapFrame>("r12");
export const TRAPFRAME_R13: usize = offsetof<TrapFrame>("r13");
export const TRAPFRAME_R14: usize = offsetof<TrapFrame>("r14");
export const TRAPFRAME_R15: usize = offsetof<TrapFrame>("r15");
export const TRAPFRAME_RIP: usize = offsetof<TrapFrame>("rip");
export const TRAPFRAME_CS: usize = offsetof<TrapFrame>("cs");
export const TRAPFRAME_RFLAGS: usize = offsetof<TrapFrame>("rflags");
export const TRAPFRAME_SS: usize = offsetof<TrapFrame>("ss");
export const TRAPFRAME_VECTOR: usize = offsetof<TrapFrame>("vector");
export const TRAPFRAME_ERROR: usize = offsetof<TrapFrame>("error");
export const TRAPFRAME_CR2: usize = offsetof<TrapFrame>("cr2");
export const TRAPFRAME_CR3: usize = offsetof<TrapFrame>("cr3");

// kernel/vcpu/vcpu.ts
export const VCPU_REGS: usize = offsetof<Vcpu>("rax");
export const VCPU_ENTRY_FLAGS: usize = offsetof<Vcpu>("entryFlags");
export const ENTRY_CLEAR_REGISTERS: u32 = EntryFlag.CLEAR_REGISTERS;
export const ENTRY_FILL_RSB: u32 = EntryFlag.FILL_RSB;
export const ENTRY_FILL_RSB_16: u32 = EntryFlag.FILL_RSB_16;
export const ENTRY_GUARD_RSB: u32 = EntryFlag.GUARD_RSB;
export const ENTRY_LAUNCH: u32 = EntryFlag.LAUNCH;
export const ENTRY_STACK: u32 = EntryFlag.STACK;
export const ENTRY_VERW: u32 = EntryFlag.VERW;
export const ENTRY_CLEAR_BHB: u32 = EntryFlag.CLEAR_BHB;
export const ENTRY_SPEC_CTRL: u32 = EntryFlag.SPEC_CTRL;
export const ENTRY_FLUSH_L1D: u32 = EntryFlag.FLUSH_L1D;
export const VCPU_SPEC_CTRL_GUEST: usize = offsetof<Vcpu>("specCtrlGuest");
export const VCPU_SPEC_CTRL_HOST: usize = offsetof<Vcpu>("specCtrlHost");
