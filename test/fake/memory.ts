// Simulated physical memory: RAM in sparse 4 KiB frames, device registers, and holes. RAM that nobody
// wrote holds a poison pattern, as after a warm start: code that forgets to clear a table fails here.
// Ranges that are also linear memory (the image's, a VM's arena) read and write the Wasm memory.

const PAGE = 4096;

/** Registers in physical memory. `bytes` is 1, 2, 4 or 8. */
export interface MmioDevice {
  read(offset: number, bytes: number): number | bigint;
  write(offset: number, bytes: number, value: bigint): void;
}

interface Range {
  base: number;
  end: number;
  device: MmioDevice | null; // null: RAM
}

interface Alias {
  base: number;
  end: number;
  ptr: number;
}

interface Frame {
  bytes: Uint8Array;
  view: DataView;
}

export class PhysicalMemory {
  private readonly frames = new Map<number, Frame>();
  private readonly ranges: Range[] = [];
  private readonly aliases: Alias[] = [];
  /** Accesses that hit neither RAM nor a device: they read all ones, as on a PC. */
  openBus = 0;

  constructor(
    private readonly linear: WebAssembly.Memory,
    private readonly poison = 0xa5,
  ) {}

  addRam(base: number, bytes: number): void {
    this.ranges.push({ base, end: base + bytes, device: null });
  }

  /** Later devices lie over earlier ranges. */
  addDevice(base: number, bytes: number, device: MmioDevice): void {
    this.ranges.unshift({ base, end: base + bytes, device });
  }

  removeDevice(base: number): void {
    const at = this.ranges.findIndex((r) => r.base === base && r.device);
    if (at >= 0) this.ranges.splice(at, 1);
  }

  /** Makes `bytes` at `base` the same memory as linear memory at `ptr`. */
  alias(base: number, bytes: number, ptr: number): void {
    this.unalias(base);
    this.aliases.unshift({ base, end: base + bytes, ptr });
  }

  unalias(base: number): void {
    const at = this.aliases.findIndex((a) => a.base === base);
    if (at >= 0) this.aliases.splice(at, 1);
  }

  isRam(pa: number): boolean {
    const range = this.find(pa);
    return range !== undefined && range.device === null;
  }

  /** RAM in bytes, over all ranges. */
  get ramBytes(): number {
    return this.ranges.reduce((sum, r) => sum + (r.device ? 0 : r.end - r.base), 0);
  }

  read8(pa: number): number {
    return Number(this.read(pa, 1));
  }
  read16(pa: number): number {
    return Number(this.read(pa, 2));
  }
  read32(pa: number): number {
    return Number(this.read(pa, 4));
  }
  read64(pa: number): bigint {
    return this.read(pa, 8);
  }
  write8(pa: number, value: number): void {
    this.write(pa, 1, BigInt(value >>> 0));
  }
  write16(pa: number, value: number): void {
    this.write(pa, 2, BigInt(value >>> 0));
  }
  write32(pa: number, value: number): void {
    this.write(pa, 4, BigInt(value >>> 0));
  }
  write64(pa: number, value: bigint): void {
    this.write(pa, 8, value);
  }

  read(pa: number, bytes: number): bigint {
    const offset = pa % PAGE;
    if (offset + bytes > PAGE) return this.readBytewise(pa, bytes);
    const range = this.find(pa);
    if (!range) {
      this.openBus++;
      return (1n << BigInt(8 * bytes)) - 1n;
    }
    if (range.device) return BigInt.asUintN(8 * bytes, BigInt(range.device.read(pa - range.base, bytes)));
    const alias = this.aliasOf(pa);
    if (alias) return readView(new DataView(this.linear.buffer), alias.ptr + (pa - alias.base), bytes);
    const frame = this.frames.get((pa - offset) / PAGE);
    if (!frame) return BigInt(`0x${this.poison.toString(16).padStart(2, "0").repeat(bytes)}`);
    return readView(frame.view, offset, bytes);
  }

