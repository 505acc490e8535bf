// The log as a test reads it: straight from linear memory, by the ring's signature, as one would read a
// memory dump.

import type { Machine } from "./machine.ts";

const SIGNATURE = "BASALTLG";
const HEADER = 64;
const TEXT = 24;

export interface LogLine {
  level: number;
  cpu: number;
  text: string;
}

/** Every complete line, oldest first. */
export function logRecords(m: Machine): LogLine[] {
  const dump = Buffer.from(m.memory.buffer, 0, 0x40_0000);
  const ring = dump.indexOf(SIGNATURE);
  if (ring < 0) return [];
  const slots = dump.readUInt32LE(ring + 8);
  const slotBytes = dump.readUInt32LE(ring + 12);
  const count = dump.readUInt32LE(ring + 16);
  const lines: LogLine[] = [];
  for (let i = Math.max(0, count - slots); i < count; i++) {
    const slot = ring + HEADER + (i % slots) * slotBytes;
    if (dump.readUInt32LE(slot) !== 2 * i + 2) continue;
    const length = dump.readUInt32LE(slot + 16);
    lines.push({
      level: dump.readUInt8(slot + 4),
      cpu: dump.readUInt16LE(slot + 6),
      text: dump.toString("latin1", slot + TEXT, slot + TEXT + length),
    });
  }
  return lines;
}

export function logLines(m: Machine): string[] {
  return logRecords(m).map((line) => line.text);
}
