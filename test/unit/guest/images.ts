// Small, valid guest files of every kind, for tests to load and to break.

export interface Segment {
  pa: number;
  data: Buffer;
  memory?: number;
  va?: number;
}

/** An ELF executable of 32 or 64 bits with loadable segments and, if given, a PVH note. */
export function elf(bits: 32 | 64, entry: number, segments: Segment[], pvh?: number): Buffer {
  const wide = bits === 64;
  const headers = segments.length + (pvh === undefined ? 0 : 1);
  const headerBytes = wide ? 56 : 32;
  const start = wide ? 64 : 52;
  const out: Buffer[] = [Buffer.alloc(start + headers * headerBytes)];
  const h = out[0];
  h.write("\x7fELF", 0, "latin1");
  h.set([wide ? 2 : 1, 1, 1], 4);
  h.writeUInt16LE(2, 16);
  h.writeUInt16LE(wide ? 62 : 3, 18);
  h.writeUInt32LE(1, 20);
  if (wide) {
    h.writeBigUInt64LE(BigInt(entry), 24);
    h.writeBigUInt64LE(64n, 32);
    h.writeUInt16LE(64, 52);
    h.writeUInt16LE(56, 54);
    h.writeUInt16LE(headers, 56);
  } else {
    h.writeUInt32LE(entry, 24);
    h.writeUInt32LE(52, 28);
    h.writeUInt16LE(52, 40);
    h.writeUInt16LE(32, 42);
    h.writeUInt16LE(headers, 44);
  }
  let offset = h.length;
  const put = (i: number, type: number, s: Segment) => {
    const at = start + i * headerBytes;
    h.writeUInt32LE(type, at);
    if (wide) {
      h.writeBigUInt64LE(BigInt(offset), at + 8);
      h.writeBigUInt64LE(BigInt(s.va ?? s.pa), at + 16);
      h.writeBigUInt64LE(BigInt(s.pa), at + 24);
      h.writeBigUInt64LE(BigInt(s.data.length), at + 32);
      h.writeBigUInt64LE(BigInt(s.memory ?? s.data.length), at + 40);
    } else {
      [type, offset, s.va ?? s.pa, s.pa, s.data.length, s.memory ?? s.data.length].forEach((value, n) => {
        h.writeUInt32LE(value, at + 4 * n);
      });
    }
    out.push(s.data);
    offset += s.data.length;
  };
  segments.forEach((s, i) => {
    put(i, 1, s);
  });
  if (pvh !== undefined) put(segments.length, 4, { pa: 0, data: note(pvh) });
  return Buffer.concat(out);
}

/** Notes as Linux has them: another one first, then the Xen note. */
function note(entry: number): Buffer {
  const other = Buffer.alloc(12 + 4 + 20);
  other.writeUInt32LE(4, 0);
  other.writeUInt32LE(20, 4);
  other.writeUInt32LE(3, 8);
  other.write("GNU\0", 12);
  const xen = Buffer.alloc(12 + 4 + 8);
  xen.writeUInt32LE(4, 0);
  xen.writeUInt32LE(8, 4);
  xen.writeUInt32LE(18, 8);
  xen.write("Xen\0", 12);
  xen.writeBigUInt64LE(BigInt(entry), 16);
  return Buffer.concat([other, xen]);
}

/** A multiboot header; with `addresses` (header, load, load end, bss end, entry) bit 16 is set. */
export function multibootHeader(flags: number, addresses?: number[]): Buffer {
  const all = addresses ? flags | 0x10000 : flags;
  const h = Buffer.alloc(addresses ? 32 : 12);
  h.writeUInt32LE(0x1badb002, 0);
  h.writeUInt32LE(all >>> 0, 4);
  h.writeUInt32LE((0x100000000 - 0x1badb002 - all) >>> 0, 8);
  addresses?.forEach((a, i) => {
    h.writeUInt32LE(a >>> 0, 12 + 4 * i);
  });
  return h;
}

export interface BzImageOptions {
  kernel: Buffer;
  version?: number;
  xloadflags?: number;
  initSize?: number;
  prefAddress?: number;
  relocatable?: number;
  initrdMax?: number;
  commandLineMost?: number;
  setupSectors?: number;
}

/** A bzImage: boot sector, setup sectors, protected-mode part. */
export function bzImage(o: BzImageOptions): Buffer {
  const sectors = o.setupSectors ?? 3;
  const setup = Buffer.alloc((sectors + 1) * 512);
  setup.writeUInt8(sectors, 0x1f1);
  setup.writeUInt32LE(Math.ceil(o.kernel.length / 16), 0x1f4);
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.set([0xeb, 0x6a], 0x200);
  setup.write("HdrS", 0x202);
  setup.writeUInt16LE(o.version ?? 0x20f, 0x206);
  setup.writeUInt8(1, 0x211);
  setup.writeUInt32LE(0x100000, 0x214);
  setup.writeUInt32LE((o.initrdMax ?? 0x7fffffff) >>> 0, 0x22c);
  setup.writeUInt32LE(0x200000, 0x230);
  setup.writeUInt8(o.relocatable ?? 1, 0x234);
  setup.writeUInt16LE(o.xloadflags ?? 3, 0x236);
  setup.writeUInt32LE(o.commandLineMost ?? 2047, 0x238);
  setup.writeBigUInt64LE(BigInt(o.prefAddress ?? 0x1000000), 0x258);
  setup.writeUInt32LE(o.initSize ?? 0x100000, 0x260);
  return Buffer.concat([setup, o.kernel]);
}

/** `bytes` of a pattern that says where each byte belongs. */
export function pattern(bytes: number, seed = 1): Buffer {
  const out = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) out[i] = (i * 7 + (i >> 8) * 13 + seed) & 0xff;
  return out;
}
