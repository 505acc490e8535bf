// The page tables behind the table window: they map TABLE frames and nothing else. The window has one
// set of tables, which every host root shares from its PML4 down; the second level is made at boot for
// all RAM there is, so that no root changes when a pool is added.

import { TABLE_WINDOW } from "../config";
import { invlpg } from "../cpu/insn";
import { panic } from "../lib/panic";
import { Status } from "../lib/status";
import { takePoolFrame } from "./block";
import { ADDRESS, LARGE, LEAF_RW, TABLE } from "./entry";
import { readEntry, writeEntry, zeroFrame } from "./phys";

const PDPT_SPAN: u64 = 39;
/** pa of the PDPT of each 512 GiB of the window, 0: none. Written at boot. */
const pdpts: usize = memory.data(32 * 8, 8);
export const WINDOW_PDPTS: u32 = 32;

/** Makes the PDPT for the 512 GiB that hold `pa`, if it is missing. Boot only, before the first root is made. */
export function coverTables(pa: u64): Status {
  const at = pdpts + ((<usize>(pa >> PDPT_SPAN)) << 3);
  if (load<u64>(at)) return Status.OK;
  const frame = takePoolFrame();
  if (!frame) return Status.NO_MEMORY;
  zeroFrame(frame);
  store<u64>(at, frame);
  return Status.OK;
}

/** The PML4 entry of the window's part `index`; 0 where there is no RAM. */
export function windowEntry(index: u32): u64 {
  const pdpt = load<u64>(pdpts + ((<usize>index) << 3));
  return pdpt ? pdpt | TABLE : 0;
}

/** First PML4 index of the window. */
export function windowFirst(): u32 {
  return <u32>(TABLE_WINDOW >> PDPT_SPAN) & 511;
}

/**
 * Maps the 2 MiB run at `pa` for pools. The run is not mapped before: nothing needs invalidating.
 * NO_MEMORY if there is no frame for a table.
 */
export function mapPool(pa: u64): Status {
  const directory = directoryFor(pa);
  if (!directory) return Status.NO_MEMORY;
  const at = directory + (((pa >> 21) & 511) << 3);
  writeEntry(at, pa | LEAF_RW | LARGE);
  return Status.OK;
}

/** Takes back what mapPool() has just mapped: no other CPU has used it. */
export function unmapPool(pa: u64): void {
  writeEntry(directoryFor(pa) + (((pa >> 21) & 511) << 3), 0);
  invlpg(TABLE_WINDOW + pa);
}

/** Maps the single frame at `pa`, outside all pools: for the trampoline page. */
export function mapFrame(pa: u64): Status {
  const directory = directoryFor(pa);
  if (!directory) return Status.NO_MEMORY;
  const at = directory + (((pa >> 21) & 511) << 3);
  let table = readEntry(at);
  if (!table) {
    table = takePoolFrame();
    if (!table) return Status.NO_MEMORY;
    zeroFrame(table);
    writeEntry(at, table | TABLE);
  }
  writeEntry((table & ADDRESS) + (((pa >> 12) & 511) << 3), pa | LEAF_RW);
  return Status.OK;
}

/** Takes back what mapFrame() mapped; the caller invalidates TABLE_WINDOW + pa. */
export function unmapFrame(pa: u64): void {
  const directory = directoryFor(pa);
  const table = readEntry(directory + (((pa >> 21) & 511) << 3)) & ADDRESS;
  writeEntry(table + (((pa >> 12) & 511) << 3), 0);
}

/** The page directory of the GiB that holds `pa`, made if it is missing; 0 if there is no frame for it. */
function directoryFor(pa: u64): u64 {
  const pdpt = load<u64>(pdpts + ((<usize>(pa >> PDPT_SPAN)) << 3));
  if (!pdpt) panic("tablewindow: RAM that coverTables() was not told of");
  const at = pdpt + (((pa >> 30) & 511) << 3);
  const present = readEntry(at) & ADDRESS;
  if (present) return present;
  const frame = takePoolFrame();
  if (!frame) return 0;
  zeroFrame(frame);
  writeEntry(at, frame | TABLE);
  return frame;
}
