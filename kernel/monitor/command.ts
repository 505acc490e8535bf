// The operator's commands: a table of name, parameters and help, and one small function each. They print
// through the log, so that what an operator saw is also in its ring.

import * as irq from "../../drivers/irq";
import * as pci from "../../drivers/pci";
import * as power from "../../drivers/power";
import * as platform from "../../drivers/platform";
import * as boot from "../../drivers/bootinfo";
import { cpuAt, cpuCount, isOnline } from "../cpu/percpu";
import * as tsc from "../cpu/tsc";
import * as cmdline from "../lib/cmdline";
import * as log from "../lib/log";
import { Owner, freeBytes, ownedBytes } from "../mm/frame";
import { Pending, setPending } from "../vcpu/event";
import { StopReason, vcpuOf, vmAt } from "../vcpu/vm";
import { reportAccount } from "../vm/account";
import { stopSlot } from "../vm/contain";
import { slotAt, slotName, SlotState } from "../vm/directory";
import { kickSlot } from "../vm/kick";
import { toCore, toSpace } from "../vm/run";
import { tasksOn } from "../vm/schedule";
import { taskAt } from "../vm/task";
import { MAX_VMS } from "../config";

export const enum Command {
  HELP = 0,
  VMS = 1,
  ATTACH = 2,
  STOP = 3,
  PAUSE = 4,
  RESUME = 5,
  MEMORY = 6,
  MAP = 7,
  CPUS = 8,
  INTERRUPTS = 9,
  PCI = 10,
  OPTIONS = 11,
  TIME = 12,
  REBOOT = 13,
  POWEROFF = 14,
  EXITS = 15,
  WHERE = 16,
  START = 17,
  COUNT = 18,
}

const NAMES: StaticArray<string> = [
  "help",
  "vms",
  "attach",
  "stop",
  "pause",
  "resume",
  "memory",
  "map",
  "cpus",
  "irqs",
  "pci",
  "options",
  "time",
  "reboot",
  "poweroff",
  "exits",
  "where",
  "start",
];

// biome-ignore format: a row
const PARAMETERS: StaticArray<string> =
  ["", "", "NAME", "NAME", "NAME", "NAME", "", "", "", "", "", "", "", "", "", "NAME", "NAME", "NAME"];

const HELP: StaticArray<string> = [
  "this list",
  "the guests",
  "type into a guest and see its terminal; Ctrl-] comes back",
  "ends a guest and returns its memory",
  "keeps a guest off the CPUs",
  "lets it run again",
  "who has how much memory",
  "the memory map and the boot modules",
  "the processors",
  "interrupts by vector",
  "PCI functions",
  "what the host's command line can say",
  "how long the machine has been up",
  "resets the machine",
  "switches the machine off",
  "its exits by reason and its time; with account=on",
  "what its vCPUs are doing",
  "makes a guest again that has ended",
];

/** The command that the first `count` bytes at `text` name; Command.COUNT: none. */
export function find(text: usize, count: u32): u32 {
  for (let i: u32 = 0; i < <u32>Command.COUNT; i++) if (cmdline.same(text, count, unchecked(NAMES[i]))) return i;
  return Command.COUNT;
}

/** Whether the command wants the name of a live guest. */
export function wantsGuest(command: u32): bool {
  return unchecked(PARAMETERS[command]).length != 0 && command != Command.START;
}

/** The live guest with that name: its number, or MAX_VMS. */
export function findGuest(text: usize, count: u32): u32 {
  for (let i: u32 = 0; i < MAX_VMS; i++) {
    const slot = slotAt(i);
    if (slot.state == SlotState.LIVE && slot.nameBytes == count && memory.compare(slotName(slot), text, count) == 0)
      return i;
  }
  return MAX_VMS;
}

/** Carries a command out; ATTACH is the monitor's own. `vm`: the guest, where it wants one. */
export function run(command: u32, vm: u32): void {
  switch (command) {
    case Command.HELP:
      help();
      break;
    case Command.VMS:
      vms();
      break;
    case Command.STOP:
      if (slotAt(vm).stopReason == StopReason.NONE) slotAt(vm).stopReason = StopReason.DESTROYED;
      stopSlot(vm);
      break;
    case Command.PAUSE:
      slotAt(vm).paused = 1;
      kickSlot(slotAt(vm));
      break;
    case Command.RESUME:
      slotAt(vm).paused = 0;
      kickSlot(slotAt(vm));
      break;
    case Command.MEMORY:
      memoryUse();
      break;
    case Command.MAP:
      boot.report();
      break;
    case Command.CPUS:
      cpus();
      break;
    case Command.INTERRUPTS:
      interrupts();
      break;
    case Command.PCI:
      pci.report();
      break;
    case Command.OPTIONS:
      options();
      break;
    case Command.TIME:
      time();
      break;
    case Command.EXITS:
      exits(vm);
      break;
    case Command.WHERE:
      where(vm);
      break;
    case Command.REBOOT:
      power.reboot();
      break;
    case Command.POWEROFF:
      power.powerOff();
      break;
    default:
      break;
  }
}

