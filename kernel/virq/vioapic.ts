// The guest's I/O APIC: 24 pins, each with a redirection entry. Lines are logical (asserted or not);
// the polarity bit is stored and means nothing more, because the tables describe it truthfully.
// Intel 82093AA data sheet; SDM Vol. 3, "Handling Interrupts" (EOI broadcast).

import { Status } from "../lib/status";
import { arenaAlloc, Vm, vcpuOf } from "../vcpu/vm";
import { route } from "./ipi";
import { DeliveryMode, LapicReg } from "./lapicreg";
import { Taken } from "./line";
import { lockDevices, unlockDevices } from "./lock";
import { get, vlapicOf } from "./vlapic";

export const IOAPIC_GPA: u64 = 0xfec0_0000;
export const IOAPIC_PINS: u32 = 24;

const VERSION: u32 = 0x11 | ((IOAPIC_PINS - 1) << 16);

// Redirection entry, low word.
const LOGICAL: u32 = 1 << 11;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const LOW_WRITABLE: u32 = 0x0001_afff;

@unmanaged
export class Vioapic {
  /** IOREGSEL. */
  select: u32;
  /** Register 0: the ID in bits 27..24. */
  id: u32;
  /** Bit n: pin n is asserted. */
  lines: u32;
}
const ENTRIES: usize = 16;
const BYTES: usize = ENTRIES + 8 * <usize>IOAPIC_PINS;

/** Gives the VM its I/O APIC. NO_MEMORY if the arena is full. */
export function createVioapic(vm: Vm): Status {
  const at = arenaAlloc(vm, BYTES, 8);
  if (!at) return Status.NO_MEMORY;
  vm.vioapic = at;
  resetVioapic(vm);
  return Status.OK;
}

export function resetVioapic(vm: Vm): void {
  memory.fill(vm.vioapic, 0, BYTES);
  for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) store<u32>(entryAt(vm, pin), MASKED);
}

function entryAt(vm: Vm, pin: u32): usize {
  return vm.vioapic + ENTRIES + ((<usize>pin) << 3);
}

// ---- Pins

/** Moves `pin`. The result says what a rising edge became. Under the VM's device lock. */
export function setPin(vm: Vm, pin: u32, level: bool): u32 {
  const io = changetype<Vioapic>(vm.vioapic);
  const bit: u32 = 1 << pin;
  const rising = level && !(io.lines & bit);
  io.lines = level ? io.lines | bit : io.lines & ~bit;
  if (!rising) return Taken.NO;
  const low = load<u32>(entryAt(vm, pin));
  if (low & MASKED) return Taken.NO; // an edge on a masked pin is lost, a level is found when it opens
  if (low & LEVEL && low & REMOTE_IRR) return Taken.MERGED;
  return fire(vm, pin) ? Taken.YES : Taken.MERGED;
}

/** Sends the pin's message. A level-triggered pin waits for EOI from then on. */
function fire(vm: Vm, pin: u32): bool {
  const at = entryAt(vm, pin);
  const low = load<u32>(at);
  const level = (low & LEVEL) != 0;
  const taken = route(vm, false, load<u32>(at, 4) >> 24, (low & LOGICAL) != 0, (low >> 8) & 7, low & 0xff, level);
  if (level) store<u32>(at, low | REMOTE_IRR);
  return taken;
}

/** A level-triggered pin whose line is high and whose entry is open and idle fires. */
function retrigger(vm: Vm, pin: u32): void {
  const low = load<u32>(entryAt(vm, pin));
  const asserted = (changetype<Vioapic>(vm.vioapic).lines >> pin) & 1;
  if (asserted && (low & (LEVEL | REMOTE_IRR | MASKED)) == LEVEL) fire(vm, pin);
}

/**
 * EOI of level-triggered `vector` reached the bus. Each pin with that vector may fire again: posted, so that
 * an EOI never nests into another. Takes the device lock.
 */
export function broadcastEoi(vm: Vm, vector: u32): void {
  if (!vm.vioapic) return;
  lockDevices(vm);
  for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) {
    const at = entryAt(vm, pin);
    const low = load<u32>(at);
    if ((low & 0xff) != vector || (low & (LEVEL | REMOTE_IRR)) != (LEVEL | REMOTE_IRR)) continue;
    store<u32>(at, low & ~REMOTE_IRR);
    retrigger(vm, pin);
  }
  unlockDevices(vm);
}

/** True if a pin, of this chip or LINT0 of a vCPU, is open for what RFLAGS.IF does not hold back: NMI or INIT. */
export function hasNmiSource(vm: Vm): bool {
  for (let pin: u32 = 0; vm.vioapic != 0 && pin < IOAPIC_PINS; pin++)
    if (isOpenForNmi(load<u32>(entryAt(vm, pin)))) return true;
  for (let i: u32 = 0; i < vm.vcpuCount; i++)
    if (isOpenForNmi(get(vlapicOf(vcpuOf(vm, i)), LapicReg.LVT_LINT0))) return true;
  return false;
}

/** Redirection entries and LVT entries have mask and delivery mode in the same places. */
function isOpenForNmi(low: u32): bool {
  const mode = (low >> 8) & 7;
  return (low & MASKED) == 0 && (mode == DeliveryMode.NMI || mode == DeliveryMode.INIT);
}

// ---- Registers

/** A read at `offset` in the 4 KiB page: IOREGSEL at 0, IOWIN at 10H. */
export function readVioapic(vm: Vm, offset: u32): u32 {
  const io = changetype<Vioapic>(vm.vioapic);
  if (offset == 0) return io.select;
  if (offset != 0x10) return 0;
  switch (io.select) {
    case 0:
      return io.id;
    case 1:
      return VERSION;
    case 2:
      return io.id; // arbitration ID
    default: {
      const index = io.select - 0x10;
      return index < 2 * IOAPIC_PINS ? load<u32>(entryAt(vm, 0) + ((<usize>index) << 2)) : 0;
    }
  }
}

export function writeVioapic(vm: Vm, offset: u32, value: u32): void {
  const io = changetype<Vioapic>(vm.vioapic);
  if (offset == 0) io.select = value & 0xff;
  if (offset != 0x10) return;
  const index = io.select - 0x10;
  if (io.select == 0) io.id = value & 0x0f00_0000;
  else if (index < 2 * IOAPIC_PINS) writeEntry(vm, index >> 1, (index & 1) != 0, value);
}

function writeEntry(vm: Vm, pin: u32, high: bool, value: u32): void {
  const at = entryAt(vm, pin);
  if (high) {
    store<u32>(at, value & 0xff00_0000, 4);
    return;
  }
  let low = (value & LOW_WRITABLE) | (load<u32>(at) & REMOTE_IRR);
  if (!(low & LEVEL)) low &= ~REMOTE_IRR; // the way software clears a stuck remote IRR
  store<u32>(at, low);
  retrigger(vm, pin);
}
