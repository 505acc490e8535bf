// Bugs of the kinds that compilers have, as changes to the compiler's own source: what stands there
// and what is put in its place. White space does not matter. A row that no longer fits the source fails its test.

export interface Bug {
  name: string;
  /** In tools/compiler. */
  file: string;
  find: string;
  put: string;
}

export const bugs: Bug[] = [
  // ---- Passes
  {
    name: "value numbering takes subtraction for commutative",
    file: "passes/gvn.ts",
    find: 'const COMMUTATIVE = new Set(["add",',
    put: 'const COMMUTATIVE = new Set(["sub", "add",',
  },
  {
    name: "value numbering ignores a store in between",
    file: "passes/gvn.ts",
    find: "if (mayOverlap(place, other)) break;",
    put: "",
  },
  {
    name: "loads with and without sign are the same value",
    file: "passes/gvn.ts",
    find: "{mem.bits} $" + "{mem.signed && !isWhole} $",
    put: "{mem.bits} $",
  },
  {
    name: "a narrow load takes the whole stored value",
    file: "passes/gvn.ts",
    find: 'return mem.bits === (load.type === "i32" ? 32 : 64) && value.type === load.type ? value : null;',
    put: "return value.type === load.type ? value : null;",
  },
  {
    name: "a load that may trap leaves its loop",
    file: "passes/licm.ts",
    find: "isPlainLoad(value) && certain.has(value) &&",
    put: "isPlainLoad(value) &&",
  },
  {
    name: "a load leaves a loop that writes its place",
    file: "passes/licm.ts",
    find: "certain.has(value) && !this.isWritten(value)",
    put: "certain.has(value)",
  },
  {
    name: "a call from outside is taken to write nothing",
    file: "effects.ts",
    find: "for (const imported of module.imports) this.byIndex.set(imported.index, EVERYTHING);",
    put: "for (const imported of module.imports) this.byIndex.set(imported.index, NOTHING);",
  },
  {
    name: "a callee's writes to globals are forgotten",
    file: "effects.ts",
    find: "return { ...NOTHING, writesGlobals: true };",
    put: "return NOTHING;",
  },
  {
    name: "the magic number of a division is one too small",
    file: "passes/divide.ts",
    find: "const multiplier = (1n << p) / divisor + 1n;",
    put: "const multiplier = (1n << p) / divisor;",
  },
  {
    name: "signed division rounds down",
    file: "passes/divide.ts",
    find: 'return this.make("add", type, high, negative);',
    put: "return high;",
  },
  {
    name: "division by a negative power loses its sign",
    file: "passes/divide.ts",
    find: 'return d < 0n ? this.make("sub", type, this.constant(type, 0n), quotient) : quotient;',
    put: "return quotient;",
  },
  {
    name: "known bits forget the sign extension",
    file: "known-bits.ts",
    find: "sext: (_, arg) => (arg(0) >> 31n ? arg(0) | 0xffff_ffff_0000_0000n : arg(0)),",
    put: "sext: (_, arg) => arg(0),",
  },
  {
    name: "known bits forget the carry",
    file: "known-bits.ts",
    find: "return fill(a + b) & above(a | b, type);",
    put: "return a | b;",
  },
  {
    name: "if-conversion swaps the arms",
    file: "passes/if-convert.ts",
    find: "[t.condition, a, b]",
    put: "[t.condition, b, a]",
  },
  {
    name: "a threaded jump goes the other way",
    file: "passes/thread.ts",
    find: "target: way ? t.then : t.otherwise",
    put: "target: way ? t.otherwise : t.then",
  },
  {
    name: "a range of cases is one too short",
    file: "passes/switches.ts",
    find: 'return this.compare(block, "lt_u", this.shifted(block, g.low), g.high - g.low + 1n);',
    put: 'return this.compare(block, "lt_u", this.shifted(block, g.low), g.high - g.low);',
  },
  {
    name: "results of an inlined call are mixed up",
    file: "passes/inline.ts",
    find: "phi.args = returns.map((r) => r.values[i] as Value);",
    put: "phi.args = returns.map((r) => (r.values.findLast((x) => x.type === type) ?? r.values[i]) as Value);",
  },
  {
    name: "an accumulated product starts at zero",
    file: "passes/tail.ts",
    find: "mul: 1n,",
    put: "mul: 0n,",
  },
  {
    name: "a rotation is seen in shifts that do not add up",
    file: "passes/simplify-rules.ts",
    find: "const nontrivial = a % width !== 0n && (a + b) % width === 0n;",
    put: "const nontrivial = a % width !== 0n && (a + b) % width <= 1n;",
  },
  {
    name: "a comparison keeps its sense when its operands change sides",
    file: "passes/simplify-rules.ts",
    find: 'lt_s: "gt_s", gt_s: "lt_s", le_s: "ge_s", ge_s: "le_s", lt_u: "gt_u",',
    put: 'lt_s: "gt_s", gt_s: "lt_s", le_s: "ge_s", ge_s: "le_s", lt_u: "lt_u",',
  },
  {
    name: "bytes with a gap become one load",
    file: "passes/bytes.ts",
    find: "const forward = places.every((p, i) => p.address === address && p.offset === offset + i);",
    put: "const forward = places.every((p, i) => p.address === address && (i === 1 || p.offset === offset + i));",
  },

  // ---- Instruction selection
  {
    name: "a shift count's mask is dropped though it matters",
    file: "backend/select/arith.ts",
    find: "return mask !== null && (mask & needed) === needed ? (count.args[0] as Value) : count;",
    put: "return mask !== null ? (count.args[0] as Value) : count;",
  },
  {
    name: "subtraction with swapped operands",
    file: "backend/select/arith.ts",
    find: '} else twoAddress(s, "sub", v, a, b);',
    put: '} else twoAddress(s, "sub", v, b, a);',
  },
  {
    name: "the remainder by -1 is left to the processor",
    file: "backend/select/arith.ts",
    find: 'v.op === "rem_s" ? remainderDivisor(s, v) : s.reg(v.args[1] as Value)',
    put: "s.reg(v.args[1] as Value)",
  },
  {
    name: "leading zeros of zero",
    file: "backend/select/arith.ts",
    find: 's.emit("cmovcc", size, result, none).cond = "e" satisfies Cond;',
    put: "",
  },
  {
    name: "an argument loses its zero extension",
    file: "backend/select.ts",
    find: 'if (v.op !== "const" && v.type === "i32" && !this.zeroUpper(v)) this.emit("movzxd", 4, to, this.reg(v));\n    else this.move(to, v);',
    put: "this.move(to, v);",
  },
  {
    name: "a load is folded into an instruction behind a store",
    file: "backend/select.ts",
    find: 'case "store": case "atomic_rmw": case "atomic_cmpxchg": case "fence": case "memory_copy":',
    put: 'case "atomic_rmw": case "atomic_cmpxchg": case "fence": case "memory_copy":',
  },
  {
    name: "wrong condition for below or equal",
    file: "backend/select/compare.ts",
    find: 'le_u: "be",',
    put: 'le_u: "b",',
  },
  {
    name: "the inverse of greater or equal",
    file: "backend/select/compare.ts",
    find: 'ge: "l", le: "g",',
    put: 'ge: "le", le: "g",',
  },
  {
    name: "a conditional move keeps the wrong side",
    file: "backend/select/compare.ts",
    find: ".cond = swap ? invert(code) : code;",
    put: ".cond = code;",
  },
  {
    name: "phis are copied one after the other",
    file: "backend/select/control.ts",
    find: "const next = copies.find((c) => !copies.some((other) => other !== c && other.from === c.to.reg));",
    put: "const next = copies[0];",
  },
  {
    name: "wrong scale of an index",
    file: "backend/select/address.ts",
    find: "return count >= 1 && count <= 3 ? ((1 << count) as 2 | 4 | 8) : null;",
    put: "return count >= 1 && count <= 3 ? (count === 1 ? 2 : 4) : null;",
  },
  {
    name: "offsets fold in the gs window, where they may wrap",
    file: "backend/select/address.ts",
    find: 'const limit = s.context.window === "low" ? FOLDABLE_OFFSET : 0;',
    put: "const limit = FOLDABLE_OFFSET;",
  },
  {
    name: "offsets of any size fold, where they may wrap",
    file: "backend/select/address.ts",
    find: "const FOLDABLE_OFFSET = 0x1_0000;",
    put: "const FOLDABLE_OFFSET = 0x7fff_0000;",
  },
  {
    name: "a word is loaded as a byte",
    file: "backend/select/memory.ts",
    find: 'else if (bytes < 4) s.emit("movzx", 4, result, from).sourceSize = bytes;',
    put: 'else if (bytes < 4) s.emit("movzx", 4, result, from).sourceSize = 1;',
  },
  {
    name: "signed loads extend with zeros",
    file: "backend/select/memory.ts",
    find: "if (v.mem?.signed && bytes < sizeOf(v))",
    put: "if (v.mem?.signed && bytes > sizeOf(v))",
  },
  {
    name: "a read-modify-write of another place",
    file: "backend/select/memory.ts",
    find: "return load.args[0] === store.args[0] && load.mem?.offset === store.mem?.offset;",
    put: "return load.args[0] === store.args[0];",
  },
  {
    name: "a shift in memory is as narrow as the store",
    file: "backend/select/memory.ts",
    find: 'if (isShift) return other.op === "const" && bytes === sizeOf(value);',
    put: 'if (isShift) return other.op === "const";',
  },
  {
    name: "misaligned atomics of two bytes pass",
    file: "backend/select/atomic.ts",
    find: "if (bytes === 1 || isMultiple(address, offset, bytes)) return;",
    put: "if (bytes <= 2 || isMultiple(address, offset, bytes)) return;",
  },
  {
    name: "an atomic subtraction adds",
    file: "backend/select/atomic.ts",
    find: 'if (rmw === "sub") s.emit("neg", sizeOf(v), result);',
    put: "",
  },
  {
    name: "an indirect call's signature is not compared",
    file: "backend/select/call.ts",
    find: 'trapIf(s, "ne", TrapKind.INDIRECT_CALL_TYPE);',
    put: "",
  },
  {
    name: "a call clobbers nothing",
    file: "backend/select/call.ts",
    find: "call.clobbers = clobbers & ~call.defs;",
    put: "call.clobbers = 0;",
  },
  {
    name: "an overlapping copy goes the wrong way",
    file: "backend/routines.ts",
    find: '"jb .backward",',
    put: "",
  },
  {
    name: "the last byte of memory is out of bounds for a bulk operation",
    file: "backend/routines.ts",
    find: '...limit, "ja .bad"]',
    put: '...limit, "jae .bad"]',
  },

  // ---- Register allocation and what follows
  {
    name: "registers are joined though both are live",
    file: "backend/alloc/coalesce.ts",
    find: "if (to !== from && !overlaps(to.segments, from.segments)) join(bundles, to, from);",
    put: "if (to !== from) join(bundles, to, from);",
  },
  {
    name: "a spilled value is not reloaded",
    file: "backend/alloc/rewrite.ts",
    find: "for (const m of moves) if (!m.from && m.to) out.push(loadInst(m.to));",
    put: "",
  },
  {
    name: "a spilled value is not stored",
    file: "backend/alloc/rewrite.ts",
    find: "for (const piece of this.stores.get(i) ?? []) out.push(storeInst(piece));",
    put: "",
  },
  {
    name: "moves that happen at once happen in turn",
    file: "backend/alloc/rewrite.ts",
    find: "const next = rest.find((m) => !rest.some((other) => other !== m && other.from === m.to));",
    put: "const next = rest[0];",
  },
  {
    name: "a saved register is clobbered",
    file: "backend/frame.ts",
    find: "set |= inst.defs | inst.clobbers;",
    put: "set |= inst.defs;",
  },
  {
    name: "a branch is not inverted when its ways change places",
    file: "backend/layout.ts",
    find: 'branch.cond = invert(branch.cond as NonNullable<Inst["cond"]>); branch.target = last.target;',
    put: "branch.target = last.target;",
  },
];
