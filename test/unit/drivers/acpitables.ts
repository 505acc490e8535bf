// ACPI tables as firmware builds them, for tests.

/** A table: header, body, right length and checksum. */
export function table(signature: string, body: Buffer, revision = 1): Buffer {
  const out = Buffer.alloc(36 + body.length);
  out.write(signature, 0, "latin1");
  out.writeUInt32LE(out.length, 4);
  out[8] = revision;
  out.write("TESTOEM TESTTABL", 10, "latin1");
  body.copy(out, 36);
  return fix(out);
}

/** Makes the bytes sum to zero again. */
export function fix(t: Buffer): Buffer {
  t[9] = 0;
  t[9] = -t.reduce((a, b) => a + b, 0) & 0xff;
  return t;
}

export type MadtEntry =
  | { kind: "cpu"; uid: number; id: number; flags: number }
  | { kind: "x2"; uid: number; id: number; flags: number }
  | { kind: "ioapic"; id: number; address: number; gsi: number }
  | { kind: "override"; source: number; gsi: number; flags: number }
  | { kind: "nmi"; uid: number; flags: number; lint: number }
  | { kind: "address"; address: bigint }
  | { kind: "raw"; bytes: number[] };

function madtEntry(e: MadtEntry): Buffer {
  const make = (type: number, length: number): Buffer => {
    const b = Buffer.alloc(length);
    b[0] = type;
    b[1] = length;
    return b;
  };
  switch (e.kind) {
    case "cpu": {
      const b = make(0, 8);
      b[2] = e.uid;
      b[3] = e.id;
      b.writeUInt32LE(e.flags, 4);
      return b;
    }
    case "x2": {
      const b = make(9, 16);
      b.writeUInt32LE(e.id, 4);
      b.writeUInt32LE(e.flags, 8);
      b.writeUInt32LE(e.uid, 12);
      return b;
    }
    case "ioapic": {
      const b = make(1, 12);
      b[2] = e.id;
      b.writeUInt32LE(e.address, 4);
      b.writeUInt32LE(e.gsi, 8);
      return b;
    }
    case "override": {
      const b = make(2, 10);
      b[3] = e.source;
      b.writeUInt32LE(e.gsi, 4);
      b.writeUInt16LE(e.flags, 8);
      return b;
    }
    case "nmi": {
      const b = make(4, 6);
      b[2] = e.uid;
      b.writeUInt16LE(e.flags, 3);
      b[5] = e.lint;
      return b;
    }
    case "address": {
      const b = make(5, 12);
      b.writeBigUInt64LE(e.address, 4);
      return b;
    }
    case "raw":
      return Buffer.from(e.bytes);
  }
}

export function madt(entries: MadtEntry[], flags = 1, lapic = 0xfee0_0000): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(lapic, 0);
  head.writeUInt32LE(flags, 4);
  return table("APIC", Buffer.concat([head, ...entries.map(madtEntry)]));
}

export interface FadtFields {
  dsdt: number;
  pmTimer?: number;
  xPmTimer?: { space: number; address: bigint };
  flags?: number;
  reset?: { space: number; address: bigint; value: number };
  pm1a?: number;
  pm1b?: number;
  smi?: number;
  enable?: number;
  bytes?: number;
}

/** A FADT of revision 3, or the first `bytes` of it. */
export function fadt(f: FadtFields): Buffer {
  const b = Buffer.alloc(244);
  b.writeUInt32LE(f.dsdt, 40);
  b.writeUInt32LE(f.smi ?? 0, 48);
  b[52] = f.enable ?? 0;
  b.writeUInt32LE(f.pm1a ?? 0, 64);
  b.writeUInt32LE(f.pm1b ?? 0, 68);
  b.writeUInt32LE(f.pmTimer ?? 0, 76);
  b[91] = f.pmTimer ? 4 : 0;
  b.writeUInt32LE(f.flags ?? 0, 112);
  if (f.reset) {
    b[116] = f.reset.space;
    b[117] = 8;
    b.writeBigUInt64LE(f.reset.address, 120);
    b[128] = f.reset.value;
  }
  if (f.xPmTimer) {
    b[208] = f.xPmTimer.space;
    b.writeBigUInt64LE(f.xPmTimer.address, 212);
  }
  return table("FACP", b.subarray(36, f.bytes ?? 244), 3);
}

export function mcfg(ecams: { base: bigint; segment: number; from: number; to: number }[]): Buffer {
  const b = Buffer.alloc(8 + 16 * ecams.length);
  ecams.forEach((e, i) => {
    b.writeBigUInt64LE(e.base, 8 + 16 * i);
    b.writeUInt16LE(e.segment, 16 + 16 * i);
    b[18 + 16 * i] = e.from;
    b[19 + 16 * i] = e.to;
  });
  return table("MCFG", b);
}

export function hpet(address: bigint): Buffer {
  const b = Buffer.alloc(20);
  b.writeUInt32LE(0x8086a201, 0);
  b.writeBigUInt64LE(address, 8);
  return table("HPET", b);
}

/** A DSDT with `\_S5_` as the bytes of its package say. */
export function dsdt(aml: number[]): Buffer {
  return table("DSDT", Buffer.from(aml));
}
export const S5 = [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x06, 0x04, 0x0a, 0x05, 0x0a, 0x06, 0x00, 0x00];

export interface Placed {
  at: number;
  bytes: Buffer;
}

/** RSDP (36 bytes), XSDT or RSDT, and the tables, laid out from `base`. The DSDT is placed, but not listed. */
export function layOut(
  base: number,
  tables: Buffer[],
  options: { revision?: number; dsdt?: Buffer } = {},
): { rsdp: Buffer; placed: Placed[] } {
  const placed: Placed[] = [];
  let at = base + 0x1000;
  for (const t of tables) {
    placed.push({ at, bytes: t });
    at = (at + t.length + 15) & ~15;
  }
  const revision = options.revision ?? 2;
  const wide = revision >= 2;
  const list = Buffer.alloc(tables.length * (wide ? 8 : 4));
  placed.forEach((p, i) => {
    if (wide) list.writeBigUInt64LE(BigInt(p.at), 8 * i);
    else list.writeUInt32LE(p.at, 4 * i);
  });
  placed.push({ at: base, bytes: table(wide ? "XSDT" : "RSDT", list) });
  if (options.dsdt) placed.push({ at: DSDT_AT, bytes: options.dsdt });
  return { rsdp: rsdp(revision, wide ? 0 : base, wide ? BigInt(base) : 0n), placed };
}
export const DSDT_AT = 0x1fff_0000;

export function rsdp(revision: number, rsdt: number, xsdt: bigint): Buffer {
  const r = Buffer.alloc(36);
  r.write("RSD PTR ", 0, "latin1");
  r.write("TESTOE", 9, "latin1");
  r[15] = revision;
  r.writeUInt32LE(rsdt, 16);
  r.writeUInt32LE(36, 20);
  r.writeBigUInt64LE(xsdt, 24);
  r[8] = -r.subarray(0, 20).reduce((a, b) => a + b, 0) & 0xff;
  r[32] = -r.reduce((a, b) => a + b, 0) & 0xff;
  return revision >= 2 ? r : r.subarray(0, 20);
}
