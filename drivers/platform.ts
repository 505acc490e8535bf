// What the machine consists of, as far as firmware tells: filled by drivers/acpi, or by fallback()
// where there is no ACPI; read by everyone who drives the machine or starts its CPUs.

import { MAX_CPUS } from "../kernel/config";
import * as log from "../kernel/lib/log";

export const MAX_IOAPICS: u32 = 32;
export const MAX_OVERRIDES: u32 = 32;
export const MAX_NMIS: u32 = 32;
export const MAX_ECAMS: u32 = 32;

/** Address spaces of a register. ACPI Specification, "Generic Address Structure". */
export const enum Space {
  MEMORY = 0,
  PORT = 1,
  PCI = 2,
  NONE = 255,
}

@unmanaged
export class Platform {
  hasAcpi: u32;
  cpuCount: u32; // cpuAt(): enabled ones, the boot CPU first
  disabledCpus: u32;
  duplicateCpus: u32;
  ioapicCount: u32;
  overrideCount: u32;
  nmiCount: u32;
  ecamCount: u32;
  lapicBase: u64; // physical, 0: as IA32_APIC_BASE says
  hasPic: u32; // 1: an 8259 pair is there and must be masked
  pmTimerSpace: u32; // Space
  pmTimerAddress: u64;
  pmTimerBits: u32; // 24 or 32
  resetSpace: u32;
  resetAddress: u64;
  resetValue: u32;
  smiCommand: u32; // port; 0: ACPI mode is on already
  acpiEnable: u32; // value for it
  pm1aControl: u32; // ports; 0: none
  pm1bControl: u32;
  isHardwareReduced: u32;
  hpetBase: u64; // 0: none
  dsdt: u64; // physical; 0: none
  dsdtBytes: u32;
  remappers: u32; // DMA remapping units that DMAR lists
  isAmdRemapping: u32; // an IVRS table is there
  pad: u32;
}

@unmanaged
export class PlatformCpu {
  apicId: u32;
  uid: u32; // the firmware's number, to which NMI entries refer
}

@unmanaged
export class PlatformIoapic {
  base: u64; // physical
  gsiBase: u32;
  id: u32;
}

/** An ISA interrupt that is wired elsewhere or otherwise than the default. */
@unmanaged
export class Override {
  source: u32; // ISA IRQ
  gsi: u32;
  flags: u32; // MPS INTI flags: bits 1:0 polarity, 3:2 trigger
}

/** A LINT pin that is an NMI. */
@unmanaged
export class LapicNmi {
  uid: u32; // ALL_CPUS: every one
  lint: u32;
  flags: u32;
}
export const ALL_CPUS: u32 = 0xffff_ffff;

/** A memory-mapped configuration space. */
@unmanaged
export class Ecam {
  base: u64;
  segment: u32;
  busStart: u32;
  busEnd: u32;
  isMapped: u32;
}

const thePlatform: usize = memory.data(160, 8);
const cpus: usize = memory.data(256 * 8, 8);
const ioapics: usize = memory.data(32 * 16, 8);
const overrides: usize = memory.data(32 * 12, 8);
const nmis: usize = memory.data(32 * 12, 8);
const ecams: usize = memory.data(32 * 24, 8);
if (offsetof<Platform>() > 160 || MAX_CPUS != 256) ERROR("platform: layout");

export function platform(): Platform {
  return changetype<Platform>(thePlatform);
}

export function cpuAt(index: u32): PlatformCpu {
  return changetype<PlatformCpu>(cpus + ((<usize>index) << 3));
}

export function ioapicAt(index: u32): PlatformIoapic {
  return changetype<PlatformIoapic>(ioapics + ((<usize>index) << 4));
}

export function overrideAt(index: u32): Override {
  return changetype<Override>(overrides + <usize>index * 12);
}

export function nmiAt(index: u32): LapicNmi {
  return changetype<LapicNmi>(nmis + <usize>index * 12);
}

export function ecamAt(index: u32): Ecam {
  return changetype<Ecam>(ecams + <usize>index * 24);
}

/** Forgets everything and notes the boot CPU as CPU 0. */
export function clear(bootApicId: u32): void {
  memory.fill(thePlatform, 0, offsetof<Platform>());
  const p = platform();
  p.hasPic = 1;
  p.pmTimerSpace = Space.NONE;
  p.resetSpace = Space.NONE;
  p.cpuCount = 1;
  cpuAt(0).apicId = bootApicId;
  cpuAt(0).uid = ALL_CPUS;
}

