// What the machine is, as lines of the log: the same ones on every platform.

import * as boot from "../../drivers/bootinfo";
import * as pci from "../../drivers/pci";
import * as platform from "../../drivers/platform";
import { logBrand } from "../cpu/brand";
import * as feature from "../cpu/feature";
import { Feature, has } from "../cpu/feature";
import { onlineCount, scratch } from "../cpu/percpu";
import * as tsc from "../cpu/tsc";
import * as log from "../lib/log";
import { reportMemory } from "./memory";
import { missingCount } from "./smp";

/** Features that decide how the core works, by the manual's names. */
const FEATURES: usize = memory.data<i32>([
  Feature.NX,
  Feature.PDPE1GB,
  Feature.SMEP,
  Feature.SMAP,
  Feature.UMIP,
  Feature.X2APIC,
  Feature.TSC_DEADLINE,
  Feature.XSAVE,
  Feature.PCID,
  Feature.RDRAND,
  Feature.VMX,
]);
const FEATURE_NAMES: StaticArray<string> = [
  "NX",
  "1G-pages",
  "SMEP",
  "SMAP",
  "UMIP",
  "x2APIC",
  "TSC-deadline",
  "XSAVE",
  "PCID",
  "RDRAND",
  "VMX",
];

export function reportMachine(): void {
  boot.report();
  reportMemory();
  reportProcessor();
  platform.report();
  pci.report();
  reportCpus();
}

function reportProcessor(): void {
  log.begin(log.Level.INFO, "cpu");
  logBrand();
  log.str(" (family ");
  log.dec(feature.family());
  log.str(", model ");
  log.hex(feature.model());
  log.str(", stepping ");
  log.dec(feature.stepping());
  log.str("), ");
  log.dec(feature.physBits());
  log.str(" address bits");
  log.end();
  log.begin(log.Level.INFO, "cpu");
  log.str("features:");
  for (let i: u32 = 0; i < <u32>FEATURE_NAMES.length; i++) {
    if (!has(<Feature>load<i32>(FEATURES + ((<usize>i) << 2)))) continue;
    log.str(" ");
    log.str(unchecked(FEATURE_NAMES[i]));
  }
  log.end();
}

function reportCpus(): void {
  log.begin(log.Level.INFO, "smp");
  log.str("CPUs online: ");
  log.dec(onlineCount());
  if (missingCount()) {
    log.str(", failed: ");
    log.dec(missingCount());
  }
  log.str(", TSC ");
  log.dec(tsc.tscKhz());
  log.str(" kHz");
  if (tsc.isInvariant(scratch())) log.str(", invariant");
  log.end();
}
