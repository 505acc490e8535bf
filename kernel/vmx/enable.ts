// VMX operation on a CPU: is it there, may it be used, VMXON. Every CPU must have what the boot CPU
// has, because a vCPU may run on any of them.
// Intel SDM Vol. 3, "Enabling and Entering VMX Operation" and "VMXON".

import { cpuid, rdmsr, readCr0, readCr4, vmxoff, vmxon, writeCr0, writeCr4, wrmsr } from "../cpu/insn";
import { Status } from "../lib/status";
import { allocFrame, freeRun, Owner } from "../mm/frame";
import { writeEntry, zeroFrame } from "../mm/phys";
import { virt } from "../vcpu/current";
import {
  Capability,
  capability,
  missing,
  mayBeOne,
  readCapability,
  sameCapability,
  VmxMsr,
  vmcsRevision,
} from "./capability";
import { Proc2 } from "./control";
import { startSpeculationControl } from "./speculation";
import { CR4_VMXE } from "../cpu/registerbits";

const CPUID_ECX_VMX: u32 = 1 << 5;
const FEATURE_LOCKED: u64 = 1;
const FEATURE_VMXON: u64 = 1 << 2;

const SCRATCH: usize = memory.data(16, 8);
const OTHER: usize = memory.data(136, 8);

/**
 * Looks at the boot CPU: fills capability() and returns what is missing in words that tell the operator what to do,
 * or "" if guests can run. Boot CPU only, before enableCpu.
 */
export function probe(): string {
  cpuid(1, 0, SCRATCH);
  if ((load<u32>(SCRATCH, 8) & CPUID_ECX_VMX) == 0)
    return "VT-x is missing (CPUID.1:ECX.VMX is 0): use a processor with VMX, or enable nested virtualisation";
  if (!featureUsable()) return "VT-x is locked off (IA32_FEATURE_CONTROL): enable it in the firmware's set-up";
  const c = capability();
  readCapability(c);
  return missing(c);
}

/** IA32_FEATURE_CONTROL permits VMXON outside SMX; one that is not locked is set and locked in enableCpu. */
function featureUsable(): bool {
  const value = rdmsr(VmxMsr.FEATURE_CONTROL);
  return (value & FEATURE_LOCKED) == 0 || (value & FEATURE_VMXON) != 0;
}

/**
 * Enters VMX operation on this CPU. UNSUPPORTED if it lacks what the boot CPU has or firmware locked
 * VMX off here; NO_MEMORY; VM_FAIL if VMXON refuses.
 */
export function enableCpu(): Status {
  const mine = virt();
  if (mine.vmxonPa) return Status.OK;
  if (!featureUsable()) return Status.UNSUPPORTED;
  const other = changetype<Capability>(OTHER); // CPUs come here one at a time: boot order is main's business
  readCapability(other);
  if (sameCapability(capability(), other)) return Status.UNSUPPORTED;
  const region = allocFrame(Owner.TABLE);
  if (!region) return Status.NO_MEMORY;
  zeroFrame(region);
  writeEntry(region, vmcsRevision(capability()));
  return enterVmx(region);
}

function enterVmx(region: u64): Status {
  const c = capability();
  const feature = rdmsr(VmxMsr.FEATURE_CONTROL);
  if ((feature & FEATURE_LOCKED) == 0) wrmsr(VmxMsr.FEATURE_CONTROL, feature | FEATURE_VMXON | FEATURE_LOCKED);
  writeCr0((readCr0() | c.cr0Fixed0) & c.cr0Fixed1);
  writeCr4((readCr4() | CR4_VMXE | c.cr4Fixed0) & c.cr4Fixed1);
  if (vmxon(region)) {
    writeCr4(readCr4() & ~CR4_VMXE);
    freeRun(region, 12, Owner.TABLE);
    return Status.VM_FAIL;
  }
  virt().vmxonPa = region;
  startSpeculationControl();
  return Status.OK;
}

/** Leaves VMX operation on this CPU; no VMCS may be current here. */
export function disableCpu(): void {
  const mine = virt();
  if (!mine.vmxonPa) return;
  vmxoff();
  writeCr4(readCr4() & ~CR4_VMXE);
  freeRun(mine.vmxonPa, 12, Owner.TABLE);
  mine.vmxonPa = 0;
}

/** Guests may start in real mode and switch paging off natively. */
export function unrestrictedGuest(): bool {
  return mayBeOne(capability().proc2, Proc2.UNRESTRICTED_GUEST);
}
