// Readings and rules that the audits of a failed VM entry share.

import { virtBits } from "../cpu/feature";
import { vmread } from "../cpu/insn";
import { EntryControl, Proc, Proc2 } from "./control";
import { Field } from "./field";

export function read32(field: u32): u32 {
  return <u32>vmread(field);
}

/** Bits above the processor's linear addresses repeat the highest of these. */
export function canonical(va: u64): bool {
  const unused = 64 - <i64>virtBits();
  return <u64>(((<i64>va) << unused) >> unused) == va;
}

/** True if each byte is a memory type that a PAT may have. */
export function goodPat(pat: u64): bool {
  for (let i: u64 = 0; i < 64; i += 8) {
    const type = (pat >> i) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

export function entersLongMode(): bool {
  return (read32(Field.ENTRY_CONTROLS) & EntryControl.IA32E_MODE_GUEST) != 0;
}

/** The secondary controls, or, where they are off, what they count as then. */
export function secondaryControls(): u32 {
  const on = (read32(Field.PROCESSOR_CONTROLS) & Proc.SECONDARY_CONTROLS) != 0;
  return on ? read32(Field.PROCESSOR_CONTROLS_2) : 0;
}

export function isUnrestricted(): bool {
  return (secondaryControls() & Proc2.UNRESTRICTED_GUEST) != 0;
}