function exits(vm: u32): void {
  if (!cmdline.is(cmdline.Option.ACCOUNT, "on")) {
    log.warn("monitor", "no accounts are kept: boot with account=on");
    return;
  }
  toSpace(slotAt(vm));
  reportAccount(vmAt(vm));
  toCore();
}

/** Each vCPU reports by itself: only the CPU that has it can read its registers. */
function where(vm: u32): void {
  toSpace(slotAt(vm));
  for (let i: u32 = 0; i < vmAt(vm).vcpuCount; i++) setPending(vcpuOf(vmAt(vm), i), Pending.WHERE);
  toCore();
  kickSlot(slotAt(vm));
}

/** One row of a table: a name, and what it means, in columns. */
function row(name: string, parameters: string, text: string): void {
  log.begin(log.Level.INFO, "help");
  log.str(name);
  log.str(" ");
  log.str(parameters);
  for (let i = name.length + parameters.length; i < 16; i++) log.str(" ");
  log.str(text);
  log.end();
}

function help(): void {
  for (let i: u32 = 0; i < <u32>Command.COUNT; i++)
    row(unchecked(NAMES[i]), unchecked(PARAMETERS[i]), unchecked(HELP[i]));
}

function options(): void {
  for (let i: u32 = 0; i < <u32>cmdline.Option.COUNT; i++) row(cmdline.nameOf(i), "=", cmdline.helpOf(i));
}

function vms(): void {
  let any = false;
  for (let i: u32 = 0; i < MAX_VMS; i++) {
    const slot = slotAt(i);
    if (slot.state == SlotState.FREE) continue;
    any = true;
    log.begin(log.Level.INFO, "vms");
    log.bytes(slotName(slot), slot.nameBytes);
    log.str(slot.paused ? ": paused, vCPUs " : slot.state == SlotState.LIVE ? ": live, vCPUs " : ": ending, vCPUs ");
    log.dec(slot.taskCount);
    log.str(", ran ms");
    for (let t: u32 = 0; t < slot.taskCount; t++) {
      log.str(" ");
      log.dec(tsc.toNanoseconds(taskAt(slot.firstTask + t).ranTicks) / 1_000_000);
    }
    log.end();
  }
  if (!any) log.info("vms", "no guests");
}

function memoryUse(): void {
  owned("free", freeBytes());
  owned("core", ownedBytes(Owner.CORE));
  owned("tables", ownedBytes(Owner.TABLE));
  owned("modules", ownedBytes(Owner.MODULE));
  owned("firmware", ownedBytes(Owner.FIRMWARE));
  for (let i: u32 = 0; i < MAX_VMS; i++) {
    const slot = slotAt(i);
    if (slot.state == SlotState.FREE) continue;
    log.begin(log.Level.INFO, "memory");
    log.bytes(slotName(slot), slot.nameBytes);
    log.str(" ");
    log.size(ownedBytes(<u32>Owner.VM_FIRST + i));
    log.end();
  }
}

function owned(name: string, bytes: u64): void {
  log.begin(log.Level.INFO, "memory");
  log.str(name);
  log.str(" ");
  log.size(bytes);
  log.end();
}

function cpus(): void {
  platform.report();
  for (let i: u32 = 0; i < cpuCount(); i++) {
    log.begin(log.Level.INFO, "cpus");
    log.dec(i);
    log.str(": APIC ID ");
    log.dec(cpuAt(i).apicId);
    log.str(isOnline(i) ? ", online" : ", not there");
    if (isOnline(i)) {
      log.str(", tasks ");
      log.dec(tasksOn(i));
    }
    log.end();
  }
}

function interrupts(): void {
  for (let vector: u32 = 32; vector < 256; vector++) {
    const count = irq.countOf(vector);
    if (count == 0) continue;
    log.begin(log.Level.INFO, "irqs");
    log.hex(vector);
    log.str(": ");
    log.dec(count);
    log.end();
  }
}

function time(): void {
  log.begin(log.Level.INFO, "time");
  log.str("up ");
  log.dec(tsc.nanoseconds() / 1_000_000_000);
  log.str(" s, TSC at ");
  log.dec(tsc.tscKhz());
  log.str(" kHz");
  log.end();
}
