// The guest's local APIC was enabled, disabled, moved or switched to x2APIC mode: the processor's APIC
// virtualisation and the EPT's APIC-access page follow.

import { setPending, Pending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import { ApicMode, hasDelivery, setApicMode } from "../vendor";
import { isEnabled, isX2apic, mmioBase, vlapicOf } from "../virq/vlapic";

const DEFAULT_BASE: u64 = 0xfee0_0000;

export function followApicMode(vcpu: Vcpu): void {
  const v = vlapicOf(vcpu);
  const mode = !isEnabled(v) ? ApicMode.DISABLED : isX2apic(v) ? ApicMode.X2APIC : ApicMode.XAPIC;
  setApicMode(vcpu, mode, mmioBase(v) == DEFAULT_BASE);
  v.hardwareDelivery = hasDelivery(vcpu) ? 1 : 0;
  v.eoiBitmapStale = 1;
  setPending(vcpu, Pending.INTERRUPT);
}
