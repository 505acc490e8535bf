// Guests on the fake machine: the whole core boots with one guest, and instead of a guest's code a
// script runs, which describes how each stay in the guest ends and sees what the next entry finds.
//
//   const g = await guest(function* (cpu) {
//     yield { reason: EXIT.CPUID, length: 2 };        the core handles the exit; then the script goes on
//     expect(cpu.get(0)).toBe(...);
//   });

import { boot, type PcOptions, pc, type Terminal } from "./firmware.ts";
import { type Struct, struct } from "./layout.ts";
import { logLines } from "./log.ts";
import type { Machine } from "./machine.ts";
import { F, type Guest, type GuestExit, type GuestScript, setGuest } from "./vmx.ts";

// biome-ignore format: a table
export const EXIT = {
  EXCEPTION_OR_NMI: 0, EXTERNAL_INTERRUPT: 1, TRIPLE_FAULT: 2, INIT_SIGNAL: 3, INTERRUPT_WINDOW: 7, NMI_WINDOW: 8,
  TASK_SWITCH: 9, CPUID: 10, GETSEC: 11, HLT: 12, INVD: 13, INVLPG: 14, RDPMC: 15, RDTSC: 16, VMCALL: 18, VMXON: 27,
  CR_ACCESS: 28, DR_ACCESS: 29, IO: 30, RDMSR: 31, WRMSR: 32, MWAIT: 36, MONITOR: 39, PAUSE: 40, TPR_BELOW: 43,
  APIC_ACCESS: 44, VIRTUALIZED_EOI: 45, EPT_VIOLATION: 48, EPT_MISCONFIGURATION: 49, RDTSCP: 51, PREEMPTION_TIMER: 52,
  WBINVD: 54, XSETBV: 55, APIC_WRITE: 56, RDRAND: 57, INVPCID: 58,
} as const;

export const R = { RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7 } as const;

/** A multiboot kernel of 64 bytes: its code never runs. */
export function kernelImage(): Uint8Array {
  const bytes = Buffer.alloc(64);
  const flags = 0x0001_0000;
  const words = [0x1bad_b002, flags, -(0x1bad_b002 + flags) >>> 0, 0x10_0000, 0x10_0000, 0, 0x10_0040, 0x10_0020];
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word >>> 0, 4 * i);
  return bytes;
}

/** One script a vCPU; a script that returns shuts its VM down with exit code 0. */
export type Script = (cpu: Vcpu) => Generator<GuestExit, void, void>;

export interface GuestOptions extends PcOptions {
  /** Words of the guest's description besides its name. */
  words?: string;
  /** Its file, in place of a multiboot kernel of 64 bytes. */
  kernel?: Uint8Array;
  /** Scripts of the vCPUs beyond the first. */
  others?: Script[];
  /** The script makes a VM entry fail; where it did not mean to, the rest of it would be skipped without a word. */
  entryFails?: boolean;
  /** Called before the core is entered. */
  prepare?: (m: Machine) => void;
}

/** The guest as a script sees it: the current stay, renewed by each entry. */
export class Vcpu {
  stay!: Guest;
  readonly record: Struct;
  constructor(
    readonly m: Machine,
    readonly at: number,
    /** The operator's. */
    readonly terminal: Terminal,
  ) {
    this.record = struct(m, "kernel/vcpu/vcpu.ts", "Vcpu", at);
  }

  get(register: number): bigint {
    return this.stay.get(register);
  }

  set(register: number, value: bigint | number): void {
    this.stay.set(register, BigInt(value));
  }

  read(field: number): bigint {
    return this.stay.read(field);
  }

  write(field: number, value: bigint | number): void {
    this.stay.write(field, BigInt(value));
  }

  /** Number of its VM. */
  get vm(): number {
    return this.m.view.getUint32(this.record.vm as number, true);
  }

  get injected() {
    return this.stay.injected;
  }

  get rip(): bigint {
    return this.stay.rip;
  }

  /** A register of the virtual-APIC page, by its offset. */
  apic(offset: number): number {
    return this.m.view.getUint32((this.record.virtualApic as number) + offset, true);
  }

  setApic(offset: number, value: number): void {
    this.m.view.setUint32((this.record.virtualApic as number) + offset, value, true);
  }

  /** Host-physical address behind a guest-physical one. */
  hpa(gpa: number | bigint, kind: "read" | "write" | "fetch" = "read"): number {
    const found = this.stay.access(BigInt(gpa), kind);
    if (!("hpa" in found)) throw new Error(`EPT violation at ${gpa.toString(16)}`);
    return Number(found.hpa);
  }

