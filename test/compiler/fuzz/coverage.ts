// Which operators were generated with which operand shapes, and which recipes of the tour were taken.

import { idiomNames } from "./idioms.ts";
import { accesses, operatorNamed, operators } from "./opcodes.ts";
import { operandShapes, recipes, type Shape } from "./recipes.ts";
import { type Node, type Program, walk } from "./tree.ts";

function shapeOf(node: Node): Shape {
  if (node.op === "const") return "constant";
  if (node.op === "local.get") return "local";
  return /\.load/.test(node.op) && !node.op.includes("atomic") ? "load" : "computed";
}

const others = [
  ...["select", "local.set", "local.tee", "global.get", "global.set", "block", "loop", "if", "br", "br_if", "br_table"],
  ...["call", "call_indirect", "import", "bind", "multi", "memory.copy", "memory.fill", "memory.init", "data.drop"],
  ...["memory.size", "fence", "return", "unreachable", "nop", "drop"],
];

/** What a full run must have seen. */
function wanted(): Set<string> {
  const keys = new Set<string>([
    ...others,
    ...accesses.map((a) => a.name),
    ...recipes.map((r) => `recipe ${r.key}`),
    ...idiomNames.map((name) => `idiom ${name}`),
  ]);
  for (const { name, params } of operators) {
    if (params.length === 1) for (const a of operandShapes) keys.add(`${name} ${a}`);
    else {
      keys.add(`${name} equal`);
      for (const a of operandShapes) for (const b of operandShapes) keys.add(`${name} ${a} ${b}`);
    }
  }
  return keys;
}

export class Coverage {
  private readonly missing = wanted();
  private readonly total = this.missing.size;

  add(program: Program, toured: string[]): void {
    for (const key of toured) this.missing.delete(key);
    for (const func of program.functions) for (const node of walk(func.body)) this.see(node);
  }

  private see(node: Node): void {
    this.missing.delete(node.op);
    if (!operatorNamed.has(node.op)) return;
    const [a, b] = node.args;
    if (b && a.op === "local.get" && b.op === "local.get" && a.index === b.index)
      this.missing.delete(`${node.op} equal`);
    else this.missing.delete(`${node.op} ${node.args.map(shapeOf).join(" ")}`);
  }

  /** Keys not seen yet. */
  get unseen(): string[] {
    return [...this.missing];
  }

  toString(): string {
    const seen = this.total - this.missing.size;
    return `coverage: ${seen} of ${this.total} (operators x operand shapes x uses, accesses x address forms, control)`;
  }
}
