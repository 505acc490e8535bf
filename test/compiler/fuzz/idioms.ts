// Shapes that an optimiser looks for: rotations, merged bytes, bit tests, read-modify-writes, ladders
// of comparisons, loops that copy. Random trees seldom contain them, so each is a recipe here. Now and
// then a constant is off by one, so that what nearly matches is tried too.

import type { IntType } from "./opcodes.ts";
import type { Random } from "./random.ts";
import { absorb, type Place } from "./recipes.ts";
import { type Node, statement, valued } from "./tree.ts";
import { divisor, interesting } from "./values.ts";

export interface Maker {
  random: Random;
  place(): Place;
  /** Any small expression without effects on what idioms repeat. */
  leaf(type: IntType): Node;
  condition(depth: number): Node;
  newLocal(type: IntType, assignable: boolean): number;
  nextLabel(): number;
  /** The types of the globals. */
  globals(): IntType[];
  /** A call of some function of the program that gives an i64, where there is one. */
  someCall(): Node;
  /** A call of a function with two results of type i64 that are put into these locals; nothing if there is none. */
  pairCall(first: number, second: number): Node[];
}

const width = (type: IntType): number => (type === "i32" ? 32 : 64);
const constant = (type: IntType, value: bigint | number): Node =>
  valued("const", type, [], { value: BigInt.asUintN(width(type), BigInt(value)) });
const get = (index: number, type: IntType): Node => valued("local.get", type, [], { index });
const set = (index: number, value: Node): Node => statement("local.set", [value], { index });
const compares = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"];

/** Binary and unary operators of one type by name. */
class Ops {
  constructor(
    readonly type: IntType,
    private readonly maker: Maker,
  ) {}
  get random(): Random {
    return this.maker.random;
  }
  get bits(): number {
    return width(this.type);
  }
  op(name: string, ...args: Node[]): Node {
    const isCompare = compares.includes(name) || name === "eqz";
    return valued(`${this.type}.${name}`, isCompare ? "i32" : this.type, args);
  }
  k(value: bigint | number): Node {
    return constant(this.type, value);
  }
  /** A constant that is nearly always `value`. */
  about(value: number): Node {
    return this.k(this.random.chance(12) ? value + this.random.between(-1, 1) : value);
  }
  any(): Node {
    return this.random.chance(25) ? this.k(interesting(this.random, this.type)) : this.x();
  }
  x(): Node {
    return get(this.random.pick(this.maker.place().locals[this.type]), this.type);
  }
  count(): number {
    return this.random.between(1, this.bits - 1);
  }
  pick<T>(...items: T[]): T {
    return this.random.pick(items);
  }
  wide(value: Node): Node {
    return this.type === "i32" ? value : valued(this.pick("i64.extend_i32_u", "i64.extend_i32_s"), "i64", [value]);
  }
  load(name: string, offset: number): Node {
    const pointer = this.maker.place().pointer;
    return valued(`${this.type}.${name}`, this.type, [get(pointer, "i32")], { offset, align: 0 });
  }
}

type Idiom = (o: Ops, maker: Maker) => Node;
const same = (node: Node): Node => structuredClone(node);

function bytesOfMemory(o: Ops, swapped: boolean): Node {
  const count = o.pick(2, 4, o.bits / 8);
  const start = o.random.below(8);
  const pointer = o.load("load8_u", 0).args[0];
  const parts = Array.from({ length: count }, (_, i) => {
    const at = swapped ? count - 1 - i : i;
    const off = o.random.chance(4) ? 1 : 0;
    const node = valued(`${o.type}.load8_u`, o.type, [same(pointer)], { offset: start + at + off, align: 0 });
    return i === 0 ? node : o.op("shl", node, o.about(8 * i));
  });
  return parts.reduce((sum, part) => o.op(o.pick("or", "or", "or", "add", "xor"), sum, part));
}

function swapOfValue(o: Ops): Node {
  const x = o.any();
  const bytes = o.pick(2, 4, o.bits / 8);
  const parts = Array.from({ length: bytes }, (_, i) => {
    const to = bytes - 1 - i;
    const byte = o.op("and", o.op("shr_u", same(x), o.k(8 * i)), o.k(0xff));
    return to === 0 ? byte : o.op("shl", byte, o.about(8 * to));
  });
  return parts.reduce((sum, part) => o.op("or", sum, part));
}

