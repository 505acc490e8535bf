// The tour: every operator with every operand shape and every memory instruction with every kind of
// address, as short recipes. Program number n of a run takes the next slice, so that a run of a few
// hundred programs covers them all by construction; coverage.ts checks that it did.

import { type Access, accesses, type IntType, type Operator, operators, traps } from "./opcodes.ts";
import type { Random } from "./random.ts";
import { type Node, statement, valued } from "./tree.ts";
import { divisor, interesting } from "./values.ts";

export type Shape = "constant" | "local" | "load" | "computed";
export const operandShapes: Shape[] = ["constant", "local", "load", "computed"];
/** What becomes of a result: how flags are consumed is a decision of instruction selection. */
export type Use = "value" | "br_if" | "if" | "select" | "inverted";
const conditionUses: Use[] = ["value", "br_if", "if", "select", "inverted"];

/** Where an address points and how it is made. */
export const addressForms = [
  "constant", // i32.const in bounds
  "pointer", // a local
  "pointer+offset", // static offset below 64 KiB
  "sum", // local + constant
  "scaled", // local + (local << 1..3)
  "scaled wraps", // the same, with a carry out of 32 bits, in bounds
  "offset 64K", // static offset of 64 KiB and more, in bounds
  "last", // the last bytes of memory
  "odd", // misaligned, in bounds (an atomic of more than a byte traps)
  "past the end", // partly outside
  "offset 2G", // static offset of 2 GiB and more: never in bounds
  "wraps small", // index + offset carries out of 32 bits, offset below 64 KiB
  "wraps large", // the same with an offset that would land in bounds
  "far", // index of 2 GiB and more
] as const;
export type AddressForm = (typeof addressForms)[number];
const trapping: AddressForm[] = ["odd", "past the end", "offset 2G", "wraps small", "wraps large", "far"];

export const bulkForms = [
  "constant length",
  "variable length",
  "zero length",
  "zero length at the end",
  "overlap up",
  "overlap down",
  "to the end",
  "destination past the end",
  "source past the end",
  "length wraps",
] as const;
export type BulkForm = (typeof bulkForms)[number];

export type Recipe =
  | { key: string; mayTrap: boolean; type: "operator"; operator: Operator; shapes: Shape[]; equal: boolean; use: Use }
  | { key: string; mayTrap: boolean; type: "access"; access: Access; form: AddressForm; value: Shape }
  | { key: string; mayTrap: boolean; type: "import"; name: "umulh" | "udiv128" | "mix"; shapes: Shape[] }
  | { key: string; mayTrap: boolean; type: "bulk"; op: "memory.copy" | "memory.fill" | "memory.init"; form: BulkForm };

function operatorRecipes(operator: Operator): Recipe[] {
  const { name, params, result } = operator;
  const uses = /\.(eq|ne|lt|gt|le|ge)|and$|eqz/.test(name) && result === "i32" ? conditionUses : (["value"] as Use[]);
  const mayTrap = traps(name);
  const combinations: { shapes: Shape[]; equal: boolean }[] =
    params.length === 1
      ? operandShapes.map((shape) => ({ shapes: [shape], equal: false }))
      : operandShapes.flatMap((a) => operandShapes.map((b) => ({ shapes: [a, b], equal: false })));
  if (params.length === 2) combinations.push({ shapes: ["local", "local"], equal: true });
  return uses.flatMap((use) =>
    combinations.map(({ shapes, equal }) => {
      const key = `${name} ${equal ? "equal" : shapes.join(" ")} ${use}`;
      return { key, mayTrap, type: "operator" as const, operator, shapes, equal, use };
    }),
  );
}

function accessRecipes(access: Access): Recipe[] {
  const values: Shape[] = access.kind === "store" ? operandShapes : ["local"];
  return addressForms.flatMap((form) =>
    values.map((value) => ({
      key: `${access.name} ${form} ${value}`,
      mayTrap: trapping.includes(form),
      type: "access" as const,
      access,
      form,
      value,
    })),
  );
}

const bulkRecipes: Recipe[] = (["memory.copy", "memory.fill", "memory.init"] as const).flatMap((op) =>
  bulkForms.map((form) => ({ key: `${op} ${form}`, mayTrap: true, type: "bulk" as const, op, form })),
);

