// The bits of the VM-execution, VM-exit and VM-entry controls, and which of them Basalt wants.
// Intel SDM Vol. 3, "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields".

export const enum Pin {
  EXTERNAL_INTERRUPT_EXITING = 1 << 0,
  NMI_EXITING = 1 << 3,
  VIRTUAL_NMIS = 1 << 5,
  PREEMPTION_TIMER = 1 << 6,
  POSTED_INTERRUPTS = 1 << 7,
}

export const enum Proc {
  INTERRUPT_WINDOW = 1 << 2,
  TSC_OFFSETTING = 1 << 3,
  HLT_EXITING = 1 << 7,
  INVLPG_EXITING = 1 << 9,
  MWAIT_EXITING = 1 << 10,
  RDPMC_EXITING = 1 << 11,
  RDTSC_EXITING = 1 << 12,
  CR3_LOAD_EXITING = 1 << 15,
  CR3_STORE_EXITING = 1 << 16,
  TERTIARY_CONTROLS = 1 << 17,
  CR8_LOAD_EXITING = 1 << 19,
  CR8_STORE_EXITING = 1 << 20,
  TPR_SHADOW = 1 << 21,
  NMI_WINDOW = 1 << 22,
  MOV_DR_EXITING = 1 << 23,
  UNCONDITIONAL_IO = 1 << 24,
  IO_BITMAPS = 1 << 25,
  MONITOR_TRAP_FLAG = 1 << 27,
  MSR_BITMAPS = 1 << 28,
  MONITOR_EXITING = 1 << 29,
  PAUSE_EXITING = 1 << 30,
  SECONDARY_CONTROLS = 1 << 31,
}

export const enum Proc2 {
  VIRTUALIZE_APIC_ACCESSES = 1 << 0,
  ENABLE_EPT = 1 << 1,
  DESCRIPTOR_TABLE_EXITING = 1 << 2,
  ENABLE_RDTSCP = 1 << 3,
  VIRTUALIZE_X2APIC = 1 << 4,
  ENABLE_VPID = 1 << 5,
  WBINVD_EXITING = 1 << 6,
  UNRESTRICTED_GUEST = 1 << 7,
  APIC_REGISTER_VIRTUALIZATION = 1 << 8,
  VIRTUAL_INTERRUPT_DELIVERY = 1 << 9,
  PAUSE_LOOP_EXITING = 1 << 10,
  RDRAND_EXITING = 1 << 11,
  ENABLE_INVPCID = 1 << 12,
  ENABLE_VM_FUNCTIONS = 1 << 13,
  VMCS_SHADOWING = 1 << 14,
  ENCLS_EXITING = 1 << 15,
  RDSEED_EXITING = 1 << 16,
  ENABLE_PML = 1 << 17,
  EPT_VIOLATION_VE = 1 << 18,
  CONCEAL_FROM_PT = 1 << 19,
  ENABLE_XSAVES = 1 << 20,
  MODE_BASED_EXECUTE = 1 << 22,
  SUB_PAGE_PERMISSIONS = 1 << 23,
  PT_USES_GUEST_PHYSICAL = 1 << 24,
  TSC_SCALING = 1 << 25,
  ENABLE_USER_WAIT = 1 << 26,
  ENABLE_PCONFIG = 1 << 27,
  ENCLV_EXITING = 1 << 28,
  BUS_LOCK_DETECTION = 1 << 30,
  INSTRUCTION_TIMEOUT = 1 << 31,
}

export const enum ExitControl {
  SAVE_DEBUG_CONTROLS = 1 << 2,
  HOST_64_BIT = 1 << 9,
  LOAD_PERF_GLOBAL_CTRL = 1 << 12,
  ACKNOWLEDGE_INTERRUPT = 1 << 15,
  SAVE_PAT = 1 << 18,
  LOAD_PAT = 1 << 19,
  SAVE_EFER = 1 << 20,
  LOAD_EFER = 1 << 21,
  SAVE_PREEMPTION_TIMER = 1 << 22,
  CLEAR_BNDCFGS = 1 << 23,
  CONCEAL_FROM_PT = 1 << 24,
  CLEAR_RTIT_CTL = 1 << 25,
  LOAD_CET = 1 << 28,
}

