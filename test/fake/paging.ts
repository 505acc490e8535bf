// The host's address translation: 4-level tables walked as the manual says, with a TLB and
// paging-structure caches that keep what they once saw until an instruction that must drop it does.
// Emulators flush far more often than silicon; this one never does of its own accord.
// Intel SDM Vol. 3, "4-Level Paging" and "Caching Translation Information".

import { type Access, PageFault } from "./faults.ts";
import type { PhysicalMemory } from "./memory.ts";

export const PTE = {
  P: 1n << 0n,
  W: 1n << 1n,
  U: 1n << 2n,
  PWT: 1n << 3n,
  PCD: 1n << 4n,
  A: 1n << 5n,
  D: 1n << 6n,
  PS: 1n << 7n,
  G: 1n << 8n,
  NX: 1n << 63n,
} as const;

const ADDRESS = 0x000f_ffff_ffff_f000n;

/** What a walk depends on besides the tables. */
export interface PagingMode {
  /** Linear-address translations are tagged with it: 0 unless CR4.PCIDE, and the VPID where one is in use. */
  tag: number;
  wp: boolean;
  nxe: boolean;
  pge: boolean;
  physBits: number;
  pages1g: boolean;
}

export interface Translation {
  pa: number; // of the page
  bits: number; // 12, 21 or 30
  writable: boolean;
  executable: boolean;
  user: boolean;
  dirty: boolean;
  global: boolean;
  /** PAT, PCD, PWT as an index into IA32_PAT. */
  patIndex: number;
}

/** One page that the tables map. */
export interface Mapping extends Translation {
  va: bigint;
}

export class Tlb {
  /** Changes whenever anything is dropped: what callers remember of translations is stale then. */
  generation = 0;
  private readonly pages = new Map<string, Translation>();
  private readonly structures = new Map<string, bigint>();

  lookup(tag: number, va: bigint): Translation | undefined {
    for (const bits of [12n, 21n, 30n]) {
      const hit = this.pages.get(`${tag}:${bits}:${va >> bits}`) ?? this.pages.get(`g:${bits}:${va >> bits}`);
      if (hit) return hit;
    }
    return undefined;
  }

  insert(tag: number, va: bigint, t: Translation): void {
    this.pages.set(`${t.global ? "g" : tag}:${t.bits}:${va >> BigInt(t.bits)}`, t);
  }

  /** The entry of the structure at `level` (4 PML4E, 3 PDPTE, 2 PDE) that translates `va`. */
  structure(tag: number, level: number, va: bigint): bigint | undefined {
    return this.structures.get(structureKey(tag, level, va));
  }

  cacheStructure(tag: number, level: number, va: bigint, entry: bigint): void {
    this.structures.set(structureKey(tag, level, va), entry);
  }

  /** INVLPG: the page with any tag's global entry and this tag's own, and every structure of the tag. */
  invalidatePage(tag: number, va: bigint): void {
    this.generation++;
    for (const bits of [12n, 21n, 30n]) {
      this.pages.delete(`${tag}:${bits}:${va >> bits}`);
      this.pages.delete(`g:${bits}:${va >> bits}`);
    }
    dropPrefix(this.structures, `${tag}:`);
  }

  /** MOV to CR3 without bit 63: this tag's entries but global ones. */
  flushTag(tag: number): void {
    this.generation++;
    dropPrefix(this.pages, `${tag}:`);
    dropPrefix(this.structures, `${tag}:`);
  }

  /** A change of CR4.PGE or CR4.PCIDE, or of CR0.PG. */
  flushAll(): void {
    this.generation++;
    this.pages.clear();
    this.structures.clear();
  }

  get size(): number {
    return this.pages.size;
  }
}

function structureKey(tag: number, level: number, va: bigint): string {
  return `${tag}:${level}:${va >> BigInt(12 + 9 * (level - 1))}`;
}

function dropPrefix(map: Map<string, unknown>, prefix: string): void {
  for (const key of map.keys()) if (key.startsWith(prefix)) map.delete(key);
}

export function isCanonical(va: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, va)) === va;
}

/** Translates `va` for a supervisor access; returns the physical address. Throws PageFault. */
export function translate(
  memory: PhysicalMemory,
  tlb: Tlb,
  mode: PagingMode,
  cr3: bigint,
  va: bigint,
  access: Access,
): number {
  if (!isCanonical(va)) throw new PageFault(va, access, "not canonical");
  const cached = tlb.lookup(mode.tag, va);
  if (cached && !(access === "write" && cached.writable && !cached.dirty)) {
    const refusal = refuse(mode, cached, access);
    if (!refusal) return cached.pa + Number(va & ((1n << BigInt(cached.bits)) - 1n));
    // A page fault drops what is cached for the address. "Invalidation of TLBs and Paging-Structure Caches".
    tlb.invalidatePage(mode.tag, va);
    throw new PageFault(va, access, refusal, allows(memory, mode, cr3, va, access));
  }
  const t = walk(memory, tlb, mode, cr3, va, access);
  const refusal = refuse(mode, t, access);
  if (refusal) {
    tlb.invalidatePage(mode.tag, va);
    throw new PageFault(va, access, refusal);
  }
  tlb.insert(mode.tag, va, t);
  return t.pa + Number(va & ((1n << BigInt(t.bits)) - 1n));
}

function refuse(mode: PagingMode, t: Translation, access: Access): "read-only" | "execute-disable" | null {
  if (access === "write" && !t.writable && mode.wp) return "read-only";
  if (access === "execute" && !t.executable) return "execute-disable";
  return null;
}