  write(pa: number, bytes: number, value: bigint) {
    const offset = pa % PAGE;
    if (offset + bytes > PAGE) return this.writeBytewise(pa, bytes, value);
    const range = this.find(pa);
    if (!range) {
      this.openBus++;
      return;
    }
    const masked = BigInt.asUintN(8 * bytes, value);
    if (range.device) return range.device.write(pa - range.base, bytes, masked);
    const alias = this.aliasOf(pa);
    if (alias) return writeView(new DataView(this.linear.buffer), alias.ptr + (pa - alias.base), bytes, masked);
    writeView(this.frame((pa - offset) / PAGE).view, offset, bytes, masked);
  }

  /** A copy of `bytes` of RAM. */
  dump(pa: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    for (let done = 0; done < bytes; ) {
      const chunk = this.chunk(pa + done, bytes - done);
      const source = this.window(pa + done, chunk);
      if (source) out.set(source, done);
      else for (let i = 0; i < chunk; i++) out[done + i] = this.read8(pa + done + i);
      done += chunk;
    }
    return out;
  }

  /** Writes RAM, as a boot loader or a device would. */
  load(pa: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const chunk = this.chunk(pa + done, data.length - done);
      const target = this.window(pa + done, chunk);
      if (target) target.set(data.subarray(done, done + chunk));
      else for (let i = 0; i < chunk; i++) this.write8(pa + done + i, data[done + i]);
      done += chunk;
    }
  }

  fill(pa: number, byte: number, bytes: number): void {
    for (let done = 0; done < bytes; ) {
      const chunk = this.chunk(pa + done, bytes - done);
      this.window(pa + done, chunk)?.fill(byte);
      done += chunk;
    }
  }

  /** The frame's own bytes (RAM, aliased or not), or null. */
  private window(pa: number, bytes: number): Uint8Array | null {
    if (!this.isRam(pa)) return null;
    const alias = this.aliasOf(pa);
    if (alias) return new Uint8Array(this.linear.buffer, alias.ptr + (pa - alias.base), bytes);
    const offset = pa % PAGE;
    return this.frame((pa - offset) / PAGE).bytes.subarray(offset, offset + bytes);
  }

  private chunk(pa: number, bytes: number): number {
    return Math.min(bytes, PAGE - (pa % PAGE));
  }

  private frame(number: number): Frame {
    let frame = this.frames.get(number);
    if (!frame) {
      const bytes = new Uint8Array(PAGE).fill(this.poison);
      frame = { bytes, view: new DataView(bytes.buffer) };
      this.frames.set(number, frame);
    }
    return frame;
  }

  private find(pa: number): Range | undefined {
    for (const range of this.ranges) if (pa >= range.base && pa < range.end) return range;
    return undefined;
  }

  private aliasOf(pa: number): Alias | undefined {
    for (const alias of this.aliases) if (pa >= alias.base && pa < alias.end) return alias;
    return undefined;
  }

  private readBytewise(pa: number, bytes: number): bigint {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | this.read(pa + i, 1);
    return value;
  }

  private writeBytewise(pa: number, bytes: number, value: bigint): void {
    for (let i = 0; i < bytes; i++) this.write(pa + i, 1, (value >> BigInt(8 * i)) & 0xffn);
  }
}

export function readView(view: DataView, at: number, bytes: number): bigint {
  if (bytes === 8) return view.getBigUint64(at, true);
  if (bytes === 4) return BigInt(view.getUint32(at, true));
  if (bytes === 2) return BigInt(view.getUint16(at, true));
  return BigInt(view.getUint8(at));
}

export function writeView(view: DataView, at: number, bytes: number, value: bigint): void {
  if (bytes === 8) view.setBigUint64(at, value, true);
  else if (bytes === 4) view.setUint32(at, Number(value), true);
  else if (bytes === 2) view.setUint16(at, Number(value), true);
  else view.setUint8(at, Number(value));
}
