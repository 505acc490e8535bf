// The i8042 keyboard controller as far as a PC without a keyboard needs it: self-test, configuration
// byte, output port with A20 and the reset pulse; and system control port A (92H), which does the same.
// IBM PC/AT Technical Reference, "Keyboard Controller".

import { Status } from "../lib/status";
import { arenaAlloc, Vm } from "../vcpu/vm";
import { resetVm } from "./power";

const STATUS_OUTPUT_FULL: u32 = 1;
const STATUS_SYSTEM: u32 = 4;
const STATUS_COMMAND: u32 = 8;
const STATUS_UNLOCKED: u32 = 0x10;
const OUTPUT_NO_RESET: u32 = 1;
const OUTPUT_A20: u32 = 2;

@unmanaged
export class Vkbd {
  config: u32;
  outputPort: u32;
  /** The byte in the output buffer, if full. */
  data: u32;
  full: u32;
  /** The command whose data byte comes next; 0: none. */
  command: u32;
  port92: u32;
  lastWasCommand: u32;
  pad: u32;
}

/** Gives the VM its controller. NO_MEMORY if the arena is full. */
export function createVkbd(vm: Vm): Status {
  vm.vkbd = arenaAlloc(vm, offsetof<Vkbd>(), 8);
  if (!vm.vkbd) return Status.NO_MEMORY;
  resetVkbd(vm);
  return Status.OK;
}

export function resetVkbd(vm: Vm): void {
  const k = changetype<Vkbd>(vm.vkbd);
  memory.fill(vm.vkbd, 0, offsetof<Vkbd>());
  k.config = 0x30; // both ports disabled
  k.outputPort = 0xcc | OUTPUT_NO_RESET | OUTPUT_A20;
  k.port92 = 2;
}

function answer(k: Vkbd, byte: u32): void {
  k.data = byte;
  k.full = 1;
}

/** IN from 60H (data) or 64H (status). */
export function readKeyboard(vm: Vm, port: u32): u32 {
  const k = changetype<Vkbd>(vm.vkbd);
  if (port & 4) {
    return (
      STATUS_SYSTEM | STATUS_UNLOCKED | (k.full ? STATUS_OUTPUT_FULL : 0) | (k.lastWasCommand ? STATUS_COMMAND : 0)
    );
  }
  k.full = 0;
  return k.data;
}

/** OUT to 60H (data) or 64H (command). */
export function writeKeyboard(vm: Vm, port: u32, value: u32): void {
  const k = changetype<Vkbd>(vm.vkbd);
  k.lastWasCommand = (port >> 2) & 1;
  if (port & 4) writeCommand(vm, k, value);
  else writeData(vm, k, value);
}

function writeCommand(vm: Vm, k: Vkbd, command: u32): void {
  k.command = 0;
  switch (command) {
    case 0x20: // read configuration
      answer(k, k.config);
      break;
    case 0x60: // write configuration
    case 0xd1: // write output port
    case 0xd2: // write the output buffer
      k.command = command;
      break;
    case 0xd3: // write the auxiliary output buffer
    case 0xd4: // write to the auxiliary device
      k.command = command;
      break;
    case 0xa7:
      k.config |= 0x20;
      break;
    case 0xa8:
      k.config &= ~0x20;
      break;
    case 0xa9: // test of the auxiliary port: nothing is connected
      answer(k, 0x01);
      break;
    case 0xaa: // self-test
      answer(k, 0x55);
      break;
    case 0xab: // test of the keyboard port: fine
      answer(k, 0x00);
      break;
    case 0xad:
      k.config |= 0x10;
      break;
    case 0xae:
      k.config &= ~0x10;
      break;
    case 0xc0: // input port
      answer(k, 0x80);
      break;
    case 0xd0:
      answer(k, k.outputPort);
      break;
    default:
      // F0H..FFH pulses the output bits that are 0; bit 0 is the reset line.
      if (command >= 0xf0 && !(command & 1)) resetVm(vm);
  }
}

function writeData(vm: Vm, k: Vkbd, value: u32): void {
  switch (k.command) {
    case 0x60:
      k.config = value;
      break;
    case 0xd1:
      k.outputPort = value;
      if (!(value & OUTPUT_NO_RESET)) resetVm(vm);
      break;
    case 0xd2:
      answer(k, value);
      break;
    case 0xd3:
    case 0xd4:
      break;
    default:
      answer(k, 0xfe); // no keyboard: "resend"
  }
  k.command = 0;
}

/** IN from 92H. The A20 gate is a bit and nothing more: the line is always open. */
export function readPort92(vm: Vm): u32 {
  return changetype<Vkbd>(vm.vkbd).port92;
}

/** OUT to 92H: a rising bit 0 resets. */
export function writePort92(vm: Vm, value: u32): void {
  const k = changetype<Vkbd>(vm.vkbd);
  if (value & ~k.port92 & 1) resetVm(vm);
  k.port92 = value & 3;
}
