// The operator's shell on the first UART, and the way to a guest's terminal. All of it runs on the boot
// CPU, from its idle loop: poll() takes what was typed, and what an attached guest prints.
// `monitor=off` on the command line leaves the UART to the log.

import * as console from "../../drivers/console";
import * as uart from "../../drivers/uart";
import { MAX_VMS } from "../config";
import { rdtsc } from "../cpu/insn";
import * as timer from "../cpu/timer";
import * as tsc from "../cpu/tsc";
import * as cmdline from "../lib/cmdline";
import * as log from "../lib/log";
import { Pending, setPending } from "../vcpu/event";
import { vcpuOf, vmAt } from "../vcpu/vm";
import { ByteRing, popByte, pushByte } from "../vdev/console";
import { slotAt, SlotState } from "../vm/directory";
import { kickTask } from "../vm/kick";
import { askForStart } from "../vm/request";
import { toCore, toSpace } from "../vm/run";
import { taskAt } from "../vm/task";
import * as command from "./command";
import * as line from "./line";

const CTRL_RIGHT_BRACKET: u32 = 0x1d;
/** The timer's key: beyond those of tasks. */
export const MONITOR_KEY: u64 = 1 << 32;
const LOOK_NANOSECONDS: u64 = 1_000_000;
const CHUNK_BYTES: u32 = 16; // a transmitter's FIFO

/** +0 u32 attached guest + 1, 0: the shell; +4 u32 1: the prompt was shown; +8 u64 TSC of the next look at the UART. [boot CPU only] */
const state: usize = memory.data(16, 8);
const chunk: usize = memory.data(64); // [boot CPU only]

/** Takes what the operator typed and what the attached guest printed. Boot CPU only, on the core's own root. */
export function poll(): void {
  const u = console.input();
  if (changetype<usize>(u) == 0 || cmdline.is(cmdline.Option.MONITOR, "off")) return;
  lookAtUart(u);
  for (let byte = uart.get(u); byte >= 0; byte = uart.get(u)) take(<u32>byte);
  if (load<u32>(state)) showGuest();
}

/** Its interrupt may be late or lost: where guests keep the CPU busy, and where a board does not wire it. */
function lookAtUart(u: uart.Uart): void {
  const now = rdtsc();
  if (now < load<u64>(state, 8)) return;
  store<u64>(state, now + tsc.fromNanoseconds(LOOK_NANOSECONDS), 8);
  uart.receive(u);
}

function take(code: u32): void {
  if (load<u32>(state)) {
    if (code == CTRL_RIGHT_BRACKET) detach();
    else typeInto(load<u32>(state) - 1, code);
    return;
  }
  if (line.take(code)) obey();
}

// ---- The shell

/** Carries the line out: a command, a blank, and a guest's name where it wants one. */
function obey(): void {
  const text = line.lineText();
  const count = line.lineBytes();
  let end: u32 = 0;
  while (end < count && load<u8>(text + end) != 0x20) end++;
  let from = end;
  while (from < count && load<u8>(text + from) == 0x20) from++;
  if (end) obeyCommand(text, end, text + from, count - from);
  console.drain();
  if (!load<u32>(state)) line.prompt();
}

function obeyCommand(text: usize, count: u32, rest: usize, restCount: u32): void {
  const which = command.find(text, count);
  if (which == command.Command.COUNT) {
    log.warn("monitor", "no such command: try help");
    return;
  }
  let vm: u32 = MAX_VMS;
  if (command.wantsGuest(which)) {
    vm = command.findGuest(rest, restCount);
    if (vm == MAX_VMS) {
      log.warn("monitor", "no live guest has this name: try vms");
      return;
    }
  }
  if (which == command.Command.ATTACH) attach(vm);
  else if (which == command.Command.START) {
    if (!askForStart(rest, restCount)) log.warn("monitor", "no guest has such a name");
  } else command.run(which, vm);
}

// ---- A guest's terminal

function attach(vm: u32): void {
  console.drain();
  line.say("attached; Ctrl-] comes back\r\n");
  setAttached(vm, 1);
  store<u32>(state, vm + 1);
}

function detach(): void {
  const vm = load<u32>(state) - 1;
  store<u32>(state, 0);
  timer.cancel(MONITOR_KEY);
  setAttached(vm, 0);
  line.prompt();
}

/** The VM's arena is there only in its own address space. False if the VM is not live. */
function enterSpace(vm: u32): bool {
  const slot = slotAt(vm);
  if (slot.state != SlotState.LIVE) return false;
  toSpace(slot);
  return true;
}

function setAttached(vm: u32, value: u32): void {
  if (!enterSpace(vm)) return;
  changetype<ByteRing>(vmAt(vm).console).attached = value;
  toCore();
}

function typeInto(vm: u32, code: u32): void {
  if (!enterSpace(vm)) return;
  pushByte(changetype<ByteRing>(vmAt(vm).input), code);
  setPending(vcpuOf(vmAt(vm), 0), Pending.DEVICE);
  toCore();
  kickTask(taskAt(slotAt(vm).firstTask));
}

/** Passes on what the guest printed, as far as the terminal takes it without waiting, and looks again soon. */
function showGuest(): void {
  const vm = load<u32>(state) - 1;
  for (let count = CHUNK_BYTES; count == CHUNK_BYTES && console.isWritable(); ) {
    count = takeOutput(vm);
    console.write(chunk, count);
  }
  if (slotAt(vm).state != SlotState.LIVE) {
    detach();
    return;
  }
  timer.arm(MONITOR_KEY, rdtsc() + tsc.fromNanoseconds(LOOK_NANOSECONDS));
}

/** Up to CHUNK_BYTES of the guest's output, in `chunk`. */
function takeOutput(vm: u32): u32 {
  if (!enterSpace(vm)) return 0;
  const ring = changetype<ByteRing>(vmAt(vm).console);
  let count: u32 = 0;
  while (count < CHUNK_BYTES) {
    const byte = popByte(ring);
    if (byte < 0) break;
    store<u8>(chunk + count, byte);
    count++;
  }
  toCore();
  return count;
}
