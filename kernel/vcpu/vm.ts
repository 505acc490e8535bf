// A virtual machine, as its own handlers see it. The Vm stands at the start of its arena, which only
// that VM's HOST_CR3 maps: no other VM's code path can reach it. What a handler needs is allocated
// here when the VM is created; nothing is allocated between exit and resume.

import { ARENA_BASE, ARENA_BYTES } from "../config";
import { GuestRam, SLOT_BYTES, Slot } from "../mm/guestmem";
import { Vcpu } from "./vcpu";

export const MAX_VCPUS: u32 = 16;
export const MAX_SLOTS: u32 = 16;
export const NAME_BYTES: u32 = 32;

export const enum VmState {
  EMPTY = 0, // no such VM
  CREATED = 1, // built, its first vCPU not yet started
  RUNNING = 2,
  PAUSED = 3,
  STOPPED = 4, // ended; its memory still exists
}

/** Why a VM stopped: what `basalt run` prints and turns into an exit code. */
export const enum StopReason {
  NONE = 0,
  POWER_OFF = 1, // by ACPI, hypercall or test port
  RESET = 2, // asked for a reboot
  TRIPLE_FAULT = 3,
  HALTED = 4, // every vCPU sleeps and nothing can wake one
  ENTRY_FAILED = 5, // the processor refused the guest state: the log names the field
  UNHANDLED = 6, // an exit nobody can answer
  CORE_TRAP = 7, // a trap in the core while it served this VM
  DESTROYED = 8, // by the operator
  UNSUPPORTED = 9, // needs what this processor lacks (a real-mode start without unrestricted guest)
}

@unmanaged
export class Vm {
  // Identity
  number: u32; // 0 .. MAX_VMS - 1; frames have the owner VM_FIRST + number
  state: u32; // VmState
  stopReason: u32; // StopReason of the first stop
  stopCode: u32; // the guest's own exit code, where it gave one
  arenaUsed: u32; // bytes given out by arenaAlloc
  nameBytes: u32;
  arenaPa: u64; // pa of a pointer into the arena: arenaPa + (ptr - arena)
  name: usize; // NAME_BYTES of ASCII, in the arena

  // vCPUs
  vcpuCount: u32;
  vcpus: usize; // MAX_VCPUS pointers (usize)
  /** Bit i: vCPU i was sent something and its CPU must look at it. Set by requestOf(); drained by the run loop. */
  kicks: u32;
  lock: u32; // Spinlock.owner of the VM's own lock: 0 free, else cpu + 1. Dies with the VM
  bootProtocol: u32; // set by guest/; for the report only

  // Memory
  hostCr3: u64;
  identityRoot: u64; // gpa of the page table for paging-off guests without unrestricted guest; 0: not needed
  eptRoot: u64; // pa of the EPT PML4, 0: none
  eptp: u64; // EPT pointer as the VMCS takes it
  /** Grows whenever translations of this EPTP must be forgotten; unique over all VMs that ever had this number. */
  flushGeneration: u32;
  vmFlags: u32;
  mainGpa: u64; // these six are a GuestRam (mm/guestmem.ts): see ramOf
  mainBytes: u64;
  memoryBytes: u64;
  slots: usize; // MAX_SLOTS Slots
  slotCount: u32;
  holeBytes: u64;
  pageLog2: u32; // largest EPT leaf to use: 12, 21 or 30
  lazyMap: u32; // 1: EPT leaves are made on first touch
  splitExecutable: u32; // 1: large leaves are not executable (iTLB multihit)

  // Time. Guest TSC = host TSC + tscOffset, the same for every vCPU
  tscOffset: u64;
  createdTsc: u64;
  /** Earliest deadline of the devices that the vCPUs share, as vCPU 0's CPU knows it (vdev/timers). */
  deviceDeadline: u64;
  /** `account=on`: when its accounts began, and the CPUs' idle ticks then. */
  accountTsc: u64;
  accountIdle: u64;

  // Device state, allocated by virq/ and vdev/ (0: the VM has no such device)
  bus: usize; // vdev/bus: port kind table
  vpic: usize;
  vpit: usize;
  vioapic: usize;
  vrtc: usize;
  vuart: usize;
  vuart2: usize;
  vpm: usize; // ACPI power management: timer, PM1 registers
  vkbd: usize; // i8042
  vpci: usize;
  vhpet: usize;
  vvirtio: usize;
  vtest: usize; // exit ports for conformance kernels
  kvmWallClock: u64; // KVM wall-clock MSR (vdev/kvmclock)
  console: usize; // ring of output bytes
  input: usize; // ring of input bytes
  acpi: usize;
  monitor: usize;

  // I/O and MSR intercepts (pa of TABLE frames, shared by the VM's vCPUs)
  ioBitmapA: u64;
  ioBitmapB: u64;
  /** pa of the page the APIC-access control points at; 0 without it. */
  apicAccessPa: u64;
  apicPageMapped: u32; // 1: it stands in the EPT
  /** vmx controls switched off for this VM (Without bits), for tests and by the operator. */
  without: u32;
  exitPolicy: u32;

  // What the operator asks: exits by reason live in the Vcpu
  unknownMmio: u64;
  unknownPorts: u64;
  unknownMsrs: u64;
  traps: u64;
}

/** Processor features a VM does without, although the processor has them: command line, tests. */
export const enum Without {
  UNRESTRICTED_GUEST = 1,
  VPID = 2,
  PREEMPTION_TIMER = 4,
  APIC_REGISTERS = 8, // APIC-register virtualisation and virtual-interrupt delivery
  TPR_SHADOW = 16,
  LARGE_PAGES = 32,
  APIC_ACCESS = 64,
  EPT_AD = 128,
}

/** The Vm whose arena is slot `number`. Only valid under that VM's HOST_CR3. */
export function vmAt(number: u32): Vm {
  return changetype<Vm>(ARENA_BASE + <usize>number * ARENA_BYTES);
}

/**
 * Takes `bytes` of zeroed memory from the VM's arena, aligned to `align` (a power of two). For use
 * while the VM is built; it is returned with the VM. 0: the arena is full.
 * @allocates
 */
export function arenaAlloc(vm: Vm, bytes: usize, align: usize): usize {
  const start = (<usize>vm.arenaUsed + align - 1) & ~(align - 1);
  if (bytes > ARENA_BYTES || start > ARENA_BYTES - bytes) return 0;
  vm.arenaUsed = <u32>(start + bytes);
  return changetype<usize>(vm) + start;
}

/** Host-physical address of `ptr`, which lies in the VM's arena. */
export function arenaPaOf(vm: Vm, ptr: usize): u64 {
  return vm.arenaPa + (ptr - changetype<usize>(vm));
}

/** vCPU `index` of the VM. The caller checked index < vm.vcpuCount. */
export function vcpuOf(vm: Vm, index: u32): Vcpu {
  return changetype<Vcpu>(load<usize>(vm.vcpus + <usize>index * sizeof<usize>()));
}

export function slotOf(vm: Vm, index: u32): Slot {
  return changetype<Slot>(vm.slots + <usize>index * SLOT_BYTES);
}

if (offsetof<Vm>("holeBytes") - offsetof<Vm>("mainGpa") != offsetof<GuestRam>("holeBytes"))
  ERROR("Vm does not hold a GuestRam");

/** The VM's memory, as mm/guestmem.ts and mm/gva.ts take it. */
export function ramOf(vm: Vm): GuestRam {
  return changetype<GuestRam>(changetype<usize>(vm) + offsetof<Vm>("mainGpa"));
}