const conditionIdioms: Record<string, Idiom> = {
  "bit of a shift": (o) => o.op(o.pick("ne", "eq"), o.op("and", o.op("shr_u", o.x(), o.any()), o.k(1)), o.k(0)),
  "bit of a mask": (o) => o.op(o.pick("ne", "eq"), o.op("and", o.x(), o.op("shl", o.k(1), o.any())), o.k(0)),
  "single bit": (o) => o.op(o.pick("ne", "eq"), o.op("and", o.x(), o.k(1n << BigInt(o.count()))), o.k(0)),
  "mask equals": (o) => {
    const mask = interesting(o.random, o.type);
    return o.op(o.pick("eq", "ne"), o.op("and", o.x(), o.k(mask)), o.pick(o.k(mask), o.k(0)));
  },
  "range by subtraction": (o) => o.op(o.pick("lt_u", "le_u", "gt_u"), o.op("sub", o.x(), o.any()), o.any()),
  "range by two": (o) => {
    const x = o.x();
    const [low, high] = [
      o.op(o.pick("ge_s", "ge_u", "gt_s"), x, o.any()),
      o.op(o.pick("le_s", "lt_u"), same(x), o.any()),
    ];
    return valued(o.pick("i32.and", "i32.or"), "i32", [low, high]);
  },
  "two tests of one pair": (o) => {
    const [x, y] = [o.x(), o.any()];
    const [a, b] = [o.op(o.random.pick(compares), x, y), o.op(o.random.pick(compares), same(x), same(y))];
    return valued(o.pick("i32.and", "i32.or", "i32.xor"), "i32", [a, b]);
  },
  "difference against zero": (o) =>
    o.op(o.random.pick(compares), o.op(o.pick("sub", "xor", "and", "or", "add"), o.x(), o.any()), o.k(0)),
  carry: (o) => {
    const [x, y] = [o.x(), o.any()];
    return o.op(o.pick("lt_u", "gt_u"), o.op(o.pick("add", "sub"), x, y), same(x));
  },
  "narrow memory against constant": (o) => {
    const value = o.load(o.pick("load8_u", "load8_s", "load16_u", "load16_s"), o.random.below(16));
    return o.op(
      o.random.pick(compares),
      value,
      o.k(o.pick(0, 1, 0x7f, 0x80, 0xff, 0x100, -1, -128, 0x7fff, 0x8000, 0xffff)),
    );
  },
  "memory against value": (o) =>
    o.op(o.random.pick(compares), o.pick(o.load("load", 8), o.x()), o.pick(o.load("load", 16), o.x())),
  "sign test": (o) => o.op(o.pick("lt_s", "ge_s", "gt_s", "le_s"), o.x(), o.k(o.pick(0, -1, 1))),
  "zero of zero": (o) => valued("i32.eqz", "i32", [valued("i32.eqz", "i32", [o.op("eqz", o.any())])]),
};

