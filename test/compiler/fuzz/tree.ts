// Programs as trees, which the generator makes, the shrinker cuts and the encoder turns into a Wasm
// binary. A node that gives a value has a type; a statement has none.

import { ByteWriter, Kind, Section, ValType } from "../wasm/binary.ts";
import { accessNamed, type IntType, operatorNamed } from "./opcodes.ts";

/**
 * op, and what else is set:
 *   const value | local.get local | local.set local [value] | local.tee local [value]
 *   global.get global | global.set global [value] | an operator of opcodes.ts [operands]
 *   an access of opcodes.ts offset, align [address, value...] | select [then, otherwise, condition]
 *   block, loop label body | if label [condition] body otherwise | br, br_if label [condition]
 *   br_table labels [index] | call callee [args] | call_indirect callee (a type) [args, index]
 *   memory.copy, memory.fill [3] | memory.init segment [3] | data.drop segment | memory.size | fence
 *   return [value] | unreachable | nop | drop [value] | bind locals [call or multi]: several results into locals
 *   multi label results [params] body: a block whose values are the last nodes of `body`
 */
export interface Node {
  op: string;
  type: IntType | null;
  args: Node[];
  body?: Node[];
  otherwise?: Node[];
  value?: bigint;
  /** local, global, callee, segment, label: which one. */
  index?: number;
  labels?: number[];
  offset?: number;
  align?: number;
  locals?: number[];
  results?: IntType[];
}

export interface TreeFunction {
  params: IntType[];
  results: IntType[];
  locals: IntType[];
  body: Node[];
}

export interface Program {
  pages: number;
  functions: TreeFunction[];
  globals: { type: IntType; init: bigint; mutable: boolean }[];
  /** Function numbers; null is an empty slot. */
  table: (number | null)[];
  /** Types that call_indirect names. */
  types: { params: IntType[]; results: IntType[] }[];
  /** address null: passive. */
  segments: { address: number | null; bytes: Uint8Array }[];
  imports: { module: string; name: string; params: IntType[]; results: IntType[] }[];
  /** Calls of exported functions, in this order, on one instance. */
  calls: { callee: number; args: bigint[] }[];
}

export const statement = (op: string, args: Node[] = [], more: Partial<Node> = {}): Node => ({
  op,
  type: null,
  args,
  ...more,
});
export const valued = (op: string, type: IntType, args: Node[] = [], more: Partial<Node> = {}): Node => ({
  op,
  type,
  args,
  ...more,
});

/** Every node below `nodes`, parents first. */
export function* walk(nodes: Node[]): Generator<Node> {
  for (const node of nodes) {
    yield node;
    yield* walk(node.args);
    if (node.body) yield* walk(node.body);
    if (node.otherwise) yield* walk(node.otherwise);
  }
}

const valtype = (type: IntType): number => (type === "i32" ? ValType.i32 : ValType.i64);

class TypeTable {
  readonly rows: { params: IntType[]; results: IntType[] }[] = [];
  private readonly known = new Map<string, number>();
  index(params: IntType[], results: IntType[]): number {
    const key = `${params}:${results}`;
    let index = this.known.get(key);
    if (index === undefined) {
      index = this.rows.push({ params, results }) - 1;
      this.known.set(key, index);
    }
    return index;
  }
}

const fixed: Record<string, number[]> = {
  select: [0x1b],
  "memory.copy": [0xfc, 10, 0, 0],
  "memory.fill": [0xfc, 11, 0],
  "memory.size": [0x3f, 0],
  fence: [0xfe, 3, 0],
  return: [0x0f],
  unreachable: [0x00],
  nop: [0x01],
  drop: [0x1a],
};

const byIndex: Record<string, { before: number[]; after: number[] }> = {
  "local.get": { before: [0x20], after: [] },
  "local.set": { before: [0x21], after: [] },
  "local.tee": { before: [0x22], after: [] },
  "global.get": { before: [0x23], after: [] },
  "global.set": { before: [0x24], after: [] },
  import: { before: [0x10], after: [] },
  "memory.init": { before: [0xfc, 8], after: [0] },
  "data.drop": { before: [0xfc, 9], after: [] },
};

class Body {
  private readonly labels: number[] = [];
  constructor(
    private readonly w: ByteWriter,
    private readonly program: Program,
    private readonly types: TypeTable,
  ) {}

  private depth(label: number): number {
    const at = this.labels.lastIndexOf(label);
    if (at < 0) throw new Error("branch to a label that is not around it");
    return this.labels.length - 1 - at;
  }

  private blockType(node: Node): void {
    if (node.op === "multi") {
      const params = node.args.map((arg) => arg.type as IntType);
      this.w.u32(this.types.index(params, node.results ?? []));
    } else this.w.u8(node.type ? valtype(node.type) : 0x40);
  }

  private scope(node: Node, inner: () => void): void {
    this.labels.push(node.index ?? 0);
    inner();
    this.labels.pop();
    this.w.u8(0x0b);
  }

  nodes(nodes: Node[]): void {
    for (const node of nodes) this.node(node);
  }

  node(node: Node): void {
    const { w } = this;
    this.nodes(node.args);
    const operator = operatorNamed.get(node.op);
    if (operator) {
      w.bytes(operator.bytes);
      return;
    }
    const access = accessNamed.get(node.op);
    if (access) {
      w.bytes(access.bytes)
        .u32(node.align ?? 0)
        .u32(node.offset ?? 0);
      return;
    }
    this.special(node);
  }

  private special(node: Node): void {
    const simple = fixed[node.op];
    const indexed = byIndex[node.op];
    if (simple) this.w.bytes(simple);
    else if (indexed)
      this.w
        .bytes(indexed.before)
        .u32(node.index ?? 0)
        .bytes(indexed.after);
    else this.structured(node);
  }

