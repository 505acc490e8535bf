// kernel/vmx with a current VMCS and nothing else of the core: the VMCS and the Vcpu are those that the
// whole core had made when it entered its guest for the first time, so every field is one that it writes.

import { EXIT, type GuestOptions, guest } from "../../fake/guest.ts";
import { type Struct, struct } from "../../fake/layout.ts";
import { type Kernel, type Machine, machine } from "../../fake/machine.ts";

const ARENA = 0x80_0000;
const VCPU = ARENA + 0x1000;
const VIRTUAL_APIC = ARENA + 0x2000;

export interface Fixture {
  m: Machine;
  k: Kernel;
  /** Address of the Vcpu. */
  at: number;
  vcpu: Struct;
  vm: Struct;
  /** The current VMCS: field to value. */
  fields: Map<number, bigint>;
  /** Brings the VMCS back to what it was, but for `changes`. */
  restore(changes?: Changes): void;
  /** The text behind a string of the core. */
  text(pointer: number): string;
}

export type Changes = Record<number, bigint | number>;

/** `entry`: the file whose exports to have. */
export async function vmxFixture(options: GuestOptions = {}, entry = "test/unit/vmx/vmx.as.ts"): Promise<Fixture> {
  let initial: Map<number, bigint> = new Map();
  let record: Struct = {};
  let eptp = 0n;
  let cr: [bigint, bigint] = [0n, 0n];
  await guest(function* (cpu) {
    const { current } = cpu.m.current.vmx;
    initial = new Map(current?.fields);
    record = { ...cpu.record };
    eptp = cpu.read(0x201a);
    cr = [cpu.m.current.cr0, cpu.m.current.cr4];
    yield { reason: EXIT.PAUSE, length: 2 };
  }, options);
  const m = await machine({ ...options, entries: [entry] });
  const k = m.kernel;
  [m.current.cr0, m.current.cr4] = cr;
  k.detectFeatures(k.scratch());
  k.readCapability(k.capability());
  const fields = new Map(initial);
  Object.assign(m.current.vmx, { on: true, current: { pa: 0x1000n, fields, launched: false, activeOn: 0 } });
  const vm = struct(m, "kernel/vcpu/vm.ts", "Vm", ARENA);
  const vcpu = struct(m, "kernel/vcpu/vcpu.ts", "Vcpu", VCPU);
  Object.assign(vm, { eptp, vcpuCount: 1, vcpus: ARENA + 0xf00 });
  m.view.setUint32(ARENA + 0xf00, VCPU, true);
  const reset = { ...record, vm: ARENA, virtualApic: VIRTUAL_APIC, vlapic: 0, scratch: ARENA + 0x3000 };
  const restore = (changes: Changes = {}) => {
    fields.clear();
    for (const [field, value] of initial) fields.set(field, value);
    for (const [field, value] of Object.entries(changes)) fields.set(Number(field), BigInt(value));
    Object.assign(vcpu, reset);
  };
  const text = (pointer: number) => {
    const bytes = m.view.getUint32(pointer - 4, true);
    return Buffer.from(m.memory.buffer, pointer, bytes).toString("utf16le");
  };
  m.current.vmx.virtualApic = VIRTUAL_APIC;
  restore();
  return { m, k, at: VCPU, vcpu, vm, fields, restore, text };
}
