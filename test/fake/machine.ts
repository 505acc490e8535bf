// A simulated machine that runs the core's Wasm in Node: processors, physical memory, ports and time,
// behind the intrinsics that the core imports. See README.md.

import { countersOf } from "../coverage/collect.ts";
import { enterBootTables } from "./boot.ts";
import { compile, type Flavour } from "./compile.ts";
import { Cpu } from "./cpu.ts";
import { type Access, Asleep, CpuException, GeneralProtection, Halted, PageFault, Parked, Unwound } from "./faults.ts";
import { type Image, layOut } from "./image.ts";
import { declarations, type Intrinsic, intrinsics } from "./insn.ts";
import { PhysicalMemory } from "./memory.ts";
import type { MsrModel } from "./msr.ts";
import { type Mapping, mappings, type Tlb, translate } from "./paging.ts";
import { Ports } from "./ports.ts";
import { generic } from "./profiles/generic.ts";
import { type CpuidOverrides, type Profile, withCpuid } from "./profiles/profile.ts";
import { Clock } from "./time.ts";

const PERCPU_BASE = 0x40_0000;
const PERCPU_BYTES = 0x4000;
const PERCPU_FRAMES = 0x3000;
const FRAME_VECTOR = 160; // of a TrapFrame
const LINEAR_START = 0x1_0000;
const SHARED_END = 0x40_0000;
const IMAGE_BASE = 0xffff_ffff_8000_0000n;
const TRAMPOLINE = { bringupCr3: 0x008, cpuCount: 0x00c, coreCr3: 0x010, apicIds: 0x400 };

export interface MachineOptions {
  /** Kernel files whose exports to have, or null for the whole core (kernel/main.ts, the image's bytes). */
  entries?: string[] | null;
  flavour?: Flavour;
  /** RAM as [base, bytes] ranges, or the bytes of a PC: below 640 KiB, and from 1 MiB up with a hole below 4 GiB. */
  memory?: number | [base: number, bytes: number][];
  cpus?: number;
  /** APIC ID of each CPU; by default 0, 1, 2, ... */
  apicIds?: number[];
  profile?: Profile;
  cpuid?: CpuidOverrides;
  /** Additional or replaced MSRs, by number. */
  msrs?: Record<number, bigint>;
  /** MSRs to take away. */
  absentMsrs?: number[];
  /**
   * flat (default): window accesses reach physical memory directly, guest addresses at `guestBase`.
   * boot: the page tables of boot/entry.asm, and from then on whatever the core builds.
   */
  paging?: "flat" | "boot";
  guestBase?: number;
  /** What RAM holds before anybody writes it. */
  poison?: number;
  /** Ticks that an intrinsic takes (1), PAUSE (100), and an access to a port (1000). */
  ticks?: { intrinsic?: number; pause?: number; port?: number };
  /** Intrinsic calls after which a run counts as endless (default 5 million). */
  callLimit?: number;
}

// biome-ignore lint/suspicious/noExplicitAny: the exports of whatever was compiled
export type Kernel = Record<string, any>;

const MIB = 1024 * 1024;

export async function machine(options: MachineOptions = {}): Promise<Machine> {
  const whole = options.entries === undefined || options.entries === null;
  const entries = whole ? ["kernel/main.ts"] : (options.entries as string[]);
  const module = await compile(entries, options.flavour ?? (whole ? "release" : "unit"));
  return new Machine(module, options);
}

/** The exports of one or more kernel files on a flat machine with the defaults. */
export async function load(...entries: string[]): Promise<Kernel> {
  return (await machine({ entries })).kernel;
}

