/**
 * Joins registers that copies connect and that are never live at once: then the copy is nothing.
 * Copies that run most often go first.
 */

import { type Inst, isCopy } from "../machine.ts";
import { FIRST_VIRTUAL, type Reg } from "../registers.ts";
import { type Bundle, type Line, merged, overlaps, type Use } from "./interval.ts";
import type { Liveness } from "./liveness.ts";

interface Copy {
  to: Reg;
  from: Reg;
  frequency: number;
}

/** Bundle of each virtual register, counted from 0. */
export function coalesce(line: Line, live: Liveness): Bundle[] {
  const bundles = live.segments.map((_, v) => newBundle(line, live, v));
  const copies = copiesOf(line).sort((a, b) => b.frequency - a.frequency);
  for (const copy of copies) {
    if (copy.to < FIRST_VIRTUAL || copy.from < FIRST_VIRTUAL) continue;
    const to = bundles[copy.to - FIRST_VIRTUAL] as Bundle;
    const from = bundles[copy.from - FIRST_VIRTUAL] as Bundle;
    if (to !== from && !overlaps(to.segments, from.segments)) join(bundles, to, from);
  }
  for (const copy of copies) hint(bundles, copy);
  dropIdentities(line, bundles);
  return bundles;
}

function newBundle(line: Line, live: Liveness, v: number): Bundle {
  const uses = live.uses[v] as Use[];
  const writes = uses.filter((u) => u.writes);
  const maker = writes.length === 1 ? (line.insts[(writes[0] as Use).inst] as Inst) : null;
  return {
    id: v,
    segments: live.segments[v] ?? [],
    uses,
    wide: line.func.virtuals[v]?.wide ?? true,
    remat: maker?.remat ? maker : null,
    pieces: [],
    slot: -1,
    hints: new Map(),
    friends: new Map(),
  };
}

function copiesOf(line: Line): Copy[] {
  const copies: Copy[] = [];
  line.insts.forEach((inst, i) => {
    const [to, from] = inst.operands;
    if (isCopy(inst) && to?.kind === "reg" && from?.kind === "reg") {
      copies.push({ to: to.reg, from: from.reg, frequency: line.blockOf[i]?.frequency ?? 0 });
    } else if (inst.op === "movzxd" && to?.kind === "reg" && from?.kind === "reg") {
      copies.push({ to: to.reg, from: from.reg, frequency: 0 });
    }
  });
  return copies.filter((c) => c.frequency > 0);
}

function join(bundles: Bundle[], into: Bundle, from: Bundle): void {
  into.segments = merged(into.segments, from.segments);
  into.uses = joinUses(into.uses, from.uses);
  into.wide ||= from.wide;
  // Two definitions: the copy and the constant it copied. Neither can be made anew alone.
  into.remat = null;
  bundles.forEach((b, v) => {
    if (b === from) bundles[v] = into;
  });
}

function joinUses(a: Use[], b: Use[]): Use[] {
  const all = [...a, ...b].sort((x, y) => x.inst - y.inst);
  const out: Use[] = [];
  for (const use of all) {
    const last = out[out.length - 1];
    if (last?.inst === use.inst) {
      last.reads ||= use.reads;
      last.writes ||= use.writes;
    } else out.push({ ...use });
  }
  return out;
}

/** A copy of a bundle to itself is no use of it. */
function dropIdentities(line: Line, bundles: Bundle[]): void {
  for (const bundle of new Set(bundles)) {
    bundle.uses = bundle.uses.filter((u) => !isIdentity(line.insts[u.inst] as Inst, bundles));
  }
}

export function isIdentity(inst: Inst, bundles: Bundle[]): boolean {
  const [to, from] = inst.operands;
  if (!isCopy(inst) || to?.kind !== "reg" || from?.kind !== "reg") return false;
  if (to.reg < FIRST_VIRTUAL || from.reg < FIRST_VIRTUAL) return false;
  return bundles[to.reg - FIRST_VIRTUAL] === bundles[from.reg - FIRST_VIRTUAL];
}

function hint(bundles: Bundle[], copy: Copy): void {
  const to = copy.to >= FIRST_VIRTUAL ? (bundles[copy.to - FIRST_VIRTUAL] as Bundle) : null;
  const from = copy.from >= FIRST_VIRTUAL ? (bundles[copy.from - FIRST_VIRTUAL] as Bundle) : null;
  if (to === from) return;
  const add = <K>(map: Map<K, number>, key: K): void => {
    map.set(key, (map.get(key) ?? 0) + copy.frequency);
  };
  if (to && from) {
    add(to.friends, from);
    add(from.friends, to);
  } else if (to) add(to.hints, copy.from);
  else if (from) add(from.hints, copy.to);
}