  /** Writes bytes, or a little-endian number of `bytes`, to guest memory. */
  poke(gpa: number, value: Uint8Array | number[] | bigint, bytes = 8): void {
    const data = typeof value === "bigint" ? number(value, bytes) : Uint8Array.from(value);
    for (const [i, byte] of data.entries()) this.m.ram.write(this.hpa(gpa + i, "write"), 1, BigInt(byte));
  }

  peek(gpa: number, bytes = 8): bigint {
    let value = 0n;
    for (let i = 0; i < bytes; i++) value |= this.m.ram.read(this.hpa(gpa + i), 1) << BigInt(8 * i);
    return value;
  }
}

function number(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

export interface Outcome {
  m: Machine;
  log: string[];
  /** The line on the guest's end. */
  ended: string;
  entries: number;
  /** What the core printed on the operator's terminal. */
  serial: string;
}

/**
 * Boots the core with a guest named `test` and runs the script until the machine sleeps or stops. What the
 * script throws (an expectation that fails) comes out.
 */
export async function guest(script: Script, options: GuestOptions = {}): Promise<Outcome> {
  const string = `guest=test memory=4M ${options.others ? `cpus=${options.others.length + 1}` : ""} ${options.words ?? ""}`;
  const { m, ...terminal } = await pc({
    ticks: { pause: 20_000 },
    ...options,
    commandLine: `exit=halt mitigations=off ${options.commandLine ?? ""}`,
    modules: [...(options.modules ?? []), { bytes: options.kernel ?? kernelImage(), string }],
  });
  let entries = 0;
  const scripts = new Map<number, { vcpu: Vcpu; run: Generator<GuestExit, void, void> }>();
  const start = (at: number): { vcpu: Vcpu; run: Generator<GuestExit, void, void> } => {
    const vcpu = new Vcpu(m, at, terminal);
    const body = vcpu.record.index === 0 ? script : options.others?.[vcpu.record.index - 1];
    if (!body) throw new Error(`vCPU ${vcpu.record.index} has no script`);
    return { vcpu, run: body(vcpu) };
  };
  const run: GuestScript = (stay) => {
    entries++;
    let own = scripts.get(stay.vcpu);
    if (!own) {
      own = start(stay.vcpu);
      scripts.set(stay.vcpu, own);
    }
    own.vcpu.stay = stay;
    const step = own.run.next();
    return step.done ? shutdown(own.vcpu) : step.value;
  };
  setGuest(m, run);
  m.containsAll = true;
  options.prepare?.(m);
  try {
    m.contained(() => boot(m));
  } catch (error) {
    if (!/Halted|Asleep/.test((error as Error).name)) throw error;
  }
  const log = logLines(m);
  const failed = log.find((line) => line.includes("VM entry failed"));
  if (failed && !options.entryFails) throw new Error(failed);
  return { m, log, entries, serial: terminal.serial(), ended: log.find((line) => line.includes("test ended")) ?? "" };
}

/** VMCALL: shutdown with code 0. */
function shutdown(vcpu: Vcpu): GuestExit {
  vcpu.set(R.RAX, 3n);
  vcpu.set(R.RBX, 0n);
  return { reason: EXIT.VMCALL, length: 3 };
}

/** The exit of an instruction of `length` bytes. */
export function instruction(reason: number, length: number, more: Partial<GuestExit> = {}): GuestExit {
  return { reason, length, ...more };
}

/** WRMSR of all 64 bits of `value`. */
export function wrmsr(cpu: Vcpu, msr: number, value: bigint | number): GuestExit {
  cpu.set(R.RCX, msr);
  cpu.set(R.RAX, BigInt(value) & 0xffff_ffffn);
  cpu.set(R.RDX, BigInt(value) >> 32n);
  return instruction(EXIT.WRMSR, 2);
}

/** OUT of 1, 2 or 4 bytes, one byte long. */
export function out(cpu: Vcpu, port: number, value: number, bytes = 1): GuestExit {
  cpu.set(R.RAX, value);
  return instruction(EXIT.IO, 1, { qualification: BigInt((port << 16) | (bytes - 1)) });
}

/** Start-up commands for vCPU 1, for the x2APIC's ICR. */
export const INIT_1 = (1n << 32n) | 0x4500n;
export const SIPI_1 = (1n << 32n) | 0x4608n;

export { F };
