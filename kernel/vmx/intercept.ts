// Which ports and MSRs exit. A bit of 1 in a bitmap means exit; every bit starts as 1. The MSR bitmap
// is a vCPU's, the I/O bitmaps are the VM's. Intel SDM Vol. 3, "I/O-Bitmap Addresses", "MSR-Bitmap Address".

import { Status } from "../lib/status";
import { allocFrame, freeRun, Owner } from "../mm/frame";
import { readEntry, writeEntry } from "../mm/phys";
import { Vcpu } from "../vcpu/vcpu";
import { Vm } from "../vcpu/vm";

const WORDS: u32 = 512; // u64 in a frame
const ALL: u64 = u64.MAX_VALUE;

/** Offsets in the MSR bitmap. */
const READ_LOW: u64 = 0;
const READ_HIGH: u64 = 1024;
const WRITE_LOW: u64 = 2048;
const WRITE_HIGH: u64 = 3072;
const HIGH_FIRST: u32 = 0xc000_0000;
const MSRS_EACH: u32 = 0x2000;

/** MSRs that the guest reads and writes without an exit: switched with the VMCS, or with the vCPU. */
const PASSED: usize = memory.data<u32>([
  0x174, // IA32_SYSENTER_CS
  0x175, // IA32_SYSENTER_ESP
  0x176, // IA32_SYSENTER_EIP
  0x277, // IA32_PAT
  0xc000_0081, // IA32_STAR
  0xc000_0082, // IA32_LSTAR
  0xc000_0083, // IA32_CSTAR
  0xc000_0084, // IA32_FMASK
  0xc000_0100, // IA32_FS_BASE
  0xc000_0101, // IA32_GS_BASE
  0xc000_0102, // IA32_KERNEL_GS_BASE
]);
const PASSED_COUNT: u32 = 11;

const IA32_TSC: u32 = 0x10;

/** A frame with every bit set. */
function fullFrame(): u64 {
  const pa = allocFrame(Owner.TABLE);
  if (!pa) return 0;
  for (let i: u32 = 0; i < WORDS; i++) writeEntry(pa + ((<u64>i) << 3), ALL);
  return pa;
}

/** The vCPU's MSR bitmap and, with its VM's first vCPU, the I/O bitmaps. */
export function createBitmaps(vcpu: Vcpu): Status {
  const vm = vcpu.vm;
  if (!vm.ioBitmapA) vm.ioBitmapA = fullFrame();
  if (!vm.ioBitmapB) vm.ioBitmapB = fullFrame();
  vcpu.msrBitmapPa = fullFrame();
  return vm.ioBitmapA && vm.ioBitmapB && vcpu.msrBitmapPa ? Status.OK : Status.NO_MEMORY;
}

/** Gives the VM's I/O bitmaps back; its vCPUs are destroyed. */
export function destroyBitmaps(vm: Vm): void {
  if (vm.ioBitmapA) freeRun(vm.ioBitmapA, 12, Owner.TABLE);
  if (vm.ioBitmapB) freeRun(vm.ioBitmapB, 12, Owner.TABLE);
  vm.ioBitmapA = 0;
  vm.ioBitmapB = 0;
}

/** Opens the MSRs that never need an exit. */
export function passThrough(vcpu: Vcpu): void {
  for (let i: usize = 0; i < PASSED_COUNT; i++) interceptMsr(vcpu, load<u32>(PASSED + (i << 2)), false, false);
  interceptMsr(vcpu, IA32_TSC, false, true); // the processor adds the offset
}

/** Says whether reads and writes of `msr` exit. MSRs outside the bitmap's two ranges always do. */
export function interceptMsr(vcpu: Vcpu, msr: u32, read: bool, write: bool): void {
  const high = msr >= HIGH_FIRST;
  const index = high ? msr - HIGH_FIRST : msr;
  if (index >= MSRS_EACH) return;
  setBit(vcpu.msrBitmapPa + (high ? READ_HIGH : READ_LOW), index, read);
  setBit(vcpu.msrBitmapPa + (high ? WRITE_HIGH : WRITE_LOW), index, write);
}

/** Says whether `port` exits, for all vCPUs of the VM. */
export function interceptPort(vm: Vm, port: u32, exit: bool): void {
  setBit(port < 0x8000 ? vm.ioBitmapA : vm.ioBitmapB, port & 0x7fff, exit);
}

function setBit(pa: u64, index: u32, on: bool): void {
  const at = pa + <u64>((index >> 6) << 3);
  const bit = (<u64>1) << (index & 63);
  const old = readEntry(at);
  writeEntry(at, on ? old | bit : old & ~bit);
}
