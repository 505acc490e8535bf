// Random programs. Number n of seed s is always the same program. Each has functions that take the next
// slice of the tour (recipes.ts) and functions of nested control flow over a pool of locals, aliasing
// memory operands and calls. Every loop is bounded and every call graph's cost is estimated.

import type { Window } from "../native/actions.ts";
import { conditionIdiom, idiomNames, namedIdiom, statementIdiom, valueIdiom } from "./idioms.ts";
import { type Access, accesses, type IntType, type Operator, operators, traps } from "./opcodes.ts";
import { Random } from "./random.ts";
import {
  absorb,
  accessNode,
  address,
  addressForms,
  cook,
  operandCount,
  type Place,
  type Recipe,
  recipes,
  wideDivision,
} from "./recipes.ts";
import { type Node, type Program, statement, type TreeFunction, valued } from "./tree.ts";
import { interesting } from "./values.ts";

/** Recipes that one program takes. */
const slice = 28;
/** Programs after which the tour begins again. */
export const tourPrograms = Math.ceil(recipes.length / slice);
/** Estimated executed nodes of one call. */
const costLimit = 30_000;

const get = (index: number, type: IntType): Node => valued("local.get", type, [], { index });
const constant = (type: IntType, value: bigint | number): Node =>
  valued("const", type, [], { value: BigInt.asUintN(type === "i32" ? 32 : 64, BigInt(value)) });
const operatorsByResult: Record<IntType, Operator[]> = {
  i32: operators.filter((o) => o.result === "i32"),
  i64: operators.filter((o) => o.result === "i64"),
};
const accessesBy = (type: IntType | null, kinds: Access["kind"][]): Access[] =>
  accesses.filter((a) => kinds.includes(a.kind) && (type === null || a.type === type));
const loads = { i32: accessesBy("i32", ["load", "atomic.load"]), i64: accessesBy("i64", ["load", "atomic.load"]) };
const swaps = { i32: accessesBy("i32", ["rmw", "cmpxchg"]), i64: accessesBy("i64", ["rmw", "cmpxchg"]) };
const stores = accessesBy(null, ["store", "store", "atomic.store"]);

export interface Generated {
  program: Program;
  /** Keys of the recipes in it. */
  toured: string[];
}

class FunctionMaker {
  readonly locals: IntType[] = [];
  readonly byType: Record<IntType, number[]> = { i32: [], i64: [] };
  /** Readable, never assigned by random statements. */
  private readonly fixed: number[] = [];
  private readonly breakable: number[] = [];
  private labels = 0;
  private multiplier = 1;
  private loopNesting = 0;
  cost = 0;
  readonly accumulator: number;
  readonly pointers: number[];
  readonly smallIndex: number;

  constructor(
    readonly random: Random,
    private readonly world: World,
    readonly params: IntType[],
    readonly results: IntType[],
    pool: number,
  ) {
    for (const [i, type] of params.entries()) this.byType[type].push(i);
    for (let i = 0; i < pool; i++) this.newLocal(random.chance(50) ? "i32" : "i64", true);
    for (const type of ["i32", "i64"] as const) while (this.byType[type].length < 2) this.newLocal(type, true);
    this.accumulator = this.newLocal("i64", false);
    this.pointers = [this.newLocal("i32", false), this.newLocal("i32", false)];
    this.smallIndex = this.newLocal("i32", false);
  }

  newLocal(type: IntType, assignable: boolean): number {
    const index = this.params.length + this.locals.push(type) - 1;
    if (assignable) this.byType[type].push(index);
    else this.fixed.push(index);
    return index;
  }

  readonly nextLabel = (): number => ++this.labels;

  readonly globals = (): IntType[] => this.world.globals.map(({ type }) => type);

  readonly someCall = (): Node => this.call("i64", 2);

  pairCall(first: number, second: number): Node[] {
    const choices = this.affordable(["i64", "i64"]);
    if (choices.length === 0) return [];
    const callee = this.random.pick(choices);
    this.cost += this.world.costs[callee] * this.multiplier;
    const call = statement("call", this.callArguments(this.world.signatures[callee].params, 2), { index: callee });
    return [statement("bind", [call], { locals: [first, second] })];
  }

