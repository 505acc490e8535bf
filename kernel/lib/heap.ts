// Linear memory for what exists once: taken at boot, never given back. It begins zeroed, as the boot
// loader left the image's bss. Frames and arenas are for everything that comes and goes.

import { SHARED_END } from "../config";
import { panic } from "./panic";

let next: usize = __heap_base; // written at boot

/** `bytes` of zeroed shared memory, aligned to a power of two. Boot only; panics when the part is full. */
export function sharedAlloc(bytes: usize, alignment: usize): usize {
  const at = (next + (alignment - 1)) & ~(alignment - 1);
  if (at < next || bytes > SHARED_END || at > SHARED_END - bytes)
    panic("heap: the shared part of linear memory is full");
  next = at + bytes;
  return at;
}

/** Bytes that sharedAlloc can still give. */
export function sharedLeft(): usize {
  return SHARED_END - next;
}
