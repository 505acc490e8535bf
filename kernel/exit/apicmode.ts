// The guest's local APIC was enabled, disabled, moved or switched to x2APIC mode: the processor's APIC
// virtualisation and the EPT's APIC-access page follow.

import { setPending, Pending } from "../vcpu/event";
import { EptBit, touchEpt, untouchEpt } from "../mm/ept";
import { Vcpu } from "../vcpu/vcpu";
import { Vm, vcpuOf } from "../vcpu/vm";
import { ApicFeature, apicFeatures, ApicMode, eptChanged, hasDelivery, setApicMode } from "../vendor";
import { forgetRequests, isEnabled, isX2apic, mmioBase, vlapicOf } from "../virq/vlapic";

const DEFAULT_BASE: u64 = 0xfee0_0000;

/**
 * The APIC-access page stands in the EPT, which all vCPUs share, only while each of them has its APIC there;
 * otherwise those that do exit with an EPT violation, and the others find nobody.
 */
function followPage(vm: Vm): void {
  let all = true;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) if (!vcpuOf(vm, i).apicPaged) all = false;
  if (all == (vm.apicPageMapped != 0) || vm.apicAccessPa == 0) return;
  vm.apicPageMapped = all ? 1 : 0;
  if (all) touchEpt(vm.eptRoot, DEFAULT_BASE, vm.apicAccessPa, EptBit.READ | EptBit.WRITE);
  else untouchEpt(vm.eptRoot, DEFAULT_BASE);
  eptChanged(vm);
}

export function followApicMode(vcpu: Vcpu): void {
  const v = vlapicOf(vcpu);
  const mode = !isEnabled(v) ? ApicMode.DISABLED : isX2apic(v) ? ApicMode.X2APIC : ApicMode.XAPIC;
  const helped = (apicFeatures(vcpu) & ApicFeature.ACCESS_PAGE) != 0; // without it, accesses must exit
  const paged = helped && mode == ApicMode.XAPIC && mmioBase(v) == DEFAULT_BASE;
  setApicMode(vcpu, mode, paged);
  vcpu.apicPaged = paged ? 1 : 0;
  followPage(vcpu.vm);
  v.hardwareDelivery = hasDelivery(vcpu) ? 1 : 0;
  v.eoiBitmapStale = 1;
  forgetRequests(v);
  setPending(vcpu, Pending.INTERRUPT);
}