  private structured(node: Node): void {
    const { w } = this;
    const index = node.index ?? 0;
    switch (node.op) {
      case "const":
        w.u8(node.type === "i32" ? 0x41 : 0x42).signed(node.value ?? 0n, node.type === "i32" ? 32 : 64);
        break;
      case "block":
      case "loop":
      case "multi":
        w.u8(node.op === "loop" ? 0x03 : 0x02);
        this.blockType(node);
        this.scope(node, () => this.nodes(node.body ?? []));
        break;
      case "if":
        w.u8(0x04);
        this.blockType(node);
        this.scope(node, () => this.arms(node));
        break;
      case "br":
      case "br_if":
        w.u8(node.op === "br" ? 0x0c : 0x0d).u32(this.depth(index));
        break;
      case "br_table":
        this.branchTable(node.labels ?? []);
        break;
      case "call":
        w.u8(0x10).u32(this.program.imports.length + index);
        break;
      case "call_indirect": {
        const { params, results } = this.program.types[index];
        w.u8(0x11).u32(this.types.index(params, results)).u8(0);
        break;
      }
      case "bind":
        for (const local of [...(node.locals ?? [])].reverse()) w.u8(0x21).u32(local);
        break;
      default:
        throw new Error(`no such node ${node.op}`);
    }
  }

  private arms(node: Node): void {
    this.nodes(node.body ?? []);
    if (!node.otherwise) return;
    this.w.u8(0x05);
    this.nodes(node.otherwise);
  }

  private branchTable(labels: number[]): void {
    const depths = labels.map((label) => this.depth(label));
    const fallback = depths.pop() as number;
    this.w
      .u8(0x0e)
      .vector(depths, (depth) => this.w.u32(depth))
      .u32(fallback);
  }
}

function encodeFunction(func: TreeFunction, program: Program, types: TypeTable): Uint8Array {
  const w = new ByteWriter();
  w.vector(func.locals, (type) => w.u32(1).u8(valtype(type)));
  const body = new Body(w, program, types);
  body.nodes(func.body);
  w.u8(0x0b);
  return w.finish();
}

function encodeElements(program: Program): Uint8Array {
  const w = new ByteWriter();
  const filled = program.table.map((func, slot) => ({ func, slot })).filter(({ func }) => func !== null);
  return w
    .vector(filled, ({ func, slot }) => {
      w.u32(0)
        .u8(0x41)
        .signed(BigInt(slot), 32)
        .u8(0x0b)
        .u32(1)
        .u32(program.imports.length + (func as number));
    })
    .finish();
}

function encodeData(program: Program): Uint8Array {
  const w = new ByteWriter();
  return w
    .vector(program.segments, ({ address, bytes }) => {
      if (address === null) w.u32(1);
      else w.u32(0).u8(0x41).signed(BigInt(address), 32).u8(0x0b);
      w.u32(bytes.length).bytes(bytes);
    })
    .finish();
}

/** Functions are exported as f0, f1, ..., globals as g0, ..., the memory as memory. Throws on a stray branch. */
export function encode(program: Program): Uint8Array {
  const types = new TypeTable();
  const imports = program.imports.map((item) => types.index(item.params, item.results));
  const declared = program.functions.map((func) => types.index(func.params, func.results));
  const bodies = program.functions.map((func) => encodeFunction(func, program, types));
  const file = new ByteWriter().bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const section = (id: number, fill: (w: ByteWriter) => void): void => {
    const w = new ByteWriter();
    fill(w);
    file.u8(id).u32(w.length).bytes(w.finish());
  };
  section(Section.type, (w) =>
    w.vector(types.rows, ({ params, results }) =>
      w.u8(0x60).u32(params.length).bytes(params.map(valtype)).u32(results.length).bytes(results.map(valtype)),
    ),
  );
  if (program.imports.length)
    section(Section.import, (w) =>
      w.vector(program.imports, (item) =>
        w.name(item.module).name(item.name).u8(0).u32(imports[program.imports.indexOf(item)]),
      ),
    );
  section(Section.function, (w) => w.vector(declared, (type) => w.u32(type)));
  if (program.table.length)
    section(Section.table, (w) =>
      w.u32(1).u8(ValType.funcref).u8(1).u32(program.table.length).u32(program.table.length),
    );
  section(Section.memory, (w) => w.u32(1).u8(1).u32(program.pages).u32(program.pages));
  section(Section.global, (w) =>
    w.vector(program.globals, ({ type, init, mutable }) => {
      w.u8(valtype(type)).u8(mutable ? 1 : 0);
      w.u8(type === "i32" ? 0x41 : 0x42)
        .signed(init, type === "i32" ? 32 : 64)
        .u8(0x0b);
    }),
  );
  const names = [
    ...program.functions.map((_, i) => ({ name: `f${i}`, kind: Kind.func, index: program.imports.length + i })),
    ...program.globals.map((_, i) => ({ name: `g${i}`, kind: Kind.global, index: i })),
    { name: "memory", kind: Kind.memory, index: 0 },
  ];
  section(Section.export, (w) => w.vector(names, (e) => w.name(e.name).u8(e.kind).u32(e.index)));
  if (program.table.some((func) => func !== null)) section(Section.element, (w) => w.bytes(encodeElements(program)));
  section(Section.dataCount, (w) => w.u32(program.segments.length));
  section(Section.code, (w) => w.vector(bodies, (body) => w.u32(body.length).bytes(body)));
  section(Section.data, (w) => w.bytes(encodeData(program)));
  return file.finish();
}
