// Sets each CPU's local APIC up: xAPIC or x2APIC, the local vectors, and the timer's hardware.
// Intel SDM Vol. 3, "Advanced Programmable Interrupt Controller (APIC)".

import * as apic from "../kernel/cpu/apic";
import { Feature, has } from "../kernel/cpu/feature";
import * as timer from "../kernel/cpu/timer";
import * as tsc from "../kernel/cpu/tsc";
import { Vector } from "../kernel/cpu/vector";
import * as cmdline from "../kernel/lib/cmdline";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import * as platform from "./platform";

const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_16: u32 = 3;
const CALIBRATION_MICROSECONDS: u64 = 10_000;

const scratch: usize = memory.data(16, 8); // [boot CPU only]

/** Chooses the mode for all CPUs and brings the boot CPU's APIC up. UNSUPPORTED if there is no local APIC. */
export function start(): Status {
  const base = apic.readBase();
  const pa = base & apic.APIC_BASE_ADDRESS;
  const x2 = useX2apic(base);
  if (!x2 && mapDevice(pa, 0x1000) != Status.OK) return Status.UNSUPPORTED;
  apic.setMode(x2, pa);
  startCpu();
  log.begin(log.Level.INFO, "lapic");
  log.str(x2 ? "x2APIC" : "xAPIC at ");
  if (!x2) log.hex(pa);
  log.str(", version ");
  log.hex(apic.read(apic.Reg.VERSION) & 0xff);
  log.str(", boot CPU has ID ");
  log.dec(apic.ownId());
  log.end();
  return Status.OK;
}

/** x2APIC where the processor has it, unless the command line forbids it and firmware did not insist. */
function useX2apic(base: u64): bool {
  const isOn = (base & apic.APIC_BASE_EXTD) != 0;
  if (!cmdline.is(cmdline.Option.APIC, "xapic")) return has(Feature.X2APIC) || isOn;
  if (isOn && apic.isX2apicLocked(scratch)) {
    log.warn("lapic", "firmware has locked x2APIC on: apic=xapic is ignored");
    return true;
  }
  return false;
}

/** Brings this CPU's APIC into the chosen mode with every local source masked but NMI pins. On every CPU. */
export function startCpu(): void {
  enterMode();
  apic.write(apic.Reg.TPR, 0);
  if (!apic.isX2apic()) apic.write(apic.Reg.DFR, 0xffff_ffff);
  apic.write(apic.Reg.SVR, SVR_ENABLE | <u32>Vector.SPURIOUS);
  const last = (apic.read(apic.Reg.VERSION) >> 16) & 0xff;
  apic.write(apic.Reg.LVT_TIMER, LVT_MASKED);
  apic.write(apic.Reg.LVT_LINT0, LVT_MASKED);
  apic.write(apic.Reg.LVT_LINT1, LVT_MASKED);
  if (last >= 4) apic.write(apic.Reg.LVT_PMI, LVT_MASKED);
  if (last >= 5) apic.write(apic.Reg.LVT_THERMAL, LVT_MASKED);
  if (last >= 6) apic.write(apic.Reg.LVT_CMCI, LVT_MASKED);
  wireNmis();
  clearErrors();
  apic.write(apic.Reg.LVT_ERROR, <u32>Vector.ERROR);
  dropStale();
  startTimer();
}

/**
 * The transitions that the manual allows: disabled to xAPIC to x2APIC; x2APIC to disabled to xAPIC.
 */
function enterMode(): void {
  const base = apic.readBase();
  const mode = apic.APIC_BASE_EN | apic.APIC_BASE_EXTD;
  const wanted = apic.isX2apic() ? mode : apic.APIC_BASE_EN;
  if ((base & mode) == wanted) return;
  if (base & apic.APIC_BASE_EXTD) apic.writeBase(base & ~mode);
  if ((base & mode) != apic.APIC_BASE_EN) apic.writeBase((base & ~mode) | apic.APIC_BASE_EN);
  if (apic.isX2apic()) apic.writeBase((base & ~mode) | mode);
}

