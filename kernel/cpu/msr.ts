// Model-specific registers by the manual's names. Intel SDM Vol. 4, "Model-Specific Registers".

export const enum Msr {
  // Time and identification
  IA32_TIME_STAMP_COUNTER      = 0x0010,
  IA32_PLATFORM_ID             = 0x0017,
  IA32_APIC_BASE               = 0x001b,
  IA32_FEATURE_CONTROL         = 0x003a,
  IA32_TSC_ADJUST              = 0x003b,
  IA32_SPEC_CTRL               = 0x0048,
  IA32_PRED_CMD                = 0x0049,
  IA32_BIOS_UPDT_TRIG          = 0x0079,
  IA32_BIOS_SIGN_ID            = 0x008b,
  MSR_PLATFORM_INFO            = 0x00ce,
  IA32_UMWAIT_CONTROL          = 0x00e1,
  IA32_MPERF                   = 0x00e7,
  IA32_APERF                   = 0x00e8,
  IA32_MTRRCAP                 = 0x00fe,
  IA32_ARCH_CAPABILITIES       = 0x010a,
  IA32_FLUSH_CMD               = 0x010b,
  IA32_TSX_CTRL                = 0x0122,
  IA32_MCU_OPT_CTRL            = 0x0123,
  IA32_SYSENTER_CS             = 0x0174,
  IA32_SYSENTER_ESP            = 0x0175,
  IA32_SYSENTER_EIP            = 0x0176,
  // Machine check
  IA32_MCG_CAP                 = 0x0179,
  IA32_MCG_STATUS              = 0x017a,
  IA32_MCG_CTL                 = 0x017b,
  IA32_PERF_STATUS             = 0x0198,
  IA32_MISC_ENABLE             = 0x01a0,
  IA32_DEBUGCTL                = 0x01d9,
  // Memory types
  IA32_MTRR_PHYSBASE0          = 0x0200,
  IA32_MTRR_PHYSMASK0          = 0x0201,
  IA32_MTRR_FIX64K_00000       = 0x0250,
  IA32_MTRR_FIX16K_80000       = 0x0258,
  IA32_MTRR_FIX16K_A0000       = 0x0259,
  IA32_MTRR_FIX4K_C0000        = 0x0268,
  IA32_PAT                     = 0x0277,
  IA32_MTRR_DEF_TYPE           = 0x02ff,
  IA32_MC0_CTL                 = 0x0400,
  IA32_MC0_STATUS              = 0x0401,
  IA32_MC0_ADDR                = 0x0402,
  IA32_MC0_MISC                = 0x0403,
  // VMX capabilities
  IA32_VMX_BASIC               = 0x0480,
  IA32_VMX_PINBASED_CTLS       = 0x0481,
  IA32_VMX_PROCBASED_CTLS      = 0x0482,
  IA32_VMX_EXIT_CTLS           = 0x0483,
  IA32_VMX_ENTRY_CTLS          = 0x0484,
  IA32_VMX_MISC                = 0x0485,
  IA32_VMX_CR0_FIXED0          = 0x0486,
  IA32_VMX_CR0_FIXED1          = 0x0487,
  IA32_VMX_CR4_FIXED0          = 0x0488,
  IA32_VMX_CR4_FIXED1          = 0x0489,
  IA32_VMX_VMCS_ENUM           = 0x048a,
  IA32_VMX_PROCBASED_CTLS2     = 0x048b,
  IA32_VMX_EPT_VPID_CAP        = 0x048c,
  IA32_VMX_TRUE_PINBASED_CTLS  = 0x048d,
  IA32_VMX_TRUE_PROCBASED_CTLS = 0x048e,
  IA32_VMX_TRUE_EXIT_CTLS      = 0x048f,
  IA32_VMX_TRUE_ENTRY_CTLS     = 0x0490,
  IA32_VMX_VMFUNC              = 0x0491,
  IA32_VMX_PROCBASED_CTLS3     = 0x0492,
  IA32_VMX_EXIT_CTLS2          = 0x0493,
  // Local APIC
  IA32_TSC_DEADLINE            = 0x06e0,
  IA32_X2APIC_FIRST            = 0x0800,
  IA32_X2APIC_LAST             = 0x0bff,
  IA32_XSS                     = 0x0da0,
}

// C000_0000H and above: as u32, a const enum would make them negative.
export const IA32_EFER: u32 = 0xc000_0080;
export const IA32_STAR: u32 = 0xc000_0081;
export const IA32_LSTAR: u32 = 0xc000_0082;
export const IA32_CSTAR: u32 = 0xc000_0083;
export const IA32_FMASK: u32 = 0xc000_0084;
export const IA32_FS_BASE: u32 = 0xc000_0100;
export const IA32_GS_BASE: u32 = 0xc000_0101;
export const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;
export const IA32_TSC_AUX: u32 = 0xc000_0103;

/** IA32_FEATURE_CONTROL. */
export const FEATURE_CONTROL_LOCK: u64 = 1 << 0;
export const FEATURE_CONTROL_VMX_IN_SMX: u64 = 1 << 1;
export const FEATURE_CONTROL_VMX: u64 = 1 << 2;
