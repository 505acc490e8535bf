// Dominator tree of the reachable blocks (Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm").

import type { Block, Func } from "./ir.ts";
import { reversePostorder } from "./ssa.ts";

export class Dominators {
  /** Reachable blocks in reverse postorder. */
  readonly order: Block[];
  private readonly position = new Map<Block, number>();
  /** Immediate dominator by position; the entry is its own. */
  private readonly parent: Int32Array;
  private readonly enter: Int32Array;
  private readonly leave: Int32Array;
  private readonly childLists: number[][];

  constructor(func: Func) {
    this.order = reversePostorder(func);
    this.order.forEach((block, i) => {
      this.position.set(block, i);
    });
    const count = this.order.length;
    this.parent = new Int32Array(count).fill(-1);
    this.parent[0] = 0;
    for (let changed = true; changed; ) {
      changed = false;
      for (let i = 1; i < count; i++) changed = this.update(i) || changed;
    }
    this.childLists = Array.from({ length: count }, () => []);
    for (let i = 1; i < count; i++) this.childLists[this.parent[i] as number]?.push(i);
    this.enter = new Int32Array(count);
    this.leave = new Int32Array(count);
    this.number();
  }

  private update(i: number): boolean {
    let best = -1;
    for (const pred of (this.order[i] as Block).preds) {
      const p = this.position.get(pred);
      if (p === undefined || this.parent[p] === -1) continue;
      best = best === -1 ? p : this.intersect(p, best);
    }
    if (this.parent[i] === best) return false;
    this.parent[i] = best;
    return true;
  }

  private intersect(a: number, b: number): number {
    while (a !== b) {
      while (a > b) a = this.parent[a] as number;
      while (b > a) b = this.parent[b] as number;
    }
    return a;
  }

  /** Numbers the tree so that dominance is the nesting of two intervals. */
  private number(): void {
    let clock = 0;
    const stack: [number, number][] = [[0, 0]];
    this.enter[0] = clock++;
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as [number, number];
      const child = this.childLists[top[0]]?.[top[1]++];
      if (child === undefined) {
        this.leave[top[0]] = clock++;
        stack.pop();
      } else {
        this.enter[child] = clock++;
        stack.push([child, 0]);
      }
    }
  }

  isReachable(block: Block): boolean {
    return this.position.has(block);
  }

  dominates(a: Block, b: Block): boolean {
    const i = this.position.get(a);
    const j = this.position.get(b);
    if (i === undefined || j === undefined) return false;
    return (
      (this.enter[i] as number) <= (this.enter[j] as number) && (this.leave[j] as number) <= (this.leave[i] as number)
    );
  }

  /** The immediate dominator; null for the entry. */
  immediate(block: Block): Block | null {
    const i = this.position.get(block);
    if (i === undefined || i === 0) return null;
    return this.order[this.parent[i] as number] as Block;
  }

  children(block: Block): Block[] {
    const list = this.childLists[this.position.get(block) as number] ?? [];
    return list.map((i) => this.order[i] as Block);
  }

  /** Position in reverse postorder. */
  indexOf(block: Block): number {
    return this.position.get(block) ?? -1;
  }
}
