// The processor's help with a virtual local APIC: TPR shadow, APIC-access page, APIC-register
// virtualisation, virtual-interrupt delivery, x2APIC mode. Chosen by capability, per vCPU; virq/ owns
// the registers in the virtual-APIC page and calls here when the guest changes the APIC's mode.
// Intel SDM Vol. 3, chapter "APIC Virtualization and Virtual Interrupts".

import { vmread, vmwrite } from "../cpu/insn";
import { Vcpu } from "../vcpu/vcpu";
import { Without } from "../vcpu/vm";
import { capability, mayBeOne } from "./capability";
import { Proc, Proc2 } from "./control";
import { Field } from "./field";
import { interceptMsr } from "./intercept";

/** What this vCPU's APIC may leave to the processor. */
export const enum ApicFeature {
  TPR_SHADOW = 1, // CR8 and TPR without exits; an exit when TPR falls below the threshold
  ACCESS_PAGE = 2, // accesses to the xAPIC page exit as APIC accesses (or are virtualised)
  REGISTERS = 4, // reads without exits, writes as APIC-write exits after the fact
  DELIVERY = 8, // virtual-interrupt delivery: RVI and SVI, EOI without exits
  X2APIC = 16, // the same for x2APIC MSRs
}

export const enum ApicMode {
  DISABLED = 0,
  XAPIC = 1,
  X2APIC = 2,
}

const X2APIC_FIRST: u32 = 0x800;
const X2APIC_TPR: u32 = 0x808;
const X2APIC_EOI: u32 = 0x80b;
const X2APIC_CURRENT_COUNT: u32 = 0x839;
const X2APIC_SELF_IPI: u32 = 0x83f;
const X2APIC_REGISTERS: u32 = 0x40;

/** The features that apply to `vcpu`: what the processor has less what the VM does without. */
export function apicFeatures(vcpu: Vcpu): u32 {
  const c = capability();
  const without = vcpu.vm.without;
  if ((vcpu.procControls & Proc.TPR_SHADOW) == 0) return 0;
  let features: u32 = ApicFeature.TPR_SHADOW;
  if (mayBeOne(c.proc2, Proc2.VIRTUALIZE_APIC_ACCESSES) && (without & Without.APIC_ACCESS) == 0)
    features |= ApicFeature.ACCESS_PAGE;
  if (
    (without & Without.APIC_REGISTERS) != 0 ||
    !mayBeOne(c.proc2, Proc2.APIC_REGISTER_VIRTUALIZATION | Proc2.VIRTUAL_INTERRUPT_DELIVERY)
  )
    return features;
  features |= ApicFeature.REGISTERS | ApicFeature.DELIVERY;
  if (mayBeOne(c.proc2, Proc2.VIRTUALIZE_X2APIC)) features |= ApicFeature.X2APIC;
  return features;
}

/**
 * The guest's APIC changed its mode (or the vCPU was created): the VMCS follows. `accessPage`: the
 * xAPIC page stands at its default address, where the EPT maps the VM's APIC-access page.
 */
export function setApicMode(vcpu: Vcpu, mode: u32, accessPage: bool): void {
  const features = apicFeatures(vcpu);
  let controls =
    vcpu.procControls2 &
    ~(
      Proc2.VIRTUALIZE_APIC_ACCESSES |
      Proc2.VIRTUALIZE_X2APIC |
      Proc2.APIC_REGISTER_VIRTUALIZATION |
      Proc2.VIRTUAL_INTERRUPT_DELIVERY
    );
  if ((features & ApicFeature.DELIVERY) != 0 && mode != ApicMode.DISABLED) controls |= Proc2.VIRTUAL_INTERRUPT_DELIVERY;
  const x2 = mode == ApicMode.X2APIC && (features & ApicFeature.X2APIC) != 0;
  const paged =
    mode == ApicMode.XAPIC && accessPage && vcpu.vm.apicAccessPa != 0 && (features & ApicFeature.ACCESS_PAGE) != 0;
  if (x2) controls |= Proc2.VIRTUALIZE_X2APIC;
  if (paged) {
    controls |= Proc2.VIRTUALIZE_APIC_ACCESSES;
    vmwrite(Field.APIC_ACCESS_ADDRESS, vcpu.vm.apicAccessPa);
  }
  if ((x2 || paged) && (features & ApicFeature.REGISTERS) != 0) controls |= Proc2.APIC_REGISTER_VIRTUALIZATION;
  vcpu.procControls2 = controls;
  vmwrite(Field.PROCESSOR_CONTROLS_2, controls);
  openX2apic(vcpu, x2);
}

/** x2APIC MSRs that the processor virtualises do not exit; all others of 800H..8FFH do. */
function openX2apic(vcpu: Vcpu, open: bool): void {
  for (let i: u32 = 0; i < X2APIC_REGISTERS; i++) {
    const msr = X2APIC_FIRST + i;
    interceptMsr(vcpu, msr, !(open && msr != X2APIC_CURRENT_COUNT && readable(i)), true);
  }
  if (!open) return;
  interceptMsr(vcpu, X2APIC_TPR, false, false);
  interceptMsr(vcpu, X2APIC_EOI, true, false);
  interceptMsr(vcpu, X2APIC_SELF_IPI, true, false);
}

/** x2APIC registers that can be read: others must #GP, which the exit takes care of. */
const READABLE: u64 = 0x43fd_01ff_ffff_a50c;
function readable(index: u32): bool {
  return ((READABLE >> <u64>index) & 1) != 0;
}

/** TPR shadow: an exit when the guest's TPR class falls below `threshold` (0..15; 0: never). */
export function setTprThreshold(vcpu: Vcpu, threshold: u32): void {
  if (threshold == vcpu.tprThreshold || (vcpu.procControls & Proc.TPR_SHADOW) == 0 || hasDelivery(vcpu)) return;
  vcpu.tprThreshold = threshold;
  vmwrite(Field.TPR_THRESHOLD, threshold);
}

/** True while the processor itself evaluates and delivers virtual interrupts. */
export function hasDelivery(vcpu: Vcpu): bool {
  return (vcpu.procControls2 & Proc2.VIRTUAL_INTERRUPT_DELIVERY) != 0;
}

/** Virtual-interrupt delivery: the highest requested (RVI) and in-service (SVI) vectors. */
export function setVirtualInterrupts(vcpu: Vcpu, rvi: u32, svi: u32): void {
  vmwrite(Field.GUEST_INTERRUPT_STATUS, rvi | (svi << 8));
}

/** RVI in bits 7:0, SVI in 15:8, as the guest left them. */
export function readVirtualInterrupts(): u32 {
  return <u32>vmread(Field.GUEST_INTERRUPT_STATUS);
}

/** EOI of a vector in `bits` (vectors 64 * word ..) exits although EOIs are virtualised. */
export function setEoiExit(word: u32, bits: u64): void {
  vmwrite(Field.EOI_EXIT_BITMAP_0 + 2 * word, bits);
}
