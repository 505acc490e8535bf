// The MADT: CPUs, I/O APICs, and how interrupts are wired.
// ACPI Specification, "Multiple APIC Description Table (MADT)".

import * as platform from "../platform";
import * as log from "../../kernel/lib/log";
import * as table from "./table";

const enum Entry {
  LOCAL_APIC = 0,
  IO_APIC = 1,
  OVERRIDE = 2,
  LOCAL_APIC_NMI = 4,
  LOCAL_APIC_ADDRESS = 5,
  LOCAL_X2APIC = 9,
  LOCAL_X2APIC_NMI = 10,
}

const FIRST_ENTRY: u32 = 44;
const LAPIC_ADDRESS: u32 = 36;
const FLAGS: u32 = 40;
const PCAT_COMPAT: u32 = 1;
const ENABLED: u32 = 1;
const NO_APIC_ID: u32 = 0xffff_ffff;

export function read(madt: table.Table): void {
  const p = platform.platform();
  p.lapicBase = table.get32(madt, LAPIC_ADDRESS);
  p.hasPic = table.get32(madt, FLAGS) & PCAT_COMPAT;
  let at = FIRST_ENTRY;
  while (table.has(madt, at, 2)) {
    const bytes = table.get8(madt, at + 1);
    if (bytes < 2 || !table.has(madt, at, bytes)) {
      log.warn("acpi", "MADT has an entry of impossible length: the rest is ignored");
      return;
    }
    readEntry(madt, at, bytes);
    at += bytes;
  }
}

function readEntry(madt: table.Table, at: u32, bytes: u32): void {
  const type = table.get8(madt, at);
  if (bytes < leastBytes(type)) {
    log.warn("acpi", "MADT has an entry that is too short: ignored");
    return;
  }
  switch (type) {
    case Entry.LOCAL_APIC:
      addCpu(table.get8(madt, at + 3), table.get8(madt, at + 2), table.get32(madt, at + 4));
      break;
    case Entry.LOCAL_X2APIC:
      addCpu(table.get32(madt, at + 4), table.get32(madt, at + 12), table.get32(madt, at + 8));
      break;
    case Entry.IO_APIC:
      platform.addIoapic(table.get8(madt, at + 2), table.get32(madt, at + 4), table.get32(madt, at + 8));
      break;
    case Entry.OVERRIDE:
      platform.addOverride(table.get8(madt, at + 3), table.get32(madt, at + 4), table.get16(madt, at + 8));
      break;
    case Entry.LOCAL_APIC_NMI:
      addNmi(table.get8(madt, at + 2), 0xff, table.get8(madt, at + 5), table.get16(madt, at + 3));
      break;
    case Entry.LOCAL_X2APIC_NMI:
      addNmi(table.get32(madt, at + 4), 0xffff_ffff, table.get8(madt, at + 8), table.get16(madt, at + 2));
      break;
    case Entry.LOCAL_APIC_ADDRESS:
      platform.platform().lapicBase = table.get64(madt, at + 4);
      break;
    default:
      break;
  }
}

/** The length that an entry needs to hold what is read of it. */
function leastBytes(type: u32): u32 {
  switch (type) {
    case Entry.LOCAL_APIC:
      return 8;
    case Entry.IO_APIC:
      return 12;
    case Entry.OVERRIDE:
      return 10;
    case Entry.LOCAL_APIC_NMI:
      return 6;
    case Entry.LOCAL_APIC_ADDRESS:
      return 12;
    case Entry.LOCAL_X2APIC:
      return 16;
    case Entry.LOCAL_X2APIC_NMI:
      return 12;
    default:
      return 2;
  }
}

/** ID FFH is the broadcast address of the xAPIC: firmware uses it for slots that are empty. */
function addCpu(apicId: u32, uid: u32, flags: u32): void {
  if (!(flags & ENABLED) || apicId == NO_APIC_ID) platform.platform().disabledCpus++;
  else platform.addCpu(apicId, uid);
}

function addNmi(uid: u32, all: u32, lint: u32, flags: u32): void {
  platform.addNmi(uid == all ? platform.ALL_CPUS : uid, lint, flags);
}
