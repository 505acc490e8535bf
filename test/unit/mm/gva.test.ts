// The guest page-table walk against a model written from the manual's tables, over random tables, paging
// modes and access kinds.

import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { type Machine, machine } from "../../fake/machine.ts";

const FILE = "kernel/mm/gva.ts";
const PAGING = 0x30000;
const RAM = 0x31000;
const GUEST = 0x1000000; // where guest-physical 0 lies in the machine's memory
const GUEST_BYTES = 0x100000n;

let m: Machine;
// biome-ignore lint/suspicious/noExplicitAny: exports of the Wasm
let kernel: any;

beforeAll(async () => {
  m = await machine({ entries: [FILE], guestBase: GUEST });
  kernel = m.kernel;
  // biome-ignore lint/suspicious/noExplicitAny: fields by name
  const ram = struct(m, "kernel/mm/guestmem.ts", "GuestRam", RAM) as any;
  ram.mainGpa = 0n;
  ram.mainBytes = GUEST_BYTES;
  ram.memoryBytes = GUEST_BYTES;
  ram.slots = 0;
  ram.slotCount = 0;
});

const WRITE = 2;
const USER = 4;
const FETCH = 0x10;
const IMPLICIT = 0x100;
const PROBE = 0x200;
const bit = (n: number) => 1n << BigInt(n);
const [PG, WP] = [bit(31), bit(16)];
const [PSE, PAE, LA57, SMEP, SMAP, PKE] = [4, 5, 12, 20, 21, 22].map(bit);
const [LMA, NXE] = [bit(10), bit(11)];
const AC = bit(18);

interface State {
  cr0: bigint;
  cr3: bigint;
  cr4: bigint;
  efer: bigint;
  rflags: bigint;
  pkru: number;
  pdpte: bigint[];
  physBits: number;
  gigabyte: boolean;
}

type Answer = { gpa: bigint; log2: number; used: [at: bigint, bytes: number, leaf: boolean][] } | { error: number };

const read = (gpa: bigint, bytes: number): bigint => {
  if (gpa + BigInt(bytes) > GUEST_BYTES) return (1n << BigInt(bytes * 8)) - 1n;
  const at = GUEST + Number(gpa);
  return bytes === 8 ? m.ram.read64(at) : (m.ram.read64(at & ~7) >> BigInt((at & 4) * 8)) & 0xffffffffn;
};

/** The levels of a mode as [shift of the index, index bits, entry bytes, size of a large page here or 0]. */
function levels(s: State): [number, number, number, boolean][] {
  if (!(s.cr4 & PAE))
    return [
      [22, 10, 4, Boolean(s.cr4 & PSE)],
      [12, 10, 4, false],
    ];
  const low: [number, number, number, boolean][] = [
    [21, 9, 8, true],
    [12, 9, 8, false],
  ];
  if (!(s.efer & LMA)) return low;
  const four: [number, number, number, boolean][] = [[39, 9, 8, false], [30, 9, 8, s.gigabyte], ...low];
  return s.cr4 & LA57 ? [[48, 9, 8, false], ...four] : four;
}

