// A virtual processor. It lives in its VM's arena. Its general registers stand at offset 0 in the
// order of instruction encodings, where vmx/switch.asm saves and loads them; RSP, RIP and RFLAGS of a
// running guest are in the VMCS and are read through vendor.ts.

import { Vm } from "./vm";

export const enum VcpuState {
  RUNNABLE = 0,
  HALTED = 1, // HLT: woken by an interrupt, NMI, INIT
  WAIT_SIPI = 2, // after INIT: only a start-up IPI counts
  STOPPED = 3, // shut down for good
}

@unmanaged
export class Vcpu {
  // General registers, in instruction-encoding order. `rsp` here is scratch: the guest's is in the VMCS
  rax: u64;
  rcx: u64;
  rdx: u64;
  rbx: u64;
  rsp: u64;
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

  // vmx/switch.asm
  entryFlags: u32; // EntryFlag bits
  specCtrlGuest: u32; // IA32_SPEC_CTRL while the guest runs, and while the core does (vmx/speculation.ts)
  specCtrlHost: u32;

  // The words that the run loop tests before every entry, as one
  pending: u32; // Pending bits (event.ts); other CPUs set bits with atomics
  timerMoved: u32; // 1: the deadline of the vCPU's own timer moved, or is due; set by its own CPU only
  state: u32; // VcpuState

  // Identity
  vm: Vm;
  index: u32;
  apicId: u32;
  task: usize; // vm/schedule's record of this vCPU, in shared memory

  // Neutral exit record (exit.ts): filled by vmx/exit, as far as the reason needs it
  exitReason: u32;
  exitLength: u32; // instruction length in bytes
  exitQualification: u64;
  exitGpa: u64;
  exitGva: u64;
  exitInfo: u32; // VM-exit interruption information or instruction information
  exitError: u32;
  exitAccess: u32;
  exitFlags: u32;

  // Events (event.ts)
  event: u32; // exception or interrupted event to inject next, Event format; 0: none
  eventError: u32;
  eventLength: u32; // instruction length of a software event
  eventPayload: u32; // EventPayload
  eventCr2: u64; // #PF: linear address
  eventDr6: u64; // #DB: bits to merge into DR6
  nmisPending: u32; // 0..2
  sipiVector: u32;
  interruptWindow: u32; // 1: an exit at the next interrupt window was requested
  nmiServed: u32; // 1: an NMI was injected, and its IRET not seen yet

  // Control registers and MSRs that the guest believes it has
  cr3Shadow: u64; // CR3 while paging is off and unrestricted guest is missing
  xcr0: u64;
  xss: u64;
  efer: u64; // as the guest reads it
  apicBase: u64;
  pat: u64;
  miscEnable: u64;
  tscAdjust: u64;
  specCtrl: u64; // as the guest reads it
  tprThreshold: u32; // as the VMCS has it
  apicPaged: u32; // 1: its APIC is in xAPIC mode at the default address
  biosSignature: u64;
  mtrrDefType: u64;
  mtrrs: usize; // vMTRR values: 11 fixed, 2 * 8 variable (u64)
  mcBanks: usize; // u64[4 * banks]
  cpuidTable: usize; // exit/cpuid's table of this vCPU
  cpuidSubleaves: u32; // entries of leaves with subleaves, behind the plain ones
  featureBits: u32; // GuestFeature bits (exit/cpuidpolicy): what MSR policy depends on

  // Lazily switched: in the CPU's registers while this vCPU is the loaded one, here otherwise
  cr2: u64;
  star: u64;
  lstar: u64;
  cstar: u64;
  fmask: u64;
  kernelGsBase: u64;
  tscAux: u64;
  dr0: u64;
  dr1: u64;
  dr2: u64;
  dr3: u64;
  dr6: u64;
  debugLive: u32; // 1: the guest's DR0..DR3, DR6 are in the registers and MOV DR does not exit
  xsaveArea: usize; // 64-byte aligned

