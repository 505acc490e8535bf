// Interprocessor interrupts and interrupt messages: who is addressed, and what arrives there.
// Intel SDM Vol. 3, "Issuing Interprocessor Interrupts" and "Determining IPI Destination".

import { Vm, vcpuOf } from "../vcpu/vm";
import { DeliveryMode, ICR_ASSERT, ICR_LEVEL, ICR_LOGICAL, LapicError, LapicReg, Shorthand } from "./lapicreg";
import {
  accept,
  acceptMessage,
  acceptSipi,
  get,
  isEnabled,
  isSoftwareEnabled,
  isX2apic,
  processorPriority,
  raiseError,
  Vlapic,
  vlapicOf,
} from "./vlapic";

const BROADCAST_8: u32 = 0xff;
const BROADCAST_32: u32 = 0xffff_ffff;

/**
 * A write to ICR. `low`: ICR bits 31..0; `destination`: 8 bits in xAPIC mode, 32 in x2APIC mode.
 * Fixed IPIs are edge-triggered whatever the trigger bit says.
 */
export function sendIpi(sender: Vlapic, low: u32, destination: u32): void {
  const mode = (low >> 8) & 7;
  const vector = low & 0xff;
  if (mode == DeliveryMode.INIT && (low & (ICR_LEVEL | ICR_ASSERT)) == ICR_LEVEL) return; // level de-assert: nothing
  if ((mode == DeliveryMode.FIXED || mode == DeliveryMode.LOWEST) && vector < 16) {
    raiseError(sender, LapicError.SEND_ILLEGAL_VECTOR);
    return;
  }
  switch ((low >> 18) & 3) {
    case Shorthand.SELF:
      deliverTo(sender, mode, vector, false);
      break;
    case Shorthand.ALL:
      broadcast(sender, mode, vector, true);
      break;
    case Shorthand.OTHERS:
      broadcast(sender, mode, vector, false);
      break;
    default:
      route(sender.vcpu.vm, isX2apic(sender), destination, (low & ICR_LOGICAL) != 0, mode, vector, false);
  }
}

/**
 * One IPI to each vCPU whose APIC ID is `first` + n, n the bits of `high`:`low`; ICR bits as in `icr`. Returns
 * how many took it as a new request. What an ICR cannot send so (a vector below 16, SIPI) goes to nobody.
 */
export function sendIpiToSet(vm: Vm, low: u64, high: u64, first: u32, icr: u32): u32 {
  const mode = (icr >> 8) & 7;
  const vector = icr & 0xff;
  if (mode != DeliveryMode.NMI && (mode != DeliveryMode.FIXED || vector < 16)) return 0;
  let taken: u32 = 0;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const v = vlapicOf(vcpuOf(vm, i));
    const bit = v.id - first;
    if (v.id < first || bit >= 128) continue;
    if (((bit < 64 ? low >> bit : high >> (bit - 64)) & 1) == 0) continue;
    if (deliverTo(v, mode, vector, false)) taken++;
  }
  return taken;
}

/** An ExtINT or lowest-priority broadcast is delivered like a fixed one to each. */
function broadcast(sender: Vlapic, mode: u32, vector: u32, self: bool): void {
  const vm = sender.vcpu.vm;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const v = vlapicOf(vcpuOf(vm, i));
    if (self || v != sender) deliverTo(v, mode, vector, false);
  }
}

/**
 * A message from an ICR (`wide`: 32-bit destination), the I/O APIC or an MSI (8-bit destination). False if
 * no APIC took it as a new request: nobody is addressed, or it merged with one that waits.
 */
export function route(vm: Vm, wide: bool, destination: u32, logical: bool, mode: u32, vector: u32, level: bool): bool {
  if (mode == DeliveryMode.LOWEST) {
    const v = arbitrate(vm, wide, destination, logical);
    return v ? deliverTo(changetype<Vlapic>(v), DeliveryMode.FIXED, vector, level) : false;
  }
  let taken = false;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const v = vlapicOf(vcpuOf(vm, i));
    if (isAddressed(v, wide, destination, logical) && deliverTo(v, mode, vector, level)) taken = true;
  }
  return taken;
}

function deliverTo(v: Vlapic, mode: u32, vector: u32, level: bool): bool {
  if (!isEnabled(v) && mode != DeliveryMode.INIT && mode != DeliveryMode.SIPI) return false;
  switch (mode) {
    case DeliveryMode.FIXED:
    case DeliveryMode.LOWEST:
      return accept(v, vector, level);
    case DeliveryMode.SIPI:
      acceptSipi(v, vector);
      return true;
    default:
      acceptMessage(v, mode);
      return true;
  }
}

/** Lowest priority: the addressed APIC with the lowest processor priority takes it; 0 if there is none. */
function arbitrate(vm: Vm, wide: bool, destination: u32, logical: bool): usize {
  let best: usize = 0;
  let bestPriority: u32 = 256;
  for (let i: u32 = 0; i < vm.vcpuCount; i++) {
    const v = vlapicOf(vcpuOf(vm, i));
    if (!isSoftwareEnabled(v) || !isAddressed(v, wide, destination, logical)) continue;
    const priority = processorPriority(v);
    if (priority >= bestPriority) continue;
    best = changetype<usize>(v);
    bestPriority = priority;
  }
  return best;
}

/** True if `v` is addressed. An 8-bit FFH and a 32-bit FFFFFFFFH address everyone. */
export function isAddressed(v: Vlapic, wide: bool, destination: u32, logical: bool): bool {
  if (destination == (wide ? BROADCAST_32 : BROADCAST_8)) return true;
  if (!logical) return destination == v.id;
  const ldr = get(v, LapicReg.LDR);
  if (isX2apic(v)) return ldr >> 16 == destination >> 16 && (ldr & destination & 0xffff) != 0;
  if (destination > BROADCAST_8) return false;
  const logicalId = ldr >> 24;
  // Flat model: a bit mask. Cluster model: cluster in the high half, mask in the low half.
  if (get(v, LapicReg.DFR) >> 28 == 15) return (logicalId & destination) != 0;
  return logicalId >> 4 == destination >> 4 && (logicalId & destination & 15) != 0;
}
