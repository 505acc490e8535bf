// A VM on the fake machine with all its devices and no processor: what tests of virq, vdev and guest start from.

import { type Struct, struct } from "../../fake/layout.ts";
import { type Kernel, type Machine, machine } from "../../fake/machine.ts";

export const ARENA = 0x80_0000;
const VCPUS = ARENA + 0x1000;
const SCRATCH = ARENA + 0x1_2000;
const ALLOCATED = 0x3_0000;
export const TSC_KHZ = 2_000_000;
const MIB = 1024 * 1024;

export interface VmOptions {
  vcpus?: number;
  memory?: number;
  testPorts?: boolean;
  tscOffset?: bigint;
  /** Where the guest's memory stands in the fake machine's. */
  guestBase?: number;
  ram?: number;
  entry?: string;
  platform?: boolean;
}

export interface Fixture {
  m: Machine;
  k: Kernel;
  vm: Struct;
  vcpu: Struct[];
  /** Addresses of the Vcpus and of their local APICs. */
  at: number[];
  lapic: number[];
  /** Lets `ns` nanoseconds pass and fires what was due meanwhile, at its time. */
  pass(ns: number): void;
  /** Fires what is due for a vCPU; the deadline after it. */
  expire(vcpu: number): bigint;
  /** The vCPU's next deadline; nothing fires. */
  deadline(vcpu: number): bigint;
  /** Takes what the log gained: the text of each line. */
  lines(): string[];
}

export async function vmFixture(options: VmOptions = {}): Promise<Fixture> {
  const m = await machine({
    entries: [options.entry ?? "test/unit/vdev/vdev.as.ts"],
    memory: options.ram ?? 256 * MIB,
    guestBase: options.guestBase ?? 64 * MIB,
    ticks: { intrinsic: 0 },
  });
  const k = m.kernel;
  k.setKhz(BigInt(TSC_KHZ));
  const count = options.vcpus ?? 1;
  const memory = options.memory ?? 64 * MIB;
  const vm = struct(m, "kernel/vcpu/vm.ts", "Vm", ARENA);
  const list = ARENA + 0xf00;
  Object.assign(vm, { vcpuCount: count, vcpus: list, arenaUsed: ALLOCATED, memoryBytes: memory, mainGpa: 0 });
  vm.mainBytes = Math.min(memory, 0xc000_0000);
  vm.name = ARENA + 0xf80;
  vm.nameBytes = 4;
  vm.createdTsc = BigInt(m.clock.ticks);
  vm.tscOffset = options.tscOffset ?? 0n;
  new Uint8Array(m.memory.buffer).set(Buffer.from("test"), ARENA + 0xf80);
  const at: number[] = [];
  const vcpu: Struct[] = [];
  for (let i = 0; i < count; i++) {
    at.push(VCPUS + i * 0x1000);
    vcpu.push(struct(m, "kernel/vcpu/vcpu.ts", "Vcpu", at[i]));
    m.view.setUint32(list + 4 * i, at[i], true);
    Object.assign(vcpu[i], { vm: ARENA, index: i, apicId: i, scratch: SCRATCH + i * 0x1000 });
  }
  if (options.platform !== false) {
    const status = k.createPlatform(ARENA, 39, options.testPorts ? 1 : 0);
    if (status !== 0) throw new Error(`createPlatform: status ${status}`);
    for (const v of vcpu) v.pending = 0;
  }
  const lapic = vcpu.map((v) => v.vlapic as number);
  const expire = (v: number): bigint => k.serveTimers(v, BigInt(m.clock.ticks), 1);
  const deadline = (v: number): bigint => k.serveTimers(v, 0n, 1);
  const pass = (ns: number) => {
    const until = m.clock.ticks + (ns * TSC_KHZ) / 1e6;
    for (;;) {
      const next = at.reduce((a, v) => Math.min(a, Number(deadline(v))), Infinity);
      m.clock.ticks = Math.max(m.clock.ticks, Math.min(next, until));
      if (next > until) return;
      for (const v of at) expire(v);
    }
  };
  return { m, k, vm, vcpu, at, lapic, pass, expire, deadline, lines: logReader(m) };
}

/** Reads the log's ring in linear memory. */
export function logReader(m: Machine): () => string[] {
  let seen = 0;
  let ring = 0;
  return () => {
    const bytes = Buffer.from(m.memory.buffer);
    if (ring <= 0) ring = bytes.indexOf("BASALTLG", 0x1_0000, "latin1");
    if (ring < 0) return []; // no line was ever written
    const count = bytes.readUInt32LE(ring + 16);
    const lines: string[] = [];
    for (; seen < count; seen++) {
      const slot = ring + 64 + (seen % 1024) * 256;
      lines.push(bytes.toString("latin1", slot + 24, slot + 24 + bytes.readUInt32LE(slot + 16)));
    }
    return lines;
  };
}