function model(s: State, gva: bigint, access: number): Answer {
  if (!(s.cr0 & PG)) return { gpa: gva & 0xffffffffn, log2: 12, used: [] };
  const long = Boolean(s.efer & LMA);
  const implicit = Boolean(access & IMPLICIT);
  const user = Boolean(access & USER) && !implicit;
  const fetch = Boolean(access & FETCH);
  const write = Boolean(access & WRITE);
  const nx = Boolean(s.cr4 & PAE) && Boolean(s.efer & NXE);
  const fault = (bits: number): Answer => ({
    error: bits | (write ? 2 : 0) | (user ? 4 : 0) | (fetch && (nx || s.cr4 & SMEP) ? 16 : 0),
  });
  const maxPhysical = bit(s.physBits);
  let table = s.cr4 & PAE ? s.cr3 & (maxPhysical - 1n) & ~0xfffn : s.cr3 & 0xfffff000n;
  if (s.cr4 & PAE && !long) {
    const pdpte = s.pdpte[Number(gva >> 30n) & 3];
    if (!(pdpte & 1n)) return fault(0);
    table = pdpte & (maxPhysical - 1n) & ~0xfffn;
  }
  let canWrite = true;
  let isUser = true;
  let noExecute = false;
  const used: [bigint, number, boolean][] = [];
  for (const [shift, indexBits, bytes, large] of levels(s)) {
    const index = (gva >> BigInt(shift)) & (bit(indexBits) - 1n);
    const at = table + index * BigInt(bytes);
    const entry = read(at, bytes);
    if (!(entry & 1n)) return fault(0);
    const leaf = shift === 12 || (large && Boolean(entry & 0x80n));
    if (bytes === 8) {
      let reserved = bit(52) - maxPhysical;
      if (!nx) reserved |= bit(63);
      if (!long) reserved |= bit(63) - bit(52);
      if (shift >= 39 || (shift === 30 && !large)) reserved |= 0x80n;
      if (leaf && shift > 12) reserved |= (bit(shift) - 1n) & ~0x1fffn;
      if (entry & reserved) return fault(9);
    } else if (leaf && shift === 22) {
      const top = Math.min(s.physBits, 40) - 32;
      if (entry & (bit(22) - bit(13 + Math.max(top, 0)))) return fault(9);
    }
    used.push([at, bytes, leaf]);
    canWrite &&= Boolean(entry & 2n);
    isUser &&= Boolean(entry & 4n);
    noExecute ||= nx && bytes === 8 && Boolean(entry & bit(63));
    if (!leaf) {
      table = bytes === 8 ? entry & (maxPhysical - 1n) & ~0xfffn : entry & 0xfffff000n;
      continue;
    }
    if (user && !isUser) return fault(1);
    if (fetch) {
      if (noExecute || (!user && isUser && s.cr4 & SMEP)) return fault(1);
    } else {
      if (write && !canWrite && (user || s.cr0 & WP)) return fault(1);
      if (!user && isUser && s.cr4 & SMAP && (implicit || !(s.rflags & AC))) return fault(1);
      if (long && isUser && s.cr4 & PKE) {
        const rights = s.pkru >> (2 * Number((entry >> 59n) & 15n));
        if (rights & 1 || (rights & 2 && write && (user || s.cr0 & WP))) return fault(0x21);
      }
    }
    const inside = bit(shift) - 1n;
    let base = entry & (maxPhysical - 1n) & ~0xfffn & ~inside;
    if (bytes === 4)
      base = shift === 22 ? (entry & 0xffc00000n) | (((entry >> 13n) & 0xffn) << 32n) : entry & 0xfffff000n;
    return { gpa: base | (gva & inside), log2: shift, used };
  }
  throw new Error("the last level is a leaf");
}

/** An entry that mostly leads on: present, pointing into the guest's megabyte, now and then odd. */
const entry = fc.record({
  frame: fc.integer({ min: 1, max: 255 }),
  low: fc.integer({ min: 0, max: 0xfff }),
  high: fc.bigInt({ min: 0n, max: (1n << 12n) - 1n }),
  odd: fc.integer({ min: 0, max: 30 }),
});
// biome-ignore lint/suspicious/noExplicitAny: fast-check record
function entryValue(e: any): bigint {
  let v = (BigInt(e.frame) << 12n) | BigInt(e.low & 0x1e6) | 1n;
  if (e.odd > 3) v |= 6n;
  if (e.odd === 1) v &= ~1n;
  if (e.odd === 2) v |= e.high << 52n;
  if (e.odd === 3) v |= 1n << (12n + (e.high % 40n));
  if (e.odd % 5 === 0) v |= 0x80n;
  if (e.odd % 5 === 0 && e.odd % 2 === 0) v &= ~0x3fe000n;
  if (e.odd === 7) v |= bit(63);
  if (e.odd >= 25) v |= (e.high & 15n) << 59n;
  return v;
}

const state = fc.record({
  mode: fc.constantFrom("off", "legacy", "pae", "long", "la57"),
  flags: fc.integer({ min: 0, max: 255 }),
  pkru: fc.integer({ min: 0, max: 0x7fffffff }),
  physBits: fc.constantFrom(32, 36, 39, 46, 52),
  cr3: fc.integer({ min: 1, max: 255 }),
  gva: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  access: fc.constantFrom(
    0,
    WRITE,
    USER,
    USER | WRITE,
    FETCH,
    USER | FETCH,
    IMPLICIT,
    IMPLICIT | WRITE,
    IMPLICIT | USER,
  ),
  entries: fc.array(entry, { minLength: 5, maxLength: 5 }),
});

// biome-ignore lint/suspicious/noExplicitAny: fast-check record
function build(r: any): State {
  const on = (n: number, value: bigint) => (r.flags & (1 << n) ? value : 0n);
  const long = r.mode === "long" || r.mode === "la57";
  return {
    cr0: (r.mode === "off" ? 0n : PG) | on(0, WP),
    cr3: BigInt(r.cr3) << 12n,
    cr4:
      on(1, PSE) |
      (r.mode === "legacy" ? 0n : PAE) |
      (r.mode === "la57" ? LA57 : 0n) |
      on(2, SMEP) |
      on(3, SMAP) |
      (long ? on(4, PKE) : 0n),
    efer: (long ? LMA : 0n) | on(5, NXE),
    rflags: on(6, AC) | 2n,
    pkru: r.pkru,
    pdpte: r.entries.slice(0, 4).map((e: unknown, i: number) => (i === 3 ? 0n : entryValue(e) & 0xff001n)),
    physBits: r.physBits,
    gigabyte: Boolean(r.flags & 128),
  };
}