const valueIdioms: Record<string, Idiom> = {
  "rotation by constant": (o) => {
    const [x, c] = [o.x(), o.count()];
    const parts = [o.op("shl", x, o.k(c)), o.op(o.pick("shr_u", "shr_u", "shr_s"), same(x), o.about(o.bits - c))];
    return o.op(o.pick("or", "xor", "add"), ...(o.random.chance(50) ? parts : parts.reverse()));
  },
  "not quite a rotation": (o) => {
    const [x, c] = [o.x(), o.random.between(2, o.bits - 2)];
    const right = o.op("shr_u", same(x), o.k(o.bits - c + o.pick(-1, 1, 1)));
    return o.op(o.pick("or", "xor"), o.op("shl", x, o.k(c)), right);
  },
  "rotation by value": (o) => {
    const [x, n] = [o.x(), o.x()];
    const back = o.op("sub", o.k(o.pick(0, o.bits)), same(n));
    const parts = o.random.chance(50)
      ? [o.op("shl", x, n), o.op("shr_u", same(x), back)]
      : [o.op("shr_u", x, n), o.op("shl", same(x), back)];
    return o.op(o.pick("or", "or", "xor", "add"), ...parts);
  },
  "merge by mask": (o) => {
    const m = o.any();
    const [a, b] = [o.op("and", o.x(), m), o.op("and", o.any(), o.op("xor", same(m), o.k(-1)))];
    return o.op(o.pick("or", "xor", "add"), a, b);
  },
  "common factor": (o) => {
    const a = o.x();
    return o.op(o.pick("or", "xor", "add", "and"), o.op("and", a, o.any()), o.op("and", o.any(), same(a)));
  },
  "bytes of memory": (o) => bytesOfMemory(o, false),
  "bytes of memory, swapped": (o) => bytesOfMemory(o, true),
  "bytes of a value, swapped": swapOfValue,
  "pair of shifts": (o) => {
    const c = o.count();
    return o.op(
      o.pick("shl", "shr_u", "shr_s"),
      o.op(o.pick("shl", "shr_u", "shr_s"), o.any(), o.k(c)),
      o.k(o.pick(c, c, o.count())),
    );
  },
  "standard sign extension": (o) => {
    const c = o.bits - o.pick(8, 16, o.bits / 2);
    return o.op(o.pick("shr_s", "shr_u"), o.op("shl", o.any(), o.k(c)), o.about(c));
  },
  "field taken": (o) => {
    const mask = o.k((1n << BigInt(o.count())) - 1n);
    return o.random.chance(50)
      ? o.op("and", o.op("shr_u", o.x(), o.k(o.count())), mask)
      : o.op("shr_u", o.op("and", o.x(), o.k(interesting(o.random, o.type))), o.k(o.count()));
  },
  "field put": (o) => {
    const [bits, at] = [o.random.between(1, 12), o.random.below(o.bits - 12)];
    const mask = ((1n << BigInt(bits)) - 1n) << BigInt(at);
    const kept = o.op("and", o.x(), o.k(~mask));
    return o.op(o.pick("or", "add"), kept, o.op("shl", o.op("and", o.x(), o.k((1n << BigInt(bits)) - 1n)), o.k(at)));
  },
  "bit set or cleared": (o) => {
    const bit = o.op("shl", o.k(1), o.any());
    return o.random.chance(50) ? o.op(o.pick("or", "xor"), o.x(), bit) : o.op("and", o.x(), o.op("xor", bit, o.k(-1)));
  },
  "least or greatest": (o) => {
    const [x, y] = [o.x(), o.any()];
    const test = o.op(o.random.pick(compares), same(x), same(y));
    return valued("select", o.type, [...(o.random.chance(50) ? [x, y] : [y, x]), test]);
  },
  "absolute value": (o) => {
    const x = o.x();
    return valued("select", o.type, [
      x,
      o.op("sub", o.k(0), same(x)),
      o.op(o.pick("ge_s", "gt_s", "lt_s"), same(x), o.k(0)),
    ]);
  },
  "truth as number": (o, m) => {
    const c = m.condition(1);
    const forms = [
      valued("select", o.type, [o.k(o.pick(1, 0, -1)), o.k(o.pick(0, 1, 2)), c]),
      o.op("sub", o.k(0), o.wide(c)),
      o.op("mul", o.wide(c), o.any()),
      o.op("add", o.any(), o.wide(valued("i32.xor", "i32", [c, constant("i32", 1)]))),
      o.op("and", o.op("sub", o.wide(c), o.k(1)), o.any()),
    ];
    return o.random.pick(forms);
  },
  "quotient and remainder": (o) => {
    const [x, d] = [
      o.random.chance(60) ? o.x() : o.op("and", o.x(), o.k(o.pick(0xff, 0xffff, 0x7fffffff))),
      o.k(divisor(o.random, o.type) | 1n),
    ];
    const sign = o.pick("u", "s");
    return o.op(
      o.pick("add", "xor"),
      o.op("mul", o.op(`div_${sign}`, x, d), same(d)),
      o.op(`rem_${sign}`, same(x), same(d)),
    );
  },
  // The least number over -1: a quotient that does not fit, and a remainder of 0.
  "remainder at the edge": (o) => {
    const least = o.op("shl", o.op("or", o.x(), o.k(1)), o.k(o.bits - 1));
    const minusOne = o.op("sub", o.k(0), o.wide(o.op("ne", o.x(), o.k(0x1357))));
    return o.op(o.pick("rem_s", "rem_s", "rem_s", "div_s"), o.random.chance(80) ? least : o.any(), minusOne);
  },
  "divided by a power": (o) =>
    o.op(o.pick("div_u", "div_s", "rem_u", "rem_s"), o.any(), o.k((1n << BigInt(o.count())) * o.pick(1n, 1n, -1n))),
  "multiplied by few bits": (o) =>
    o.op(
      "mul",
      o.any(),
      o.k(o.pick(3, 5, 6, 7, 9, 10, 12, 15, 17, 18, 24, 25, 27, 31, 33, 40, 45, 63, 65, 81, 100, -1, -3, -8)),
    ),
  "sums with constants": (o) => {
    const part = (): Node => o.op(o.pick("add", "sub"), ...(o.random.chance(70) ? [o.x(), o.any()] : [o.any(), o.x()]));
    return o.op(o.pick("add", "sub"), part(), o.random.chance(60) ? part() : o.any());
  },
  "difference of itself": (o) => {
    const [x, y] = [o.x(), o.any()];
    return o.pick(
      o.op("sub", x, o.op("sub", same(x), y)),
      o.op("sub", o.op("add", x, y), same(x)),
      o.op("xor", o.op("xor", x, y), same(x)),
      o.op("add", o.op("sub", o.k(0), x), y),
      o.op("sub", o.op("sub", o.k(7), x), y),
    );
  },
  complements: (o) =>
    o.pick(
      o.op("xor", o.op("sub", o.x(), o.k(1)), o.k(-1)),
      o.op("sub", o.k(-1), o.x()),
      o.op("and", o.x(), o.op("sub", o.k(0), o.x())),
    ),
  "sign mask": (o) => o.op(o.pick("and", "xor", "add"), o.op("shr_s", o.x(), o.about(o.bits - 1)), o.any()),
  "counted zeros": (o) =>
    o.pick(
      o.op("sub", o.k(o.bits - 1), o.op("clz", o.x())),
      o.op("ctz", o.op("and", o.x(), o.op("sub", o.k(0), o.x()))),
      o.op("shl", o.k(1), o.op("ctz", o.x())),
    ),
  "chain of masks": (o) => {
    const mask = (): Node => o.k(interesting(o.random, o.type));
    return o.op(o.pick("and", "or", "xor"), o.op(o.pick("and", "or", "xor"), o.any(), mask()), mask());
  },
  "through the other width": (o, maker) => {
    if (o.type === "i32") {
      const inner = new Ops("i64", maker);
      const product = inner.op(
        inner.pick("add", "mul", "shl", "shr_u", "and", "xor", "sub"),
        inner.wide(o.x()),
        inner.wide(o.any()),
      );
      const shifted = o.random.chance(50)
        ? inner.op(inner.pick("shr_u", "shr_s"), product, inner.k(inner.pick(8, 31, 32, 33)))
        : product;
      return valued("i32.wrap_i64", "i32", [shifted]);
    }
    const inner = new Ops("i32", maker);
    return o.wide(
      inner.op(
        inner.pick("add", "sub", "mul", "shl", "shr_s", "shr_u", "and"),
        valued("i32.wrap_i64", "i32", [o.x()]),
        inner.any(),
      ),
    );
  },
  "low half masked": (o) =>
    o.type === "i32"
      ? o.op(o.pick("extend8_s", "extend16_s"), o.op("and", o.x(), o.k(o.pick(0x7f, 0xff, 0xffff, 0x7fff))))
      : o.op(
          "and",
          o.pick(o.x(), o.op("shl", o.x(), o.k(o.count()))),
          o.k(o.pick(0xffff_ffff, 0x7fff_ffff, 0xff, 0xffff_0000)),
        ),
  "bits of a load": (o) => {
    const value = o.load(o.pick("load8_u", "load8_s", "load16_u", "load16_s", "load"), o.random.below(16));
    return o.pick(
      o.op("and", value, o.k(o.pick(0xff, 0xffff, 0x7f, 1, 0x80))),
      o.op("shr_u", value, o.k(o.pick(1, 4, 7, 8, 15, 16))),
      o.op(o.pick("extend8_s", "extend16_s"), value),
      o.op("shl", value, o.k(o.pick(1, 8, 16, 24))),
    );
  },
};

