// What follows a fault: where the core may contain it, the unwinder; else a report, the other CPUs
// stopped, and the end that the command line asks for. The entry points that boot/vectors.asm calls
// are here; NMI and #MC only note what happened.

import * as apic from "../kernel/cpu/apic";
import { cpuBlock, halt, injectFault, unwind } from "../kernel/cpu/insn";
import * as trap from "../kernel/cpu/trap";
import { TrapFrame } from "../kernel/cpu/trapframe";
import * as cmdline from "../kernel/lib/cmdline";
import * as log from "../kernel/lib/log";
import * as console from "./console";
import * as platform from "./platform";
import * as power from "./power";

const VECTOR_DF: u64 = 8;

/** unwind()'s kinds beyond the TrapKinds of tools/compiler/ir.ts. */
export const enum Kind {
  EXCEPTION = 0x100, // + vector
  MACHINE_CHECK = 0x112,
}

/** +0 the CPU that stops the machine, plus one; 0: none does [atomic] */
const stopper: usize = memory.data(4, 4);

/** Vectors 0..31 but 2 and 18. Does not return: no exception of the core is harmless. */
export function onException(frame: usize): void {
  const f = changetype<TrapFrame>(frame);
  const own = trap.area();
  own.depth++;
  if (own.depth > 2) halt();
  if (own.depth == 2) {
    log.error("fault", "another fault while the first one was reported");
    stopMachine();
  }
  trap.report(f);
  const kind = trap.trapKind(f.rip);
  // A double fault says that the state is not to be trusted: never contained.
  if (trap.isContained() && f.vector != VECTOR_DF) {
    own.depth = 0;
    unwind(kind == trap.NO_TRAP ? <u32>Kind.EXCEPTION + <u32>f.vector : kind);
  }
  stopMachine();
}

/** Vector 2, on its own stack: notes it, or stops this CPU if another one is stopping the machine. */
export function onNmi(frame: usize): void {
  if (atomic.load<u32>(stopper) != 0) halt();
  trap.noteNmi(changetype<TrapFrame>(frame));
}

/** Vector 18, on its own stack. Without a valid return address the CPU cannot go on from here. */
export function onMachineCheck(_frame: usize): void {
  if (!trap.noteMachineCheck()) unwind(Kind.MACHINE_CHECK);
}

/** The core found itself broken outside of an exception: says why and stops the machine. */
export function fatal(area: string, why: string): void {
  log.error(area, why);
  stopMachine();
}

/** Stops the other CPUs, prints everything, and ends as `panic=` says. Does not return. */
export function stopMachine(): void {
  const own = load<u32>(cpuBlock(), 4) + 1;
  const first = atomic.cmpxchg<u32>(stopper, 0, own);
  if (first != 0 && first != own) halt();
  if (first == 0 && platform.platform().cpuCount > 1) apic.sendNmiToOthers();
  console.drainLast();
  power.finish(power.Outcome.PANIC);
}

/** Whether some CPU is stopping the machine. */
export function isStopping(): bool {
  return atomic.load<u32>(stopper) != 0;
}

// ---- Faults on purpose

/** Numbers of boot/inject.asm. */
const INJECTIONS: StaticArray<string> = [
  "null",
  "stack",
  "text",
  "data",
  "div",
  "window",
  "df",
  "nmi",
  "ud",
  "gp",
  "rodata",
  "hang",
];

/** Commits the faults that `inject=NAME[,cpu=N]` asks of this CPU. Each CPU calls it once it is up. */
export function injectAsked(cpu: u32): void {
  for (
    let word = cmdline.next(cmdline.Option.INJECT, -1);
    word >= 0;
    word = cmdline.next(cmdline.Option.INJECT, word)
  ) {
    inject(cmdline.valueOf(word), cmdline.valueBytesOf(word), cpu);
  }
}

function inject(text: usize, count: u32, cpu: u32): void {
  let comma: u32 = 0;
  while (comma < count && load<u8>(text + comma) != 0x2c) comma++;
  if (cpuAsked(text + comma, count - comma) != cpu) return;
  for (let i: u32 = 0; i < <u32>INJECTIONS.length; i++) {
    if (!cmdline.same(text, comma, unchecked(INJECTIONS[i]))) continue;
    injectFault(i);
    trap.reportNoted(); // an NMI returns
    return;
  }
  log.warn("fault", "inject= names a fault that does not exist");
}

/** N of ",cpu=N"; 0 if it is not there. */
function cpuAsked(text: usize, count: u32): u32 {
  const digits = count - 5;
  if (count < 6 || !cmdline.same(text, 5, ",cpu=") || cmdline.numberLength(text + 5, digits) != digits) return 0;
  return <u32>cmdline.parseNumber(text + 5, digits);
}
