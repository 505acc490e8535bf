// Exit-reason dispatch: a switch over handlers that update a small machine state, as a byte-code interpreter does.

const CODE: usize = 0x20000;
const REGS: usize = 0x30000;
const BYTES: u32 = 0x2000;

export function setup(): void {
  let random: u32 = 1;
  for (let i: u32 = 0; i < BYTES; i++) {
    random = random * 1103515245 + 12345;
    store<u8>(CODE + i, <u8>(random >> 16));
  }
}

function step(pc: u32, accumulator: u64): u64 {
  const byte = <u32>load<u8>(CODE + pc);
  const at = REGS + ((byte >> 4) << 3);
  switch (byte & 15) {
    case 0:
      return accumulator + load<u64>(at);
    case 1:
      return accumulator - load<u64>(at);
    case 2:
      return accumulator ^ load<u64>(at);
    case 3:
      store<u64>(at, accumulator);
      return accumulator;
    case 4:
      return accumulator << (byte >> 4);
    case 5:
      return accumulator >> (byte >> 4);
    case 6:
      return accumulator * 31 + 7;
    case 7:
      return load<u64>(at) < accumulator ? accumulator + 1 : accumulator - 1;
    case 8:
      store<u64>(at, load<u64>(at) + 1);
      return accumulator;
    case 9:
      return rotl<u64>(accumulator, 17);
    case 10:
      return accumulator | ((<u64>byte) << 20);
    case 11:
      return accumulator & ~load<u64>(at);
    case 12:
      return popcnt(accumulator) + (accumulator << 8);
    case 13:
      return <u64>load<u32>(at) * 3 + accumulator;
    case 14:
      store<u32>(at, <u32>accumulator);
      return accumulator + 5;
    default:
      return ~accumulator;
  }
}

export function run(n: u32): u64 {
  memory.fill(REGS, 0, 128);
  let accumulator: u64 = 0x1234_5678;
  for (let i: u32 = 0; i < n; i++) {
    for (let pc: u32 = 0; pc < BYTES; pc++) accumulator = step(pc, accumulator);
  }
  return accumulator;
}
