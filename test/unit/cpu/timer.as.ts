// What the tests of kernel/cpu/timer.ts call.
import { rdtsc } from "../../../kernel/cpu/insn";
import * as apic from "../../../kernel/cpu/apic";
import * as timer from "../../../kernel/cpu/timer";

export { arm, cancel, isFirstExpired, nextDeadline } from "../../../kernel/cpu/timer";

/** Also lets the fake machine do what is due. */
export function now(): u64 {
  return rdtsc();
}

/** As the scheduler does: when nothing more has expired, the hardware is set. */
export function takeExpired(): u64 {
  const key = timer.takeExpired();
  if (key == 0) timer.settle();
  return key;
}

export function most(): u32 {
  return timer.MAX_TIMERS;
}
export function deadlineMode(): void {
  apic.setMode(false, 0xfee0_0000);
  apic.write(apic.Reg.SVR, 0x1ff);
  apic.write(apic.Reg.LVT_TIMER, (2 << 17) | 0xfa);
  timer.setMode(timer.TimerMode.TSC_DEADLINE, 0);
}
export function oneShotMode(fraction: u64): void {
  apic.setMode(false, 0xfee0_0000);
  apic.write(apic.Reg.SVR, 0x1ff);
  apic.write(apic.Reg.DIVIDE, 3);
  apic.write(apic.Reg.LVT_TIMER, 0xfa);
  timer.setMode(timer.TimerMode.ONE_SHOT, fraction);
}
