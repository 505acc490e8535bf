// Bits of the host's page-table entries, and the combinations that the core uses.
// Intel SDM Vol. 3, "4-Level Paging", figure "Formats of CR3 and Paging-Structure Entries".

export const PRESENT: u64 = 1 << 0;
export const WRITE: u64 = 1 << 1;
export const PWT: u64 = 1 << 3;
export const PCD: u64 = 1 << 4;
export const ACCESSED: u64 = 1 << 5;
export const DIRTY: u64 = 1 << 6;
export const LARGE: u64 = 1 << 7; // PS, in a PDPTE or PDE
export const PAT: u64 = 1 << 7; // in a PTE: the upper bit of the memory type
export const PAT_LARGE: u64 = 1 << 12; // the same in a PDPTE or PDE that maps a page
export const GLOBAL: u64 = 1 << 8;
export const NEW: u64 = 1 << 9; // ignored by the processor: mapped by a call that has not succeeded yet
export const NX: u64 = 1 << 63;
export const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/** An entry that refers to a table: rights are cut at the leaf alone. */
export const TABLE: u64 = PRESENT | WRITE | ACCESSED;

// Leaves. What every root maps alike is global: a switch of CR3 keeps its translations.
// Accessed and dirty are set at once, so that the processor never has to write them.
export const LEAF: u64 = PRESENT | ACCESSED | DIRTY;
export const LEAF_RX: u64 = LEAF | GLOBAL;
export const LEAF_R: u64 = LEAF | GLOBAL | NX;
export const LEAF_RW: u64 = LEAF | GLOBAL | NX | WRITE;
/** Of one root only. */
export const OWN_RW: u64 = LEAF | NX | WRITE;

// Memory types, as indices into IA32_PAT with the value that kernel/cpu/control.ts loads.
export const TYPE_WB: u64 = 0;
export const TYPE_UC: u64 = PCD | PWT; // 3
export const TYPE_WC: u64 = PAT; // 4
