/**
 * What makes a module an object for a Linux process: System V entries for exports, adapters for
 * imports, and the descriptor that hosted/basalt.h describes.
 */

import { type Module, type Signature, TrapKind } from "../ir.ts";
import { ARGUMENT_REGISTERS, PRESERVED, places, SYSTEM_V_ARGUMENTS, SYSTEM_V_CLOBBERS } from "./abi.ts";
import { bytesText, type EmitOptions, type Emitted, signatureOf } from "./emit.ts";
import { Labels, symbolOf } from "./labels.ts";
import { sitesInOrder } from "./metal.ts";
import { members, type Reg, type RegSet, registerName } from "./registers.ts";

export interface HostedParts {
  text: string[];
  data: string[];
}

interface Entry {
  symbol: string;
  target: string;
  signature: Signature;
  clobbers: RegSet;
}

/** Lines that come after the functions, and the descriptor's sections. */
export function hostedParts(module: Module, compiled: Emitted[], options: EmitOptions): HostedParts {
  const writer = new HostedWriter(module, compiled, options);
  return { text: writer.text(), data: writer.data() };
}

class HostedWriter {
  private readonly labels: Labels;
  private readonly prefix: string;
  private readonly strings = new Map<string, string>();

  constructor(
    private readonly module: Module,
    private readonly compiled: Emitted[],
    private readonly options: EmitOptions,
  ) {
    this.labels = new Labels(module);
    this.prefix = options.prefix ?? "";
  }

  private hostImports() {
    return this.module.imports.filter((i) => i.module !== "insn");
  }

  // ---- Code

  text(): string[] {
    const lines: string[] = [];
    for (const entry of this.entries())
      lines.push("align 16", `global ${entry.symbol}`, `${entry.symbol}:`, ...this.entry(entry));
    for (const item of this.hostImports())
      lines.push("align 16", `basalt_import_${item.index}:`, ...this.adapter(item.index, item.signature));
    return lines.map((line) => (/^(global|align|[^ ]+:)/.test(line) ? line : `  ${line}`));
  }

  private entries(): Entry[] {
    const clobbers = new Map(this.compiled.map((e) => [e.func.index, e.machine.clobbers]));
    const list: Entry[] = [];
    const add = (symbol: string, index: number): void => {
      const imported = this.module.imports[index];
      list.push({
        symbol,
        target: imported ? `basalt_import_${index}` : this.labels.of(index),
        signature: signatureOf(this.module, index),
        clobbers: clobbers.get(index) ?? SYSTEM_V_CLOBBERS,
      });
    };
    for (const f of [...this.module.imports, ...this.module.funcs])
      for (const name of f.exports) add(this.prefix + symbolOf(name), f.index);
    if (this.module.start !== null) add(`${this.prefix}basalt_start`, this.module.start);
    return list;
  }

  private loadGs(register: string): string[] {
    return this.options.window === "gs" ? [`mov ${register}, [rel basalt_memory_base]`, `wrgsbase ${register}`] : [];
  }

  /** System V -> the module's convention. */
  private entry({ target, signature, clobbers }: Entry): string[] {
    const { params, results } = signature;
    const hidden = results.length > 1;
    const saved = members(clobbers & PRESERVED);
    const internal = places(signature);
    const pushed = saved.length + (hidden ? 1 : 0);
    const room = internal.stackBytes + ((internal.stackBytes + pushed * 8 + 8) % 16);
    const lines = saved.map((r) => `push ${name(r)}`);
    if (hidden) lines.push("push rdi");
    if (room > 0) lines.push(`sub rsp, ${room}`);
    const incoming = room + pushed * 8 + 8;
    params.forEach((type, i) => {
      const at = i + (hidden ? 1 : 0);
      const size = type === "i32" ? 4 : 8;
      const source = at < 6 ? registerName(SYSTEM_V_ARGUMENTS[at] as Reg, size) : `[rsp+${incoming + (at - 6) * 8}]`;
      const place = internal.arguments[i] as { reg: Reg } | { stack: number };
      if ("reg" in place) {
        const to = registerName(place.reg, size);
        if (to !== source || size === 4) lines.push(`mov ${to}, ${source}`);
      } else lines.push(`mov ${size === 4 ? "eax" : "rax"}, ${source}`, `mov [rsp+${place.stack}], rax`);
    });
    lines.push(...this.loadGs("rax"), `call ${target}`);
    if (hidden) {
      lines.push(`mov r11, [rsp+${room}]`);
      internal.results.forEach((place, i) => {
        if ("reg" in place) lines.push(`mov [r11+${i * 8}], ${name(place.reg)}`);
        else lines.push(`mov rax, [rsp+${place.stack}]`, `mov [r11+${i * 8}], rax`);
      });
    }
    const drop = room + (hidden ? 8 : 0);
    if (drop > 0) lines.push(`add rsp, ${drop}`);
    return [...lines, ...saved.reverse().map((r) => `pop ${name(r)}`), "ret"];
  }