type StatementIdiom = (maker: Maker) => Node[];

const rmwOps = ["add", "sub", "and", "or", "xor", "shl", "shr_u", "shr_s", "rotl", "rotr", "mul"];

function readModifyWrite(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops(random.pick(["i32", "i64"] as const), maker);
  const bits = random.pick(o.type === "i32" ? ["", "8", "16"] : ["", "8", "16", "32"]);
  const offset = random.below(4) * 8 + (random.chance(10) ? 1 : 0);
  const load = o.load(bits ? `load${bits}_${random.pick(["u", "s"])}` : "load", offset);
  const operand = random.chance(50) ? o.any() : o.k(random.pick([1, -1, 2, 7, 8, 31, 0x80]));
  const args = random.chance(75) ? [load, operand] : [operand, load];
  const away = random.chance(10) ? 8 : 0;
  const address = same(load.args[0]);
  return [
    statement(`${o.type}.store${bits}`, [address, o.op(random.pick(rmwOps), ...args)], {
      offset: offset + away,
      align: 0,
    }),
  ];
}

/** if (x == a) ... else if (x == b) ..., with ranges among them. */
function ladder(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops(random.pick(["i32", "i64"] as const), maker);
  const x = maker.newLocal(o.type, false);
  const out = maker.newLocal("i64", false);
  const first = Number(interesting(random, "i32") & 0xffffn);
  const masked = random.chance(70)
    ? o.op("add", o.op("and", o.x(), o.k(random.pick([3, 7, 15]))), o.k(first))
    : o.any();
  const step = random.pick([1, 1, 2, 1000]);
  const rung = (i: number): Node[] => {
    const hit = set(out, constant("i64", 100 + i * 7));
    if (i === 0) return [set(out, constant("i64", 1))];
    const test = random.chance(80)
      ? o.op(random.pick(["eq", "eq", "eq", "ne"]), get(x, o.type), o.k(first + i * step))
      : o.op(random.pick(["lt_u", "gt_u", "le_u"]), o.op("sub", get(x, o.type), o.k(first + i)), o.k(random.below(4)));
    return [statement("if", [test], { index: maker.nextLabel(), body: [hit], otherwise: rung(i - 1) })];
  };
  return [
    set(x, masked),
    set(out, constant("i64", 0)),
    ...rung(random.between(3, 12)),
    absorb(maker.place(), get(out, "i64")),
  ];
}

