// Reads all that the platform needs from ACPI. Everything works without it too: one CPU, the 8259 and
// the 8254 then.

import * as platform from "../platform";
import * as cmdline from "../../kernel/lib/cmdline";
import * as log from "../../kernel/lib/log";
import { Status } from "../../kernel/lib/status";
import * as fadt from "./fadt";
import * as madt from "./madt";
import * as table from "./table";

const MCFG_FIRST: u32 = 44;
const MCFG_ENTRY_BYTES: u32 = 16;
const HPET_SPACE: u32 = 40;
const HPET_ADDRESS: u32 = 44;
const DMAR_FIRST: u32 = 48;
const DRHD: u32 = 0;

/** Fills the platform. `bootApicId`: the boot CPU's. */
export function readPlatform(bootApicId: u32): void {
  platform.clear(bootApicId);
  if (cmdline.is(cmdline.Option.ACPI, "off")) {
    log.info("acpi", "ignored, as the command line says");
    return;
  }
  if (table.discover() != Status.OK) {
    log.warn("acpi", "no ACPI tables: going on with one CPU and the legacy devices");
    return;
  }
  platform.platform().hasAcpi = 1;
  readTables();
  listTables();
}

function readTables(): void {
  const theMadt = table.find(table.Signature.MADT);
  if (changetype<usize>(theMadt)) madt.read(theMadt);
  else log.warn("acpi", "no MADT: going on with one CPU");
  const theFadt = table.find(table.Signature.FADT);
  if (changetype<usize>(theFadt)) fadt.read(theFadt);
  else log.warn("acpi", "no FADT: no PM timer and no power-off");
  const mcfg = table.find(table.Signature.MCFG);
  if (changetype<usize>(mcfg)) readMcfg(mcfg);
  const hpet = table.find(table.Signature.HPET);
  if (changetype<usize>(hpet)) readHpet(hpet);
  const dmar = table.find(table.Signature.DMAR);
  if (changetype<usize>(dmar)) readDmar(dmar);
  platform.platform().isAmdRemapping = u32(changetype<usize>(table.find(table.Signature.IVRS)) != 0);
}

/** PCI Firmware Specification, "MCFG Table Description". */
function readMcfg(mcfg: table.Table): void {
  for (let at = MCFG_FIRST; table.has(mcfg, at, MCFG_ENTRY_BYTES); at += MCFG_ENTRY_BYTES) {
    platform.addEcam(
      table.get64(mcfg, at),
      table.get16(mcfg, at + 8),
      table.get8(mcfg, at + 10),
      table.get8(mcfg, at + 11),
    );
  }
}

/** IA-PC HPET Specification, "The ACPI 2.0 HPET Description Table". */
function readHpet(hpet: table.Table): void {
  if (table.get8(hpet, HPET_SPACE) != <u32>platform.Space.MEMORY) return;
  platform.platform().hpetBase = table.get64(hpet, HPET_ADDRESS);
}

/** Intel Virtualization Technology for Directed I/O, "DMA Remapping Reporting Structure". */
function readDmar(dmar: table.Table): void {
  let at = DMAR_FIRST;
  while (table.has(dmar, at, 4)) {
    const bytes = table.get16(dmar, at + 2);
    if (bytes < 4) {
      log.warn("acpi", "DMAR has a structure of impossible length: the rest is ignored");
      return;
    }
    if (table.get16(dmar, at) == DRHD) platform.platform().remappers++;
    at += bytes;
  }
}

/** One line with the signatures of all tables. */
function listTables(): void {
  log.begin(log.Level.INFO, "acpi");
  log.str("tables");
  const count = table.count();
  for (let i: u32 = 0; i < count; i++) {
    log.str(" ");
    const signature = table.tableAt(i).signature;
    for (let shift: u32 = 0; shift < 32; shift += 8) log.char((signature >> shift) & 0xff);
  }
  log.end();
}
