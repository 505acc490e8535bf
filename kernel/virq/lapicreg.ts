// The local APIC's registers: offsets in the register page, fields, and which of them x2APIC mode
// has. Intel SDM Vol. 3, "Local APIC Register Address Map" and "x2APIC Register Address Space".

/** Byte offset in the 4 KiB page; in x2APIC mode the MSR is 800H + offset / 16. */
export const enum LapicReg {
  ID = 0x020,
  VERSION = 0x030,
  TPR = 0x080,
  APR = 0x090,
  PPR = 0x0a0,
  EOI = 0x0b0,
  RRD = 0x0c0,
  LDR = 0x0d0,
  DFR = 0x0e0,
  SVR = 0x0f0,
  ISR = 0x100, // eight words, 16 bytes apart
  TMR = 0x180,
  IRR = 0x200,
  ESR = 0x280,
  ICR_LOW = 0x300,
  ICR_HIGH = 0x310,
  LVT_TIMER = 0x320,
  LVT_THERMAL = 0x330,
  LVT_PERF = 0x340,
  LVT_LINT0 = 0x350,
  LVT_LINT1 = 0x360,
  LVT_ERROR = 0x370,
  TMICT = 0x380,
  TMCCT = 0x390,
  TDCR = 0x3e0,
  SELF_IPI = 0x3f0, // x2APIC mode only
}

/** Version register: an integrated APIC (14H) with six LVT entries (0 to 5). */
export const LAPIC_VERSION: u32 = 0x0005_0014;
export const SVR_ENABLE: u32 = 1 << 8;
export const SVR_WRITABLE: u32 = 0x3ff;
export const DFR_FLAT: u32 = 0xffff_ffff;

// LVT and ICR fields.
export const LVT_MASKED: u32 = 1 << 16;
export const LVT_TIMER_MODE: u32 = 3 << 17;
export const TIMER_ONE_SHOT: u32 = 0;
export const TIMER_PERIODIC: u32 = 1 << 17;
export const TIMER_TSC_DEADLINE: u32 = 2 << 17;
export const ICR_LOGICAL: u32 = 1 << 11;
export const ICR_PENDING: u32 = 1 << 12; // delivery status, read-only; IPIs leave at once
export const ICR_ASSERT: u32 = 1 << 14;
export const ICR_LEVEL: u32 = 1 << 15;
export const ICR_WRITABLE: u32 = 0x000c_cfff;

export const enum DeliveryMode {
  FIXED = 0,
  LOWEST = 1,
  SMI = 2,
  NMI = 4,
  INIT = 5,
  SIPI = 6,
  EXTINT = 7,
}

export const enum Shorthand {
  NONE = 0,
  SELF = 1,
  ALL = 2,
  OTHERS = 3,
}

/** Bits of the error status register. */
export const enum LapicError {
  REDIRECTABLE_IPI = 1 << 4,
  SEND_ILLEGAL_VECTOR = 1 << 5,
  RECEIVED_ILLEGAL_VECTOR = 1 << 6,
  ILLEGAL_REGISTER_ADDRESS = 1 << 7,
}

// IA32_APIC_BASE.
export const APIC_BASE_BSP: u64 = 1 << 8;
export const APIC_BASE_EXTD: u64 = 1 << 10;
export const APIC_BASE_EN: u64 = 1 << 11;
export const APIC_BASE_RESERVED: u64 = 0x2ff;
export const APIC_DEFAULT_GPA: u64 = 0xfee0_0000;

/** What x2APIC mode allows on the register with offset / 16 as index: 1 RDMSR, 2 WRMSR. */
export const X2_READ: u32 = 1;
export const X2_WRITE: u32 = 2;
export const X2_ACCESS: usize = memory.data<u8>([
  //0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f
  0,
  0,
  1,
  1,
  0,
  0,
  0,
  0,
  3,
  0,
  1,
  2,
  0,
  1,
  0,
  3, // 800H: ID VERSION TPR PPR EOI LDR SVR
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1, // 810H: ISR TMR
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  3,
  0,
  0,
  0,
  0,
  0,
  0,
  0, // 820H: IRR ESR
  3,
  0,
  3,
  3,
  3,
  3,
  3,
  3,
  3,
  1,
  0,
  0,
  0,
  0,
  3,
  2, // 830H: ICR LVTs TMICT TMCCT TDCR SELF_IPI
]);

/** The same for xAPIC mode: 1 readable, 2 writable; 0 is a reserved address. */
export const XAPIC_ACCESS: usize = memory.data<u8>([
  0,
  0,
  1,
  1,
  0,
  0,
  0,
  0,
  3,
  1,
  1,
  2,
  1,
  3,
  3,
  3, // 000H: + APR RRD DFR
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1, // 100H
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  1,
  3,
  0,
  0,
  0,
  0,
  0,
  0,
  0, // 200H
  3,
  3,
  3,
  3,
  3,
  3,
  3,
  3,
  3,
  1,
  0,
  0,
  0,
  0,
  3,
  0, // 300H
]);

/** Writable bits of the LVT registers from LVT_TIMER (320H) on. */
export const LVT_WRITABLE: usize = memory.data<u32>([
  0x0007_00ff, // timer: vector, mask, mode
  0x0001_07ff, // thermal: vector, delivery mode, mask
  0x0001_07ff, // performance counters
  0x0001_a7ff, // LINT0: + polarity, trigger
  0x0001_a7ff, // LINT1
  0x0001_00ff, // error: vector, mask
]);
/** Read-only bits of an LVT register (delivery status, remote IRR): ignored when written. */
export const LVT_READ_ONLY: u32 = 0x5000;