/** for (i = 0; i < n; i++) to[i] = from[i] or a value: units of 1, 2, 4, 8, overlapping or not, up or down. */
function copyLoop(maker: Maker, fill: boolean): Node[] {
  const { random } = maker;
  const place = maker.place();
  const unit = random.pick([1, 2, 4, 8]);
  const type: IntType = unit === 8 ? "i64" : "i32";
  const suffix = unit >= 4 ? "" : `${unit * 8}`;
  const i = maker.newLocal("i32", false);
  const label = maker.nextLabel();
  const [to, from] = [random.below(100), random.chance(40) ? random.below(100) : 2048 + random.below(64)];
  const scaled =
    unit === 1 ? get(i, "i32") : valued("i32.shl", "i32", [get(i, "i32"), constant("i32", Math.log2(unit))]);
  const at = (offset: number): Node =>
    valued("i32.add", "i32", [
      valued("i32.add", "i32", [get(place.pointer, "i32"), constant("i32", offset)]),
      same(scaled),
    ]);
  const n = random.chance(50) ? constant("i32", random.between(1, 40)) : get(place.index, "i32");
  const value = fill
    ? random.chance(50)
      ? constant(type, interesting(random, type))
      : maker.leaf(type)
    : valued(`${type}.load${suffix}${suffix ? random.pick(["_u", "_s"]) : ""}`, type, [at(from)], {
        offset: 0,
        align: 0,
      });
  const more = valued("i32.add", "i32", [get(i, "i32"), constant("i32", 1)]);
  const body = [
    statement(`${type}.store${suffix}`, [at(to), value], { offset: 0, align: 0 }),
    set(i, more),
    statement("br_if", [valued(random.pick(["i32.lt_u", "i32.lt_s", "i32.ne"]), "i32", [get(i, "i32"), n])], {
      index: label,
    }),
  ];
  const loop = statement("loop", [], { index: label, body });
  const guard = maker.nextLabel();
  return [set(i, constant("i32", 0)), statement("if", [same(n)], { index: guard, body: [loop] })];
}

