// The I/O port space: devices attach to ranges; a port without one reads all ones and swallows
// writes, as on a PC. `trace` keeps the writes to ports that a test watches.

import { hex } from "./faults.ts";

/** `offset` counts from the device's first port; `bytes` is 1, 2 or 4. */
export interface PortDevice {
  read(offset: number, bytes: number): number;
  write(offset: number, bytes: number, value: number): void;
}

export class Ports {
  private readonly devices: { base: number; count: number; device: PortDevice }[] = [];

  attach(base: number, count: number, device: PortDevice): void {
    for (const d of this.devices) {
      if (base < d.base + d.count && d.base < base + count) throw new Error(`port ${hex(base)} is taken`);
    }
    this.devices.push({ base, count, device });
  }

  detach(base: number): void {
    const at = this.devices.findIndex((d) => d.base === base);
    if (at >= 0) this.devices.splice(at, 1);
  }

  read(port: number, bytes: number): number {
    const d = this.find(port);
    const ones = bytes === 4 ? 0xffff_ffff : (1 << (8 * bytes)) - 1;
    return d ? (d.device.read(port - d.base, bytes) & ones) >>> 0 : ones;
  }

  write(port: number, bytes: number, value: number): void {
    const d = this.find(port);
    const ones = bytes === 4 ? 0xffff_ffff : (1 << (8 * bytes)) - 1;
    d?.device.write(port - d.base, bytes, (value & ones) >>> 0);
  }

  private find(port: number) {
    return this.devices.find((d) => port >= d.base && port < d.base + d.count);
  }
}