export const enum EntryControl {
  LOAD_DEBUG_CONTROLS = 1 << 2,
  IA32E_MODE_GUEST = 1 << 9,
  ENTRY_TO_SMM = 1 << 10,
  DEACTIVATE_DUAL_MONITOR = 1 << 11,
  LOAD_PERF_GLOBAL_CTRL = 1 << 13,
  LOAD_PAT = 1 << 14,
  LOAD_EFER = 1 << 15,
  LOAD_BNDCFGS = 1 << 16,
  CONCEAL_FROM_PT = 1 << 17,
  LOAD_RTIT_CTL = 1 << 18,
  LOAD_CET = 1 << 20,
}

/** Interruptibility state. */
export const enum Blocking {
  STI = 1,
  MOV_SS = 2,
  SMI = 4,
  NMI = 8,
  ENCLAVE = 16,
}

export const enum Activity {
  ACTIVE = 0,
  HLT = 1,
  SHUTDOWN = 2,
  WAIT_FOR_SIPI = 3,
}

// ---- What a VM gets: without the first of each pair Basalt does not run; the second is taken where present.

export const PIN_NEEDED: u32 = Pin.EXTERNAL_INTERRUPT_EXITING | Pin.NMI_EXITING | Pin.VIRTUAL_NMIS;
/** Bounds a stay also where a host interrupt does not end it; useful only if the exit saves what is left of it. */
export const PIN_WANTED: u32 = Pin.PREEMPTION_TIMER;

export const PROC_NEEDED: u32 =
  Proc.TSC_OFFSETTING |
  Proc.HLT_EXITING |
  Proc.MWAIT_EXITING |
  Proc.RDPMC_EXITING |
  Proc.MOV_DR_EXITING |
  Proc.IO_BITMAPS |
  Proc.MSR_BITMAPS |
  Proc.MONITOR_EXITING |
  Proc.SECONDARY_CONTROLS;
export const PROC_WANTED: u32 = Proc.TPR_SHADOW;
/** Set by default without true controls, and harmful: must be 0 when the guest runs on its own page tables. */
export const PROC_UNWANTED: u32 = Proc.CR3_LOAD_EXITING | Proc.CR3_STORE_EXITING | Proc.INVLPG_EXITING;

export const PROC2_NEEDED: u32 = Proc2.ENABLE_EPT;
export const PROC2_WANTED: u32 =
  Proc2.ENABLE_RDTSCP |
  Proc2.ENABLE_VPID |
  Proc2.WBINVD_EXITING |
  Proc2.UNRESTRICTED_GUEST |
  Proc2.PAUSE_LOOP_EXITING |
  Proc2.ENABLE_INVPCID |
  Proc2.VIRTUALIZE_APIC_ACCESSES |
  Proc2.APIC_REGISTER_VIRTUALIZATION |
  Proc2.VIRTUAL_INTERRUPT_DELIVERY |
  Proc2.VIRTUALIZE_X2APIC |
  Proc2.ENCLS_EXITING |
  Proc2.ENCLV_EXITING |
  Proc2.CONCEAL_FROM_PT;

export const EXIT_NEEDED: u32 =
  ExitControl.HOST_64_BIT |
  ExitControl.ACKNOWLEDGE_INTERRUPT |
  ExitControl.SAVE_EFER |
  ExitControl.LOAD_EFER |
  ExitControl.SAVE_DEBUG_CONTROLS |
  ExitControl.SAVE_PAT |
  ExitControl.LOAD_PAT;
export const EXIT_WANTED: u32 = ExitControl.CONCEAL_FROM_PT | ExitControl.SAVE_PREEMPTION_TIMER;

export const ENTRY_NEEDED: u32 = EntryControl.LOAD_DEBUG_CONTROLS | EntryControl.LOAD_EFER | EntryControl.LOAD_PAT;
export const ENTRY_WANTED: u32 = EntryControl.CONCEAL_FROM_PT;

/** Host may run a guest on this many PAUSEs within gap cycles before it exits, where pause-loop exiting exists. */
export const PLE_GAP_CYCLES: u32 = 128;
export const PLE_WINDOW_CYCLES: u32 = 4096;