/** Two values change places in a loop: phis that read each other. */
function swapLoop(maker: Maker): Node[] {
  const { random } = maker;
  const type = random.pick(["i32", "i64"] as const);
  const [a, b, c, i] = [
    maker.newLocal(type, false),
    maker.newLocal(type, false),
    maker.newLocal(type, false),
    maker.newLocal("i32", false),
  ];
  const label = maker.nextLabel();
  const sum = valued(`${type}.${random.pick(["add", "xor", "sub"])}`, type, [get(a, type), get(b, type)]);
  const bodies = [
    [set(c, get(a, type)), set(a, get(b, type)), set(b, get(c, type))],
    [set(c, sum), set(a, get(b, type)), set(b, get(c, type))],
    [set(c, get(a, type)), set(a, get(b, type)), set(b, get(c, type)), set(c, sum)],
  ];
  const again = valued("local.tee", "i32", [valued("i32.sub", "i32", [get(i, "i32"), constant("i32", 1)])], {
    index: i,
  });
  return [
    set(a, maker.leaf(type)),
    set(b, maker.leaf(type)),
    set(c, constant(type, 5)),
    set(i, constant("i32", random.between(1, 9))),
    statement("loop", [], {
      index: label,
      body: [...random.pick(bodies), statement("br_if", [again], { index: label })],
    }),
    ...[a, b, c].map((local) => absorb(maker.place(), get(local, type))),
  ];
}

/** A loop over memory that ends at a value or at a bound. */
function searchLoop(maker: Maker): Node[] {
  const { random } = maker;
  const place = maker.place();
  const i = maker.newLocal("i32", false);
  const [out, label] = [maker.nextLabel(), maker.nextLabel()];
  const limit = random.between(1, 50);
  const byte = valued("i32.load8_u", "i32", [valued("i32.add", "i32", [get(place.pointer, "i32"), get(i, "i32")])], {
    offset: 0,
    align: 0,
  });
  const body = [
    statement("br_if", [valued("i32.ge_u", "i32", [get(i, "i32"), constant("i32", limit)])], { index: out }),
    statement(
      "br_if",
      [valued(random.pick(["i32.eq", "i32.lt_u"]), "i32", [byte, constant("i32", random.below(128))])],
      { index: out },
    ),
    set(i, valued("i32.add", "i32", [get(i, "i32"), constant("i32", 1)])),
    statement("br", [], { index: label }),
  ];
  const loop = statement("loop", [], { index: label, body });
  return [
    set(i, constant("i32", 0)),
    statement("block", [], { index: out, body: [loop] }),
    absorb(place, get(i, "i32")),
  ];
}

/** if (c) a = 1 else a = 2; if (a == 1) ...: the second test is known on each way. */
function knownTest(maker: Maker): Node[] {
  const { random } = maker;
  const a = maker.newLocal("i32", false);
  const [first, second] = [maker.nextLabel(), maker.nextLabel()];
  const value = random.between(0, 3);
  const mark = (): Node => absorb(maker.place(), maker.leaf("i64"));
  return [
    statement("if", [maker.condition(1)], {
      index: first,
      body: [set(a, constant("i32", value)), mark()],
      otherwise: [set(a, constant("i32", random.between(0, 3)))],
    }),
    statement(
      "if",
      [valued(random.pick(["i32.eq", "i32.ne", "i32.lt_u"]), "i32", [get(a, "i32"), constant("i32", value)])],
      {
        index: second,
        body: [mark()],
        otherwise: [mark(), mark()],
      },
    ),
  ];
}

