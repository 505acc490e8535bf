// A virtio-like split ring: the driver fills descriptor chains, the device walks them and fills the used ring.

const SIZE: u32 = 256;
const DESC: usize = 0x20000; // u64 address, u32 length, u16 flags, u16 next
const AVAIL: usize = 0x22000; // u16 flags, u16 index, u16 ring[]
const USED: usize = 0x23000; // u16 flags, u16 index, {u32 id, u32 length} ring[]
const DATA: usize = 0x24000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

export function setup(): void {
  memory.fill(DESC, 0, 0x4000);
  for (let i: u32 = 0; i < 0x10000; i++) store<u8>(DATA + i, <u8>(i * 7 + (i >> 8)));
}

function offer(head: u32, length: u32, seed: u32): void {
  let id = head;
  for (let i: u32 = 0; i < length; i++) {
    const at = DESC + (id << 4);
    const next = (id + 1) & (SIZE - 1);
    store<u64>(at, <u64>DATA + ((seed + i * 640) & 0xfff0));
    store<u32>(at, 16 + ((seed >> i) & 31), 8);
    const last = i + 1 == length;
    store<u16>(at, last ? WRITE : NEXT, 12);
    store<u16>(at, <u16>next, 14);
    id = next;
  }
  const index = load<u16>(AVAIL, 2);
  store<u16>(AVAIL + 4 + ((index & (SIZE - 1)) << 1), <u16>head);
  store<u16>(AVAIL, index + 1, 2);
}

/** Takes all available chains from `last`; returns the new position. */
function serve(last: u16): u16 {
  const end = load<u16>(AVAIL, 2);
  while (last != end) {
    const head = <u32>load<u16>(AVAIL + 4 + ((<u32>last & (SIZE - 1)) << 1));
    let id = head;
    let sum: u32 = 0;
    let written: u32 = 0;
    for (let guard: u32 = 0; guard < SIZE; guard++) {
      const at = DESC + (id << 4);
      const address = <usize>load<u64>(at);
      const bytes = load<u32>(at, 8);
      const flags = load<u16>(at, 12);
      if (flags & WRITE) {
        store<u32>(address, sum);
        written += bytes;
      } else {
        for (let i: u32 = 0; i < bytes; i += 4) sum += load<u32>(address + i);
      }
      if (!(flags & NEXT)) break;
      id = <u32>load<u16>(at, 14) & (SIZE - 1);
    }
    const used = load<u16>(USED, 2);
    const slot = USED + 4 + ((<u32>used & (SIZE - 1)) << 3);
    store<u32>(slot, head);
    store<u32>(slot, written + (sum & 0xff), 4);
    store<u16>(USED, used + 1, 2);
    last++;
  }
  return last;
}

export function run(n: u32): u64 {
  setup();
  let sum: u64 = 0;
  let last: u16 = 0;
  let head: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    for (let k: u32 = 0; k < 16; k++) {
      const length = 2 + ((i + k) & 3);
      offer(head, length, i * 977 + k * 131);
      head = (head + length) & (SIZE - 1);
    }
    last = serve(last);
    sum = sum * 31 + load<u32>(USED + 4 + ((<u32>(last - 1) & (SIZE - 1)) << 3), 4);
  }
  return sum;
}
