// Ports by which small kernels report and test themselves; machine emulators have them, and kernels of
// conformance suites expect them. A VM that runs Linux has none of this.
//
//   E9H        a character for the console
//   F4H        ends the VM with the written value as its exit code
//   8900H      characters; "Shutdown" ends the VM too
//   E0H..E3H   four bytes that read as written, in any width
//   2000H + n  moves interrupt line n to the level written
//   510H, 511H firmware configuration: the machine's size (vfwcfg.ts)
//   FF000000H  64 KiB of registers without effect

import { Status } from "../lib/status";
import { arenaAlloc, StopReason, Vm } from "../vcpu/vm";
import { setIrq } from "../virq/line";
import { printByte } from "./console";
import { stopVm } from "../vcpu/event";
import { Fwcfg, FWCFG_DATA, FWCFG_SELECTOR, nextByte, selectItem } from "./vfwcfg";

export const TEST_MEMORY_GPA: u64 = 0xff00_0000;
export const TEST_MEMORY_BYTES: u64 = 0x1_0000;
export const DEBUG_PORT: u32 = 0xe9;
export const EXIT_PORT: u32 = 0xf4;
export const STRING_PORT: u32 = 0x8900;
export const SCRATCH_PORT: u32 = 0xe0;
export const LINE_PORT: u32 = 0x2000;
export const LINE_PORTS: u32 = 24;

@unmanaged
export class Vtest {
  scratch: u32;
  /** Characters of "Shutdown" seen at the string port. */
  matched: u32;
}
const FWCFG: usize = offsetof<Vtest>();
const MEMORY: usize = FWCFG + offsetof<Fwcfg>();

/** "Shutdown", the word that ends a machine. */
const WORD: usize = memory.data<u8>([0x53, 0x68, 0x75, 0x74, 0x64, 0x6f, 0x77, 0x6e]);
const WORD_BYTES: u32 = 8;

/** Gives the VM the ports. NO_MEMORY if the arena is full. */
export function createVtest(vm: Vm): Status {
  vm.vtest = arenaAlloc(vm, MEMORY + <usize>TEST_MEMORY_BYTES, 8);
  return vm.vtest ? Status.OK : Status.NO_MEMORY;
}

export function readTest(vm: Vm, port: u32, bytes: u32): u32 {
  const ones: u32 = bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1;
  if (port == DEBUG_PORT) return 0xe9; // says that the port exists
  if (port - SCRATCH_PORT < 4) return (changetype<Vtest>(vm.vtest).scratch >> ((port & 3) << 3)) & ones;
  if (port == FWCFG_DATA && bytes == 1) return nextByte(vm, fwcfgOf(vm));
  return ones;
}

export function writeTest(vm: Vm, port: u32, bytes: u32, value: u32): void {
  const t = changetype<Vtest>(vm.vtest);
  if (port == DEBUG_PORT) printByte(vm, value & 0xff);
  else if (port == EXIT_PORT) stopVm(vm, StopReason.POWER_OFF, value);
  else if (port == FWCFG_SELECTOR && bytes == 2) selectItem(fwcfgOf(vm), value);
  else if (port == STRING_PORT) matchWord(vm, t, value & 0xff);
  else if (port - SCRATCH_PORT < 4) writeScratch(t, port & 3, bytes, value);
  else if (port - LINE_PORT < LINE_PORTS) setIrq(vm, port - LINE_PORT, value != 0);
}

function fwcfgOf(vm: Vm): Fwcfg {
  return changetype<Fwcfg>(vm.vtest + FWCFG);
}

function writeScratch(t: Vtest, index: u32, bytes: u32, value: u32): void {
  const mask = (bytes == 4 ? 0xffff_ffff : (1 << (bytes << 3)) - 1) << (index << 3);
  t.scratch = (t.scratch & ~mask) | ((value << (index << 3)) & mask);
}

function matchWord(vm: Vm, t: Vtest, byte: u32): void {
  t.matched = byte == <u32>load<u8>(WORD + t.matched) ? t.matched + 1 : byte == <u32>load<u8>(WORD) ? 1 : 0;
  if (t.matched < WORD_BYTES) return;
  t.matched = 0;
  stopVm(vm, StopReason.POWER_OFF, 0);
}

/** `offset` + `bytes` stays inside: the bus splits accesses and checks the first byte; the last are cut off. */
export function readTestMemory(vm: Vm, offset: u32, bytes: u32): u32 {
  let value: u32 = 0;
  for (let i: u32 = 0; i < bytes && offset + i < <u32>TEST_MEMORY_BYTES; i++)
    value |= (<u32>load<u8>(vm.vtest + MEMORY + offset + i)) << (i << 3);
  return value;
}

export function writeTestMemory(vm: Vm, offset: u32, bytes: u32, value: u32): void {
  for (let i: u32 = 0; i < bytes && offset + i < <u32>TEST_MEMORY_BYTES; i++)
    store<u8>(vm.vtest + MEMORY + offset + i, <u8>(value >> (i << 3)));
}
