// Finds the TSC's frequency: what CPUID claims, checked against a clock that is counted in hardware.
// Each try is bounded, and of several the median counts, so that one that a system-management
// interrupt stretched does no harm.
// Intel SDM Vol. 3, "Determining the Processor Base Frequency".

import { pause, rdtscOrdered } from "../kernel/cpu/insn";
import * as tsc from "../kernel/cpu/tsc";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import * as hpet from "./hpet";
import * as pit from "./pit";
import * as pmtimer from "./pmtimer";

const enum Clock {
  NONE = 0,
  HPET = 1,
  PM_TIMER = 2,
  PIT = 3,
}

const TRIES: u32 = 3;
const WINDOWS_A_SECOND: u64 = 100; // a try lasts 10 ms
/** Polls a try takes at most: a clock that stands still must not hold the boot up. */
const MOST_POLLS: u32 = 4_000_000;
/** Samples of clock and TSC together, of which the one that took least counts. */
const SAMPLES: u32 = 4;
/** A claim is believed if it is within one part in this many of the measurement. */
const TOLERANCE: u64 = 100;

const scratch: usize = memory.data(16, 8); // [boot CPU only]
const results: usize = memory.data(8 * 8, 8); // [boot CPU only]
/** The last sample: +0 TSC, +8 clock. [boot CPU only] */
const sample: usize = memory.data(16, 8);

let clock: i32 = Clock.NONE; // written at boot
let clockHz: u64 = 0; // written at boot
let clockMask: u32 = 0; // written at boot

/** Sets the TSC's frequency. NOT_FOUND, with the clock running at a guess, if nothing tells it. */
export function calibrate(): Status {
  const claimed = tsc.claimedKhz(scratch);
  chooseClock();
  const measured = clock == Clock.NONE ? 0 : measure();
  const chosen = choose(claimed, measured);
  if (chosen != 0 && tsc.setKhz(chosen) == Status.OK) {
    report(chosen, claimed, measured);
    return Status.OK;
  }
  log.error("time", "no clock tells the TSC's frequency: taking it for 1 GHz");
  tsc.setKhz(1_000_000);
  return Status.NOT_FOUND;
}

function chooseClock(): void {
  clockMask = 0xffff_ffff;
  clockHz = hpet.start();
  clock = Clock.HPET;
  if (clockHz != 0 && isCounting()) return;
  if (pmtimer.start()) {
    clock = Clock.PM_TIMER;
    clockHz = pmtimer.HZ;
    clockMask = pmtimer.mask();
    if (isCounting()) return;
  }
  if (pit.start()) {
    clock = Clock.PIT;
    clockHz = pit.HZ;
    clockMask = 0xffff;
    return;
  }
  clock = Clock.NONE;
}

function readClock(): u32 {
  if (clock == Clock.HPET) return hpet.read();
  return clock == Clock.PM_TIMER ? pmtimer.read() : pit.read();
}

function isCounting(): bool {
  const first = readClock();
  for (let i: u32 = 0; i < 100_000; i++) if (readClock() != first) return true;
  return false;
}

/** Clock and TSC at nearly the same moment, in `sample`. */
function takeSample(): void {
  let least = u64.MAX_VALUE;
  for (let i: u32 = 0; i < SAMPLES; i++) {
    const before = rdtscOrdered();
    const counted = readClock();
    const took = rdtscOrdered() - before;
    if (took >= least) continue;
    least = took;
    store<u64>(sample, before + took / 2);
    store<u32>(sample, counted, 8);
  }
}

/** The median of several tries in kHz; 0 if the clock stood still. */
function measure(): u64 {
  for (let i: u32 = 0; i < TRIES; i++) {
    const khz = measureOnce();
    let at = i;
    while (at > 0 && load<u64>(results + ((<usize>(at - 1)) << 3)) > khz) {
      store<u64>(results + ((<usize>at) << 3), load<u64>(results + ((<usize>(at - 1)) << 3)));
      at--;
    }
    store<u64>(results + ((<usize>at) << 3), khz);
  }
  return load<u64>(results + ((<usize>TRIES >> 1) << 3));
}

function measureOnce(): u64 {
  if (clock == Clock.PIT) pit.start(); // it counts down once
  takeSample();
  const startTsc = load<u64>(sample);
  const startCount = load<u32>(sample, 8);
  const wanted = <u32>(clockHz / WINDOWS_A_SECOND);
  let polls: u32 = 0;
  while (((readClock() - startCount) & clockMask) < wanted && polls < MOST_POLLS) {
    pause();
    polls++;
  }
  takeSample();
  const ticks = load<u64>(sample) - startTsc;
  tsc.addWaited(ticks);
  const counts: u64 = (load<u32>(sample, 8) - startCount) & clockMask;
  return counts == 0 ? 0 : (ticks * clockHz) / counts / 1000;
}

/** The claim is exact where it is true; where it differs clearly, what the hardware counts is. */
function choose(claimed: u64, measured: u64): u64 {
  if (measured == 0) return claimed != 0 ? claimed : tsc.nominalKhz(scratch);
  if (claimed == 0) return measured;
  const difference = claimed > measured ? claimed - measured : measured - claimed;
  if (difference * TOLERANCE <= measured) return claimed;
  log.begin(log.Level.WARN, "time");
  log.str("CPUID claims ");
  log.dec(claimed);
  log.str(" kHz, which ");
  log.str(clockName());
  log.str(" does not confirm");
  log.end();
  return measured;
}

function clockName(): string {
  if (clock == Clock.HPET) return "the HPET";
  if (clock == Clock.PM_TIMER) return "the PM timer";
  return clock == Clock.PIT ? "the 8254" : "no clock";
}

function report(khz: u64, claimed: u64, measured: u64): void {
  log.begin(log.Level.INFO, "time");
  log.str("TSC runs at ");
  log.dec(khz / 1000);
  log.char(0x2e);
  log.decPadded(khz % 1000, 3, 0x30);
  log.str(" MHz, from ");
  log.str(khz == claimed || measured == 0 ? "CPUID" : clockName());
  if (khz == claimed && measured != 0 && khz != measured) {
    log.str(" confirmed by ");
    log.str(clockName());
  }
  log.str(tsc.isInvariant(scratch) ? ", invariant" : ", not invariant");
  log.end();
}