const importRecipes: Recipe[] = (["umulh", "udiv128", "mix"] as const).flatMap((name) =>
  operandShapes.flatMap((a) =>
    operandShapes.map((b) => ({
      key: `${name} ${a} ${b}`,
      mayTrap: false,
      type: "import" as const,
      name,
      shapes: [a, b],
    })),
  ),
);

/** Deterministic order with neighbours apart, so that each slice is a mixture. */
function interleave(recipes: Recipe[]): Recipe[] {
  const step = 769; // prime, and no divisor of the count
  return recipes.map((_, i) => recipes[(i * step) % recipes.length]);
}

export const recipes: Recipe[] = interleave([
  ...operators.flatMap(operatorRecipes),
  ...accesses.flatMap(accessRecipes),
  ...bulkRecipes,
  ...importRecipes,
]);

/** What a recipe's function offers: i32 and i64 parameters, and locals that hold an in-bounds pointer and a small index. */
export interface Place {
  random: Random;
  /** First usable byte and size of linear memory. */
  base: number;
  memoryBytes: number;
  locals: Record<IntType, number[]>;
  /** Holds base + a multiple of 8 below base + 4096. */
  pointer: number;
  /** Holds 0..63. */
  index: number;
  /** i64 accumulator. */
  accumulator: number;
  nextLabel: () => number;
  segment: { index: number; bytes: number };
  imports: string[];
}

const i32 = (value: number | bigint): Node => valued("const", "i32", [], { value: BigInt.asUintN(32, BigInt(value)) });
const get = (index: number, type: IntType): Node => valued("local.get", type, [], { index });

function operand(place: Place, shape: Shape, type: IntType, isDivisor: boolean): Node {
  const { random } = place;
  const local = (): Node => get(random.pick(place.locals[type]), type);
  switch (shape) {
    case "constant":
      return valued("const", type, [], { value: isDivisor ? divisor(random, type) : interesting(random, type) });
    case "local":
      return local();
    case "load": {
      const more = { offset: 8 * random.below(16), align: 0 };
      const wide = random.chance(60);
      const name = wide ? `${type}.load` : `${type}.load${random.pick(["8_s", "8_u", "16_s", "16_u"])}`;
      return valued(name, type, [get(place.pointer, "i32")], more);
    }
    case "computed": {
      const op = `${type}.${random.pick(["add", "xor", "sub", "mul"])}`;
      return valued(op, type, [local(), random.chance(50) ? local() : constant(random, type)]);
    }
  }
}

const constant = (random: Random, type: IntType): Node =>
  valued("const", type, [], { value: interesting(random, type) });

const widen = (node: Node): Node => (node.type === "i64" ? node : valued("i64.extend_i32_u", "i64", [node]));

/** accumulator = rotl(accumulator, 7) ^ value */
export function absorb(place: Pick<Place, "accumulator">, node: Node): Node {
  const { accumulator } = place;
  const seven = valued("const", "i64", [], { value: 7n });
  const turned = valued("i64.rotl", "i64", [get(accumulator, "i64"), seven]);
  return statement("local.set", [valued("i64.xor", "i64", [turned, widen(node)])], { index: accumulator });
}

function consume(place: Place, use: Use, node: Node): Node[] {
  const { random } = place;
  const mark = (): Node => absorb(place, constant(random, "i64"));
  const label = place.nextLabel();
  switch (use) {
    case "value":
      return [absorb(place, node)];
    case "br_if":
      return [statement("block", [], { index: label, body: [statement("br_if", [node], { index: label }), mark()] })];
    case "if":
      return [statement("if", [node], { index: label, body: [mark()], otherwise: [mark()] })];
    case "select": {
      const type = random.pick(["i32", "i64"] as const);
      const pick = valued("select", type, [constantOrLocal(place, type), constantOrLocal(place, type), node]);
      return [absorb(place, pick)];
    }
    case "inverted":
      return [
        statement("if", [valued("i32.eqz", "i32", [node])], { index: label, body: [mark()], otherwise: [mark()] }),
      ];
  }
}

const constantOrLocal = (place: Place, type: IntType): Node =>
  place.random.chance(30) ? constant(place.random, type) : get(place.random.pick(place.locals[type]), type);

interface Address {
  node: Node;
  offset: number;
}

