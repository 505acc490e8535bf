// The VMX part of a simulated CPU: what VMXON to VMENTER do. Machine without VMX: every instruction
// raises #UD, as with CR4.VMXE clear.

import type { Cpu } from "./cpu.ts";
import { UndefinedOpcode } from "./faults.ts";
import type { Machine } from "./machine.ts";

export class VmxState {
  /** In VMX operation. */
  on = false;

  constructor(private readonly cpu: Cpu) {}

  /** CR0 bits that must be 1 in VMX operation. */
  get cr0Fixed0(): bigint {
    return this.cpu.profile.msrs["486"] ?? 0n;
  }
}

/** The intrinsics of the section "VMX" in kernel/cpu/insn.ts. Arguments arrive unsigned. */
export function vmxIntrinsics(_machine: Machine) {
  const undefinedOpcode = (name: string) => (): never => {
    throw new UndefinedOpcode(`${name} outside VMX operation`);
  };
  return {
    vmxon: undefinedOpcode("VMXON"),
    vmxoff: undefinedOpcode("VMXOFF"),
    vmclear: undefinedOpcode("VMCLEAR"),
    vmptrld: undefinedOpcode("VMPTRLD"),
    vmread: undefinedOpcode("VMREAD"),
    vmwrite: undefinedOpcode("VMWRITE"),
    vmwriteSafe: undefinedOpcode("VMWRITE"),
    vmreadSafe: undefinedOpcode("VMREAD"),
    invept: undefinedOpcode("INVEPT"),
    invvpid: undefinedOpcode("INVVPID"),
    vmenter: undefinedOpcode("VMLAUNCH"),
  };
}
