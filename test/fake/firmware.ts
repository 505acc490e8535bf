// What firmware and a boot loader leave in a PC's memory: ACPI tables with the machine's CPUs, a PM timer
// and a 16550, multiboot information. For runs of the whole core.

import { FakeIoapic } from "./devices/ioapic.ts";
import { type Machine, type MachineOptions, machine } from "./machine.ts";

const MIB = 1024 * 1024;
const RSDP = 0xf_0000;
const TABLES = 0xf_1000;
export const INFO = 0x9000;
export const MULTIBOOT1_MAGIC = 0x2bad_b002;
const PM_TIMER = 0x408;
const PM_TIMER_HZ = 3_579_545;
const COM1 = 0x3f8;
const IOAPIC = 0xfec0_0000;

export interface PcOptions extends MachineOptions {
  bytes?: number;
  commandLine?: string;
  /** false: no ACPI tables at all. */
  acpi?: boolean;
  /** CPUs that MADT lists beyond the machine's own, as [APIC ID, flags]. */
  ghosts?: [number, number][];
  /** An I/O APIC that ISA interrupts could go through; nothing raises its inputs. */
  ioapic?: boolean;
  /** Boot modules with their strings. */
  modules?: BootModule[];
}

export interface BootModule {
  bytes: Uint8Array;
  string: string;
}

/** COM1. */
export interface Terminal {
  /** What the core printed. */
  serial: () => string;
  /** The operator types. */
  type: (text: string) => void;
}

/** A PC that a multiboot loader is about to start: call `boot(m)`. */
export async function pc(options: PcOptions = {}): Promise<{ m: Machine } & Terminal> {
  const bytes = options.bytes ?? 512 * MIB;
  const memory: [number, number][] =
    options.memory && typeof options.memory !== "number"
      ? options.memory
      : [
          [0, 0xa_0000],
          [0xf_0000, 0x1_0000],
          [MIB, bytes - MIB],
        ];
  const m = await machine({ paging: "boot", ...options, memory });
  if (options.acpi !== false) writeAcpi(m, options.ghosts ?? [], options.ioapic ?? false);
  writeMultiboot(m, memory, options.commandLine ?? "", options.modules ?? []);
  attachPmTimer(m);
  return { m, ...attachUart(m) };
}

/** Enters `kmain`; returns when the core sleeps with nothing to wait for, or rethrows what ended it. */
export function boot(m: Machine): void {
  try {
    m.kernel.kmain(MULTIBOOT1_MAGIC, BigInt(INFO));
  } catch (error) {
    if ((error as Error).name !== "Asleep") throw error;
  }
}

function attachPmTimer(m: Machine): void {
  m.ports.attach(PM_TIMER, 4, {
    read: () => Math.floor((m.clock.toNanoseconds(m.clock.ticks) * PM_TIMER_HZ) / 1e9) & 0xff_ffff,
    write: () => undefined,
  });
}

/** A 16550 whose transmitter is always ready. */
function attachUart(m: Machine): Terminal {
  const registers = new Uint8Array(8);
  const typed: number[] = [];
  let text = "";
  m.ports.attach(COM1, 8, {
    read(offset) {
      const isData = offset === 0 && !(registers[3] & 0x80) && !(registers[4] & 0x10);
      if (isData && typed.length) return typed.shift() as number;
      if (offset === 5) return typed.length ? 0x61 : 0x60;
      if (offset === 2) return 0xc1;
      return registers[offset];
    },
    write(offset, _bytes, value) {
      if (offset === 0 && !(registers[3] & 0x80)) text += String.fromCharCode(value);
      else registers[offset] = value;
    },
  });
  return { serial: () => text, type: (line) => typed.push(...Buffer.from(line, "latin1")) };
}

// ---- ACPI

function table(signature: string, body: Buffer, revision = 1): Buffer {
  const head = Buffer.alloc(36);
  head.write(signature, 0, "latin1");
  head.writeUInt32LE(36 + body.length, 4);
  head[8] = revision;
  head.write("BASALTFAKETEST", 10, "latin1");
  const all = Buffer.concat([head, body]);
  all[9] = -all.reduce((sum, b) => sum + b, 0) & 0xff;
  return all;
}

function madt(m: Machine, ghosts: [number, number][], ioapic: boolean): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0xfee0_0000, 0);
  head.writeUInt32LE(1, 4);
  const cpus: [number, number][] = [...m.cpus.map((c): [number, number] => [c.apicId, 1]), ...ghosts];
  const entries = cpus.map(([id, flags], i) => (id < 255 ? localApic(i, id, flags) : localX2apic(i, id, flags)));
  if (ioapic) entries.push(attachIoapic(m));
  return table("APIC", Buffer.concat([head, ...entries]), 3);
}