export class Machine {
  readonly memory = new WebAssembly.Memory({ initial: 2176, maximum: 2176 });
  readonly ram: PhysicalMemory;
  readonly ports = new Ports();
  readonly clock: Clock;
  readonly cpus: Cpu[] = [];
  readonly image: Image = layOut();
  /** MSRs of the test's own; they take precedence. */
  readonly msrs = new Map<number, MsrModel>();
  readonly absentMsrs: Set<number>;
  /** How often each intrinsic was called. */
  readonly counts: Record<string, number> = {};
  /** The core's exports. Results are unsigned: numbers for u32, bigints for u64. */
  readonly kernel: Kernel;
  /** CPUs that obeyed a start-up IPI and run at the next pause of another. */
  readonly toStart: Cpu[] = [];
  /** The CPU whose code runs. */
  current: Cpu;
  paging: "flat" | "boot";
  guestBase: number;
  /** Called when a level-triggered interrupt gets its EOI: the I/O APIC's side. */
  onEoi: (vector: number) => void = () => undefined;
  /** Called by `injectFault`. */
  injectFault: (which: number) => void = (which) => {
    throw new Error(`injectFault(${which})`);
  };
  /** Traps of further CPUs enter the core's handlers too; else they end the run. */
  containsAll = false;
  private readonly intrinsicTicks: number;
  private readonly pauseTicks: number;
  private readonly portTicks: number;
  /** Intrinsics that the call from outside which is under way may still make. */
  private callsLeft: number;
  private readonly callLimit: number;
  private readonly recent = new Recent();
  private seed = 0x9e37_79b9_7f4a_7c15n;

  constructor(module: WebAssembly.Module, options: MachineOptions) {
    const profile = profileOf(options);
    this.clock = new Clock(profile.tscKhz);
    this.absentMsrs = new Set(options.absentMsrs);
    this.intrinsicTicks = options.ticks?.intrinsic ?? 1;
    this.pauseTicks = options.ticks?.pause ?? 100;
    this.portTicks = options.ticks?.port ?? 1000;
    this.callLimit = options.callLimit ?? 5_000_000;
    this.callsLeft = this.callLimit;
    this.paging = options.paging ?? "flat";
    this.guestBase = options.guestBase ?? 0;
    this.ram = new PhysicalMemory(this.memory, options.poison);
    for (const [base, bytes] of ramRanges(options.memory ?? 512 * MIB)) this.ram.addRam(base, bytes);
    this.ram.alias(this.image.linear, SHARED_END - LINEAR_START, LINEAR_START);
    this.ram.alias(this.image.percpu, PERCPU_BYTES, PERCPU_BASE);
    for (let i = 0; i < (options.cpus ?? 1); i++) this.addCpu(options.apicIds?.[i] ?? i, profile);
    this.current = this.cpus[0];
    this.ram.addDevice(0xfee0_0000, 4096, {
      read: (offset) =>
        this.current.lapic.enabled && !this.current.lapic.x2apic ? this.current.lapic.read(offset) : 0xffff_ffff,
      write: (offset, _bytes, value) => {
        if (this.current.lapic.enabled && !this.current.lapic.x2apic) this.current.lapic.write(offset, Number(value));
      },
    });
    if (this.paging === "boot") enterBootTables(this);
    const instance = new WebAssembly.Instance(module, {
      insn: this.imports(),
      env: { memory: this.memory },
      ...countersOf(module),
    });
    this.kernel = unsigned(instance.exports, () => {
      this.callsLeft = this.callLimit;
    });
    this.kernel._start?.();
  }

  // ---- For tests

  /** Runs `action` as CPU `index`. */
  on<T>(index: number, action: () => T): T {
    const before = this.current;
    this.current = this.cpus[index];
    try {
      return action();
    } finally {
      this.current = before;
    }
  }

  /** Runs `action`; a trap or fault of the core that it does not return from enters the core's handlers as NASM would. */
  contained(action: () => void): void {
    try {
      action();
    } catch (error) {
      const vector = vectorOf(error);
      if (error instanceof Unwound) this.contained(() => this.kernel.onTrap(error.kind));
      else if (vector >= 0) this.contained(() => this.kernel.onException(this.frame(0, vector)));
      else throw error;
    }
  }

  /** Reads and writes linear memory. */
  get view(): DataView {
    return new DataView(this.memory.buffer);
  }

  /** Address of CPU `index`'s block. */
  percpu(index: number): bigint {
    return BigInt(PERCPU_BASE + index * PERCPU_BYTES);
  }