function allows(memory: PhysicalMemory, mode: PagingMode, cr3: bigint, va: bigint, access: Access): boolean {
  try {
    return refuse(mode, walk(memory, new Tlb(), mode, cr3, va, "read"), access) === null;
  } catch {
    return false;
  }
}

/** Walks the tables, beginning below the deepest structure that is cached; sets accessed and dirty flags. */
function walk(
  memory: PhysicalMemory,
  tlb: Tlb,
  mode: PagingMode,
  cr3: bigint,
  va: bigint,
  access: Access,
): Translation {
  let level = 4;
  let table = Number(cr3 & ADDRESS);
  let rights = { writable: true, user: true, executable: true };
  for (let l = 2; l <= 4; l++) {
    const entry = tlb.structure(mode.tag, l, va);
    if (entry === undefined) continue;
    // Rights of the upper levels are cached with the structure: kept in its W, U and NX bits.
    rights = rightsOf(entry, mode);
    table = Number(entry & ADDRESS);
    level = l - 1;
    break;
  }
  for (; ; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const at = table + 8 * Number((va >> shift) & 511n);
    let entry = memory.read64(at);
    if (!(entry & PTE.P)) throw new PageFault(va, access, "not present");
    const leaf = level === 1 || (level <= 3 && (entry & PTE.PS) !== 0n);
    if (hasReservedBit(entry, level, leaf, mode)) throw new PageFault(va, access, "reserved bit");
    const own = rightsOf(entry, mode);
    rights = {
      writable: rights.writable && own.writable,
      user: rights.user && own.user,
      executable: rights.executable && own.executable,
    };
    const flags = PTE.A | (leaf && access === "write" && (rights.writable || !mode.wp) ? PTE.D : 0n);
    if ((entry & flags) !== flags) {
      entry |= flags;
      memory.write64(at, entry);
    }
    if (!leaf) {
      tlb.cacheStructure(mode.tag, level, va, withRights(entry, rights));
      table = Number(entry & ADDRESS);
      continue;
    }
    const bits = Number(shift);
    const pageMask = ADDRESS & ~((1n << shift) - 1n);
    return {
      pa: Number(entry & pageMask),
      bits,
      ...rights,
      dirty: (entry & PTE.D) !== 0n,
      global: mode.pge && (entry & PTE.G) !== 0n,
      patIndex: patIndexOf(entry, level),
    };
  }
}

function rightsOf(entry: bigint, mode: PagingMode) {
  return {
    writable: (entry & PTE.W) !== 0n,
    user: (entry & PTE.U) !== 0n,
    executable: !mode.nxe || (entry & PTE.NX) === 0n,
  };
}

function withRights(entry: bigint, rights: { writable: boolean; user: boolean; executable: boolean }): bigint {
  return (
    (entry & ~(PTE.W | PTE.U | PTE.NX)) |
    (rights.writable ? PTE.W : 0n) |
    (rights.user ? PTE.U : 0n) |
    (rights.executable ? 0n : PTE.NX)
  );
}

function patIndexOf(entry: bigint, level: number): number {
  const pat = (entry >> (level === 1 ? 7n : 12n)) & 1n;
  return Number((pat << 2n) | ((entry >> 3n) & 3n));
}

/** Intel SDM Vol. 3, "4-Level Paging": the figures of the entries' formats. */
function hasReservedBit(entry: bigint, level: number, leaf: boolean, mode: PagingMode): boolean {
  if (!mode.nxe && entry & PTE.NX) return true;
  if ((entry & ADDRESS) >> BigInt(mode.physBits)) return true;
  if (level === 4 && entry & PTE.PS) return true;
  if (level === 3 && leaf && !mode.pages1g) return true;
  if (leaf && level === 3 && entry & 0x3fff_e000n) return true;
  if (leaf && level === 2 && entry & 0x1f_e000n) return true;
  return false;
}

/** Every page that the tables at `cr3` map, in order of address. For checks of whole address spaces. */
export function* mappings(memory: PhysicalMemory, mode: PagingMode, cr3: bigint): Generator<Mapping> {
  yield* below(memory, mode, Number(cr3 & ADDRESS), 4, 0n, { writable: true, user: true, executable: true });
}

function* below(
  memory: PhysicalMemory,
  mode: PagingMode,
  table: number,
  level: number,
  base: bigint,
  rights: { writable: boolean; user: boolean; executable: boolean },
): Generator<Mapping> {
  const shift = BigInt(12 + 9 * (level - 1));
  for (let i = 0; i < 512; i++) {
    const entry = memory.read64(table + 8 * i);
    if (!(entry & PTE.P)) continue;
    const va = BigInt.asUintN(64, BigInt.asIntN(48, base | (BigInt(i) << shift)));
    const leaf = level === 1 || (level <= 3 && (entry & PTE.PS) !== 0n);
    if (hasReservedBit(entry, level, leaf, mode)) throw new PageFault(va, "read", "reserved bit");
    const own = rightsOf(entry, mode);
    const all = {
      writable: rights.writable && own.writable,
      user: rights.user && own.user,
      executable: rights.executable && own.executable,
    };
    if (!leaf) {
      yield* below(memory, mode, Number(entry & ADDRESS), level - 1, base | (BigInt(i) << shift), all);
      continue;
    }
    yield {
      va,
      pa: Number(entry & ADDRESS & ~((1n << shift) - 1n)),
      bits: Number(shift),
      ...all,
      dirty: (entry & PTE.D) !== 0n,
      global: (entry & PTE.G) !== 0n,
      patIndex: patIndexOf(entry, level),
    };
  }
}