  // vmx
  vmcsPa: u64;
  msrBitmapPa: u64;
  virtualApicPa: u64; // 0: no TPR shadow
  virtualApic: usize; // the same page in the arena
  identityRoot: u64; // gpa of the page table for paging-off guests without unrestricted guest
  procControls: u32; // primary processor-based controls as the VMCS has them
  procControls2: u32;
  pinControls: u32;
  entryControls: u32;
  exceptionBitmap: u32;
  vpid: u32;
  cr0Fixed: u64; // bits the VMCS's CR0 must have whatever the guest wrote
  cr4Fixed: u64; // the same for CR4 (VMXE)
  cr4Hidden: u64; // bits that the VMCS's CR4 must not have now, whatever the guest wrote
  cr4Allowed: u64; // bits the guest may set in CR4
  cr3Forced: u32; // 1: the VMCS's CR3 is the identity table's, the guest's is cr3Shadow
  unrestricted: u32; // 1: runs with unrestricted guest
  guestCpu: u32; // CPU that ran it last + 1; 0: none
  flushGeneration: u32;
  vmxFlags: u32; // vmx' own
  hostInitialised: u32; // CPU + 1 whose host state the VMCS holds

  // Devices of this vCPU, allocated by virq/ (0: none)
  vlapic: usize;
  vtimer: usize;
  kvmClock: u64; // KVM system-time MSR (vdev/kvmclock)
  deliverState: u32;
  kvmSteal: u32;

  // MONITOR/MWAIT, hypercalls, decoder scratch
  deaf: u32; // 1: asleep so that no interrupt would wake it
  boundFor: u64; // the host's deadline that its preemption timer was set for
  overstayed: u32; // 1: exits took it well beyond that deadline, and the host's interrupt did not get through
  armedFor: u64; // the vCPU's deadline that the host's timer was set for; 0: not known yet
  scratch: usize; // 4 KiB of scratch for decode, string I/O and hypercalls
  decode: usize; // exit/access's block of records
  paging: usize; // GuestPaging (mm/gva) of the last readPaging()
  codeMemo: usize; // WalkMemo (mm/walkmemo) of the instruction's page
  recent: usize; // exit/recent's table of decoded instructions
  operand: u64; // a value on its way from one step of a handler to the next

  // Accounting
  exits: u64;
  exitCounts: usize; // u64[EXIT_REASONS]
  entryTsc: u64;
  guestTicks: u64;
  hostTicks: u64;
}

/** What vmx/switch.asm does beside the plain round trip: one test on each way finds that it is nothing. */
export const enum EntryFlag {
  CLEAR_REGISTERS = 1, // zero what the guest left in the registers
  FILL_RSB = 2, // after the exit: 32 calls
  VERW = 4, // before the entry
  CLEAR_BHB = 8, // after the exit
  SPEC_CTRL = 16, // IA32_SPEC_CTRL differs between guest and core
  FLUSH_L1D = 32, // before the entry
  FILL_RSB_16 = 64, // after the exit: 16 calls
  GUARD_RSB = 128, // after the exit: one call and LFENCE
  LAUNCH = 256, // the VMCS is clear: VMLAUNCH, and this flag goes; without it VMRESUME
  STACK = 512, // a turn begins: HOST_RSP is written, and this flag goes; the loop enters from one depth
}

/** Register numbers of instruction encodings; also the index into Vcpu. */
export const enum Gpr {
  RAX = 0,
  RCX = 1,
  RDX = 2,
  RBX = 3,
  RSP = 4,
  RBP = 5,
  RSI = 6,
  RDI = 7,
}

/** Register `index` (0..15) but RSP, which is in the VMCS: see vendor.ts readGpr. */
export function gpr(vcpu: Vcpu, index: u32): u64 {
  return load<u64>(changetype<usize>(vcpu) + ((<usize>index) << 3));
}

export function setGpr(vcpu: Vcpu, index: u32, value: u64): void {
  store<u64>(changetype<usize>(vcpu) + ((<usize>index) << 3), value);
}