  place(): Place {
    const { random, byType, pointers, smallIndex, accumulator, nextLabel, world } = this;
    const { base, memoryBytes, segment } = world;
    return {
      random,
      base,
      memoryBytes,
      locals: byType,
      pointer: random.pick(pointers),
      index: smallIndex,
      accumulator,
      nextLabel,
      segment,
      imports: world.imports.map((item) => item.name),
    };
  }

  /** Pointers and the small index from parameters or constants; locals start with something. */
  prologue(): Node[] {
    const { random } = this;
    const source = (): Node =>
      random.chance(70)
        ? valued("i32.and", "i32", [get(random.pick(this.byType.i32), "i32"), constant("i32", 0xff8)])
        : constant("i32", 8 * random.below(512));
    const nodes = this.pointers.map((pointer) =>
      statement("local.set", [valued("i32.add", "i32", [source(), constant("i32", this.world.base)])], {
        index: pointer,
      }),
    );
    const small = valued("i32.and", "i32", [get(random.pick(this.byType.i32), "i32"), constant("i32", 63)]);
    nodes.push(statement("local.set", [small], { index: this.smallIndex }));
    for (const type of ["i32", "i64"] as const)
      for (const local of this.byType[type])
        if (local >= this.params.length && random.chance(70))
          nodes.push(statement("local.set", [this.leaf(type)], { index: local }));
    return nodes;
  }

  leaf(type: IntType): Node {
    const { random, world } = this;
    const globals = world.globals.map((g, i) => ({ ...g, i })).filter((g) => g.type === type);
    if (globals.length && random.chance(8)) return valued("global.get", type, [], { index: random.pick(globals).i });
    if (type === "i32" && random.chance(12)) return get(random.pick(this.fixedOf("i32")), "i32");
    if (random.chance(25)) return constant(type, interesting(random, type));
    return get(random.pick(this.byType[type]), type);
  }

  private fixedOf(type: IntType): number[] {
    return this.fixed.filter((local) => this.typeOf(local) === type);
  }
  private typeOf(local: number): IntType {
    return this.params[local] ?? this.locals[local - this.params.length];
  }

  expression(type: IntType, depth: number): Node {
    this.cost += this.multiplier;
    const { random } = this;
    if (depth <= 0) return this.leaf(type);
    if (random.chance(8)) return valueIdiom(this, type);
    const roll = random.below(100);
    if (roll < 55) return this.operator(type, depth);
    if (roll < 67) return this.access(random.pick(random.chance(85) ? loads[type].slice(0, 7) : loads[type]), depth);
    if (roll < 73) {
      const args = [this.expression(type, depth - 1), this.expression(type, depth - 1), this.condition(depth - 1)];
      return valued("select", type, args);
    }
    if (roll < 77) {
      const index = random.pick(this.byType[type]);
      return valued("local.tee", type, [this.expression(type, depth - 1)], { index });
    }
    if (roll < 81) return this.valueIf(type, depth);
    if (roll < 84) return this.valueBlock(type, depth);
    if (roll < 89) return this.call(type, depth);
    if (roll < 92) return this.access(random.pick(swaps[type]), depth);
    if (roll < 94) return this.external(type, depth);
    if (roll < 95 && type === "i32") return valued("memory.size", "i32");
    return this.leaf(type);
  }

  private operator(type: IntType, depth: number): Node {
    const { random } = this;
    const operator = random.pick(operatorsByResult[type]);
    const args = operator.params.map((param) => this.expression(param, depth - random.between(1, 2)));
    // Few programs should end in a trap early: most divisors are made odd.
    if (traps(operator.name) && random.chance(90))
      args[1] = valued(`${operator.params[1]}.or`, operator.params[1], [args[1], constant(operator.params[1], 1)]);
    return valued(operator.name, operator.result, args);
  }

  condition(depth: number): Node {
    const { random } = this;
    if (random.chance(25)) return this.expression("i32", depth);
    if (depth > 0 && random.chance(20)) return conditionIdiom(this);
    const compares = operatorsByResult.i32.filter(({ name }) => /eqz|\.(eq|ne|lt|gt|le|ge)/.test(name));
    const operator = random.pick(compares);
    const args = operator.params.map((param) => this.expression(param, depth - 1));
    return valued(operator.name, "i32", args);
  }

