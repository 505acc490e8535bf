// Where the simulated boot loader put the image: the same order of parts as boot/ and tools/image give
// the real one, with small sizes. Its linear memory is the Wasm memory itself.

const IMAGE_BASE = 0xffff_ffff_8000_0000n;
const LINEAR_START = 0x1_0000;
const SHARED_END = 0x40_0000;
const PAGE = 4096;

export interface Image {
  start: number;
  rodata: number;
  data: number;
  linear: number; // LINEAR_START .. SHARED_END
  bss: number;
  /** In bss: the boot CPU's block and stacks, and the boot page tables (as far as boot.ts makes them). */
  percpu: number;
  stacks: number;
  tables: number;
  end: number;
}

export function layOut(start = 0x10_0000): Image {
  const rodata = start + 0x4_0000;
  const data = rodata + 0x1_0000;
  const linear = data + 0x2000;
  const bss = linear + SHARED_END - LINEAR_START;
  const percpu = bss;
  const stacks = percpu + 4 * PAGE;
  const tables = stacks + 32 * PAGE;
  const end = tables + 32 * PAGE;
  return { start, rodata, data, linear, bss, percpu, stacks, tables, end };
}

/** Offsets in rodata of what imageBoundary() names. */
export const TRAMPOLINE_OFFSET = 0x1000;
export const TRAMPOLINE_BYTES = 0x180;
const BUILD_ID_OFFSET = 0x2000;
const IDT_OFFSET = 0x3000;
/** Tables for faults: empty unless a test fills them. */
export const FRAMES_OFFSET = 0x4000;
export const TRAPS_OFFSET = 0x6000;
const FAULT_TABLE_BYTES = 0x800;

export function imageBoundary(image: Image, which: number): bigint {
  const at = [
    image.start,
    image.rodata,
    image.data,
    image.end,
    image.linear,
    image.rodata + TRAMPOLINE_OFFSET,
    image.rodata + TRAMPOLINE_OFFSET + TRAMPOLINE_BYTES,
    image.rodata + BUILD_ID_OFFSET,
    image.rodata + IDT_OFFSET,
    image.rodata + FRAMES_OFFSET,
    image.rodata + FRAMES_OFFSET + FAULT_TABLE_BYTES,
    image.rodata + TRAPS_OFFSET,
    image.rodata + TRAPS_OFFSET + FAULT_TABLE_BYTES,
    image.start + 0x800,
  ][which];
  if (at === undefined) throw new Error(`imageBoundary(${which})`);
  return IMAGE_BASE + BigInt(at);
}
