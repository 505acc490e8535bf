import { expect, test } from "vitest";
import type { Bundle } from "../../../tools/compiler/backend/alloc/interval.ts";
import { canUseSlot, slotOperand } from "../../../tools/compiler/backend/alloc/spill.ts";
import { imm, newInst, reg } from "../../../tools/compiler/backend/machine.ts";
import { FIRST_VIRTUAL, RAX, type Size } from "../../../tools/compiler/backend/registers.ts";

const VALUE = FIRST_VIRTUAL;

/** A bundle that `mov register, constant` of `size` can make anywhere. */
function constant(size: Size, value: bigint): Bundle {
  const remat = newInst("mov", size, [reg(VALUE), imm(value)], null);
  return {
    id: 0,
    segments: [],
    uses: [],
    wide: size === 8,
    remat,
    pieces: [],
    slot: -1,
    hints: new Map(),
    friends: new Map(),
  };
}

const user = (op: "mov" | "add", size: Size) => newInst(op, size, [reg(RAX), reg(VALUE)], null);

test("a wide constant is cut to the instruction's size", () => {
  const bundle = constant(8, 0x2280_0000_0000_0012n);
  expect(slotOperand(user("mov", 4), bundle)).toEqual(imm(0x12));
  expect(canUseSlot(user("add", 4), VALUE, bundle)).toBe(true);
  expect(canUseSlot(user("add", 8), VALUE, bundle)).toBe(false);
});

test("a narrow constant has zeros above it where a wide instruction reads it", () => {
  const bundle = constant(4, -1n);
  expect(slotOperand(user("mov", 8), bundle)).toEqual(imm(0xffff_ffffn));
  expect(canUseSlot(user("add", 8), VALUE, bundle)).toBe(false);
  expect(slotOperand(user("add", 4), bundle)).toEqual(imm(-1));
});
