// Forgetting translations, exactly where the manual demands it. Combined mappings are tagged by VPID
// and EPTP. An EPT change that takes rights away or moves a page needs INVEPT on each CPU that may have
// run the VM; a VPID that comes to a CPU (again) needs INVVPID there; an emulated change of CR0, CR3 or
// CR4 needs INVVPID for that vCPU. Intel SDM Vol. 3, "Caching Translation Information".

import { invept, invvpid } from "../cpu/insn";
import { panic } from "../lib/panic";
import { seenGeneration } from "../vcpu/current";
import { Pending, requestAll } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { Vm } from "../vcpu/vm";
import { capability, EPT_INVEPT_SINGLE, VPID_SINGLE } from "./capability";
import { Proc2 } from "./control";

const INVEPT_SINGLE: u32 = 1;
const INVEPT_ALL: u32 = 2;
const INVVPID_SINGLE: u32 = 1;
const INVVPID_ALL: u32 = 2;

/** This CPU forgets what it derived from `eptp`. */
export function invalidateEpt(eptp: u64): void {
  const single = (capability().eptVpid & EPT_INVEPT_SINGLE) != 0;
  if (invept(single ? INVEPT_SINGLE : INVEPT_ALL, single ? eptp : 0)) panic("vmx: INVEPT failed");
}

/** This CPU forgets the vCPU's linear and combined mappings, global ones too. Without VPID every entry does that. */
export function flushVpid(vcpu: Vcpu): void {
  if ((vcpu.procControls2 & Proc2.ENABLE_VPID) == 0) return;
  const single = (capability().eptVpid & VPID_SINGLE) != 0;
  if (invvpid(single ? INVVPID_SINGLE : INVVPID_ALL, vcpu.vpid, 0)) panic("vmx: INVVPID failed");
}

/** After an emulated change of CR0, CR3 or CR4 that invalidates translations on hardware. */
export function flushGuest(vcpu: Vcpu): void {
  flushVpid(vcpu);
}

/**
 * An EPT entry of the VM lost rights or moved: every CPU must forget before it enters again. vCPUs that
 * run now are told; the caller waits for them (vm/kick) before it reuses frames.
 */
export function eptChanged(vm: Vm): void {
  vm.flushGeneration++;
  requestAll(vm, Pending.FLUSH);
}

/** Before entering the VM on this CPU: forget if anything changed since it last did. */
export function syncEpt(vm: Vm): void {
  const at = seenGeneration(vm.number);
  if (load<u32>(at) == vm.flushGeneration) return;
  store<u32>(at, vm.flushGeneration);
  invalidateEpt(vm.eptp);
}
