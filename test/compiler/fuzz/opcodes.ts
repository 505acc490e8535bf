// Every integer instruction of the accepted subset as rows: what it takes, what it gives, its bytes.

export type IntType = "i32" | "i64";

export interface Operator {
  name: string;
  bytes: number[];
  params: IntType[];
  result: IntType;
}

export interface Access {
  name: string;
  bytes: number[];
  type: IntType;
  /** Bytes accessed. */
  width: 1 | 2 | 4 | 8;
  kind: "load" | "store" | "atomic.load" | "atomic.store" | "rmw" | "cmpxchg";
}

const comparisons = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"];
const counts = ["clz", "ctz", "popcnt"];
const arithmetic = [
  ...["add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u"],
  ...["and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr"],
];

const row = (name: string, byte: number, params: IntType[], result: IntType): Operator => ({
  name,
  bytes: [byte],
  params,
  result,
});

function family(type: IntType, eqz: number, compare: number, count: number): Operator[] {
  return [
    row(`${type}.eqz`, eqz, [type], "i32"),
    ...comparisons.map((name, i) => row(`${type}.${name}`, compare + i, [type, type], "i32")),
    ...counts.map((name, i) => row(`${type}.${name}`, count + i, [type], type)),
    ...arithmetic.map((name, i) => row(`${type}.${name}`, count + 3 + i, [type, type], type)),
  ];
}

export const operators: Operator[] = [
  ...family("i32", 0x45, 0x46, 0x67),
  ...family("i64", 0x50, 0x51, 0x79),
  row("i32.wrap_i64", 0xa7, ["i64"], "i32"),
  row("i64.extend_i32_s", 0xac, ["i32"], "i64"),
  row("i64.extend_i32_u", 0xad, ["i32"], "i64"),
  row("i32.extend8_s", 0xc0, ["i32"], "i32"),
  row("i32.extend16_s", 0xc1, ["i32"], "i32"),
  row("i64.extend8_s", 0xc2, ["i64"], "i64"),
  row("i64.extend16_s", 0xc3, ["i64"], "i64"),
  row("i64.extend32_s", 0xc4, ["i64"], "i64"),
];

/** Those that can trap by their operands' values. */
export const traps = (name: string): boolean => /\.(div|rem)_/.test(name);

const access = (name: string, bytes: number[], type: IntType, width: number, kind: Access["kind"]): Access => ({
  name,
  bytes,
  type,
  width: width as Access["width"],
  kind,
});

const plain: Access[] = [
  access("i32.load", [0x28], "i32", 4, "load"),
  access("i64.load", [0x29], "i64", 8, "load"),
  access("i32.load8_s", [0x2c], "i32", 1, "load"),
  access("i32.load8_u", [0x2d], "i32", 1, "load"),
  access("i32.load16_s", [0x2e], "i32", 2, "load"),
  access("i32.load16_u", [0x2f], "i32", 2, "load"),
  access("i64.load8_s", [0x30], "i64", 1, "load"),
  access("i64.load8_u", [0x31], "i64", 1, "load"),
  access("i64.load16_s", [0x32], "i64", 2, "load"),
  access("i64.load16_u", [0x33], "i64", 2, "load"),
  access("i64.load32_s", [0x34], "i64", 4, "load"),
  access("i64.load32_u", [0x35], "i64", 4, "load"),
  access("i32.store", [0x36], "i32", 4, "store"),
  access("i64.store", [0x37], "i64", 8, "store"),
  access("i32.store8", [0x3a], "i32", 1, "store"),
  access("i32.store16", [0x3b], "i32", 2, "store"),
  access("i64.store8", [0x3c], "i64", 1, "store"),
  access("i64.store16", [0x3d], "i64", 2, "store"),
  access("i64.store32", [0x3e], "i64", 4, "store"),
];

/** The seven shapes of each atomic group, in the order of their opcodes. */
const shapes: [IntType, number, string][] = [
  ["i32", 4, ""],
  ["i64", 8, ""],
  ["i32", 1, "8"],
  ["i32", 2, "16"],
  ["i64", 1, "8"],
  ["i64", 2, "16"],
  ["i64", 4, "32"],
];

const atomicGroup = (first: number, operation: string, kind: Access["kind"]): Access[] =>
  shapes.map(([type, width, suffix], i) => {
    const unsigned = suffix !== "" && operation !== "store" ? "_u" : "";
    const name = /load|store/.test(operation)
      ? `${type}.atomic.${operation}${suffix}${unsigned}`
      : `${type}.atomic.rmw${suffix}.${operation}${unsigned}`;
    return access(name, [0xfe, first + i], type, width, kind);
  });

const atomics: Access[] = [
  ...atomicGroup(0x10, "load", "atomic.load"),
  ...atomicGroup(0x17, "store", "atomic.store"),
  ...["add", "sub", "and", "or", "xor", "xchg"].flatMap((name, i) => atomicGroup(0x1e + 7 * i, name, "rmw")),
  ...atomicGroup(0x48, "cmpxchg", "cmpxchg"),
];

export const accesses: Access[] = [...plain, ...atomics];

export const operatorNamed = new Map(operators.map((operator) => [operator.name, operator]));
export const accessNamed = new Map(accesses.map((a) => [a.name, a]));
