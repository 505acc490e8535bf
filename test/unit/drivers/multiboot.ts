// Multiboot 1 and 2 information as a boot loader builds it, for tests.

export const MAGIC1 = 0x2bad_b002;
export const MAGIC2 = 0x36d7_6289;
export const INFO = 0x9000; // where the structures lie, physical

export interface Range {
  base: bigint;
  bytes: bigint;
  type: number;
}

/** A PC with 512 MiB. */
export const PC: Range[] = [
  { base: 0n, bytes: 0x9fc00n, type: 1 },
  { base: 0x9fc00n, bytes: 0x400n, type: 2 },
  { base: 0xf0000n, bytes: 0x10000n, type: 2 },
  { base: 0x100000n, bytes: 0x1fee0000n, type: 1 },
  { base: 0x1ffe0000n, bytes: 0x20000n, type: 2 },
  { base: 0xfffc0000n, bytes: 0x40000n, type: 2 },
];

function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`, "latin1");
}

export interface Boot {
  ranges?: Range[];
  commandLine?: string;
  loader?: string;
  modules?: { start: number; end: number; text: string }[];
  rsdp?: Buffer;
  framebuffer?: { address: bigint; pitch: number; width: number; height: number; bits: number };
  efi?: { type: number; base: bigint; pages: bigint }[];
}

/** The structure at INFO with everything it points to behind it. */
export function multiboot1(boot: Boot): Buffer {
  const head = Buffer.alloc(116);
  const parts: Buffer[] = [head];
  let at = INFO + head.length;
  const put = (data: Buffer): number => {
    const where = at;
    parts.push(data);
    at += data.length;
    return where;
  };
  let flags = 0;
  if (boot.commandLine !== undefined) {
    flags |= 4;
    head.writeUInt32LE(put(cString(boot.commandLine)), 16);
  }
  if (boot.loader) {
    flags |= 1 << 9;
    head.writeUInt32LE(put(cString(boot.loader)), 64);
  }
  if (boot.modules) {
    flags |= 8;
    const list = Buffer.alloc(16 * boot.modules.length);
    boot.modules.forEach((m, i) => {
      list.writeUInt32LE(m.start, 16 * i);
      list.writeUInt32LE(m.end, 16 * i + 4);
      list.writeUInt32LE(put(cString(m.text)), 16 * i + 8);
    });
    head.writeUInt32LE(boot.modules.length, 20);
    head.writeUInt32LE(put(list), 24);
  }
  if (boot.ranges) {
    flags |= 1 << 6;
    const map = Buffer.alloc(24 * boot.ranges.length);
    boot.ranges.forEach((r, i) => {
      map.writeUInt32LE(20, 24 * i);
      map.writeBigUInt64LE(r.base, 24 * i + 4);
      map.writeBigUInt64LE(r.bytes, 24 * i + 12);
      map.writeUInt32LE(r.type, 24 * i + 20);
    });
    head.writeUInt32LE(map.length, 44);
    head.writeUInt32LE(put(map), 48);
  }
  head.writeUInt32LE(flags, 0);
  return Buffer.concat(parts);
}

function tag(type: number, body: Buffer): Buffer {
  const size = 8 + body.length;
  const out = Buffer.alloc((size + 7) & ~7);
  out.writeUInt32LE(type, 0);
  out.writeUInt32LE(size, 4);
  body.copy(out, 8);
  return out;
}

export function multiboot2(boot: Boot, end = true): Buffer {
  const tags: Buffer[] = [];
  if (boot.commandLine !== undefined) tags.push(tag(1, cString(boot.commandLine)));
  if (boot.loader) tags.push(tag(2, cString(boot.loader)));
  for (const m of boot.modules ?? []) {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(m.start, 0);
    head.writeUInt32LE(m.end, 4);
    tags.push(tag(3, Buffer.concat([head, cString(m.text)])));
  }
  if (boot.ranges) {
    const map = Buffer.alloc(8 + 24 * boot.ranges.length);
    map.writeUInt32LE(24, 0);
    boot.ranges.forEach((r, i) => {
      map.writeBigUInt64LE(r.base, 8 + 24 * i);
      map.writeBigUInt64LE(r.bytes, 16 + 24 * i);
      map.writeUInt32LE(r.type, 24 + 24 * i);
    });
    tags.push(tag(6, map));
  }
  if (boot.framebuffer) {
    const f = Buffer.alloc(30);
    f.writeBigUInt64LE(boot.framebuffer.address, 0);
    f.writeUInt32LE(boot.framebuffer.pitch, 8);
    f.writeUInt32LE(boot.framebuffer.width, 12);
    f.writeUInt32LE(boot.framebuffer.height, 16);
    f.writeUInt8(boot.framebuffer.bits, 20);
    f.writeUInt8(1, 21);
    f.set([16, 8, 8, 8, 0, 8], 24);
    tags.push(tag(8, f));
  }
  if (boot.rsdp) tags.push(tag(boot.rsdp.length >= 36 ? 15 : 14, boot.rsdp));
  if (boot.efi) {
    const map = Buffer.alloc(8 + 48 * boot.efi.length);
    map.writeUInt32LE(48, 0);
    boot.efi.forEach((d, i) => {
      map.writeUInt32LE(d.type, 8 + 48 * i);
      map.writeBigUInt64LE(d.base, 16 + 48 * i);
      map.writeBigUInt64LE(d.pages, 32 + 48 * i);
    });
    tags.push(tag(17, map));
    const table = Buffer.alloc(8);
    table.writeBigUInt64LE(0x1234_5000n, 0);
    tags.push(tag(12, table));
  }
  if (end) tags.push(tag(0, Buffer.alloc(0)));
  const body = Buffer.concat(tags);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(8 + body.length, 0);
  return Buffer.concat([head, body]);
}
