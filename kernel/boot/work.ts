// What one CPU asks of another: a bit in its mailbox, and a kick so that it looks.

import * as apic from "../cpu/apic";
import { cpuAt, postWork } from "../cpu/percpu";
import { Vector } from "../cpu/vector";

export const enum Work {
  COMPARE = 1, // compare the time-stamp counters, while others do
}

export function askCpu(index: u32, work: Work): void {
  postWork(index, work);
  apic.sendFixed(Vector.KICK, cpuAt(index).apicId);
}