  /** Most addresses are few and in bounds, so that they alias; some are any form of the tour; few are wild. */
  private access(access: Access, depth: number): Node {
    const { random } = this;
    const operands = Array.from({ length: operandCount(access) }, () => this.expression(access.type, depth - 1));
    const roll = random.below(100);
    const place = this.place();
    if (roll < 70) {
      const node = get(random.pick(this.pointers), "i32");
      const odd = !access.name.includes("atomic") && random.chance(15) ? 1 : 0;
      return accessNode(access, { node, offset: 8 * random.below(4) + odd }, operands);
    }
    if (roll < 80) {
      const masked = valued("i32.and", "i32", [this.expression("i32", depth - 1), constant("i32", 0xfff8)]);
      return accessNode(access, { node: masked, offset: this.world.base + 8 * random.below(4) }, operands);
    }
    const safe = addressForms.slice(0, 8);
    return accessNode(
      access,
      address(place, random.pick(random.chance(98) ? safe : addressForms), access.width),
      operands,
    );
  }

  private valueIf(type: IntType, depth: number): Node {
    const index = this.nextLabel();
    const condition = this.condition(depth - 1);
    const arm = (): Node[] => {
      const nodes = this.random.chance(40) ? this.statements(1, depth - 2) : [];
      return [...nodes, this.expression(type, depth - 1)];
    };
    return valued("if", type, [condition], { index, body: arm(), otherwise: arm() });
  }

  /** A block whose value also leaves through a branch. */
  private valueBlock(type: IntType, depth: number): Node {
    const index = this.nextLabel();
    const early = {
      ...statement("br_if", [this.expression(type, depth - 1), this.condition(depth - 1)], { index }),
      type,
    };
    return valued("block", type, [], {
      index,
      body: [statement("drop", [early]), this.expression(type, depth - 1)],
    });
  }

  private affordable(results: IntType[]): number[] {
    const { world } = this;
    return world.callable.filter(
      (f) =>
        String(world.signatures[f].results) === String(results) &&
        world.costs[f] * this.multiplier + this.cost < costLimit,
    );
  }

  private callArguments(params: IntType[], depth: number): Node[] {
    return params.map((type) => this.expression(type, depth - 1));
  }

  private call(type: IntType, depth: number): Node {
    const { random, world } = this;
    const choices = this.affordable([type]);
    if (choices.length === 0) return this.leaf(type);
    const callee = random.pick(choices);
    this.cost += world.costs[callee] * this.multiplier;
    const slots = world.table.flatMap((f, slot) => (f === callee ? [slot] : []));
    const args = this.callArguments(world.signatures[callee].params, depth);
    if (slots.length && random.chance(60)) {
      const index = world.typeOf(callee);
      return valued("call_indirect", type, [...args, this.tableIndex(slots, depth)], { index });
    }
    return valued("call", type, args, { index: callee });
  }

  /** A slot as a constant, through an identity, or wild (null, of another type, past the end). */
  private tableIndex(slots: number[], depth: number): Node {
    const { random } = this;
    const slot = constant("i32", random.pick(slots));
    if (random.chance(3)) return this.expression("i32", depth - 1);
    if (random.chance(3)) return constant("i32", random.below(this.world.table.length + 1));
    if (random.chance(40) || slots.length < 2) return slot;
    return valued("select", "i32", [slot, constant("i32", random.pick(slots)), this.condition(depth - 1)]);
  }

  private external(type: IntType, depth: number): Node {
    if (type === "i32") return this.leaf(type);
    const { random, world } = this;
    const index = random.below(world.imports.length);
    const { name, params, results } = world.imports[index];
    if (results.length === 0) return this.leaf(type);
    const args = this.callArguments(params, depth);
    if (name === "udiv128") args.splice(0, 3, ...wideDivision(args[0], args[1], args[2]));
    return valued("import", "i64", args, { index });
  }

  statements(count: number, depth: number): Node[] {
    return Array.from({ length: count }, () => this.statement(depth)).flat();
  }

