// What firmware leaves behind, for the protocols whose loaders run after it: multiboot and boot sectors. Kernels that
// go to real mode find vectors that return, the 8259s at their old bases and a tick; one that brings its own masks them.
//
//   0 .. 400H    vectors: F000:FF53 returns; 08H..0FH and 70H..77H acknowledge their IRQ, 08H counts the tick
//   400H ..      BIOS data: COM1's port, EBDA segment, KiB of conventional memory, the tick at 46CH
//   FFEA5H ..    the handlers
//
// IBM PC AT Technical Reference, "Interrupt Usage"; MultiProcessor Specification, "Virtual Wire Mode".

import { gueststore16, gueststore32, gueststore8 } from "../cpu/insn";
import { Vm, vcpuOf } from "../vcpu/vm";
import { UART_PORT } from "../vdev/vuart";
import { LapicReg } from "../virq/lapicreg";
import { mmioWrite, vlapicOf } from "../virq/vlapic";
import { IRQ_SCI } from "../virq/line";
import { writeElcr, writePic } from "../virq/vpic";
import { writePit } from "../virq/vpit";
import { CONVENTIONAL_END } from "./place";

const SEGMENT: u32 = 0xf000_0000;
const TICK: u32 = 0xfea5;
const RETURN: u32 = 0xff53;
const BIOS_DATA: u64 = 0x400;
const ELCR_SLAVE: u32 = 0x4d1;

// biome-ignore format: a line is an instruction
const TICK_CODE: usize = memory.data<u8>([
  0x50,                         // push ax
  0x1e,                         // push ds
  0xb8, 0x40, 0x00,             // mov ax, 40h
  0x8e, 0xd8,                   // mov ds, ax
  0x66, 0xff, 0x06, 0x6c, 0x00, // inc dword [6ch]
  0xcd, 0x1c,                   // int 1ch
  0xb0, 0x20,                   // mov al, 20h: end of interrupt
  0xe6, 0x20,                   // out 20h, al
  0x1f,                         // pop ds
  0x58,                         // pop ax
  0xcf,                         // iret
]);
const TICK_BYTES: u32 = 21;
// biome-ignore format: a line is an instruction
const MASTER_CODE: usize = memory.data<u8>([
  0x50,       // push ax
  0xb0, 0x20, // mov al, 20h
  0xe6, 0x20, // out 20h, al
  0x58,       // pop ax
  0xcf,       // iret
]);
const MASTER_BYTES: u32 = 7;
const MASTER: u32 = TICK + TICK_BYTES;
// biome-ignore format: a line is an instruction
const SLAVE_CODE: usize = memory.data<u8>([
  0x50,       // push ax
  0xb0, 0x20, // mov al, 20h
  0xe6, 0xa0, // out a0h, al
  0xe6, 0x20, // out 20h, al
  0x58,       // pop ax
  0xcf,       // iret
]);
const SLAVE_BYTES: u32 = 9;
const SLAVE: u32 = MASTER + MASTER_BYTES;
const RETURN_CODE: usize = memory.data<u8>([0xcf]);

/** Runs under the VM's HOST_CR3; its devices and RAM are as after a reset, the kernel is not yet loaded. */
export function leaveFirmware(vm: Vm): void {
  putVectors();
  putBiosData();
  startPic(vm);
  startTick(vm);
}

function putVectors(): void {
  putCode(TICK, TICK_CODE, TICK_BYTES);
  putCode(MASTER, MASTER_CODE, MASTER_BYTES);
  putCode(SLAVE, SLAVE_CODE, SLAVE_BYTES);
  putCode(RETURN, RETURN_CODE, 1);
  for (let vector: u32 = 0; vector < 256; vector++) gueststore32(vector << 2, SEGMENT | handlerOf(vector));
}

function handlerOf(vector: u32): u32 {
  if (vector == 0x08) return TICK;
  if (vector - 0x09 < 7) return MASTER;
  return vector - 0x70 < 8 ? SLAVE : RETURN;
}

function putCode(offset: u32, code: usize, bytes: u32): void {
  for (let i: u32 = 0; i < bytes; i++) gueststore8(0xf_0000 + <u64>(offset + i), load<u8>(code + i));
}

function putBiosData(): void {
  gueststore16(BIOS_DATA, UART_PORT);
  gueststore16(BIOS_DATA + 0x0e, <u32>(CONVENTIONAL_END >> 4)); // EBDA
  gueststore16(BIOS_DATA + 0x13, <u32>(CONVENTIONAL_END >> 10));
}

/** Vectors 08H and 70H; only the tick and the cascade are open. */
function startPic(vm: Vm): void {
  initPic(vm, 0x20, 0x08, 4, 0xfa);
  initPic(vm, 0xa0, 0x70, 2, 0xff);
}

function initPic(vm: Vm, port: u32, base: u32, cascade: u32, mask: u32): void {
  writePic(vm, port, 0x11); // ICW1: cascaded, ICW4 follows
  writePic(vm, port + 1, base);
  writePic(vm, port + 1, cascade);
  writePic(vm, port + 1, 1); // ICW4: 8086 mode
  writePic(vm, port + 1, mask);
}

/** 18.2 times a second: the longest count, square wave. */
function startTick(vm: Vm): void {
  writePit(vm, 0x43, 0x36);
  writePit(vm, 0x40, 0);
  writePit(vm, 0x40, 0);
}

/**
 * For every protocol: the first vCPU's APIC passes the 8259s on by LINT0, and NMIs by LINT1, and the ACPI interrupt is level-triggered.
 * A system that never touches the APIC (`nolapic`) lives by that.
 */
export function wireInterrupts(vm: Vm): void {
  const v = vlapicOf(vcpuOf(vm, 0));
  mmioWrite(v, LapicReg.SVR, 4, 0x10f);
  mmioWrite(v, LapicReg.LVT_LINT0, 4, 0x700);
  mmioWrite(v, LapicReg.LVT_LINT1, 4, 0x400);
  writeElcr(vm, ELCR_SLAVE, 1 << (IRQ_SCI - 8));
}
