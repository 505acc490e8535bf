// Strength reduction: in an innermost loop, a product of its counter and something that the loop does not change
// grows by the same amount each time; an addition takes the multiplication's place. So with such a product plus
// something that does not change: the row of a matrix whose size is known at run time only.

import type { Block, Func, Type, Value } from "../ir.ts";
import { findLoops, type Loop } from "../loops.ts";
import { newConst, newValue, Replacements } from "../ssa.ts";

/** Each takes a register through the loop. */
const MAX_REDUCED = 2;

export function reduceStrength(func: Func): boolean {
  const loops = findLoops(func);
  const outer = new Set(loops.map((loop) => loop.parent));
  const replacements = new Replacements();
  for (const loop of loops) if (!outer.has(loop)) new Reduction(func, loop, replacements).run();
  replacements.apply(func);
  return replacements.size > 0;
}

/** A phi that a constant is added to each time. */
interface Counter {
  phi: Value;
  next: Value;
}

class Reduction {
  private readonly entry: number;
  private readonly preheader: Block;
  private readonly users: Map<Value, Value[]>;

  constructor(
    private readonly func: Func,
    private readonly loop: Loop,
    private readonly replacements: Replacements,
  ) {
    this.entry = loop.header.preds.findIndex((pred) => !loop.blocks.has(pred));
    this.preheader = loop.header.preds[this.entry] as Block;
    this.users = usersIn(loop);
  }

  run(): void {
    const { header } = this.loop;
    if (header.preds.length !== 2 || this.preheader.terminator.kind !== "jump") return;
    const counters = header.phis.flatMap((phi) => this.counter(phi) ?? []);
    const products = counters.flatMap((counter) =>
      (this.users.get(counter.phi) ?? []).filter((v) => this.factorOf(v, counter)).map((v) => ({ v, counter })),
    );
    for (const { v, counter } of products.slice(0, MAX_REDUCED)) this.reduce(v, counter);
  }

  private counter(phi: Value): Counter | null {
    const next = phi.args[1 - this.entry] as Value;
    const isSum = next.op === "add" && next.args[0] === phi && next.args[1]?.op === "const";
    return isSum && this.loop.blocks.has(next.block) ? { phi, next } : null;
  }

  private isInvariant(value: Value | undefined): value is Value {
    return value !== undefined && value.op !== "const" && !this.loop.blocks.has(value.block);
  }

  private factorOf(v: Value, { phi }: Counter): Value | null {
    if (v.op !== "mul") return null;
    const factor = v.args[0] === phi ? v.args[1] : v.args[0];
    return this.isInvariant(factor) ? factor : null;
  }

  private reduce(product: Value, counter: Counter): void {
    const factor = this.factorOf(product, counter) as Value;
    const step = this.before("mul", factor, this.constant(counter.next.args[1] as Value));
    let start = this.before("mul", counter.phi.args[this.entry] as Value, factor);
    let reduced = product;
    const [user, ...others] = this.users.get(product) ?? [];
    const added = user?.op === "add" && others.length === 0 ? user.args.find((arg) => arg !== product) : undefined;
    if (user && this.isInvariant(added)) {
      start = this.before("add", start, added);
      reduced = user;
    }
    this.replacements.set(reduced, this.newCounter(start, step, counter.next, product.type as Type));
  }

  /** A phi that starts with `start` and has `step` added where `beside` is. */
  private newCounter(start: Value, step: Value, beside: Value, type: Type): Value {
    const { header } = this.loop;
    const phi = newValue(this.func, header, "phi", type, [], beside.loc);
    const next = newValue(this.func, beside.block, "add", type, [phi, step], beside.loc);
    phi.args = this.entry === 0 ? [start, next] : [next, start];
    header.phis.push(phi);
    const { body } = beside.block;
    body.splice(body.indexOf(beside) + 1, 0, next);
    return phi;
  }

  private before(op: "mul" | "add", a: Value, b: Value): Value {
    const value = newValue(this.func, this.preheader, op, a.type, [a, b], a.loc);
    this.preheader.body.push(value);
    return value;
  }

  private constant({ type, imm }: Value): Value {
    const value = newConst(this.func, this.preheader, type as Type, imm as bigint);
    this.preheader.body.push(value);
    return value;
  }
}

/** Who reads each value, among the values of the loop's blocks. */
function usersIn(loop: Loop): Map<Value, Value[]> {
  const users = new Map<Value, Value[]>();
  const note = (value: Value, user: Value): void => {
    users.set(value, [...(users.get(value) ?? []), user]);
  };
  for (const block of loop.blocks) {
    for (const value of block.body) for (const arg of value.args) note(arg, value);
    for (const phi of block.phis) for (const arg of phi.args) note(arg, phi);
  }
  return users;
}