  private statement(depth: number): Node[] {
    this.cost += this.multiplier;
    const { random } = this;
    if (this.cost > costLimit || depth < 0) return [this.assign(1)];
    if (random.chance(7) && this.cost + 60 * this.multiplier < costLimit) {
      this.cost += 60 * this.multiplier;
      return statementIdiom(this);
    }
    const roll = random.below(100);
    if (roll < 34) return [this.assign(random.between(1, 4))];
    if (roll < 48) return [this.access(random.pick(random.chance(85) ? stores.slice(0, 7) : stores), 3)];
    if (roll < 52) return this.globalSet();
    if (roll < 60) return [this.ifStatement(depth)];
    if (roll < 66) return [this.blockStatement(depth)];
    if (roll < 75) return this.loop(depth);
    if (roll < 80) return this.switchStatement(depth);
    if (roll < 83) return this.bind(depth);
    if (roll < 86) return this.multi(depth);
    if (roll < 88) return this.bulk();
    if (roll < 90) return [statement("drop", [this.expression(random.pick(["i32", "i64"]), 3)])];
    if (roll < 91) return [this.rareExit()];
    if (roll < 92) return [random.chance(50) ? statement("fence") : statement("nop")];
    if (roll < 94) return this.barrier();
    if (roll < 97 && this.breakable.length)
      return [statement("br_if", [this.condition(2)], { index: random.pick(this.breakable) })];
    return [absorb(this, this.expression(random.pick(["i32", "i64"]), 3))];
  }

  private assign(depth: number): Node {
    const type = this.random.pick(["i32", "i64"] as const);
    const index = this.random.pick(this.byType[type]);
    return statement("local.set", [this.expression(type, depth)], { index });
  }

  private globalSet(): Node[] {
    const mutable = this.world.globals.map((g, i) => ({ ...g, i })).filter((g) => g.mutable);
    if (mutable.length === 0) return [];
    const global = this.random.pick(mutable);
    return [statement("global.set", [this.expression(global.type, 2)], { index: global.i })];
  }

  private scoped(label: number, inner: () => Node[]): Node[] {
    this.breakable.push(label);
    const nodes = inner();
    this.breakable.pop();
    return nodes;
  }

  private ifStatement(depth: number): Node {
    const index = this.nextLabel();
    const condition = this.condition(2);
    const arm = (): Node[] => this.scoped(index, () => this.statements(this.random.between(1, 3), depth - 1));
    const otherwise = this.random.chance(50) ? arm() : undefined;
    return statement("if", [condition], { index, body: arm(), otherwise });
  }

  private blockStatement(depth: number): Node {
    const index = this.nextLabel();
    const body = this.scoped(index, () => {
      const exit = statement("br_if", [this.condition(2)], { index });
      return [...this.statements(this.random.between(0, 2), depth - 1), exit, ...this.statements(1, depth - 1)];
    });
    return statement("block", [], { index, body });
  }

  private loop(depth: number): Node[] {
    const { random } = this;
    if (this.loopNesting >= 3) return [this.assign(3)];
    const trips = random.between(1, this.loopNesting === 0 ? 12 : 5);
    this.loopNesting++;
    this.multiplier *= trips;
    const forms = [this.countDown, this.countUp, this.whileLoop, this.arrayLoop];
    const nodes = random.pick(forms).call(this, trips, depth);
    this.multiplier /= trips;
    this.loopNesting--;
    return nodes;
  }

  private loopBody(depth: number): Node[] {
    return this.statements(this.random.between(1, 4), depth - 1);
  }

  private countDown(trips: number, depth: number): Node[] {
    const counter = this.newLocal("i32", false);
    const index = this.nextLabel();
    const less = valued("i32.sub", "i32", [get(counter, "i32"), constant("i32", 1)]);
    const again = statement("br_if", [valued("local.tee", "i32", [less], { index: counter })], { index });
    const body = [...this.loopBody(depth), again];
    return [
      statement("local.set", [constant("i32", trips)], { index: counter }),
      statement("loop", [], { index, body }),
    ];
  }

