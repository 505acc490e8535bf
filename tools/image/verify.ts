/**
 * What boot loaders and the core's protection rely on, checked on every image that is built.
 */

import { type Elf, PT_LOAD } from "./elf.ts";

const MULTIBOOT1_MAGIC = 0x1badb002;
const MULTIBOOT2_MAGIC = 0xe85250d6;
const SEARCH_BYTES = 8192;

/** Throws, saying what is wrong. */
export function checkImage(elf: Elf): void {
  const loads = elf.segments.filter((s) => s.type === PT_LOAD);
  const first = loads[0];
  if (!first) throw new Error("image: nothing to load");
  for (const segment of loads) {
    if ((segment.flags & 3) === 3) throw new Error("image: a segment is writable and executable");
    if (segment.fileBytes && BigInt(segment.fileOffset - first.fileOffset) !== segment.physical - first.physical)
      throw new Error("image: the file is not contiguous, as the multiboot address fields promise");
  }
  findHeader(elf, MULTIBOOT1_MAGIC, 4, 3);
  findHeader(elf, MULTIBOOT2_MAGIC, 8, 4);
}

/** Looks for `magic` where loaders look, followed by words that sum to zero with it. */
function findHeader(elf: Elf, magic: number, align: number, words: number): void {
  for (let at = 0; at + words * 4 <= Math.min(SEARCH_BYTES, elf.file.length); at += align) {
    if (elf.file.readUInt32LE(at) !== magic) continue;
    let sum = 0;
    for (let i = 0; i < words; i++) sum += elf.file.readUInt32LE(at + i * 4);
    if (sum % 2 ** 32 === 0) return;
  }
  throw new Error(`image: no multiboot header ${magic.toString(16)} in the first ${SEARCH_BYTES} bytes`);
}
