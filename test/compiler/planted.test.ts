// The fuzzer is tested by bugs that are planted in the compiler. All of them are hunted in the long form;
// here a few of each stage.

import { expect, test } from "vitest";
import { bugs } from "./planted/bugs.ts";
import { hunt, places, plant, uproot } from "./planted/plant.ts";

const isLong = Boolean(process.env.BASALT_LONG);
const QUICK = [
  "value numbering ignores a store in between",
  "wrong condition for below or equal",
  "a spilled value is not stored",
];
const MINUTE = 60_000;

test("each of more than thirty bugs has its place in the compiler's source", () => {
  expect(bugs.length).toBeGreaterThan(30);
  expect(bugs.filter((bug) => places(bug) !== 1).map((bug) => bug.name)).toEqual([]);
  expect(new Set(bugs.map((bug) => bug.name)).size).toBe(bugs.length);
});

const hunted = bugs.filter(({ name }) => isLong || QUICK.includes(name));

test.each(hunted.map(({ name }) => name))(
  "the fuzzer finds: %s",
  async (name) => {
    const folder = plant(bugs.find((bug) => bug.name === name) as (typeof bugs)[0]);
    try {
      expect((await hunt(folder)).found).toBe(true);
    } finally {
      uproot(folder);
    }
  },
  5 * MINUTE,
);

test.runIf(isLong)(
  "the fuzzer finds nothing in the compiler as it is",
  async () => {
    expect(await hunt(plant(null))).toMatchObject({ found: false });
  },
  5 * MINUTE,
);

test("the fuzzer's quick part has its bugs", () => {
  expect(hunted.length).toBeGreaterThanOrEqual(QUICK.length);
});