  /** Up to a bound that is known at run time only, 1..trips. */
  private countUp(trips: number, depth: number): Node[] {
    const { random } = this;
    const type = random.pick(["i32", "i64"] as const);
    const counter = this.newLocal(type, false);
    const bound = this.newLocal(type, false);
    const index = this.nextLabel();
    const mask = constant(type, 2 ** Math.floor(Math.log2(trips)) - 1);
    const limit = valued(`${type}.and`, type, [get(random.pick(this.byType[type]), type), mask]);
    const more = valued(`${type}.add`, type, [get(counter, type), constant(type, 1)]);
    const test = valued(`${type}.${random.pick(["le_u", "le_s", "lt_u", "lt_s"])}`, "i32", [
      get(counter, type),
      get(bound, type),
    ]);
    const body = [
      ...this.loopBody(depth),
      statement("local.set", [more], { index: counter }),
      statement("br_if", [test], { index }),
    ];
    return [
      statement("local.set", [constant(type, 0)], { index: counter }),
      statement("local.set", [limit], { index: bound }),
      statement("loop", [], { index, body }),
    ];
  }

  /** while (counter < end) { ...; counter += step } with the test at the top. */
  private whileLoop(trips: number, depth: number): Node[] {
    const counter = this.newLocal("i32", false);
    const out = this.nextLabel();
    const index = this.nextLabel();
    const step = this.random.between(1, 3);
    const test = valued("i32.ge_s", "i32", [get(counter, "i32"), constant("i32", trips * step)]);
    const more = valued("i32.add", "i32", [get(counter, "i32"), constant("i32", step)]);
    const body = this.scoped(out, () => [
      statement("br_if", [test], { index: out }),
      ...this.loopBody(depth),
      statement("local.set", [more], { index: counter }),
      statement("br", [], { index }),
    ]);
    const loop = statement("loop", [], { index, body });
    return [
      statement("local.set", [constant("i32", 0)], { index: counter }),
      statement("block", [], { index: out, body: [loop] }),
    ];
  }

  /** A pointer walks an array and something is summed or written. */
  private arrayLoop(trips: number, depth: number): Node[] {
    const { random, world } = this;
    const walker = this.newLocal("i32", false);
    const index = this.nextLabel();
    const step = random.pick([1, 2, 4, 8]);
    const first = world.base + 8 * random.below(256);
    const name = random.pick(loads.i64.slice(0, 7)).name;
    const offset = random.below(16);
    const align = 0;
    const touch = random.chance(60)
      ? absorb(this, valued(name, "i64", [get(walker, "i32")], { offset, align }))
      : statement("i32.store8", [get(walker, "i32"), this.expression("i32", 2)], { offset, align });
    const more = valued("i32.add", "i32", [get(walker, "i32"), constant("i32", step)]);
    const test = valued("i32.lt_u", "i32", [
      valued("local.tee", "i32", [more], { index: walker }),
      constant("i32", first + step * trips),
    ]);
    const rest = random.chance(40) ? this.statements(1, depth - 2) : [];
    return [
      statement("local.set", [constant("i32", first)], { index: walker }),
      statement("loop", [], { index, body: [touch, ...rest, statement("br_if", [test], { index })] }),
    ];
  }

  /** Nested blocks with a br_table inside, each case falling into the next or leaving. */
  private switchStatement(depth: number): Node[] {
    const { random } = this;
    const cases = random.between(1, 6);
    const out = this.nextLabel();
    const labels = Array.from({ length: cases }, this.nextLabel);
    const targets = Array.from({ length: random.between(1, 9) }, () => random.pick([...labels, out]));
    const index = random.chance(80)
      ? valued("i32.and", "i32", [this.expression("i32", 2), constant("i32", random.pick([3, 7, 15]))])
      : this.expression("i32", 2);
    let inner: Node[] = [statement("br_table", [index], { labels: targets })];
    for (const label of labels) {
      const rest = this.scoped(out, () => this.statements(1, depth - 1));
      if (random.chance(70)) rest.push(statement("br", [], { index: out }));
      inner = [statement("block", [], { index: label, body: inner }), ...rest];
    }
    return [statement("block", [], { index: out, body: inner })];
  }

  private bind(depth: number): Node[] {
    const results = this.random.pick([
      ["i32", "i64"],
      ["i64", "i64"],
      ["i64", "i32", "i32"],
    ] as IntType[][]);
    const choices = this.affordable(results);
    if (choices.length === 0) return [this.assign(2)];
    const callee = this.random.pick(choices);
    this.cost += this.world.costs[callee] * this.multiplier;
    const args = this.callArguments(this.world.signatures[callee].params, Math.min(depth, 2));
    const call = statement("call", args, { index: callee });
    return [statement("bind", [call], { locals: results.map((type) => this.random.pick(this.byType[type])) })];
  }

