// The I/O APICs: each input (global system interrupt) is masked until a driver routes it to a vector
// and a CPU. ISA interrupts go through the firmware's overrides.
// "82093AA I/O Advanced Programmable Interrupt Controller", Intel, and ACPI Specification, "Interrupt
// Source Override Structure".

import { deviceload32, devicestore32 } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import * as platform from "./platform";

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10; // two registers an input
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const MOST_DESTINATION: u32 = 254; // eight bits, 255 is everyone: more needs interrupt remapping

/** Inputs of each I/O APIC, by its number in the platform; 0: not usable. */
const inputs: usize = memory.data(32 * 4, 4); // written at boot

/** Trigger and polarity as the MADT writes them: bits 1:0 polarity, 3:2 trigger. */
export const enum Inti {
  ACTIVE_HIGH = 1,
  ACTIVE_LOW = 3,
  EDGE = 1 << 2,
  LEVEL = 3 << 2,
}

/** Maps and masks them all. */
export function start(): void {
  const count = platform.platform().ioapicCount;
  for (let i: u32 = 0; i < count; i++) store<u32>(inputs + ((<usize>i) << 2), startOne(platform.ioapicAt(i).base));
}

/** Masks every input of one and returns how many it has; 0 if it cannot be used. */
function startOne(base: u64): u32 {
  if (mapDevice(base & ~(<u64>4095), 0x1000) != Status.OK) return unusable(base);
  const version = read(base, VERSION);
  if (version == 0xffff_ffff) return unusable(base);
  const count = ((version >> 16) & 0xff) + 1;
  for (let i: u32 = 0; i < count; i++) write(base, REDIRECTION + 2 * i, MASKED);
  return count;
}

function unusable(base: u64): u32 {
  log.begin(log.Level.WARN, "ioapic");
  log.str("nothing answers at ");
  log.hex(base);
  log.end();
  return 0;
}

function read(base: u64, register: u32): u32 {
  devicestore32(base + IOREGSEL, register);
  return deviceload32(base + IOWIN);
}

function write(base: u64, register: u32, value: u32): void {
  devicestore32(base + IOREGSEL, register);
  devicestore32(base + IOWIN, value);
}

/** Number of the I/O APIC that has input `gsi`, or -1. */
function ownerOf(gsi: u32): i32 {
  const count = platform.platform().ioapicCount;
  for (let i: u32 = 0; i < count; i++) {
    if (gsi - platform.ioapicAt(i).gsiBase < load<u32>(inputs + ((<usize>i) << 2))) return <i32>i;
  }
  return -1;
}

/**
 * Routes ISA interrupt `irq` to `vector` on the CPU with `apicId`, and unmasks it.
 * NOT_FOUND if no I/O APIC has the input; UNSUPPORTED if the APIC ID does not fit.
 */
export function routeIsa(irq: u32, vector: u32, apicId: u32): Status {
  const p = platform.platform();
  for (let i: u32 = 0; i < p.overrideCount; i++) {
    const entry = platform.overrideAt(i);
    if (entry.source == irq) return route(entry.gsi, vector, apicId, isaFlags(entry.flags));
  }
  return route(irq, vector, apicId, Inti.ACTIVE_HIGH | Inti.EDGE);
}

/** "Conforms to the bus" means active high and edge on ISA. */
function isaFlags(flags: u32): u32 {
  const polarity: u32 = flags & 3 ? flags & 3 : Inti.ACTIVE_HIGH;
  const trigger: u32 = flags & 12 ? flags & 12 : Inti.EDGE;
  return polarity | trigger;
}

/** Routes input `gsi`; `flags`: Inti. Failures as for routeIsa(). */
export function route(gsi: u32, vector: u32, apicId: u32, flags: u32): Status {
  const owner = ownerOf(gsi);
  if (owner < 0) return Status.NOT_FOUND;
  if (apicId > MOST_DESTINATION) return Status.UNSUPPORTED;
  const ioapic = platform.ioapicAt(owner);
  const register = REDIRECTION + 2 * (gsi - ioapic.gsiBase);
  let low = vector;
  if ((flags & 12) == <u32>Inti.LEVEL) low |= LEVEL;
  if ((flags & 3) == <u32>Inti.ACTIVE_LOW) low |= ACTIVE_LOW;
  // Masked first: both halves belong together.
  write(ioapic.base, register, MASKED);
  write(ioapic.base, register + 1, apicId << 24);
  write(ioapic.base, register, low);
  return Status.OK;
}

/** Masks input `gsi`; nothing happens if there is none. */
export function mask(gsi: u32): void {
  const owner = ownerOf(gsi);
  if (owner < 0) return;
  const ioapic = platform.ioapicAt(owner);
  write(ioapic.base, REDIRECTION + 2 * (gsi - ioapic.gsiBase), MASKED);
}
