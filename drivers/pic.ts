// The 8259 pair: moved away from the exceptions' vectors and masked for good. What it raises all the
// same (spurious IRQ 7 and 15) lands on Vector.LEGACY and is ignored.
// "8259A Programmable Interrupt Controller", Intel, "Initialization Command Words".

import { out8 } from "../kernel/cpu/insn";
import { Vector } from "../kernel/cpu/vector";

const MASTER: u32 = 0x20;
const SLAVE: u32 = 0xa0;
const ICW1_INIT_ICW4: u32 = 0x11;
const ICW4_8086: u32 = 0x01;
const CASCADE_IRQ: u32 = 2;
const ALL: u32 = 0xff;
/** A write to an unused port takes about a microsecond: old chips need it between commands. */
const DELAY_PORT: u32 = 0x80;

export function disable(): void {
  command(MASTER, ICW1_INIT_ICW4);
  command(SLAVE, ICW1_INIT_ICW4);
  command(MASTER + 1, <u32>Vector.LEGACY);
  command(SLAVE + 1, <u32>Vector.LEGACY + 8);
  command(MASTER + 1, 1 << CASCADE_IRQ);
  command(SLAVE + 1, CASCADE_IRQ);
  command(MASTER + 1, ICW4_8086);
  command(SLAVE + 1, ICW4_8086);
  command(MASTER + 1, ALL);
  command(SLAVE + 1, ALL);
}

function command(port: u32, value: u32): void {
  out8(port, value);
  out8(DELAY_PORT, 0);
}
