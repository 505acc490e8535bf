// The one place where interrupts enter a guest, just before entry. Order of priority: the exception or
// the event whose delivery an exit interrupted, NMI (both by vendor.injectEvents), the 8259's ExtINT, then
// the local APIC. What cannot go in now asks for an exit at the moment when it can: an interrupt
// window, or a TPR threshold. Intel SDM Vol. 3, "Priority Among Concurrent Events".

import { clearPending, Pending } from "../vcpu/event";
import { Vcpu } from "../vcpu/vcpu";
import {
  canTakeInterrupt,
  injectEvents,
  injectInterrupt,
  readVirtualInterrupts,
  requestInterruptWindow,
  setEoiExit,
  setTprThreshold,
  setVirtualInterrupts,
} from "../vendor";
import { LapicReg } from "./lapicreg";
import { lockDevices, unlockDevices } from "./lock";
import {
  acceptsExtInt,
  acknowledge,
  highest,
  isSoftwareEnabled,
  nextVector,
  sync,
  tprThreshold,
  Vlapic,
  vlapicOf,
} from "./vlapic";
import { acknowledgePic, picOutput } from "./vpic";

/** Puts the next event into the entry and arms what makes the ones after it come. The vCPU is loaded. */
export function deliver(vcpu: Vcpu): void {
  // Cleared first: what is posted from here on sets it again.
  clearPending(vcpu, Pending.INTERRUPT | Pending.CONTROLS);
  const v = vlapicOf(vcpu);
  sync(v); // before NMIs are looked at: an interrupt that was sent behind an NMI must not go in first
  const taken = injectEvents(vcpu);
  if (v.hardwareDelivery) deliverByHardware(vcpu, v, taken);
  else deliverByInjection(vcpu, v, taken);
}

/** True if an interrupt would be delivered to `vcpu` if it allowed interrupts: what ends a HLT. */
export function hasInterrupt(vcpu: Vcpu): bool {
  const v = vlapicOf(vcpu);
  sync(v);
  return nextVector(v) >= 0 || wantsExtInt(vcpu, v);
}

function wantsExtInt(vcpu: Vcpu, v: Vlapic): bool {
  if (atomic.load<u32>(changetype<usize>(v) + offsetof<Vlapic>("extInt"))) return true;
  return vcpu.index == 0 && vcpu.vm.vpic != 0 && picOutput(vcpu.vm) && acceptsExtInt(v);
}

function deliverByInjection(vcpu: Vcpu, v: Vlapic, taken: bool): void {
  const ext = wantsExtInt(vcpu, v);
  const vector = nextVector(v);
  requestInterruptWindow(vcpu, (ext || vector >= 0) && !inject(vcpu, v, ext, vector, taken));
  setTprThreshold(vcpu, tprThreshold(v));
}

/** Injects one of what waits. True if nothing is left that TPR and what is in service would let in. */
function inject(vcpu: Vcpu, v: Vlapic, ext: bool, vector: i32, taken: bool): bool {
  if (taken || !canTakeInterrupt(vcpu)) return false;
  if (ext) {
    injectExtInt(vcpu, v);
    return vector < 0 && !wantsExtInt(vcpu, v);
  }
  acknowledge(v, <u32>vector); // the highest: all others are of its class or below
  injectInterrupt(vcpu, <u32>vector);
  return true;
}

/**
 * The processor picks and delivers from the virtual-APIC page itself; only ExtINT is injected. It keeps RVI and SVI by itself
 * too: a new request raises RVI at most.
 */
function deliverByHardware(vcpu: Vcpu, v: Vlapic, taken: bool): void {
  let ext = wantsExtInt(vcpu, v);
  if (ext && !taken && canTakeInterrupt(vcpu)) {
    injectExtInt(vcpu, v);
    ext = wantsExtInt(vcpu, v);
  }
  requestInterruptWindow(vcpu, ext);
  if (v.eoiBitmapStale) writeEoiBitmap(v);
  if (v.statusStale) computeStatus(vcpu, v);
  else if (v.newest != 0) raiseStatus(vcpu, v);
  v.newest = 0;
}

function computeStatus(vcpu: Vcpu, v: Vlapic): void {
  v.statusStale = 0;
  const request = isSoftwareEnabled(v) ? highest(v, LapicReg.IRR) : -1;
  const serving = highest(v, LapicReg.ISR);
  setVirtualInterrupts(vcpu, request < 0 ? 0 : <u32>request, serving < 0 ? 0 : <u32>serving);
}

function raiseStatus(vcpu: Vcpu, v: Vlapic): void {
  const status = readVirtualInterrupts();
  if (v.newest > (status & 0xff) && isSoftwareEnabled(v)) setVirtualInterrupts(vcpu, v.newest, status >> 8);
}

function injectExtInt(vcpu: Vcpu, v: Vlapic): void {
  atomic.store<u32>(changetype<usize>(v) + offsetof<Vlapic>("extInt"), 0);
  lockDevices(vcpu.vm);
  const vector = acknowledgePic(vcpu.vm);
  unlockDevices(vcpu.vm);
  injectInterrupt(vcpu, vector);
}

/** Only level-triggered vectors need an exit at EOI: the I/O APIC waits for it. */
function writeEoiBitmap(v: Vlapic): void {
  v.eoiBitmapStale = 0;
  for (let word: u32 = 0; word < 4; word++) {
    const tmr = v.page + LapicReg.TMR + ((<usize>word) << 5);
    setEoiExit(word, <u64>load<u32>(tmr) | ((<u64>load<u32>(tmr, 16)) << 32));
  }
}
