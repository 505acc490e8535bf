// Instructions that this guest's processor does not have: #UD, as the CPUID it sees says. VMX, SMX, SGX,
// INVPCID and XSAVES without their CPUID bits, VMFUNC, UMWAIT.

import { Vcpu } from "../vcpu/vcpu";
import { raiseUd } from "./fault";

export function onUndefined(vcpu: Vcpu): void {
  raiseUd(vcpu);
}