  /** A block with parameters and several results, left by a branch or at its end. */
  private multi(depth: number): Node[] {
    const { random } = this;
    const results = Array.from({ length: random.between(1, 3) }, () => random.pick(["i32", "i64"] as const));
    const params = Array.from({ length: random.between(0, 2) }, () => random.pick(["i32", "i64"] as const));
    const index = this.nextLabel();
    const values = (): Node[] => results.map((type) => this.expression(type, 2));
    const taken = statement("bind", [], { locals: params.map((type) => random.pick(this.byType[type])) });
    const skip = this.nextLabel();
    const leave = statement("if", [this.condition(2)], {
      index: skip,
      body: [...values(), statement("br", [], { index })],
    });
    const body = [taken, ...this.statements(1, depth - 1), leave, ...values()];
    const block = statement(
      "multi",
      params.map((type) => this.expression(type, 2)),
      { index, results, body },
    );
    return [statement("bind", [block], { locals: results.map((type) => random.pick(this.byType[type])) })];
  }

  private bulk(): Node[] {
    const { random, world } = this;
    const pointer = (): Node =>
      valued("i32.add", "i32", [get(random.pick(this.pointers), "i32"), constant("i32", random.below(100))]);
    const bytes = random.chance(60)
      ? constant("i32", random.chance(15) ? random.below(900) : random.below(70))
      : get(this.smallIndex, "i32");
    const op = random.pick(["memory.copy", "memory.copy", "memory.fill", "memory.init"]);
    if (op !== "memory.init")
      return [statement(op, [pointer(), op === "memory.copy" ? pointer() : this.leaf("i32"), bytes])];
    const index = world.segment.index;
    const init = statement(op, [pointer(), constant("i32", random.below(4)), constant("i32", random.below(8))], {
      index,
    });
    return random.chance(3) ? [statement("data.drop", [], { index }), init] : [init];
  }

  private barrier(): Node[] {
    const named = (name: string): number => this.world.imports.findIndex((item) => item.name === name);
    if (this.random.chance(40)) return [statement("import", [], { index: named("barrier") })];
    // Somebody else writes where the program keeps reading.
    const pointer = valued("i32.add", "i32", [
      get(this.random.pick(this.pointers), "i32"),
      constant("i32", 8 * this.random.below(4)),
    ]);
    return [statement("import", [pointer, this.expression("i64", 1)], { index: named("poke") })];
  }

  /** return, or a trap behind a condition that rarely holds. */
  private rareExit(): Node {
    const { random } = this;
    const index = this.nextLabel();
    const body = random.chance(20)
      ? [statement("unreachable")]
      : [...this.results.map((type) => this.expression(type, 2)), statement("return")];
    const rare = valued("i64.eqz", "i32", [valued("i64.and", "i64", [this.expression("i64", 2), constant("i64", 31)])]);
    return statement("if", [rare], { index, body });
  }

  /** Everything that the function computed flows into its results. */
  epilogue(): Node[] {
    const nodes: Node[] = [];
    for (const type of ["i32", "i64"] as const)
      for (const local of this.byType[type]) nodes.push(absorb(this, get(local, type)));
    return nodes;
  }

  finish(body: Node[]): TreeFunction {
    const values = this.results.map((type, i) => {
      const turned = valued("i64.rotl", "i64", [get(this.accumulator, "i64"), constant("i64", 21 * i)]);
      return type === "i64" ? turned : valued("i32.wrap_i64", "i32", [turned]);
    });
    return { params: this.params, results: this.results, locals: this.locals, body: [...body, ...values] };
  }
}

/** Two idioms in a function of their own. */
function idiomFunction(random: Random, world: World, names: string[]): TreeFunction {
  const maker = new FunctionMaker(random, world, ["i32", "i64", "i32", "i64"], ["i64"], 2);
  const body = [...maker.prologue(), ...names.flatMap((name) => namedIdiom(maker, name)), ...maker.epilogue()];
  return maker.finish(body);
}

