/**
 * Short jumps. Left to itself, NASM finds the length of each jump by assembling everything until nothing changes, which
 * takes as many passes as lengths depend on each other. Here they are found before: every jump starts as a short one,
 * and grows where the distance, by an upper bound of the length of each instruction between, may be too large.
 * NASM refuses a short jump that does not reach, so a bound that is too low is an error and not wrong code.
 */

const SHORT = 2;
const NEAR_JCC = 6;
const NEAR_JMP = 5;
const REACH = 127;
/** What no instruction exceeds. */
const LONGEST = 15;

interface Jump {
  line: number;
  target: number;
  near: number;
}

/** Marks the jumps between `lines` that certainly reach as short, and the others as near. Lines keep their number. */
export function shortenJumps(lines: string[]): string[] {
  const places = new Map<string, number>();
  lines.forEach((line, i) => {
    if (line.endsWith(":")) places.set(line.slice(0, -1), i);
  });
  const bytes = new Int32Array(lines.length);
  const jumps: Jump[] = [];
  lines.forEach((line, i) => {
    const match = /^ {2}(j\w+) ([\w.$@]+)$/.exec(line);
    const target = match && places.get(match[2] as string);
    if (typeof target !== "number") bytes[i] = atMost(line);
    else {
      bytes[i] = SHORT;
      jumps.push({ line: i, target, near: match?.[1] === "jmp" ? NEAR_JMP : NEAR_JCC });
    }
  });
  const grown = growJumps(bytes, jumps);
  return lines.map((line, i) => (grown.has(i) ? withLength(line, grown.get(i) as boolean) : line));
}

/** Whether each jump, by line, has to be a near one. */
function growJumps(bytes: Int32Array, jumps: Jump[]): Map<number, boolean> {
  const isNear = new Map(jumps.map((jump) => [jump.line, false]));
  const starts = new Int32Array(bytes.length + 1);
  for (let changed = true; changed; ) {
    changed = false;
    for (let i = 0; i < bytes.length; i++) starts[i + 1] = (starts[i] as number) + (bytes[i] as number);
    for (const { line, target, near } of jumps) {
      const distance = (starts[target] as number) - (starts[line + 1] as number);
      if (isNear.get(line) || (distance <= REACH && distance >= -REACH)) continue;
      isNear.set(line, true);
      bytes[line] = near;
      changed = true;
    }
  }
  return isNear;
}

function withLength(line: string, near: boolean): string {
  return line.replace(/^ {2}(j\w+) /, (_, op: string) => `  ${op} ${near ? "near" : "short"} `);
}

// ---- Upper bounds of lengths

/** Opcode bytes of what is common; all others count as LONGEST. */
const OPCODE_BYTES = new Map<string, number>(
  Object.entries({
    1: "mov add sub and or xor cmp test lea inc dec neg not shl shr sar rol ror xchg div idiv mul movsxd adc sbb call jmp",
    2: "imul movzx movsx bsf bsr bt bts btr btc bswap shld shrd cmpxchg xadd",
    3: "popcnt lzcnt tzcnt vmread vmwrite",
  }).flatMap(([count, names]) => names.split(" ").map((name) => [name, Number(count)])),
);
/** Whole instructions, none of whose operands is in memory. */
const FIXED: Record<string, number> = Object.fromEntries(
  Object.entries({
    1: "ret clc stc cdq cli sti hlt cld std",
    2: "push pop ud2 cqo cpuid rdmsr wrmsr rdtsc in out pause",
    3: "xgetbv xsetbv lfence mfence sfence",
  }).flatMap(([count, names]) => names.split(" ").map((name) => [name, Number(count)])),
);
const SHIFTS = new Set(["shl", "shr", "sar", "rol", "ror", "shld", "shrd", "bt", "bts", "btr", "btc"]);
const WIDE = /\b(r\d+[dwb]?|r[abcd]x|r[sd]i|r[sb]p|[sd]il|[sb]pl|qword)\b/;
const WORD = /\b([abcd]x|[sd]i|[sb]p|r\d+w|word)\b/;

/** Bytes that the line assembles to, at most. */
export function atMost(line: string): number {
  const text = line.trim();
  if (text === "" || text.endsWith(":") || text.startsWith("%line") || text.startsWith("[section")) return 0;
  const [, op = "", rest = ""] = /^(\S+)\s*(.*)$/.exec(text) ?? [];
  if (op === "align") return Number(rest) - 1;
  if (op === "lock") return 1 + atMost(rest);
  const operands = rest.split(/,\s*/);
  if ((op === "call" || op === "jmp") && /[.]|^\w{5,}$/.test(rest) && !rest.includes("[")) return 5;
  if (/^j\w+$/.test(op) && op !== "jmp") return NEAR_JCC;
  if (FIXED[op] !== undefined && !rest.includes("[")) return FIXED[op] + (WORD.test(rest) ? 1 : 0);
  if (op === "mov" && /\b[cd]r\d/.test(rest)) return 4;
  const opcode = OPCODE_BYTES.get(op) ?? (/^(set|cmov)[a-z]+$/.test(op) ? 2 : undefined);
  if (opcode === undefined) return LONGEST;
  const prefixes = (WIDE.test(rest) ? 1 : 0) + (WORD.test(rest) ? 1 : 0);
  const known = prefixes + opcode + 1 + memoryBytes(rest) + immediateBytes(op, operands);
  return Math.min(known, LONGEST);
}

/** Address-size and segment prefix, SIB byte and displacement. */
function memoryBytes(rest: string): number {
  const inside = /\[(.*)\]/.exec(rest)?.[1];
  if (inside === undefined) return 0;
  if (/^(gs:)?rel /.test(inside)) return 5;
  const registers = inside.match(/\b(e[a-ds][xip]|r\w+)\b/g) ?? [];
  const prefixes = (inside.startsWith("gs:") ? 1 : 0) + (/^rsp|^$/.test(inside) ? 0 : 1);
  if (registers.length === 0) return prefixes + 5;
  const sib = registers.length > 1 || /\*|\b(rsp|esp|r12d?)\b/.test(inside) ? 1 : 0;
  return prefixes + sib + displacementBytes(inside, registers);
}

function displacementBytes(inside: string, registers: string[]): number {
  if (inside.includes("*") && registers.length === 1) return 4; // an index without a base
  const written = /([+-]\d+)$/.exec(inside)?.[1];
  if (written === undefined) return /\b([er]bp|r13d?)\b/.test(inside) ? 1 : 0;
  return Math.abs(Number(written)) < REACH ? 1 : 4;
}

function immediateBytes(op: string, operands: string[]): number {
  const last = operands[operands.length - 1] as string;
  if (operands.length < 2 || /^[a-z]|\[/.test(last)) return 0;
  if (SHIFTS.has(op)) return 1;
  const value = Number(last.startsWith("-0x") ? -Number(last.slice(1)) : last);
  if (!(value >= -(2 ** 31) && value < 2 ** 32)) return 8;
  if (/^([abcd][lh]|[sd]il|[sb]pl|r\d+b|byte\b.*)$/.test(operands[0] as string)) return 1;
  if (op === "mov" && /^(e\w\w|r\d+d)$/.test(operands[0] as string)) return 3; // four, and no ModRM byte
  return op !== "mov" && op !== "test" && Math.abs(value) < REACH ? 1 : 4;
}
