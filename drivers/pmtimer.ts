// The ACPI power-management timer, as a clock to calibrate by.
// ACPI Specification, "Power Management Timer".

import { deviceload32, in32 } from "../kernel/cpu/insn";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import * as platform from "./platform";

export const HZ: u64 = 3_579_545;

/** Whether it is there and can be reached. */
export function start(): bool {
  const p = platform.platform();
  if (p.pmTimerSpace == <u32>platform.Space.PORT) return in32(<u32>p.pmTimerAddress) != 0xffff_ffff;
  if (p.pmTimerSpace != <u32>platform.Space.MEMORY) return false;
  return mapDevice(p.pmTimerAddress & ~(<u64>4095), 0x1000) == Status.OK;
}

/** The counter; compare modulo mask(). */
export function read(): u32 {
  const p = platform.platform();
  if (p.pmTimerSpace == <u32>platform.Space.PORT) return in32(<u32>p.pmTimerAddress);
  return deviceload32(p.pmTimerAddress);
}

export function mask(): u32 {
  return platform.platform().pmTimerBits == 32 ? 0xffff_ffff : 0x00ff_ffff;
}