/** What the functions of one program share. */
class World {
  readonly base: number;
  readonly memoryBytes: number;
  readonly pages: number;
  readonly globals: Program["globals"];
  readonly segment = { index: 1, bytes: 0 };
  readonly table: (number | null)[] = [];
  readonly types: Program["types"] = [];
  readonly imports: Program["imports"];
  signatures: { params: IntType[]; results: IntType[] }[] = [];
  costs: number[] = [];
  callable: number[] = [];

  constructor(
    random: Random,
    readonly window: Window,
  ) {
    this.base = window === "low" ? 0x1_0000 : 0;
    this.pages = random.between(2, 3) + (window === "low" ? 1 : 0);
    this.memoryBytes = this.pages * 0x1_0000;
    this.globals = Array.from({ length: random.between(1, 5) }, () => {
      const type = random.pick(["i32", "i64"] as const);
      return { type, init: interesting(random, type), mutable: random.chance(85) };
    });
    this.imports = [
      { module: "insn", name: "umulh", params: ["i64", "i64"], results: ["i64"] },
      { module: "insn", name: "udiv128", params: ["i64", "i64", "i64"], results: ["i64"] },
      { module: "insn", name: "barrier", params: [], results: [] },
      { module: "env", name: "mix", params: ["i32", "i64"], results: ["i64"] },
      { module: "env", name: "poke", params: ["i32", "i64"], results: [] },
    ];
  }

  typeOf(callee: number): number {
    const { params, results } = this.signatures[callee];
    const same = (t: { params: IntType[]; results: IntType[] }): boolean =>
      String(t.params) === String(params) && String(t.results) === String(results);
    const known = this.types.findIndex(same);
    return known >= 0 ? known : this.types.push({ params, results }) - 1;
  }
}

function signature(random: Random): { params: IntType[]; results: IntType[] } {
  const types = (count: number): IntType[] => Array.from({ length: count }, () => random.pick(["i32", "i64"] as const));
  const params = types(random.chance(10) ? random.between(7, 10) : random.between(0, 5));
  const results = random.chance(15)
    ? random.pick([
        ["i32", "i64"],
        ["i64", "i64"],
        ["i64", "i32", "i32"],
      ] as IntType[][])
    : types(random.chance(6) ? 0 : 1);
  return { params, results };
}

function randomFunction(random: Random, world: World, index: number): TreeFunction {
  const { params, results } = world.signatures[index];
  const pressure = random.chance(20);
  const maker = new FunctionMaker(
    random,
    world,
    params,
    results,
    pressure ? random.between(12, 26) : random.between(1, 6),
  );
  const body = [
    ...maker.prologue(),
    ...maker.statements(random.between(2, pressure ? 14 : 9), random.between(1, 3)),
    ...maker.epilogue(),
  ];
  world.costs[index] = maker.cost;
  return maker.finish(body);
}

/** Small enough to be inlined anywhere, with two results that are easily mixed up. */
function pairFunction(random: Random, world: World, index: number): TreeFunction {
  const { params, results } = world.signatures[index];
  const part = (): Node => {
    const [a, b] = random.chance(50) ? [0, 1] : [1, 0];
    const right = random.chance(50) ? get(b, "i64") : constant("i64", interesting(random, "i64"));
    return valued(`i64.${random.pick(["add", "sub", "xor", "mul"])}`, "i64", [get(a, "i64"), right]);
  };
  world.costs[index] = 4;
  return { params, results, locals: [], body: [part(), part()] };
}