  /** Every page that `root` (default: the running CPU's tables) maps. */
  mappings(root = this.current.cr3): Mapping[] {
    return [...mappings(this.ram, this.current.pagingMode, root)];
  }

  /** Where the running CPU's tables take `va`. Throws PageFault. */
  translate(va: bigint, access: Access = "read"): number {
    const cpu = this.current;
    return translate(this.ram, cpu.tlb, cpu.pagingMode, cpu.cr3, va, access);
  }

  /** A deterministic u64. */
  random(): bigint {
    this.seed = BigInt.asUintN(64, this.seed * 6364136223846793005n + 1442695040888963407n);
    return this.seed ^ (this.seed >> 29n);
  }

  /** Raises `vector` on CPU `index` as an I/O device would. */
  interrupt(index: number, vector: number, level = false): void {
    this.cpus[index].lapic.accept(vector, level);
  }

  /** Lets the other CPUs do what they can, until none has anything left to do. */
  settle(): void {
    while (this.runOthers()) {}
  }

  // ---- For the intrinsics

  reach(window: "table" | "device" | "guest", address: bigint, va: bigint, access: Access): number {
    if (this.paging !== "flat") {
      const page = this.recent.find(this.current, va >> 12n, access);
      if (page !== undefined) return page + Number(va & 4095n);
      try {
        const pa = this.translate(va, access);
        this.recent.note(this.current, va >> 12n, access, pa - (pa % 4096));
        return pa;
      } catch (error) {
        if (error instanceof PageFault) this.current.cr2 = error.address;
        throw error;
      }
    }
    return Number(address) + (window === "guest" ? this.guestBase : 0);
  }

  /** Linear memory that an instruction with a pointer touches must exist. */
  checkLinear(ptr: number, bytes: number): void {
    if (ptr < LINEAR_START || ptr + bytes > this.memory.buffer.byteLength)
      throw new PageFault(BigInt(ptr), "write", "not present");
  }

  imageload64(va: bigint): bigint {
    if (va < IMAGE_BASE) throw new PageFault(va, "read", "not present");
    return this.ram.read64(this.paging === "flat" ? Number(va - IMAGE_BASE) : this.translate(va));
  }

  pause(): void {
    this.clock.advance(this.pauseTicks);
    this.runOthers();
  }

  hlt(): void {
    if (!this.current.interruptsEnabled) throw new Halted(this.current.index);
    this.sleep();
  }

  /** STI; HLT; CLI. */
  idle(): void {
    this.current.interruptsEnabled = true;
    this.sleep();
    this.current.interruptsEnabled = false;
  }

  takeInterrupts(): void {
    this.current.interruptsEnabled = true;
    this.takePending();
    this.current.interruptsEnabled = false;
  }

  /** Takes what is pending on the running CPU, if it has interrupts on. True if anything was. */
  takePending(): boolean {
    const cpu = this.current;
    let any = false;
    if (cpu.pendingNmi) {
      cpu.pendingNmi = false;
      this.raise("onNmi");
      any = true;
    }
    for (; cpu.interruptsEnabled; any = true) {
      const vector = cpu.lapic.pending();
      if (vector < 0) break;
      cpu.lapic.acknowledge(vector);
      cpu.interruptsEnabled = false;
      this.kernel.onInterrupt(vector);
      cpu.interruptsEnabled = true;
    }
    return any;
  }

  /** INT 2, INT 18, or the event itself: enters the core's handler with this CPU's frame for it. */
  raise(entry: "onNmi" | "onMachineCheck"): void {
    this.kernel[entry](entry === "onNmi" ? this.frame(1, 2) : this.frame(2, 18));
  }

  /** The frame in `slot` of the running CPU, for `vector`. */
  private frame(slot: number, vector: number): number {
    const frame = Number(this.percpu(this.current.index)) + PERCPU_FRAMES + 0x100 * slot;
    this.view.setBigUint64(frame + FRAME_VECTOR, BigInt(vector), true);
    return frame;
  }