// ---- Adding, with the checks that firmware makes necessary

/** Adds an enabled CPU. The boot CPU is there already; duplicates are counted; more than MAX_CPUS are left out. */
export function addCpu(apicId: u32, uid: u32): void {
  const p = platform();
  for (let i: u32 = 0; i < p.cpuCount; i++) {
    if (cpuAt(i).apicId != apicId) continue;
    if (i == 0 && cpuAt(0).uid == ALL_CPUS) cpuAt(0).uid = uid;
    else p.duplicateCpus++;
    return;
  }
  if (p.cpuCount == MAX_CPUS) {
    p.disabledCpus++;
    return;
  }
  const cpu = cpuAt(p.cpuCount++);
  cpu.apicId = apicId;
  cpu.uid = uid;
}

export function addIoapic(id: u32, base: u64, gsiBase: u32): void {
  const p = platform();
  for (let i: u32 = 0; i < p.ioapicCount; i++) {
    if (ioapicAt(i).base == base || ioapicAt(i).gsiBase == gsiBase) {
      log.warn("acpi", "MADT lists an I/O APIC twice: the first counts");
      return;
    }
  }
  if (p.ioapicCount == MAX_IOAPICS || base == 0) {
    log.warn("acpi", "MADT lists an I/O APIC that cannot be used");
    return;
  }
  const ioapic = ioapicAt(p.ioapicCount++);
  ioapic.base = base;
  ioapic.gsiBase = gsiBase;
  ioapic.id = id;
}

export function addOverride(source: u32, gsi: u32, flags: u32): void {
  const p = platform();
  if (p.overrideCount == MAX_OVERRIDES || source > 15) {
    log.warn("acpi", "MADT lists an interrupt override that cannot be used");
    return;
  }
  const entry = overrideAt(p.overrideCount++);
  entry.source = source;
  entry.gsi = gsi;
  entry.flags = flags;
}

export function addNmi(uid: u32, lint: u32, flags: u32): void {
  const p = platform();
  if (p.nmiCount == MAX_NMIS || lint > 1) {
    if (lint > 1) log.warn("acpi", "MADT lists an NMI on a pin that does not exist");
    return;
  }
  const nmi = nmiAt(p.nmiCount++);
  nmi.uid = uid;
  nmi.lint = lint;
  nmi.flags = flags;
}

export function addEcam(base: u64, segment: u32, busStart: u32, busEnd: u32): void {
  const p = platform();
  if (base == 0 || busStart > busEnd || p.ecamCount == MAX_ECAMS) {
    log.warn("acpi", "MCFG lists a configuration space that cannot be used");
    return;
  }
  const ecam = ecamAt(p.ecamCount++);
  ecam.base = base;
  ecam.segment = segment;
  ecam.busStart = busStart;
  ecam.busEnd = busEnd;
  ecam.isMapped = 0;
}

// ---- Report

export function report(): void {
  const p = platform();
  log.begin(log.Level.INFO, "platform");
  log.str(p.hasAcpi ? "ACPI" : "no ACPI");
  log.str(", CPUs ");
  log.dec(p.cpuCount);
  if (p.disabledCpus) {
    log.str(" (and disabled: ");
    log.dec(p.disabledCpus);
    log.str(")");
  }
  log.str(", I/O APICs ");
  log.dec(p.ioapicCount);
  if (p.hasPic) log.str(", 8259");
  if (p.hpetBase) log.str(", HPET");
  if (p.pmTimerSpace != Space.NONE) log.str(", PM timer");
  if (p.ecamCount) log.str(", ECAM");
  if (p.remappers || p.isAmdRemapping) log.str(", IOMMU");
  log.end();
  if (p.duplicateCpus) log.warn("acpi", "MADT lists a CPU twice: the first entry counts");
  for (let i: u32 = 0; i < p.ioapicCount; i++) reportIoapic(ioapicAt(i));
}

function reportIoapic(ioapic: PlatformIoapic): void {
  log.begin(log.Level.DEBUG, "platform");
  log.str("I/O APIC ");
  log.dec(ioapic.id);
  log.str(" at ");
  log.hex(ioapic.base);
  log.str(", interrupts from ");
  log.dec(ioapic.gsiBase);
  log.end();
}
