// Interrupt vectors: who has which, and what happens when one arrives. A handler sets a bit or fills
// a ring; the loops in which CPUs wait look at those. Drivers are a closed list, so a vector's handler
// is a number and a `switch`, not an indirect call.

import * as apic from "../kernel/cpu/apic";
import { Vector } from "../kernel/cpu/vector";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { onShootdown } from "../kernel/mm/shootdown";
import * as ioapic from "./ioapic";
import * as lapic from "./lapic";
import * as uart from "./uart";

/** What handles a device vector. */
export const enum Handler {
  NONE = 0,
  UART = 1, // argument: its number
  COUNTED = 2, // no driver: only counted (MSI tests, devices that a guest will own)
}

@unmanaged
class Row {
  handler: u8;
  argument: u8;
  pad: u16;
  pad2: u32;
  count: u64; // [atomic]
}

const rows: usize = memory.data(256 * 16, 8);
const ROW_BYTES: usize = 16;
/** +0 1: the boot CPU is to look at its drivers [atomic];  +4 APIC errors seen [atomic] */
const shared: usize = memory.data(8, 4);
let nextVector: u32 = <u32>Vector.DEVICE_FIRST; // written at boot
if (offsetof<Row>() != 16) ERROR("irq: layout");

function rowAt(vector: u32): Row {
  return changetype<Row>(rows + <usize>(vector & 255) * ROW_BYTES);
}

/** Gives a vector to a handler; 0 if none is left. Boot only. */
export function allocate(handler: Handler, argument: u32): u32 {
  if (nextVector > <u32>Vector.DEVICE_LAST) return 0;
  const vector = nextVector++;
  rowAt(vector).handler = <u8>handler;
  rowAt(vector).argument = <u8>argument;
  return vector;
}

/** How often `vector` arrived, on all CPUs. */
export function countOf(vector: u32): u64 {
  return atomic.load<u64>(changetype<usize>(rowAt(vector)) + offsetof<Row>("count"));
}

/** A physical interrupt was taken, in the idle loop or acknowledged by a VM exit. Ends with EOI. */
export function dispatch(vector: u32): void {
  const row = rowAt(vector);
  atomic.add<u64>(changetype<usize>(row) + offsetof<Row>("count"), 1);
  // Neither has a bit in the ISR to clear.
  if (vector == <u32>Vector.SPURIOUS || vector < <u32>Vector.DEVICE_FIRST) return;
  if (vector == <u32>Vector.ERROR) atomic.or<u32>(shared + 4, lapic.takeErrors());
  else if (vector == <u32>Vector.SHOOTDOWN) onShootdown();
  else if (row.handler == <u8>Handler.UART) onUart(uart.uartAt(row.argument));
  // TIMER and KICK only wake: the loops look at the timer queue and the CPU's pending bits.
  apic.eoi();
}

function onUart(u: uart.Uart): void {
  uart.receive(u);
  if (uart.hasInput(u)) atomic.store<u32>(shared, 1);
}

/** Whether a driver has something for the boot CPU's idle loop since the last call. */
export function takeAttention(): bool {
  return atomic.load<u32>(shared) != 0 && atomic.xchg<u32>(shared, 0) != 0;
}

/** Lets the operator's UART raise interrupts on the boot CPU, with `apicId`; without an I/O APIC it stays polled. */
export function startUart(index: u32, apicId: u32): Status {
  const u = uart.uartAt(index);
  if (u.irq == 0) return Status.NOT_FOUND;
  const vector = allocate(Handler.UART, index);
  if (vector == 0) return Status.FULL;
  const status = ioapic.routeIsa(u.irq, vector, apicId);
  if (status == Status.OK) uart.enableInput(u);
  return status;
}

/** Logs what went wrong since the last call. From the idle loop. */
export function reportErrors(): void {
  const errors = atomic.xchg<u32>(shared + 4, 0);
  if (errors == 0) return;
  log.begin(log.Level.WARN, "lapic");
  log.str("error status ");
  log.hex(errors);
  log.end();
}