/** An address for an access of `width` bytes. */
export function address(place: Place, form: AddressForm, width: number): Address {
  const { random, base, memoryBytes } = place;
  const aligned = width * random.below(64);
  const valid = base + 8 * random.below(512);
  const pointer = get(place.pointer, "i32");
  const sum = (a: Node, b: Node): Node => valued("i32.add", "i32", random.chance(50) ? [a, b] : [b, a]);
  switch (form) {
    case "constant":
      return { node: i32(valid), offset: aligned };
    case "pointer":
      return { node: pointer, offset: 0 };
    case "pointer+offset":
      return { node: pointer, offset: random.pick([aligned, 4096 + aligned, 0xfff8 - 4096]) };
    case "sum":
      return { node: sum(pointer, i32(aligned + random.pick([0, 0x8000]))), offset: random.chance(50) ? 0 : aligned };
    case "scaled": {
      const shifted = valued("i32.shl", "i32", [get(place.index, "i32"), i32(3)]);
      return { node: sum(pointer, shifted), offset: random.chance(50) ? 0 : aligned };
    }
    case "scaled wraps": {
      // (pointer - 8 * 2^28) + (index + 2^28) * 8
      const big = valued("i32.add", "i32", [get(place.index, "i32"), i32(0x1000_0000)]);
      const low = valued("i32.sub", "i32", [pointer, i32(0x8000_0000)]);
      return { node: sum(low, valued("i32.shl", "i32", [big, i32(3)])), offset: random.chance(50) ? 0 : aligned };
    }
    case "offset 64K":
      return { node: random.chance(50) ? pointer : i32(8 * random.below(64)), offset: 0x1_0000 + aligned };
    case "last":
      return random.chance(50)
        ? { node: i32(memoryBytes - width), offset: 0 }
        : {
            node: sum(pointer, valued("i32.sub", "i32", [i32(memoryBytes - width - aligned), pointer])),
            offset: aligned,
          };
    case "odd":
      return { node: sum(pointer, i32(random.between(1, 7))), offset: random.pick([0, 0, 1, 3]) };
    case "past the end": {
      const by = random.between(1, width);
      return random.chance(50)
        ? { node: i32(memoryBytes - width + by), offset: 0 }
        : { node: valued("i32.or", "i32", [pointer, i32(memoryBytes - width)]), offset: by + 4096 };
    }
    case "offset 2G":
      return { node: pointer, offset: random.pick([0x8000_0000, 0xffff_fff8, 0x7fff_fff8, 0xffff_0000]) };
    case "wraps small":
      return {
        node: random.chance(50) ? i32(0xffff_fff8) : valued("i32.or", "i32", [pointer, i32(0xffff_fff8)]),
        offset: 16,
      };
    case "wraps large": {
      const offset = random.pick([0x2_0000, 0x7fff_0000, 0x8000_0000, 0xffff_ff00]);
      const index = i32(2 ** 32 - offset + valid);
      return { node: random.chance(50) ? index : valued("i32.sub", "i32", [pointer, i32(offset)]), offset };
    }
    case "far":
      return {
        node: valued("i32.or", "i32", [pointer, i32(random.pick([0x8000_0000, 0x4000_0000, 0xf000_0000]))]),
        offset: 0,
      };
  }
}

/** The instruction with operands; a value for loads and read-modify-writes. */
export function accessNode(access: Access, at: Address, operands: Node[]): Node {
  const align = access.name.includes("atomic") ? Math.log2(access.width) : 0;
  const type = access.kind === "store" || access.kind === "atomic.store" ? null : access.type;
  return { op: access.name, type, args: [at.node, ...operands], offset: at.offset, align };
}

export const operandCount = (access: Access): number =>
  ({ load: 0, "atomic.load": 0, store: 1, "atomic.store": 1, rmw: 1, cmpxchg: 2 })[access.kind];

function accessStatements(place: Place, recipe: Recipe & { type: "access" }): Node[] {
  const { access } = recipe;
  const at = address(place, recipe.form, access.width);
  const operands = Array.from({ length: operandCount(access) }, (_, i) =>
    i === 0 && access.kind === "cmpxchg" && place.random.chance(60)
      ? expected(access, at)
      : operand(place, recipe.value, access.type, false),
  );
  const node = accessNode(access, at, operands);
  return [node.type ? absorb(place, node) : node];
}