/** f(d, ...) calls itself with (d & 7) - 1 until that is 0. */
function recursiveFunction(random: Random, world: World, index: number): TreeFunction {
  const { params, results } = world.signatures[index];
  const maker = new FunctionMaker(random, world, params, results, 2);
  const masked = valued("i32.and", "i32", [get(0, "i32"), constant("i32", 7)]);
  const form = random.pick(["absorbed", "absorbed", "tail", "accumulated"]);
  const call = (): Node => {
    const less = valued("i32.sub", "i32", [
      valued("i32.and", "i32", [get(0, "i32"), constant("i32", 7)]),
      constant("i32", 1),
    ]);
    const args = params.map((type, i) => (i === 0 ? less : maker.expression(type, 2)));
    return valued("call", results[0], args, { index });
  };
  const again = (): Node => absorb(maker, call());
  /** The call is what is returned, or one operand of it. */
  const last = (): Node[] => {
    if (form === "absorbed") return random.chance(30) ? [again(), again()] : [again()];
    const before = form === "accumulated" && random.chance(50) ? [again()] : [];
    const joined = valued(`i64.${random.pick(["add", "mul", "xor", "or", "and"])}`, "i64", [maker.leaf("i64"), call()]);
    return [...before, form === "tail" ? call() : joined, statement("return")];
  };
  // Parameter 0 must keep its value: nothing but reads of it below.
  maker.byType.i32.splice(maker.byType.i32.indexOf(0), 1);
  const label = maker.nextLabel();
  const body = [
    ...maker.prologue(),
    ...maker.statements(random.between(1, 3), 1),
    statement("if", [masked], { index: label, body: last() }),
    ...maker.epilogue(),
  ];
  world.costs[index] = maker.cost * 128;
  return maker.finish(body);
}

/** Recipes that cannot trap share one function; each of the others gets its own. */
function tourFunctions(random: Random, world: World, taken: Recipe[]): TreeFunction[] {
  const make = (recipesOfOne: Recipe[]): TreeFunction => {
    const maker = new FunctionMaker(random, world, ["i32", "i64", "i32", "i64"], ["i64"], 2);
    const body = [
      ...maker.prologue(),
      ...recipesOfOne.flatMap((recipe) => cook(maker.place(), recipe)),
      ...maker.epilogue(),
    ];
    return maker.finish(body);
  };
  return [make(taken.filter((r) => !r.mayTrap)), ...taken.filter((r) => r.mayTrap).map((r) => make([r]))];
}

function dataSegments(random: Random, world: World): Program["segments"] {
  const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => random.below(256));
  const passive = bytes(random.between(8, 40));
  world.segment.bytes = passive.length;
  return [
    { address: world.base, bytes: bytes(4096 + 512) },
    { address: null, bytes: passive },
  ];
}

function argumentSets(random: Random, params: IntType[], count: number): bigint[][] {
  return Array.from({ length: count }, () => params.map((type) => interesting(random, type)));
}

/** Program `number` of run `seed`. */
export function generate(seed: number, number: number, window: Window): Generated {
  const random = new Random(seed, number * 2 + (window === "low" ? 0 : 1));
  const world = new World(random, window);
  const segments = dataSegments(random, world);
  const count = random.between(2, 5);
  world.signatures = Array.from({ length: count }, () => signature(random));
  const recursive = random.chance(30) ? count - 1 : -1;
  if (recursive >= 0) world.signatures[recursive] = { params: ["i32", "i64"], results: ["i64"] };
  const pair = recursive < 0 && count > 2 && random.chance(60) ? count - 1 : -1;
  if (pair >= 0) world.signatures[pair] = { params: ["i64", "i64"], results: ["i64", "i64"] };
  // From the last to the first: a function calls those behind it.
  const slots = random.between(1, 9);
  for (let i = 0; i < slots; i++)
    world.table.push(random.chance(20) ? null : random.between(count > 2 ? 1 : 0, count - 1));
  const functions: TreeFunction[] = [];
  for (let i = count - 1; i >= 0; i--) {
    const make = i === recursive ? recursiveFunction : i === pair ? pairFunction : randomFunction;
    functions[i] = make(random, world, i);
    world.callable.push(i);
  }
  const taken = Array.from({ length: slice }, (_, i) => recipes[(number * slice + i) % recipes.length]);
  functions.push(...tourFunctions(random, world, taken));
  const idioms = [0, 1, 2, 3].map((i) => idiomNames[(number * 4 + i) % idiomNames.length]);
  for (let i = 0; i < 4; i += 2) functions.push(idiomFunction(random, world, idioms.slice(i, i + 2)));
  const calls = functions.flatMap(({ params }, callee) => {
    const sets = callee < count ? 3 : callee === count ? 3 : 2;
    return argumentSets(random, params, params.length ? sets : 1).map((args) => ({ callee, args }));
  });
  const { pages, globals, table, types, imports } = world;
  const program: Program = { pages, functions, globals, table, types, segments, imports, calls };
  return { program, toured: [...taken.map((r) => `recipe ${r.key}`), ...idioms.map((name) => `idiom ${name}`)] };
}
