// Which guests run with which processor features on which models: rows of a covering array, so that few boots
// meet every pair.

/** Features that a guest's description can switch off: the words of `without=`. */
export const FEATURES = ["unrestricted", "vpid", "timer", "apicv", "tpr", "largepages", "apicaccess", "eptad"];

/** Bochs' models, from the oldest that has EPT. */
export const MODELS = [
  "corei5_lynnfield_750",
  "corei7_sandy_bridge_2600k",
  "corei7_haswell_4770",
  "corei7_skylake_x",
  "corei3_cnl",
  "tigerlake",
];

/** Test guests that pass wherever there is EPT, as many as the array has rows. */
export const KINDS = [
  "exceptions",
  "paging",
  "mmio",
  "msrs",
  "ports",
  "apic",
  "tsc",
  "fpu",
  "cpuid",
  "selfmod",
  "ioapic",
  "halt",
];

/**
 * Twelve rows of eleven factors in which any two factors meet in all four ways (the Plackett-Burman design:
 * one row shifted round, and a row of zeroes). 1: the feature is off.
 */
const GENERATOR = [1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0];
const ROWS = [
  ...GENERATOR.map((_, row) => GENERATOR.map((__, column) => GENERATOR[(column + 11 - row) % 11] as number)),
  GENERATOR.map(() => 0),
];

export interface Cell {
  kind: string;
  without: string[];
}

/** One boot: every kind of guest, each with another row. `shift` moves the rows along the kinds. */
export function boot(shift: number): Cell[] {
  return KINDS.map((kind, i) => ({
    kind,
    without: FEATURES.filter((_, feature) => ROWS[(i + shift) % ROWS.length]?.[feature]),
  }));
}

/** Boots of a model for `npm test`: the shifts differ between models, so that kinds and features meet too. */
export function pairwiseShift(model: string): number {
  return 2 * MODELS.indexOf(model);
}
