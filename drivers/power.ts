// How the machine ends: reset, power-off, and the exits of the emulators.
// ACPI Specification, "Reset Register" and "Waking and Sleeping".

import { devicestore8, halt, in16, out16, out32, out8 } from "../kernel/cpu/insn";
import { tripleFault } from "../kernel/cpu/trap";
import * as tsc from "../kernel/cpu/tsc";
import * as cmdline from "../kernel/lib/cmdline";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { mapDevice } from "../kernel/mm/hostmap";
import { NONE_FOUND, sleepTypes } from "./acpi/s5";
import * as console from "./console";
import * as platform from "./platform";

/** Why the machine ends; QEMU's isa-debug-exit turns it into exit code 2 * n + 1. */
export const enum Outcome {
  SUCCESS = 0,
  FAILURE = 1, // a guest or a check failed
  PANIC = 2,
}

const SLP_EN: u32 = 1 << 13;
const SLP_TYP_SHIFT: u32 = 10;
const SCI_EN: u32 = 1;
const KEYBOARD_COMMAND: u32 = 0x64;
const PULSE_RESET: u32 = 0xfe;
const RESET_CONTROL: u32 = 0xcf9;
const QEMU_EXIT: u32 = 0xf4;
const BOCHS_SHUTDOWN: u32 = 0x8900;
const RESET_DELAY_MICROSECONDS: u64 = 50_000;

/** The line by which tools/run knows how the run went. */
function announce(outcome: Outcome): void {
  if (outcome == Outcome.SUCCESS) log.info("power", "ended: success");
  else if (outcome == Outcome.FAILURE) log.error("power", "ended: failure");
  else log.error("power", "ended: panic");
}

/** What the command line says the machine does when there is nothing left to do. Does not return. */
export function finish(outcome: Outcome): void {
  announce(outcome);
  const option =
    outcome == Outcome.PANIC && cmdline.isGiven(cmdline.Option.PANIC) ? cmdline.Option.PANIC : cmdline.Option.EXIT;
  if (cmdline.is(option, "reboot")) reboot();
  if (cmdline.is(option, "poweroff")) powerOff();
  if (cmdline.is(option, "qemu")) exitQemu(outcome);
  if (cmdline.is(option, "bochs")) exitBochs();
  log.info("power", "the machine halts here");
  console.drainLast();
  halt();
}

/** Resets the machine, by the first way that works. Does not return. */
export function reboot(): void {
  log.info("power", "reset");
  console.drainLast();
  const p = platform.platform();
  if (p.resetSpace == <u32>platform.Space.PORT) {
    out8(<u32>p.resetAddress, p.resetValue);
    tsc.delay(RESET_DELAY_MICROSECONDS);
  } else if (p.resetSpace == <u32>platform.Space.MEMORY) {
    if (mapDevice(p.resetAddress & ~(<u64>4095), 0x1000) == Status.OK) devicestore8(p.resetAddress, p.resetValue);
    tsc.delay(RESET_DELAY_MICROSECONDS);
  }
  out8(KEYBOARD_COMMAND, PULSE_RESET);
  tsc.delay(RESET_DELAY_MICROSECONDS);
  out8(RESET_CONTROL, 0x02);
  out8(RESET_CONTROL, 0x06);
  tsc.delay(RESET_DELAY_MICROSECONDS);
  tripleFault();
  halt();
}

/** Switches the machine off, or halts if it does not go. Does not return. */
export function powerOff(): void {
  const p = platform.platform();
  const types = p.isHardwareReduced ? NONE_FOUND : sleepTypes();
  if (types == NONE_FOUND || p.pm1aControl == 0) log.warn("power", "the firmware does not say how to power off");
  else log.info("power", "off");
  console.drainLast();
  if (types != NONE_FOUND && p.pm1aControl != 0) {
    enableAcpi();
    sleep(p.pm1aControl, types & 7);
    if (p.pm1bControl) sleep(p.pm1bControl, types >> 8);
    tsc.delay(RESET_DELAY_MICROSECONDS);
  }
  halt();
}

/** Hands the power-management registers over from the firmware, if it still has them. */
function enableAcpi(): void {
  const p = platform.platform();
  if (p.smiCommand == 0 || p.acpiEnable == 0 || in16(p.pm1aControl) & SCI_EN) return;
  out8(p.smiCommand, p.acpiEnable);
  for (let i = 0; i < 100 && !(in16(p.pm1aControl) & SCI_EN); i++) tsc.delay(1000);
}

function sleep(port: u32, type: u32): void {
  const kept = in16(port) & ~((7 << SLP_TYP_SHIFT) | SLP_EN);
  out16(port, kept | (type << SLP_TYP_SHIFT) | SLP_EN);
}

/** QEMU's isa-debug-exit device ends the process. */
function exitQemu(outcome: Outcome): void {
  console.drainLast();
  out32(QEMU_EXIT, outcome);
}

/** Bochs watches port 8900H for a word. */
function exitBochs(): void {
  console.drainLast();
  const text = "Shutdown";
  for (let i = 0; i < text.length; i++) out8(BOCHS_SHUTDOWN, load<u16>(changetype<usize>(text) + ((<usize>i) << 1)));
}