/** The same place read, written through another pointer, and read again. */
function aliased(maker: Maker): Node[] {
  const { random } = maker;
  const [p, q] = [maker.place().pointer, maker.place().pointer];
  const o = new Ops(random.pick(["i32", "i64"] as const), maker);
  const read = (): Node => valued(`${o.type}.load`, o.type, [get(p, "i32")], { offset: 8, align: 0 });
  const offset = random.pick([8, 8, 0, 16, 9, 12]);
  const write = statement(
    random.pick([`${o.type}.store`, `${o.type}.store8`, `${o.type}.store16`]),
    [get(q, "i32"), o.any()],
    { offset, align: 0 },
  );
  return [absorb(maker.place(), read()), write, absorb(maker.place(), read())];
}

/** A value put down byte by byte. */
function storedBytes(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops(random.pick(["i32", "i64"] as const), maker);
  const { pointer } = maker.place();
  const [x, bytes, big] = [o.x(), random.pick([2, 4, o.bits / 8]), random.chance(50)];
  return Array.from({ length: bytes }, (_, i) => {
    const shifted = i === 0 ? same(x) : o.op("shr_u", same(x), o.about(8 * i));
    return statement(`${o.type}.store8`, [get(pointer, "i32"), shifted], {
      offset: 32 + (big ? bytes - 1 - i : i),
      align: 0,
    });
  });
}

/** A value cut to the width of its place and read back. */
function readBack(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops(random.pick(["i32", "i64", "i64"] as const), maker);
  const { pointer } = maker.place();
  const bits = random.pick(o.type === "i32" ? [8, 16] : [8, 16, 32]);
  const at = { offset: random.pick([0, 8, 12]), align: 0 };
  const name = (type: IntType): string =>
    type === "i32" && bits === 32 ? "i32.load" : `${type}.load${bits}_${random.pick(["u", "s"])}`;
  const read = (type: IntType): Node => absorb(maker.place(), valued(name(type), type, [get(pointer, "i32")], at));
  return [
    statement(`${o.type}.store${bits}`, [get(pointer, "i32"), o.x()], at),
    read(o.type),
    read("i32"),
    read("i64"),
  ];
}

/** Memory and globals read before and after what changes them: somebody else's write, a call. Also around a loop. */
function aroundCalls(maker: Maker): Node[] {
  const { random } = maker;
  const place = maker.place();
  const pointer = get(place.pointer, "i32");
  const read = (): Node[] => [
    absorb(place, valued("i64.load", "i64", [same(pointer)], { offset: 8, align: 0 })),
    ...maker.globals().map((type, index) => absorb(place, valued("global.get", type, [], { index }))),
  ];
  const there = valued("i32.add", "i32", [same(pointer), constant("i32", 8)]);
  const poke = statement("import", [there, maker.leaf("i64")], { index: place.imports.indexOf("poke") });
  const call = absorb(place, maker.someCall());
  if (random.chance(50)) return [...read(), poke, ...read(), call, ...read()];
  const [i, label] = [maker.newLocal("i32", false), maker.nextLabel()];
  const more = valued("local.tee", "i32", [valued("i32.sub", "i32", [get(i, "i32"), constant("i32", 1)])], {
    index: i,
  });
  const body = [...read(), random.chance(50) ? poke : call, statement("br_if", [more], { index: label })];
  return [set(i, constant("i32", 3)), statement("loop", [], { index: label, body })];
}