function install(s: State): void {
  // biome-ignore lint/suspicious/noExplicitAny: fields by name
  const p = struct(m, FILE, "GuestPaging", PAGING) as any;
  Object.assign(p, { cr0: s.cr0, cr3: s.cr3, cr4: s.cr4, efer: s.efer, rflags: s.rflags, pkru: s.pkru, pkrs: 0 });
  Object.assign(p, { pdpte0: s.pdpte[0], pdpte1: s.pdpte[1], pdpte2: s.pdpte[2], pdpte3: s.pdpte[3] });
  Object.assign(p, { physBits: s.physBits, gigabytePages: s.gigabyte ? 1 : 0, gpa: 0n, error: 0 });
}

/** Plants `entries` on the path of `gva`, one a level, wherever the walk will read. */
// biome-ignore lint/suspicious/noExplicitAny: fast-check record
function plant(s: State, gva: bigint, entries: any[]): void {
  let table = s.cr4 & PAE && !(s.efer & LMA) ? s.pdpte[Number(gva >> 30n) & 3] & ~0xfffn : s.cr3;
  for (const [i, [shift, indexBits, bytes]] of levels(s).entries()) {
    const at = table + ((gva >> BigInt(shift)) & (bit(indexBits) - 1n)) * BigInt(bytes);
    if (at + 8n > GUEST_BYTES) return;
    const value = bytes === 8 ? entryValue(entries[i]) : entryValue(entries[i]) & 0xffffffffn;
    const here = GUEST + Number(at);
    if (bytes === 8) m.ram.write64(here, value);
    else {
      const old = m.ram.read64(here & ~7);
      const shiftBy = BigInt((here & 4) * 8);
      m.ram.write64(here & ~7, (old & ~(0xffffffffn << shiftBy)) | (value << shiftBy));
    }
    table = value & 0xff000n;
  }
}

const seen = { faults: 0, keys: 0, reserved: 0, large: 0, good: 0 };

test("every walk gives the model's address or error code, and sets the flags the manual says", () => {
  fc.assert(
    fc.property(state, (r) => {
      const s = build(r);
      const long = Boolean(s.efer & LMA);
      const gva = long ? BigInt.asUintN(64, BigInt.asIntN(s.cr4 & LA57 ? 57 : 48, r.gva)) : r.gva & 0xffffffffn;
      if (s.cr0 & PG) plant(s, gva, r.entries);
      install(s);
      const expected = model(s, gva, r.access);
      const before = "used" in expected ? expected.used.map(([at, bytes]) => read(at, bytes)) : [];
      const ok = Boolean(kernel.walk(RAM, PAGING, gva, r.access));
      // biome-ignore lint/suspicious/noExplicitAny: fields by name
      const p = struct(m, FILE, "GuestPaging", PAGING) as any;
      if ("error" in expected) {
        expect(ok).toBe(false);
        expect(p.error).toBe(expected.error);
        seen.faults++;
        if (expected.error & 0x20) seen.keys++;
        if (expected.error & 8) seen.reserved++;
        return;
      }
      expect(ok).toBe(true);
      expect(p.gpa).toBe(expected.gpa);
      expect(p.pageLog2).toBe(expected.log2);
      seen.good++;
      if (expected.log2 > 12) seen.large++;
      // A table may be its own leaf: each entry has at least its own flags, and nothing but flags changed.
      for (const [i, [at, bytes, leaf]] of expected.used.entries()) {
        const wanted = 0x20n | (leaf && r.access & WRITE ? 0x40n : 0n);
        expect(read(at, bytes) & wanted).toBe(wanted);
        expect(read(at, bytes) & ~0x60n).toBe(before[i] & ~0x60n);
      }
    }),
    { numRuns: 12000, seed: 20 },
  );
  for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(30);
});

test("a probe leaves accessed and dirty flags alone, and faults leave them alone too", () => {
  const s: State = {
    cr0: PG | WP,
    cr3: 0x1000n,
    cr4: PAE,
    efer: LMA | NXE,
    rflags: 2n,
    pkru: 0,
    pdpte: [0n, 0n, 0n, 0n],
    physBits: 46,
    gigabyte: true,
  };
  for (const [table, next] of [
    [0x1000, 0x2003n],
    [0x2000, 0x3003n],
    [0x3000, 0x4003n],
    [0x4000, 0x5001n],
  ] as [number, bigint][])
    m.ram.write64(GUEST + table, next);
  install(s);
  expect(Boolean(kernel.walk(RAM, PAGING, 0x123n, PROBE))).toBe(true);
  expect(m.ram.read64(GUEST + 0x4000)).toBe(0x5001n);
  expect(Boolean(kernel.walk(RAM, PAGING, 0x123n, WRITE))).toBe(false);
  expect(m.ram.read64(GUEST + 0x1000)).toBe(0x2003n);
  expect(Boolean(kernel.walk(RAM, PAGING, 0x123n, 0))).toBe(true);
  expect(m.ram.read64(GUEST + 0x4000)).toBe(0x5021n);
});
