// The 8254's channel 2, whose output a program can read: the clock of last resort.
// "8254 Programmable Interval Timer", Intel, "Mode 0: Interrupt on Terminal Count".

import { in8, out8 } from "../kernel/cpu/insn";

export const HZ: u64 = 1_193_182;
const CHANNEL_2: u32 = 0x42;
const COMMAND: u32 = 0x43;
const GATE_PORT: u32 = 0x61;
const CHANNEL_2_MODE_0: u32 = 0xb0; // both bytes, mode 0, binary
const LATCH_CHANNEL_2: u32 = 0x80;
const GATE: u32 = 1 << 0;
const SPEAKER: u32 = 1 << 1;

/** Starts counting down from 65535; false if the counter does not move. */
export function start(): bool {
  out8(GATE_PORT, (in8(GATE_PORT) & ~SPEAKER) | GATE);
  out8(COMMAND, CHANNEL_2_MODE_0);
  out8(CHANNEL_2, 0xff);
  out8(CHANNEL_2, 0xff);
  const first = read();
  for (let i: u32 = 0; i < 10_000; i++) if (read() != first) return true;
  return false;
}

/** Ticks since start(), modulo 65536. */
export function read(): u32 {
  out8(COMMAND, LATCH_CHANNEL_2);
  const low = in8(CHANNEL_2) & 0xff;
  return (0xffff - (low | ((in8(CHANNEL_2) & 0xff) << 8))) & 0xffff;
}
