// The HPET's main counter, as a clock to calibrate by.
// IA-PC HPET Specification, "Register Overview".

import { deviceload32, devicestore32 } from "../kernel/cpu/insn";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import * as platform from "./platform";

const CAPABILITIES: u64 = 0x000;
const PERIOD: u64 = 0x004; // femtoseconds
const CONFIGURATION: u64 = 0x010;
const COUNTER: u64 = 0x0f0;
const ENABLE: u32 = 1;
const MOST_PERIOD: u32 = 100_000_000; // the specification's limit
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;

let base: u64 = 0; // written at boot

/** Starts the counter; its frequency in Hz, or 0 if there is none. */
export function start(): u64 {
  const pa = platform.platform().hpetBase;
  if (pa == 0 || mapDevice(pa & ~(<u64>4095), 0x1000) != Status.OK) return 0;
  const period = deviceload32(pa + PERIOD);
  const revision = deviceload32(pa + CAPABILITIES) & 0xff;
  if (revision == 0 || period == 0 || period > MOST_PERIOD) return 0;
  devicestore32(pa + CONFIGURATION, deviceload32(pa + CONFIGURATION) | ENABLE);
  base = pa;
  return FEMTOSECONDS / period;
}

/** The counter's low half, which all implementations have. */
export function read(): u32 {
  return deviceload32(base + COUNTER);
}