/** The device, and its entry: ID 0, global interrupts from 0 on. */
function attachIoapic(m: Machine): Buffer {
  const device = new FakeIoapic(m);
  m.ram.addDevice(IOAPIC, 0x1000, device);
  const entry = Buffer.alloc(12);
  entry[0] = 1;
  entry[1] = 12;
  entry.writeUInt32LE(IOAPIC, 4);
  return entry;
}

function localApic(uid: number, id: number, flags: number): Buffer {
  return Buffer.from([0, 8, uid, id, flags, 0, 0, 0]);
}

function localX2apic(uid: number, id: number, flags: number): Buffer {
  const entry = Buffer.alloc(16);
  entry[0] = 9;
  entry[1] = 16;
  entry.writeUInt32LE(id, 4);
  entry.writeUInt32LE(flags, 8);
  entry.writeUInt32LE(uid, 12);
  return entry;
}

function fadt(): Buffer {
  const body = Buffer.alloc(116 - 36);
  body.writeUInt32LE(PM_TIMER, 76 - 36);
  body[91 - 36] = 4; // PM_TMR_LEN
  return table("FACP", body, 1);
}

function writeAcpi(m: Machine, ghosts: [number, number][], ioapic: boolean): void {
  const tables = [madt(m, ghosts, ioapic), fadt()];
  let at = TABLES + 256;
  const addresses = tables.map((t) => {
    const where = at;
    m.ram.load(where, t);
    at += Math.ceil(t.length / 16) * 16;
    return where;
  });
  const list = Buffer.alloc(4 * tables.length);
  for (const [i, address] of addresses.entries()) list.writeUInt32LE(address, 4 * i);
  m.ram.load(TABLES, table("RSDT", list));
  const rsdp = Buffer.alloc(20);
  rsdp.write("RSD PTR ", 0, "latin1");
  rsdp.write("BASALT", 9, "latin1");
  rsdp.writeUInt32LE(TABLES, 16);
  rsdp[8] = -rsdp.reduce((sum, b) => sum + b, 0) & 0xff;
  m.ram.load(RSDP, rsdp);
}

// ---- Multiboot 1

/** Where the loader puts modules: above the image. */
const MODULES = 32 * MIB;

function writeMultiboot(m: Machine, memory: [number, number][], commandLine: string, modules: BootModule[]): void {
  const ranges = memory.map(([base, bytes]) => [base, bytes, base === 0xf_0000 ? 2 : 1]);
  const map = Buffer.alloc(24 * ranges.length);
  for (const [i, [base, bytes, type]] of ranges.entries()) {
    map.writeUInt32LE(20, 24 * i);
    map.writeBigUInt64LE(BigInt(base), 24 * i + 4);
    map.writeBigUInt64LE(BigInt(bytes), 24 * i + 12);
    map.writeUInt32LE(type, 24 * i + 20);
  }
  const text = Buffer.from(`${commandLine}\0`, "latin1");
  const info = Buffer.alloc(116);
  const moduleList = INFO + 116 + map.length + ((text.length + 15) & ~15);
  info.writeUInt32LE((1 << 6) | 4 | (modules.length ? 8 : 0), 0);
  info.writeUInt32LE(modules.length, 20);
  info.writeUInt32LE(moduleList, 24);
  info.writeUInt32LE(INFO + 116 + map.length, 16);
  info.writeUInt32LE(map.length, 44);
  info.writeUInt32LE(INFO + 116, 48);
  m.ram.load(INFO, Buffer.concat([info, map, text]));
  writeModules(m, moduleList, modules);
}

function writeModules(m: Machine, list: number, modules: BootModule[]): void {
  let strings = list + 16 * modules.length;
  let at = MODULES;
  for (const [i, { bytes, string }] of modules.entries()) {
    const entry = Buffer.alloc(16);
    const text = Buffer.from(`${string}\0`, "latin1");
    entry.writeUInt32LE(at, 0);
    entry.writeUInt32LE(at + bytes.length, 4);
    entry.writeUInt32LE(strings, 8);
    m.ram.load(list + 16 * i, entry);
    m.ram.load(strings, text);
    m.ram.load(at, bytes);
    strings += text.length;
    at += (bytes.length + 0xfff) & ~0xfff;
  }
}
