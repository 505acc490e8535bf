// Cuts a failing program down: drops calls, functions, statements and operands, as long as the two
// executors still differ. Candidates are tried many at a time, for the native side is fast in batches.

import type { Executor, Window } from "../native/actions.ts";
import { compare, type Difference, groupOf } from "./compare.ts";
import { encode, type Node, type Program } from "./tree.ts";

type Edit = (program: Program) => void;

/** Every statement list of a function, outermost first. */
function* lists(nodes: Node[]): Generator<Node[]> {
  yield nodes;
  for (const node of nodes) {
    for (const arg of node.args) yield* innerLists(arg);
    yield* innerLists(node, false);
  }
}
function* innerLists(node: Node, withArgs = true): Generator<Node[]> {
  if (withArgs) for (const arg of node.args) yield* innerLists(arg);
  if (node.body) yield* lists(node.body);
  if (node.otherwise) yield* lists(node.otherwise);
}

interface Slot {
  list: Node[];
  index: number;
}
function* slots(list: Node[]): Generator<Slot> {
  for (let index = 0; index < list.length; index++) {
    const node = list[index];
    yield { list, index };
    yield* slots(node.args);
    if (node.body) yield* slots(node.body);
    if (node.otherwise) yield* slots(node.otherwise);
  }
}

const at = <T>(items: Iterable<T>, n: number): T => [...items][n];
const zero = (type: Node["type"], value = 0n): Node => ({ op: "const", type, args: [], value });

/** Pieces of `count` things, halves first, down to single ones. */
function* pieces(count: number): Generator<[number, number]> {
  for (let size = count; size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2))
    for (let from = 0; from < count; from += size) yield [from, Math.min(size, count - from)];
}

function* callEdits(program: Program): Generator<Edit> {
  for (const [from, count] of pieces(program.calls.length)) yield (p) => void p.calls.splice(from, count);
}

function* functionEdits(program: Program): Generator<Edit> {
  for (const [f, func] of program.functions.entries()) {
    const bare = func.results.map((type) => zero(type));
    if (func.body.length > bare.length)
      yield (p) => {
        p.functions[f].body = structuredClone(bare);
      };
  }
  if (program.table.some((slot) => slot !== null)) yield (p) => void p.table.fill(null);
  for (const [s, segment] of program.segments.entries())
    if (segment.bytes.some((b) => b !== 0)) yield (p) => void p.segments[s].bytes.fill(0);
}

function* listEdits(program: Program): Generator<Edit> {
  for (const [f, func] of program.functions.entries())
    for (const [l, list] of [...lists(func.body)].entries()) {
      // The values at the end of a list belong to the construct around it.
      let count = list.length;
      while (count > 0 && list[count - 1].type !== null) count--;
      for (const [from, size] of pieces(count)) yield (p) => void at(lists(p.functions[f].body), l).splice(from, size);
    }
}

/** Replacements of one node, the simplest first. */
function replacements(node: Node): Node[] | Node[][] {
  if (node.type === null) {
    if (node.op === "if") return [node.body ?? [], ...(node.otherwise ? [node.otherwise] : [])];
    return node.op === "block" || node.op === "loop" ? [node.body ?? []] : [];
  }
  if (node.op === "const") {
    const value = node.value ?? 0n;
    return [0n, 1n, value >> 1n, value & 0xffn].filter((v) => v < value).map((v) => zero(node.type, v));
  }
  const inside = [...node.args, ...(node.body?.slice(-1) ?? []), ...(node.otherwise?.slice(-1) ?? [])];
  return [zero(node.type), zero(node.type, 1n), ...inside.filter((arg) => arg.type === node.type)];
}

function* nodeEdits(program: Program): Generator<Edit> {
  for (const [f, func] of program.functions.entries())
    for (const [s, slot] of [...slots(func.body)].entries()) {
      const node = slot.list[slot.index];
      for (const r of replacements(node).keys())
        yield (p) => {
          const { list, index } = at(slots(p.functions[f].body), s);
          list.splice(index, 1, ...[replacements(list[index])[r]].flat());
        };
      if (node.offset)
        yield (p) => {
          const place = at(slots(p.functions[f].body), s);
          place.list[place.index].offset = 0;
        };
    }
}

function* argumentEdits(program: Program): Generator<Edit> {
  for (const [c, { args }] of program.calls.entries())
    for (const [a, value] of args.entries())
      for (const simpler of [0n, 1n, value >> 1n])
        if (simpler < value)
          yield (p) => {
            p.calls[c].args[a] = simpler;
          };
}

function* edits(program: Program): Generator<Edit> {
  yield* callEdits(program);
  yield* functionEdits(program);
  yield* listEdits(program);
  yield* nodeEdits(program);
  yield* argumentEdits(program);
}

/** The program after `edit`, if it is still a valid one. */
function attempt(program: Program, edit: Edit): Program | null {
  const copy = structuredClone(program);
  edit(copy);
  try {
    return WebAssembly.validate(encode(copy) as BufferSource) ? copy : null;
  } catch {
    return null;
  }
}

export interface Shrunk {
  program: Program;
  difference: Difference;
}

/** What kind of difference it is: a smaller program must keep it, or it shows something else (in the low window, address 0). */
const kindOf = ({ expected, got }: Difference): string =>
  [expected, got].map((text) => text.replace(/\(.*/, "")).join(" against ");

/** `budget`: candidates to try at most. */
export async function shrink(
  failing: Shrunk,
  window: Window,
  oracle: Executor,
  subject: Executor,
  budget = 4000,
): Promise<Shrunk> {
  let best = failing;
  const kind = kindOf(failing.difference);
  let left = budget;
  for (let progress = true; progress && left > 0; ) {
    progress = false;
    const queue = edits(best.program);
    while (left > 0) {
      const batch: Program[] = [];
      let next = queue.next();
      for (; !next.done && batch.length < 40; next = queue.next()) {
        const candidate = attempt(best.program, next.value);
        if (candidate) batch.push(candidate);
      }
      if (batch.length === 0) break;
      left -= batch.length;
      const groups = batch.map((program) => groupOf(program, window));
      const differences = await compare(groups, oracle, subject);
      const found = differences.findIndex((d) => d !== null && kindOf(d) === kind);
      if (found >= 0) {
        best = { program: batch[found], difference: differences[found] as Difference };
        progress = true;
        break;
      }
    }
  }
  return best;
}
