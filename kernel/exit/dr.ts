// MOV DR exits once after each vCPU switch: the guest's debug registers are loaded and the instruction
// runs again, so that the processor itself checks CPL, CR4.DE and DR7.GD.

import { Vcpu } from "../vcpu/vcpu";
import { loadDebug } from "../vendor";

export function onDrAccess(vcpu: Vcpu): void {
  loadDebug(vcpu);
}
