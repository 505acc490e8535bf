// What a CPU does between turns of its guests: sees to the log and to VMs that ended (the boot CPU), gives the
// next vCPU its turn, and sleeps until an interrupt if there is none.

import * as console from "../../drivers/console";
import * as irq from "../../drivers/irq";
import { idle, rdtsc } from "../cpu/insn";
import { cpu, takeWork } from "../cpu/percpu";
import { reportNoted } from "../cpu/trap";
import { onShootdown } from "../mm/shootdown";
import * as monitor from "../monitor/monitor";
import { HostWork, virt } from "../vcpu/current";
import { runNext } from "../vm/run";
import { wakeSoon } from "../vm/schedule";
import { enableHere, seeToGuests } from "./guests";
import { compareHere } from "./smp";
import { Work } from "./work";

/** Until the next interrupt; its handler's time counts as idle. */
function sleep(): void {
  const since = rdtsc();
  idle();
  virt().idleTicks += rdtsc() - since;
}

/** Never returns. An interrupt that arrives between the look and the sleep ends the sleep: see `idle`. */
export function idleLoop(): void {
  while (true) {
    onShootdown();
    if (takeWork() & <u32>Work.COMPARE) compareHere();
    reportNoted();
    let busy: bool = false;
    if (cpu().index == 0) {
      irq.reportErrors();
      monitor.poll();
      busy = seeToGuests(); // what the operator has just asked for included
    }
    const more = console.drainSome();
    if (virt().work & <u32>HostWork.ENABLE) enableHere();
    if (runNext() || busy) continue;
    if (more) wakeSoon();
    sleep();
    onShootdown();
    runNext(); // who was woken comes first, the house after that turn
  }
}
