// Which MSRs a guest has, and how each is answered: a table of numbers and kinds. What has no row is not
// there: #GP(0). From the rows two byte tables are made at boot, so that an exit finds the kind with one load.
// Intel SDM Vol. 4, "Model-Specific Registers".

export const enum MsrKind {
  NONE = 0, // #GP
  ZERO = 1, // reads 0; writes #GP
  IGNORED = 2, // reads 0; writes dropped
  TSC = 3,
  TSC_ADJUST = 4,
  APIC_BASE = 5,
  FEATURE_CONTROL = 6, // reads "locked", nothing enabled
  SPEC_CTRL = 7,
  PRED_CMD = 8,
  MICROCODE_TRIGGER = 9, // write-only, dropped
  MICROCODE = 10,
  MTRR_CAP = 11,
  ARCH_CAPABILITIES = 12,
  SYSENTER = 13,
  MCG_CAP = 14,
  MCG_STATUS = 15,
  MISC_ENABLE = 16,
  DEBUGCTL = 17,
  MTRR_VARIABLE = 18,
  MTRR_FIXED = 19,
  PAT = 20,
  MTRR_DEF_TYPE = 21,
  MC_BANK = 22,
  TSC_DEADLINE = 23,
  X2APIC = 24,
  EFER = 25,
  SYSCALL = 26, // STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE
  SEGMENT_BASE = 27,
  TSC_AUX = 28,
  KVM_CLOCK = 29,
}

export const MC_BANKS: u32 = 4;
export const VARIABLE_MTRRS: u32 = 8;
export const FIXED_MTRRS: u32 = 11;

/** Rows of first MSR, number of MSRs, kind. */
// biome-ignore format: a table
const ROWS: usize = memory.data<u32>([
  0x0010, 1, MsrKind.TSC,
  0x0011, 2, MsrKind.KVM_CLOCK, // the old numbers
  0x0017, 1, MsrKind.ZERO, // IA32_PLATFORM_ID
  0x001b, 1, MsrKind.APIC_BASE,
  0x002a, 1, MsrKind.IGNORED, // EBL_CR_POWERON
  0x0034, 1, MsrKind.ZERO, // MSR_SMI_COUNT
  0x003a, 1, MsrKind.FEATURE_CONTROL,
  0x003b, 1, MsrKind.TSC_ADJUST,
  0x0048, 1, MsrKind.SPEC_CTRL,
  0x0049, 1, MsrKind.PRED_CMD,
  0x0079, 1, MsrKind.MICROCODE_TRIGGER,
  0x008b, 1, MsrKind.MICROCODE,
  0x00ce, 1, MsrKind.ZERO, // MSR_PLATFORM_INFO: no CPUID faulting
  0x00fe, 1, MsrKind.MTRR_CAP,
  0x010a, 1, MsrKind.ARCH_CAPABILITIES,
  0x0174, 3, MsrKind.SYSENTER,
  0x0179, 1, MsrKind.MCG_CAP,
  0x017a, 1, MsrKind.MCG_STATUS,
  0x0198, 1, MsrKind.ZERO, // IA32_PERF_STATUS
  0x01a0, 1, MsrKind.MISC_ENABLE,
  0x01d9, 1, MsrKind.DEBUGCTL,
  0x01db, 4, MsrKind.ZERO, // last branch and last exception records
  0x0200, 16, MsrKind.MTRR_VARIABLE,
  0x0250, 1, MsrKind.MTRR_FIXED,
  0x0258, 2, MsrKind.MTRR_FIXED,
  0x0268, 8, MsrKind.MTRR_FIXED,
  0x0277, 1, MsrKind.PAT,
  0x02ff, 1, MsrKind.MTRR_DEF_TYPE,
  0x0400, 16, MsrKind.MC_BANK,
  0x06e0, 1, MsrKind.TSC_DEADLINE,
  0x0800, 256, MsrKind.X2APIC,
  0xc000_0080, 1, MsrKind.EFER,
  0xc000_0081, 4, MsrKind.SYSCALL,
  0xc000_0100, 2, MsrKind.SEGMENT_BASE,
  0xc000_0102, 1, MsrKind.SYSCALL,
  0xc000_0103, 1, MsrKind.TSC_AUX,
]);
const ROW_COUNT: u32 = 36;
const ROW_BYTES: usize = 12;

const LOW_COUNT: u32 = 0x900;
const HIGH_FIRST: u32 = 0xc000_0080;
const HIGH_COUNT: u32 = 0x84;
const LOW: usize = memory.data(0x900);
const HIGH: usize = memory.data(0x84);

/** Makes the byte tables. Boot only. */
export function buildMsrPolicy(): void {
  for (let i: u32 = 0; i < ROW_COUNT; i++) {
    const row = ROWS + <usize>i * ROW_BYTES;
    const first = load<u32>(row);
    const at = first < HIGH_FIRST ? LOW + first : HIGH + (first - HIGH_FIRST);
    memory.fill(at, <u8>load<u32>(row, 8), load<u32>(row, 4));
  }
}

/** How `msr` is answered. */
export function kindOf(msr: u32): u32 {
  if (msr < LOW_COUNT) return load<u8>(LOW + msr);
  if (msr - HIGH_FIRST < HIGH_COUNT) return load<u8>(HIGH + (msr - HIGH_FIRST));
  return msr == 0x4b56_4d00 || msr == 0x4b56_4d01 ? MsrKind.KVM_CLOCK : MsrKind.NONE;
}