  /** The module's convention -> a System V function behind a slot. */
  private adapter(index: number, signature: Signature): string[] {
    if (signature.unsupported) return [`basalt_import_${index}.null:`, "ud2"];
    const { results } = signature;
    const hidden = results.length > 1;
    const internal = places(signature);
    const shift = hidden ? 1 : 0;
    const count = signature.params.length + shift;
    const stackArguments = Math.max(0, count - 6) * 8;
    const buffer = hidden ? results.length * 8 : 0;
    const room = stackArguments + buffer + ((stackArguments + buffer + 8) % 16);
    const lines = [
      `mov rax, [rel basalt_slot_${index}]`,
      "test rax, rax",
      `jz basalt_import_${index}.null`,
      `sub rsp, ${room}`,
    ];
    const source = (i: number): string => {
      const place = internal.arguments[i] as { reg: Reg } | { stack: number };
      return "reg" in place ? name(place.reg) : `[rsp+${room + 8 + place.stack}]`;
    };
    // Those for the stack first; R11 is free once it was stored.
    const order = signature.params.map((_, i) => i).filter((i) => i + shift >= 6);
    for (const i of order) {
      const to = `[rsp+${(i + shift - 6) * 8}]`;
      const from = source(i);
      if (from.startsWith("[")) lines.push(`mov r11, ${from}`, `mov ${to}, r11`);
      else lines.push(`mov ${to}, ${from}`);
    }
    if (hidden) {
      for (let i = Math.min(signature.params.length, 5) - 1; i >= 0; i--)
        lines.push(`mov ${name(SYSTEM_V_ARGUMENTS[i + 1] as Reg)}, ${name(ARGUMENT_REGISTERS[i] as Reg)}`);
      lines.push(`lea rdi, [rsp+${stackArguments}]`);
    }
    lines.push("call rax", ...this.loadGs("r11"));
    lines.push(...this.adapterResults(signature, room, stackArguments));
    return [...lines, `add rsp, ${room}`, "ret", `basalt_import_${index}.null:`, "ud2"];
  }

  private adapterResults(signature: Signature, room: number, buffer: number): string[] {
    const { results } = signature;
    if (results.length === 0) return [];
    if (results.length === 1) return results[0] === "i32" ? ["mov eax, eax"] : [];
    const internal = places(signature);
    const lines: string[] = [];
    // RAX last: it carries what goes to the stack.
    [...results.keys()].reverse().forEach((i) => {
      const type = results[i];
      const place = internal.results[i] as { reg: Reg } | { stack: number };
      const size = type === "i32" ? 4 : 8;
      const target = "reg" in place ? place.reg : 0;
      lines.push(`mov ${registerName(target, size)}, [rsp+${buffer + i * 8}]`);
      if ("stack" in place) lines.push(`mov [rsp+${room + 8 + place.stack}], rax`);
    });
    return lines;
  }

  // ---- The descriptor

  private string(text: string): string {
    let label = this.strings.get(text);
    if (!label) {
      label = `basalt_string_${this.strings.size}`;
      this.strings.set(text, label);
    }
    return label;
  }

  data(): string[] {
    const tables = [...this.exports(), ...this.imports(), ...this.segments(), ...this.sites(), ...this.descriptor()];
    const strings = [...this.strings].flatMap(([text, label]) => [
      `${label}:`,
      ...bytesText(Buffer.from(`${text}\0`, "utf8")),
    ]);
    return [
      "[section .data]",
      ...this.hostImports().map((i) => `basalt_slot_${i.index}: dq 0`),
      "section .data.rel.ro progbits alloc noexec write align=8",
      "align 8",
      ...tables,
      "[section .rodata]",
      "align 8",
      "basalt_data_initial:",
      ...this.initialData(),
      ...strings,
    ];
  }

