import { expect, test } from "vitest";
import { boot, FEATURES, KINDS, MODELS, pairwiseShift } from "../../system/matrix.ts";

test("the boots of npm test meet every pair of features, and every kind of guest with each feature on and off", () => {
  const seen = new Set<string>();
  for (const model of MODELS) {
    const pairs = new Set<string>();
    for (const { kind, without } of boot(pairwiseShift(model))) {
      const state = FEATURES.map((f) => `${f}=${without.includes(f) ? "off" : "on"}`);
      for (const s of state) seen.add(`${kind} ${s}`);
      for (const a of state) for (const b of state) pairs.add(`${a} ${b}`);
    }
    // Two features in four ways, and each with itself in two.
    expect(pairs.size).toBe(FEATURES.length * (FEATURES.length - 1) * 4 + FEATURES.length * 2);
  }
  expect(seen.size).toBe(KINDS.length * FEATURES.length * 2);
});
