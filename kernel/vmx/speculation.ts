// What keeps a guest and the core, and one guest and the next, out of each other's predictors and caches.
// Which measures a processor needs is cpu/mitigation's table; those around each entry and exit stand in
// switch.asm and are asked for by Vcpu.entryFlags. Intel, "Speculative Execution Side Channel Mitigations".

import { Mitigation, mitigations } from "../cpu/mitigation";
import { wrmsr } from "../cpu/insn";
import { Msr } from "../cpu/msr";
import { cpuCount } from "../cpu/percpu";
import { virt, virtAt } from "../vcpu/current";
import { EntryFlag, Vcpu } from "../vcpu/vcpu";
import { Vm } from "../vcpu/vm";

const IBRS: u32 = 1 << 0;
const BHI_DIS_S: u32 = 1 << 10;
const IBPB: u64 = 1 << 0;

/** IA32_SPEC_CTRL while the core runs. */
function hostSpecCtrl(): u32 {
  const bits = mitigations();
  let value: u32 = 0;
  if ((bits & (Mitigation.IBRS_ALWAYS | Mitigation.IBRS_ON_EXIT)) != 0) value |= IBRS;
  if ((bits & Mitigation.BHI_DIS_S) != 0) value |= BHI_DIS_S;
  return value;
}

/** What of it stays in force while a guest runs: it costs a guest nothing, and saves a WRMSR each way. */
function keptInGuest(): u32 {
  return hostSpecCtrl() & ~((mitigations() & Mitigation.IBRS_ALWAYS) != 0 ? 0 : IBRS);
}

/** Puts this CPU's IA32_SPEC_CTRL to the core's value, when it enters VMX operation. */
export function startSpeculationControl(): void {
  if (hostSpecCtrl() != 0) wrmsr(Msr.IA32_SPEC_CTRL, hostSpecCtrl());
}

/** The measures of a new vCPU. */
export function initSpeculation(vcpu: Vcpu): void {
  const bits = mitigations();
  let flags: u32 = 0;
  if ((bits & Mitigation.CLEAR_REGISTERS) != 0) flags |= EntryFlag.CLEAR_REGISTERS;
  if ((bits & Mitigation.FILL_RSB) != 0) flags |= EntryFlag.FILL_RSB;
  else if ((bits & Mitigation.FILL_RSB_16) != 0) flags |= EntryFlag.FILL_RSB_16;
  else if ((bits & Mitigation.GUARD_RSB) != 0) flags |= EntryFlag.GUARD_RSB;
  if ((bits & Mitigation.VERW) != 0) flags |= EntryFlag.VERW;
  if ((bits & Mitigation.CLEAR_BHB) != 0) flags |= EntryFlag.CLEAR_BHB;
  if ((bits & Mitigation.FLUSH_L1D) != 0) flags |= EntryFlag.FLUSH_L1D;
  vcpu.entryFlags = flags;
  vcpu.specCtrlHost = hostSpecCtrl();
  setSpecCtrl(vcpu, 0);
}

/** The guest wrote IA32_SPEC_CTRL: it is exchanged at each entry and exit where it differs from the core's. */
export function setSpecCtrl(vcpu: Vcpu, value: u64): void {
  vcpu.specCtrl = value;
  vcpu.specCtrlGuest = <u32>value | keptInGuest();
  if (vcpu.specCtrlGuest != vcpu.specCtrlHost) vcpu.entryFlags |= EntryFlag.SPEC_CTRL;
  else vcpu.entryFlags &= ~(<u32>EntryFlag.SPEC_CTRL);
}

/** `vm` takes this CPU: what another VM trained in the indirect predictors is forgotten. */
export function separate(vm: Vm): void {
  const mine = virt();
  if (mine.lastVm == vm.number + 1) return;
  mine.lastVm = vm.number + 1;
  if ((mitigations() & Mitigation.IBPB) != 0) wrmsr(Msr.IA32_PRED_CMD, IBPB);
}

/** A VM's number passes to another VM: no CPU takes the new one for the old one. */
export function forgetVm(number: u32): void {
  const count = cpuCount();
  for (let i: u32 = 0; i < count; i++) if (virtAt(i).lastVm == number + 1) virtAt(i).lastVm = 0;
}