  loadDescriptors(d: { gdt: bigint; gdtLimit: number; idt: bigint; idtLimit: number; tr: number }): void {
    const at = (va: bigint) => (this.paging === "flat" ? Number(va & 0xfff_ffff_ffffn) : this.translate(va));
    if (d.tr + 15 > d.gdtLimit) throw new GeneralProtection("LTR beyond the GDT's limit");
    const low = this.ram.read64(at(d.gdt + BigInt(d.tr)));
    if (((low >> 40n) & 0x9fn) !== 0x89n) throw new GeneralProtection("LTR: not an available 64-bit TSS");
    this.ram.write64(at(d.gdt + BigInt(d.tr)), low | (2n << 40n));
    this.current.descriptors = d;
  }

  // ---- Inside

  private sleep(): void {
    const cpu = this.current;
    while (!this.takePending()) {
      if (this.runOthers()) continue;
      // Only the boot CPU's code stays on the host's stack while it sleeps.
      if (cpu.index !== 0) throw new Parked(cpu.index);
      if (!this.clock.skip()) throw new Asleep(cpu.index);
    }
  }

  /** One turn of every other CPU that has something to do. */
  private runOthers(): boolean {
    let any = false;
    for (let cpu = this.toStart.shift(); cpu; cpu = this.toStart.shift()) {
      this.start(cpu);
      any = true;
    }
    for (const cpu of this.cpus) {
      if (cpu === this.current || cpu.state !== "idle" || (cpu.lapic.pending() < 0 && !cpu.pendingNmi)) continue;
      this.run(cpu, () => {
        cpu.interruptsEnabled = true;
        this.takePending();
        cpu.interruptsEnabled = false;
        this.kernel.idleLoop?.();
      });
      any = true;
    }
    return any;
  }

  /** Runs `action` as `cpu` until it returns, parks or halts. */
  private run(cpu: Cpu, action: () => void): void {
    cpu.state = "running";
    try {
      this.on(cpu.index, this.containsAll ? () => this.contained(action) : action);
      cpu.state = "idle";
    } catch (error) {
      if (error instanceof Parked) cpu.state = "idle";
      else if (error instanceof Halted) cpu.state = "halted";
      else throw error;
    }
  }

  /** What boot/trampoline.asm does with the parameters in its page. */
  private start(cpu: Cpu): void {
    const page = cpu.startupPage * 4096;
    const count = this.ram.read32(page + TRAMPOLINE.cpuCount);
    for (let i = 0; i < count; i++) {
      if (this.ram.read32(page + TRAMPOLINE.apicIds + 4 * i) !== cpu.apicId) continue;
      cpu.cr0 = 0x8001_0033n;
      cpu.cr4 = 0x20n;
      cpu.efer = 0xd00n;
      cpu.cr3 = this.ram.read64(page + TRAMPOLINE.coreCr3);
      cpu.gsBase = this.percpu(i);
      this.run(cpu, () => this.kernel.apmain(i));
      return;
    }
    cpu.state = "halted";
  }

  private addCpu(apicId: number, profile: Profile): void {
    const cpu = new Cpu(this, this.cpus.length, apicId, profile);
    this.cpus.push(cpu);
    const block = Number(this.percpu(cpu.index));
    this.view.setUint32(block, block, true);
    this.view.setUint32(block + 4, cpu.index, true);
  }

  private imports(): WebAssembly.ModuleImports {
    const table = intrinsics(this);
    const result: WebAssembly.ModuleImports = {};
    for (const { name, params } of declarations()) {
      const implementation = table[name];
      if (implementation) result[name] = this.counted(name, implementation, params) as WebAssembly.ImportValue;
    }
    return result;
  }

  /** Makes the arguments unsigned, counts the call and lets time pass. */
  private counted(name: string, implementation: Intrinsic, params: string[]) {
    this.counts[name] = 0;
    const call = implementation as (...args: (number | bigint)[]) => unknown;
    const fix = params.map((type) =>
      type === "u64" ? (v: bigint) => BigInt.asUintN(64, v) : (v: number) => v >>> 0,
    ) as ((v: unknown) => number | bigint)[];
    const ticks = /^(in|out)\d/.test(name) ? this.portTicks : this.intrinsicTicks;
    return (...args: unknown[]) => {
      this.counts[name]++;
      if (--this.callsLeft < 0) throw new Error(`endless: ${name} once more after too many intrinsics`);
      this.clock.advance(ticks);
      return call(...args.map((a, i) => fix[i](a)));
    };
  }
}