/** A compare-and-exchange that succeeds: expects what a plain load of the same place gives. */
function expected(access: Access, at: Address): Node {
  const name = `${access.type}.load${access.width * 8 === Number(access.type.slice(1)) ? "" : `${access.width * 8}_u`}`;
  return valued(name, access.type, [structuredClone(at.node)], { offset: at.offset, align: 0 });
}

function bulkStatements(place: Place, op: "memory.copy" | "memory.fill" | "memory.init", form: BulkForm): Node[] {
  const { random, memoryBytes, base } = place;
  const pointer = get(place.pointer, "i32");
  const index = get(place.index, "i32");
  const isInit = op === "memory.init";
  const whole = place.segment.bytes;
  const plus = (by: number): Node => valued("i32.add", "i32", [pointer, i32(by)]);
  const source = (node: Node): Node => (op === "memory.copy" ? node : isInit ? i32(0) : constant(random, "i32"));
  const length = random.pick([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 64, 65, 100, 255, 256, 257, 300, 1000]);
  const fitted = isInit ? Math.min(length, whole) : length;
  const made = (to: Node, from: Node, bytes: Node): Node[] => [
    statement(op, [to, from, bytes], { index: place.segment.index }),
  ];
  switch (form) {
    case "constant length":
      return made(plus(random.below(64)), source(plus(4096 + random.below(64))), i32(fitted));
    case "variable length":
      return made(plus(random.below(64)), source(plus(4096 + random.below(64))), index);
    case "zero length":
      return made(pointer, source(plus(64)), random.chance(50) ? i32(0) : valued("i32.and", "i32", [index, i32(0)]));
    case "zero length at the end":
      return made(i32(memoryBytes + random.below(2)), source(i32(memoryBytes + random.below(2))), i32(0));
    case "overlap up":
      return made(
        plus(random.between(1, 40)),
        source(pointer),
        random.chance(50) ? i32(isInit ? fitted : length) : index,
      );
    case "overlap down":
      return made(
        pointer,
        source(plus(random.between(1, 40))),
        random.chance(50) ? i32(isInit ? fitted : length) : index,
      );
    case "to the end":
      return made(i32(memoryBytes - fitted), source(i32(base + 8)), i32(fitted));
    case "destination past the end":
      return made(
        i32(memoryBytes - fitted + random.between(1, 9)),
        source(pointer),
        random.chance(50) ? i32(fitted) : index,
      );
    case "source past the end":
      return isInit
        ? made(pointer, i32(random.between(0, 8)), i32(whole + random.between(0, 4)))
        : made(pointer, source(i32(memoryBytes - length + 1)), i32(length));
    case "length wraps":
      return made(plus(0), source(pointer), i32(random.pick([0xffff_ffff, 0xffff_f000, 0x8000_0000])));
  }
}

/** #DE unless high < divisor: the divisor's top bit is set, the high half's is not. */
export const wideDivision = (high: Node, low: Node, divisor: Node): Node[] => [
  valued("i64.shr_u", "i64", [high, valued("const", "i64", [], { value: 1n })]),
  low,
  valued("i64.or", "i64", [divisor, valued("const", "i64", [], { value: 1n << 63n })]),
];

function importStatements(place: Place, name: string, shapes: Shape[]): Node[] {
  const first = operand(place, shapes[0], name === "mix" ? "i32" : "i64", false);
  const second = operand(place, shapes[1], "i64", false);
  const args =
    name === "udiv128" ? wideDivision(second, first, operand(place, shapes[0], "i64", false)) : [first, second];
  return [absorb(place, valued("import", "i64", args, { index: place.imports.indexOf(name) }))];
}

/** The statements of one recipe. */
export function cook(place: Place, recipe: Recipe): Node[] {
  switch (recipe.type) {
    case "operator": {
      const { operator, shapes, equal } = recipe;
      const operands = shapes.map((shape, i) => operand(place, shape, operator.params[i], recipe.mayTrap && i === 1));
      if (equal) operands[1] = structuredClone(operands[0]);
      else if (operands.length === 2 && operands[0].op === "local.get" && operands[1].op === "local.get")
        operands[1].index = place.locals[operator.params[1]].find((l) => l !== operands[0].index);
      return consume(place, recipe.use, valued(operator.name, operator.result, operands));
    }
    case "access":
      return accessStatements(place, recipe);
    case "import":
      return importStatements(place, recipe.name, recipe.shapes);
    case "bulk":
      return bulkStatements(place, recipe.op, recipe.form);
  }
}
