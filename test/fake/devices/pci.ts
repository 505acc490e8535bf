// PCI configuration space: functions with BARs that decode as the specification says, behind ports
// CF8H/CFCH and, if wanted, memory.

import type { Machine } from "../machine.ts";

export interface FakeBar {
  base: bigint;
  bytes: bigint;
  kind: "memory32" | "memory64" | "port";
}

export interface FakeFunction {
  bus: number;
  device: number;
  fn?: number;
  vendor: number;
  id: number;
  class: number; // 24 bits
  header?: number;
  multi?: boolean;
  bars?: FakeBar[];
  /** IDs, from offset 40H on, 16 bytes apart; `loop` lets the last point at the first. */
  capabilities?: number[];
  loop?: boolean;
  secondary?: number;
}

export class FakePci {
  private address = 0;
  private readonly spaces = new Map<number, Buffer>();
  private readonly barMasks = new Map<number, number[]>();
  /** Writes of a BAR while its function decoded. */
  unsafeBarWrites = 0;

  constructor(functions: FakeFunction[]) {
    for (const f of functions) this.add(f);
  }

  attach(m: Machine): void {
    m.ports.attach(0xcf8, 4, {
      read: () => this.address,
      write: (offset, bytes, value) => {
        if (offset === 0 && bytes === 4) this.address = value;
      },
    });
    m.ports.attach(0xcfc, 4, {
      read: (_offset, bytes) =>
        this.address & 0x8000_0000 && bytes === 4
          ? this.read((this.address >> 8) & 0xffff, this.address & 0xfc)
          : 0xffff_ffff,
      write: (_offset, _bytes, value) => {
        if (this.address & 0x8000_0000) this.write((this.address >> 8) & 0xffff, this.address & 0xfc, value);
      },
    });
  }

  /** Memory-mapped configuration space at `base` for all buses. */
  attachEcam(m: Machine, base: number): void {
    m.ram.addDevice(base, 256 << 20, {
      read: (offset) => (offset % 4096 < 256 ? this.read(Math.floor(offset / 4096), offset & 0xfc) : 0xffff_ffff),
      write: (offset, _bytes, value) => {
        if (offset % 4096 < 256) this.write(Math.floor(offset / 4096), offset & 0xfc, Number(value));
      },
    });
  }

  bar(bus: number, device: number, fn: number, index: number): number {
    return (this.spaces.get((bus << 8) | (device << 3) | fn) as Buffer).readUInt32LE(0x10 + 4 * index);
  }

  command(bus: number, device: number, fn = 0): number {
    return (this.spaces.get((bus << 8) | (device << 3) | fn) as Buffer).readUInt16LE(4);
  }

  read(bdf: number, offset: number): number {
    return this.spaces.get(bdf)?.readUInt32LE(offset) ?? 0xffff_ffff;
  }

  write(bdf: number, offset: number, value: number): void {
    const space = this.spaces.get(bdf);
    if (!space) return;
    if (offset === 4) space.writeUInt16LE(value & 0xffff, 4);
    else if (offset >= 0x10 && offset < 0x28) this.writeBar(bdf, space, (offset - 0x10) >> 2, value);
  }

  private writeBar(bdf: number, space: Buffer, index: number, value: number): void {
    if (space.readUInt16LE(4) & 3) this.unsafeBarWrites++;
    const mask = this.barMasks.get(bdf)?.[index] ?? 0;
    const flags = space.readUInt32LE(0x10 + 4 * index) & ~mask;
    space.writeUInt32LE(((value & mask) | flags) >>> 0, 0x10 + 4 * index);
  }

  private add(f: FakeFunction): void {
    const bdf = (f.bus << 8) | (f.device << 3) | (f.fn ?? 0);
    const space = Buffer.alloc(256);
    space.writeUInt16LE(f.vendor, 0);
    space.writeUInt16LE(f.id, 2);
    space.writeUInt16LE(7, 4);
    space.writeUInt32LE((f.class << 8) >>> 0, 8);
    space[0x0e] = (f.header ?? 0) | (f.multi ? 0x80 : 0);
    if (f.secondary !== undefined) space[0x19] = f.secondary;
    this.addBars(bdf, space, f.bars ?? []);
    this.addCapabilities(space, f);
    this.spaces.set(bdf, space);
  }

  private addBars(bdf: number, space: Buffer, bars: FakeBar[]): void {
    const masks: number[] = [];
    for (const bar of bars) {
      const at = 0x10 + 4 * masks.length;
      const mask = BigInt.asUintN(64, ~(bar.bytes - 1n));
      const flags = bar.kind === "port" ? 1n : bar.kind === "memory64" ? 4n : 0n;
      space.writeUInt32LE(Number((bar.base | flags) & 0xffff_ffffn), at);
      masks.push(Number(mask & (bar.kind === "port" ? 0xfffcn : 0xffff_fff0n)));
      if (bar.kind !== "memory64") continue;
      space.writeUInt32LE(Number(bar.base >> 32n), at + 4);
      masks.push(Number(mask >> 32n));
    }
    this.barMasks.set(bdf, masks);
  }

  private addCapabilities(space: Buffer, f: FakeFunction): void {
    const list = f.capabilities ?? [];
    if (list.length === 0) return;
    space.writeUInt16LE(0x10, 6);
    space[0x34] = 0x40;
    list.forEach((id, i) => {
      const at = 0x40 + 16 * i;
      space[at] = id;
      space[at + 1] = i + 1 < list.length ? at + 16 : f.loop ? 0x40 : 0;
    });
  }
}