/**
 * Translations that the TLB gave lately, for speed: valid for one CPU as long as its TLB dropped nothing
 * and its control registers are what they were.
 */
class Recent {
  private cpu: Cpu | null = null;
  private tlb: Tlb | null = null;
  private generation = -1;
  private cr0 = 0n;
  private cr3 = 0n;
  private cr4 = 0n;
  private efer = 0n;
  private reads = new Map<bigint, number>();
  private writes = new Map<bigint, number>();

  find(cpu: Cpu, page: bigint, access: Access): number | undefined {
    if (!this.isValidFor(cpu)) this.restart(cpu);
    return access === "write" ? this.writes.get(page) : access === "read" ? this.reads.get(page) : undefined;
  }

  note(cpu: Cpu, page: bigint, access: Access, pa: number): void {
    if (this.find(cpu, page, access) !== undefined) return;
    if (access === "write") this.writes.set(page, pa);
    this.reads.set(page, pa);
  }

  private isValidFor(cpu: Cpu): boolean {
    const sameTlb = cpu === this.cpu && cpu.tlb === this.tlb && cpu.tlb.generation === this.generation;
    return sameTlb && cpu.cr3 === this.cr3 && cpu.cr4 === this.cr4 && cpu.cr0 === this.cr0 && cpu.efer === this.efer;
  }

  private restart(cpu: Cpu): void {
    this.reads.clear();
    this.writes.clear();
    this.cpu = cpu;
    this.tlb = cpu.tlb;
    this.generation = cpu.tlb.generation;
    [this.cr0, this.cr3, this.cr4, this.efer] = [cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer];
  }
}

/** The exception that a trap of the Wasm or a fault of an intrinsic is on the machine; -1: it is none. */
function vectorOf(error: unknown): number {
  if (error instanceof CpuException) return error.vector;
  if (!(error instanceof WebAssembly.RuntimeError)) return -1;
  return /unreachable/.test(error.message) ? 6 : /divide|remainder/.test(error.message) ? 0 : 14;
}

function profileOf(options: MachineOptions): Profile {
  const base = withCpuid(options.profile ?? generic, options.cpuid ?? {});
  const msrs = { ...base.msrs };
  for (const [number, value] of Object.entries(options.msrs ?? {})) msrs[Number(number).toString(16)] = value;
  return { ...base, msrs };
}

/** A PC's RAM: up to 640 KiB, from 1 MiB, and above 4 GiB what the hole at 3 GiB displaced. */
function ramRanges(memory: number | [number, number][]): [number, number][] {
  if (Array.isArray(memory)) return memory;
  const hole = 3 * 1024 * MIB;
  const ranges: [number, number][] = [
    [0, 0xa_0000],
    [MIB, Math.min(memory, hole) - MIB],
  ];
  if (memory > hole) ranges.push([4 * 1024 * MIB, memory - hole]);
  return ranges;
}

/** The exports with unsigned results; `entered` runs before each call that is not made from within another. */
function unsigned(exports: WebAssembly.Exports, entered: () => void): Kernel {
  const kernel: Kernel = {};
  let depth = 0;
  for (const [name, value] of Object.entries(exports)) {
    if (typeof value === "function") {
      const call = value as (...args: unknown[]) => unknown;
      kernel[name] = (...args: unknown[]) => {
        if (depth++ === 0) entered();
        try {
          return fix(call(...args));
        } finally {
          depth--;
        }
      };
    } else if (value instanceof WebAssembly.Global) {
      Object.defineProperty(kernel, name, { get: () => fix(value.value), enumerable: true });
    } else {
      kernel[name] = value;
    }
  }
  return kernel;
}

function fix(value: unknown): unknown {
  if (typeof value === "number") return value >>> 0;
  if (typeof value === "bigint") return BigInt.asUintN(64, value);
  return value;
}