  private exports(): string[] {
    const rows: string[] = [];
    const row = (exported: string, kind: number, address: string, signature: string): void => {
      const name = this.string(exported);
      rows.push(`  dq ${name}, ${Buffer.byteLength(exported)}, ${kind}, ${address}, ${this.string(signature)}`);
    };
    for (const f of this.module.imports)
      for (const n of f.exports) row(n, 0, this.prefix + symbolOf(n), signatureText(f.signature));
    for (const f of this.module.funcs)
      for (const n of f.exports) row(n, 0, this.prefix + symbolOf(n), signatureText(f));
    for (const n of this.module.tableExports) row(n, 1, "0", "");
    for (const n of this.module.memoryExports) row(n, 2, "0", "");
    for (const g of this.module.globals)
      for (const n of g.exports) row(n, 3, `basalt_global_${g.index}`, g.type === "i32" ? "i" : "I");
    this.exportCount = rows.length;
    return ["basalt_exports:", ...rows];
  }
  private exportCount = 0;

  private imports(): string[] {
    return [
      "basalt_imports:",
      ...this.hostImports().map(
        (i) =>
          `  dq ${this.string(i.module)}, ${this.string(i.name)}, basalt_slot_${i.index}, ${this.string(signatureText(i.signature))}`,
      ),
    ];
  }

  private segments(): string[] {
    return [
      "basalt_segments:",
      ...this.module.data.map(
        (d, i) => `  dq ${d.address === null ? "-1" : d.address}, basalt_segment_${i}_bytes, ${d.bytes.length}`,
      ),
    ];
  }

  private siteCount = 0;
  private sites(): string[] {
    const rows = sitesInOrder(this.compiled, false).map((s) => this.siteRow(s.func, s));
    for (const item of this.hostImports()) {
      rows.push(
        `  dq basalt_import_${item.index}.null, ${TrapKind.UNSUPPORTED}, ${this.string(`${item.module}.${item.name}`)}, 0, 0, 0`,
      );
    }
    rows.push(...sitesInOrder(this.compiled, true).map((s) => this.siteRow(s.func, s)));
    this.siteCount = rows.length;
    return ["basalt_sites:", ...rows];
  }

  private siteRow(
    func: string,
    site: { label: string; kind: number; divisor: number; loc: { file: number; line: number } | null },
  ): string {
    const file = site.loc ? this.string(this.module.files[site.loc.file] ?? "?") : "0";
    return `  dq ${site.label}, ${site.kind}, ${this.string(func)}, ${file}, ${site.loc?.line ?? 0}, ${site.divisor}`;
  }

  private descriptor(): string[] {
    const { module } = this;
    const pages = module.memoryPages?.initial ?? 0;
    return [
      `global ${this.prefix}module`,
      `${this.prefix}module:`,
      `  dq ${this.options.window === "gs" ? 1 : 0}, ${pages}, ${module.memoryPages ? 1 : 0}, basalt_memory_base`,
      `  dq ${this.exportCount}, basalt_exports, ${this.hostImports().length}, basalt_imports`,
      `  dq ${module.data.length}, basalt_segments, ${this.siteCount}, basalt_sites`,
      "  dq basalt_data, basalt_data_initial, basalt_data_end - basalt_data",
      `  dq ${module.start === null ? "0" : `${this.prefix}basalt_start`}`,
    ];
  }

  /** The same cells as basalt_data in emit.ts. */
  private initialData(): string[] {
    const { module } = this;
    return [
      ...module.globals.map((g) => `  dq 0x${g.init.toString(16)}`),
      ...module.data.map((d) => `  dq ${d.address === null ? d.bytes.length : 0}`),
      "  dq 0",
    ];
  }
}

function name(r: Reg): string {
  return registerName(r, 8);
}

/** "iI:I" is (i32, i64) -> i64. */
function signatureText({ params, results }: Pick<Signature, "params" | "results">): string {
  const letters = (list: string[]): string => list.map((t) => (t === "i32" ? "i" : "I")).join("");
  return `${letters(params)}:${letters(results)}`;
}
