// The three lists of intrinsics: declarations, code, simulation.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { INTRINSICS } from "../../../tools/compiler/intrinsics.ts";
import { declarations, intrinsics } from "../../fake/insn.ts";
import { machine } from "../../fake/machine.ts";

const declared = () =>
  declarations()
    .map((d) => d.name)
    .sort();

test("every line of insn.ts that declares a function is understood", () => {
  const lines = readFileSync("kernel/cpu/insn.ts", "utf8").match(/^export declare function/gm);
  expect(declared()).toHaveLength(lines?.length ?? 0);
});

test("the fake machine implements exactly the declared intrinsics", async () => {
  const m = await machine({ entries: ["kernel/cpu/trapframe.ts"] });
  expect(Object.keys(intrinsics(m)).sort()).toEqual(declared());
});

test("the compiler has a row for exactly the declared intrinsics", () => {
  expect(INTRINSICS.map((row) => row.name).sort()).toEqual(declared());
});
