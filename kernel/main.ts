// The order in which the machine comes up, a call a line, and the entry points for boot/*.asm.

import { readPlatform } from "../drivers/acpi/acpi";
import { bootInfo } from "../drivers/bootinfo";
import { readBootInfo } from "../drivers/bootload";
import { calibrate } from "../drivers/calibrate";
import { readClock } from "../drivers/cmos";
import * as console from "../drivers/console";
import { fatal, injectAsked } from "../drivers/fault";
import * as ioapic from "../drivers/ioapic";
import * as irq from "../drivers/irq";
import * as lapic from "../drivers/lapic";
import * as pci from "../drivers/pci";
import * as pic from "../drivers/pic";
import { idleLoop } from "./boot/idle";
import { refuseTrapped, startGuests, startRest } from "./boot/guests";
import { isMakingGuest } from "./boot/making";
import { startMemory } from "./boot/memory";
import { reportMachine } from "./boot/report";
import { adoptBootCpu, joinCpu, startCpus } from "./boot/smp";
import { idByCpuid } from "./cpu/apic";
import { setControls } from "./cpu/control";
import { detectFeatures } from "./cpu/feature";
import { rdtsc } from "./cpu/insn";
import { chooseMitigations, MitigationMode } from "./cpu/mitigation";
import { CpuState, cpu, initBlock, offer, scratch } from "./cpu/percpu";
import * as tsc from "./cpu/tsc";
import * as cmdline from "./lib/cmdline";
import * as log from "./lib/log";
import { detectMemoryTypes } from "./mm/memtype";
import { setTimeOfDay } from "./vdev/walltime";
import { contain } from "./vm/contain";

export { onException, onMachineCheck, onNmi } from "../drivers/fault";
export { idleLoop } from "./boot/idle";

/** boot/entry.asm: the boot CPU, on the boot page tables and its main stack. Never returns. */
export function kmain(magic: u32, info: u64): void {
  const scratchPad = scratch();
  initBlock(0, idByCpuid(scratchPad));
  offer(0, CpuState.STARTING, CpuState.ONLINE);
  detectFeatures(scratchPad);
  const loader = readBootInfo(magic, info);
  cmdline.parse(bootInfo().commandLine, bootInfo().commandLineBytes);
  console.open();
  log.info("basalt", "a hypervisor for x86-64");
  if (loader) fatal("boot", "cannot go on without a memory map");
  if (startMemory()) fatal("memory", "cannot go on without page tables");
  setControls();
  detectMemoryTypes();
  if (adoptBootCpu()) fatal("memory", "no frame for the descriptor tables");
  console.openMapped();
  readPlatform(idByCpuid(scratchPad));
  pic.disable();
  if (lapic.start()) fatal("lapic", "this machine has no local APIC");
  ioapic.start();
  calibrate();
  setTimeOfDay(readClock(), rdtsc());
  lapic.chooseTimer();
  startCpus();
  pci.start();
  irq.startUart(0, idByCpuid(scratchPad));
  reportMachine();
  reportBringUp(rdtsc() - cpu().entryTsc);
  injectAsked(0);
  chooseMitigations(mitigationMode());
  startGuests();
  idleLoop();
}

/** boot/trampoline.asm: a further CPU, on the core's page tables and its main stack. Never returns. */
export function apmain(cpu: u32): void {
  joinCpu(cpu);
  idleLoop();
}

/** boot/vectors.asm: an external interrupt, taken in root mode. */
export function onInterrupt(vector: u32): void {
  irq.dispatch(vector);
}

/** boot/routines.asm: after `unwind`, on an empty main stack. */
export function onTrap(kind: u32): void {
  if (isMakingGuest()) {
    if (refuseTrapped()) {
      startRest();
      idleLoop();
    }
  } else if (contain(kind)) {
    idleLoop();
  }
  log.begin(log.Level.ERROR, "trap");
  log.str("kind ");
  log.dec(kind);
  log.str(" outside of any guest's business");
  log.end();
  fatal("trap", "the core is broken");
}

/** What the bring-up cost, in TSC ticks; waits for devices and delays apart. */
function reportBringUp(ticks: u64): void {
  log.begin(log.Level.INFO, "boot");
  log.str("bring-up took ");
  log.dec(ticks - tsc.waitedTicks());
  log.str(" ticks, and waited ");
  log.dec(tsc.waitedTicks());
  log.end();
}

function mitigationMode(): MitigationMode {
  if (cmdline.is(cmdline.Option.MITIGATIONS, "off")) return MitigationMode.OFF;
  return cmdline.is(cmdline.Option.MITIGATIONS, "software") ? MitigationMode.SOFTWARE : MitigationMode.AUTO;
}
