/** What the image needs beside code: linear memory's first bytes, the tables for faults. */

import type { Module } from "../ir.ts";
import type { Emitted } from "./emit.ts";
import { frameBytes } from "./frame.ts";
import type { Site } from "./print.ts";

const LINEAR_START = 0x1_0000;
/** Virtual address of the image's first byte: IMAGE_BASE + 1 MiB (kernel/config.ts). */
const IMAGE_START = "0xffffffff80100000";

export function linearImage(module: Module): Uint8Array {
  const active = module.data.filter((d) => d.address !== null && d.bytes.length > 0);
  const end = active.reduce((max, d) => Math.max(max, (d.address as number) + d.bytes.length), LINEAR_START);
  const image = new Uint8Array(end - LINEAR_START);
  for (const segment of active) {
    const address = segment.address as number;
    if (address < LINEAR_START)
      throw new Error(`a data segment at ${address}: nothing is mapped below ${LINEAR_START}`);
    image.set(segment.bytes, address - LINEAR_START);
  }
  let last = image.length;
  while (last > 0 && image[last - 1] === 0) last--;
  return image.subarray(0, last);
}

/** Offsets from the image's start in bits 31:0, in ascending order: hot parts, then cold ones. */
export function metalTables(compiled: Emitted[]): string[] {
  const entry = (label: string, high: number | string): string => `  dq ${label} - ${IMAGE_START} + (${high} << 32)`;
  const withCold = compiled.filter((e) => e.printed.cold.length > 0);
  const frame = (e: Emitted): number => frameBytes(e.machine.frame);
  return [
    "section .frames progbits alloc noexec nowrite align=8",
    ...compiled.map((e) => entry(e.machine.label, frame(e))),
    entry("basalt_routines", "0xffffffff"),
    ...withCold.map((e) => entry(`${e.machine.label}.cold`, frame(e))),
    entry("basalt_cold_end", "0xffffffff"),
    "section .traps progbits alloc noexec nowrite align=8",
    ...[...sitesInOrder(compiled, false), ...sitesInOrder(compiled, true)].map((s) => entry(s.label, s.kind)),
  ];
}

/** Sites in the order in which they stand in the text of all hot or all cold parts. */
export function sitesInOrder(compiled: Emitted[], cold: boolean): (Site & { func: string })[] {
  return compiled.flatMap(({ func, printed }) => {
    const byLabel = new Map(printed.sites.map((s) => [`${s.label}:`, { ...s, func: func.name }]));
    const lines = cold ? printed.cold : printed.hot;
    return lines.flatMap((line) => byLabel.get(line) ?? []);
  });
}
