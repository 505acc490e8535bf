// The neutral exit record: why the guest stopped, in words that both vendors share. The numbers are
// Intel's basic exit reasons, so that on VMX nothing is translated on the hot path; SVM maps its exit
// codes onto them. The record's fields are in the Vcpu (exit*); vmx/exit.ts fills those a reason has.

/** Intel SDM Vol. 3, appendix "VMX Basic Exit Reasons". */
export const enum Exit {
  EXCEPTION_OR_NMI = 0,
  EXTERNAL_INTERRUPT = 1,
  TRIPLE_FAULT = 2,
  INIT_SIGNAL = 3,
  STARTUP_IPI = 4,
  IO_SMI = 5,
  OTHER_SMI = 6,
  INTERRUPT_WINDOW = 7,
  NMI_WINDOW = 8,
  TASK_SWITCH = 9,
  CPUID = 10,
  GETSEC = 11,
  HLT = 12,
  INVD = 13,
  INVLPG = 14,
  RDPMC = 15,
  RDTSC = 16,
  RSM = 17,
  VMCALL = 18,
  VMCLEAR = 19,
  VMLAUNCH = 20,
  VMPTRLD = 21,
  VMPTRST = 22,
  VMREAD = 23,
  VMRESUME = 24,
  VMWRITE = 25,
  VMXOFF = 26,
  VMXON = 27,
  CR_ACCESS = 28,
  DR_ACCESS = 29,
  IO_INSTRUCTION = 30,
  RDMSR = 31,
  WRMSR = 32,
  INVALID_GUEST_STATE = 33,
  MSR_LOADING = 34,
  MWAIT = 36,
  MONITOR_TRAP = 37,
  MONITOR = 39,
  PAUSE = 40,
  MACHINE_CHECK_ENTRY = 41,
  TPR_BELOW_THRESHOLD = 43,
  APIC_ACCESS = 44,
  VIRTUALIZED_EOI = 45,
  GDTR_IDTR = 46,
  LDTR_TR = 47,
  EPT_VIOLATION = 48,
  EPT_MISCONFIGURATION = 49,
  INVEPT = 50,
  RDTSCP = 51,
  PREEMPTION_TIMER = 52,
  INVVPID = 53,
  WBINVD = 54,
  XSETBV = 55,
  APIC_WRITE = 56,
  RDRAND = 57,
  INVPCID = 58,
  VMFUNC = 59,
  ENCLS = 60,
  RDSEED = 61,
  PML_FULL = 62,
  XSAVES = 63,
  XRSTORS = 64,
  PCONFIG = 65,
  SPP_EVENT = 66,
  UMWAIT = 67,
  TPAUSE = 68,
  LOADIWKEY = 69,
  ENCLV = 70,
  ENQCMD_PASID = 72,
  ENQCMDS_PASID = 73,
  BUS_LOCK = 74,
  NOTIFY = 75,
  SEAMCALL = 76,
  TDCALL = 77,
}

/** Bit 31 of an exit reason: VM entry failed after it had begun to load guest state. */
export const ENTRY_FAILED: u32 = 0x8000_0000;

/** A vCPU's counters: a power of two above every reason. */
export const EXIT_REASONS: u32 = 128;

/** exitAccess of a memory access: what the guest did, and what its page allowed. */
export const enum Access {
  READ = 1,
  WRITE = 2,
  FETCH = 4,
  /** exitGva is valid. */
  GVA_VALID = 0x80,
  /** The access was to the final address, not to a paging structure. */
  FINAL = 0x100,
  /** exitGva is only the offset in its page. */
  OFFSET_VALID = 0x200,
}

/** exitAccess of a port instruction. */
export const enum PortAccess {
  SIZE_MASK = 7, // bytes
  IN = 0x08,
  STRING = 0x10,
  REP = 0x20,
}

/** exitAccess of a control-register access. */
export const enum CrAccess {
  MOV_TO = 0,
  MOV_FROM = 1,
  CLTS = 2,
  LMSW = 3,
}

/** Segment registers in the order of instruction encodings, then the system ones. */
export const enum Segment {
  ES = 0,
  CS = 1,
  SS = 2,
  DS = 3,
  FS = 4,
  GS = 5,
  LDTR = 6,
  TR = 7,
}

/** A segment register with its hidden part; access rights as in a VMCS (bit 16: unusable). */
@unmanaged
export class SegmentState {
  base: u64;
  limit: u32;
  access: u32;
  selector: u32;
  reserved: u32;
}

export const enum SegmentBit {
  TYPE_MASK = 0xf,
  CODE_OR_DATA = 0x10, // S
  DPL_SHIFT = 5,
  PRESENT = 0x80,
  LONG = 0x2000, // L
  DEFAULT_BIG = 0x4000, // D/B
  GRANULARITY = 0x8000,
  UNUSABLE = 0x10000,
}
