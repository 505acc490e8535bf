// What a CPU does when it runs no guest: prints the log (the boot CPU), and sleeps until an interrupt.

import * as console from "../../drivers/console";
import * as irq from "../../drivers/irq";
import { idle } from "../cpu/insn";
import { cpu, takeWork } from "../cpu/percpu";
import { takeExpired } from "../cpu/timer";
import { onShootdown } from "../mm/shootdown";
import { compareHere } from "./smp";
import { Work } from "./work";

/** Never returns. An interrupt that arrives between the look and the sleep ends the sleep: see `idle`. */
export function idleLoop(): void {
  while (true) {
    onShootdown();
    while (takeExpired() != 0) {}
    if (takeWork() & <u32>Work.COMPARE) compareHere();
    if (cpu().index == 0) {
      irq.reportErrors();
      console.drain();
    }
    idle();
  }
}