/** The pins that firmware says are NMIs; LINT1 if it says nothing. */
function wireNmis(): void {
  const p = platform.platform();
  const own = uidOf(apic.ownId());
  let any = false;
  for (let i: u32 = 0; i < p.nmiCount; i++) {
    const nmi = platform.nmiAt(i);
    if (nmi.uid != platform.ALL_CPUS && nmi.uid != own) continue;
    // NMIs are edge-triggered whatever the flags say; the polarity bit is 13.
    const low: u32 = (nmi.flags & 3) == 3 ? 1 << 13 : 0;
    apic.write(nmi.lint ? apic.Reg.LVT_LINT1 : apic.Reg.LVT_LINT0, LVT_NMI | low);
    any = true;
  }
  if (!any) apic.write(apic.Reg.LVT_LINT1, LVT_NMI);
}

function uidOf(apicId: u32): u32 {
  const count = platform.platform().cpuCount;
  for (let i: u32 = 0; i < count; i++) if (platform.cpuAt(i).apicId == apicId) return platform.cpuAt(i).uid;
  return platform.ALL_CPUS;
}

/** The error status latches on a write; the second write clears what the first one showed. */
function clearErrors(): void {
  apic.write(apic.Reg.ESR, 0);
  apic.write(apic.Reg.ESR, 0);
}

/** Ends interrupts that firmware left in service: at most one a vector. */
function dropStale(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let any: u32 = 0;
    for (let r: u32 = 0; r < 8; r++) any |= apic.read(<apic.Reg>(<u32>apic.Reg.ISR + (r << 4)));
    if (any == 0) return;
    apic.eoi();
  }
}

/** Points the timer at its vector in the mode that chooseTimer() found. */
function startTimer(): void {
  if (timer.modeOf() == timer.TimerMode.TSC_DEADLINE) {
    apic.write(apic.Reg.LVT_TIMER, LVT_TSC_DEADLINE | <u32>Vector.TIMER);
    // In xAPIC mode the store must be seen before IA32_TSC_DEADLINE is written: see "TSC-Deadline Mode".
    apic.fence();
  } else if (timer.modeOf() == timer.TimerMode.ONE_SHOT) {
    apic.write(apic.Reg.DIVIDE, DIVIDE_BY_16);
    apic.write(apic.Reg.LVT_TIMER, <u32>Vector.TIMER);
  }
}

/** Chooses and starts the timer hardware of the boot CPU, once the TSC is calibrated; further CPUs follow in startCpu(). */
export function chooseTimer(): void {
  if (has(Feature.TSC_DEADLINE) && !cmdline.is(cmdline.Option.TIMER, "oneshot")) {
    timer.setMode(timer.TimerMode.TSC_DEADLINE, 0);
    log.info("timer", "TSC deadline");
  } else {
    const fraction = calibrate();
    timer.setMode(fraction ? timer.TimerMode.ONE_SHOT : timer.TimerMode.NONE, fraction);
    if (fraction) log.info("timer", "local APIC, one shot");
    else log.error("timer", "the local APIC's timer does not count: deadlines are polled");
  }
  startTimer();
}

/** APIC timer counts (divided by 16) per TSC tick, as a fraction of 2^64; 0 if the timer stands still or is too fast. */
function calibrate(): u64 {
  apic.write(apic.Reg.DIVIDE, DIVIDE_BY_16);
  apic.write(apic.Reg.LVT_TIMER, LVT_MASKED);
  apic.write(apic.Reg.INITIAL_COUNT, 0xffff_ffff);
  const since = tsc.now();
  tsc.delay(CALIBRATION_MICROSECONDS);
  const counts: u64 = 0xffff_ffff - apic.read(apic.Reg.CURRENT_COUNT);
  const ticks = tsc.now() - since;
  apic.write(apic.Reg.INITIAL_COUNT, 0);
  return tsc.fractionOf(counts, ticks);
}

/** The error interrupt: which errors since the last. */
export function takeErrors(): u32 {
  apic.write(apic.Reg.ESR, 0);
  return apic.read(apic.Reg.ESR);
}