/** A load that would trap, from an address that a loop does not change, behind a test that hardly ever holds. */
function unreachedLoad(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops(random.pick(["i32", "i64"] as const), maker);
  const [i, far] = [maker.newLocal("i32", false), maker.newLocal("i32", false)];
  const [loop, test] = [maker.nextLabel(), maker.nextLabel()];
  const { pointer } = maker.place();
  const away = valued("i32.or", "i32", [get(pointer, "i32"), constant("i32", random.pick([0x4000_0000, 0x7fff_0000]))]);
  const load = valued(`${o.type}.load`, o.type, [get(far, "i32")], { offset: 8, align: 0 });
  const rare = o.op("eq", o.x(), o.k(0x1234_5679));
  const less = valued("i32.sub", "i32", [get(i, "i32"), constant("i32", 1)]);
  const body = [
    statement("if", [rare], { index: test, body: [absorb(maker.place(), load)] }),
    absorb(maker.place(), get(i, "i32")),
    statement("br_if", [valued("local.tee", "i32", [less], { index: i })], { index: loop }),
  ];
  return [set(far, away), set(i, constant("i32", 4)), statement("loop", [], { index: loop, body })];
}

/** A switch in which neighbours lead to the same place. */
function sharedCases(maker: Maker): Node[] {
  const { random } = maker;
  const o = new Ops("i32", maker);
  const result = maker.newLocal("i64", false);
  const [out, ...labels] = Array.from({ length: 4 }, maker.nextLabel) as [number, ...number[]];
  const runs = Array.from({ length: random.between(2, 5) }, () => random.pick([...labels, ...labels, out]));
  const targets = runs.flatMap((label) => Array.from({ length: random.between(1, 6) }, () => label));
  const index = o.op("sub", o.op("and", o.x(), o.k(31)), o.k(random.below(3)));
  let inner: Node[] = [statement("br_table", [index], { labels: [...targets, out] })];
  for (const label of labels) {
    const arm = [set(result, constant("i64", 1000 + label)), statement("br", [], { index: out })];
    inner = [statement("block", [], { index: label, body: inner }), ...arm];
  }
  return [
    set(result, constant("i64", 1)),
    statement("block", [], { index: out, body: inner }),
    absorb(maker.place(), get(result, "i64")),
  ];
}

function pairOfResults(maker: Maker): Node[] {
  const [a, b] = [maker.newLocal("i64", false), maker.newLocal("i64", false)];
  const read = [a, b].map((local) => absorb(maker.place(), get(local, "i64")));
  return [...maker.pairCall(a, b), ...read];
}

const statementIdioms: Record<string, StatementIdiom> = {
  "read-modify-write": readModifyWrite,
  "ladder of comparisons": ladder,
  "copying loop": (maker) => copyLoop(maker, false),
  "filling loop": (maker) => copyLoop(maker, true),
  "values change places": swapLoop,
  "search in memory": searchLoop,
  "test that is known": knownTest,
  "aliased places": aliased,
  "bytes stored": storedBytes,
  "narrow place read back": readBack,
  "state around calls": aroundCalls,
  "load that is not reached": unreachedLoad,
  "cases that share": sharedCases,
  "pair of results": pairOfResults,
};

const anyType = (maker: Maker): Ops => new Ops(maker.random.pick(["i32", "i64"] as const), maker);

export const idiomNames = [conditionIdioms, valueIdioms, statementIdioms].flatMap(Object.keys);

export const conditionIdiom = (maker: Maker): Node =>
  maker.random.pick(Object.values(conditionIdioms))(anyType(maker), maker);

export const valueIdiom = (maker: Maker, type: IntType): Node =>
  maker.random.pick(Object.values(valueIdioms))(new Ops(type, maker), maker);

export const statementIdiom = (maker: Maker): Node[] => maker.random.pick(Object.values(statementIdioms))(maker);

/** The statements of one idiom by name, its value absorbed, branched on or selected by. */
export function namedIdiom(maker: Maker, name: string): Node[] {
  const made = statementIdioms[name];
  if (made) return made(maker);
  const o = anyType(maker);
  const value = valueIdioms[name];
  if (value) return [absorb(maker.place(), value(o, maker))];
  const condition = conditionIdioms[name](o, maker);
  const mark = (): Node => absorb(maker.place(), constant("i64", interesting(maker.random, "i64")));
  if (maker.random.chance(40)) return [absorb(maker.place(), condition)];
  return [statement("if", [condition], { index: maker.nextLabel(), body: [mark()], otherwise: [mark()] })];
}
