// Reads one .wast file through wast2json and turns it into groups of actions with expectations. A
// group is a run of modules that refer to each other; most groups are one module.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Action, Group } from "../native/actions.ts";
import {
  functionType,
  type GlobalType,
  globalType,
  type Import,
  importsOf,
  isInteger,
  Kind,
  readModule,
  ValType,
  type WasmModule,
  writeModule,
} from "../wasm/binary.ts";
import { internalize, type Shared } from "../wasm/internalize.ts";

interface WastValue {
  type: string;
  value?: string;
}
interface WastAction {
  type: "invoke" | "get";
  module?: string;
  field: string;
  args?: WastValue[];
}
interface WastCommand {
  type: string;
  line: number;
  name?: string;
  as?: string;
  filename?: string;
  module_type?: string;
  text?: string;
  action?: WastAction;
  expected?: WastValue[];
}

export type Expectation =
  | { type: "values"; values: bigint[] }
  /** The text that the suite expects of the trap. */
  | { type: "trap"; text: string }
  | { type: "exhaustion" }
  /** Only that it returns. */
  | { type: "done" };

/** An assertion: the outcome of action `action` of its group must meet `expectation`. */
export interface Check {
  file: string;
  line: number;
  action: number;
  expectation: Expectation;
}
export interface Skip {
  file: string;
  line: number;
  reason: string;
}
export interface SuiteGroup extends Group {
  file: string;
  line: number;
  checks: Check[];
}
export interface SuiteFile {
  groups: SuiteGroup[];
  skips: Skip[];
}

/** A module of the group under construction, or the reason why it is not there. */
type Placed = { group: SuiteGroup; index: number; module: WasmModule };
type Slot = Placed | { reason: string };

const parse = (value: WastValue): bigint => BigInt(value.value ?? "0");
const integer = (value: WastValue): boolean => value.type === "i32" || value.type === "i64";

/** Values of spectest's globals: 666, floats by their bits (666.6). */
function spectestGlobal(type: GlobalType): bigint {
  if (type.type === ValType.f32) return 0x4426a666n;
  if (type.type === ValType.f64) return 0x4084d4cccccccccdn;
  return 666n;
}

class Builder {
  readonly groups: SuiteGroup[] = [];
  readonly skips: Skip[] = [];
  /** The group of all modules of a file that links them. */
  private shared: SuiteGroup | null = null;
  private current: Slot = { reason: "no module before it" };
  private readonly named = new Map<string, Slot>();
  private readonly registered = new Map<string, Slot>();

  constructor(
    private readonly file: string,
    private readonly folder: string,
    /** With registered modules, all modules of the file stay in one group. */
    private readonly linked: boolean,
  ) {}

  command(command: WastCommand): void {
    switch (command.type) {
      case "module":
        this.current = this.module(command);
        if (command.name) this.named.set(command.name, this.current);
        return;
      case "register":
        this.registered.set(command.as ?? "", this.slot(command.name));
        return;
      case "action":
        this.act(command, { type: "done" });
        return;
      case "assert_return":
        this.act(command, { type: "values", values: [] });
        return;
      case "assert_trap":
        this.act(command, { type: "trap", text: command.text ?? "" });
        return;
      case "assert_exhaustion":
        this.act(command, { type: "exhaustion" });
        return;
      case "assert_uninstantiable":
        this.uninstantiable(command);
        return;
      case "assert_invalid":
      case "assert_malformed":
        this.skip(command, "validation is not the compiler's: asc and Binaryen emit valid modules");
        return;
      case "assert_unlinkable":
        this.skip(command, "linking of Wasm modules is not the compiler's");
        return;
      default:
        this.skip(command, command.type);
        return;
    }
  }

  private skip(command: WastCommand, reason: string): void {
    this.skips.push({ file: this.file, line: command.line, reason });
  }

  private slot(name: string | undefined): Slot {
    return name === undefined ? this.current : (this.named.get(name) ?? { reason: `no module ${name}` });
  }

  private module(command: WastCommand, alone = !this.linked): Slot {
    const original = readModule(readFileSync(join(this.folder, command.filename ?? "")));
    const module = internalize(original, (item, type) => this.globalValue(item, type));
    if ("owner" in module) return this.taint(module);
    const fresh = this.shared === null || alone;
    const group: SuiteGroup = fresh
      ? { file: this.file, line: command.line, modules: [], actions: [], checks: [] }
      : (this.shared as SuiteGroup);
    const index = group.modules.length;
    const links = this.imports(module, index, group);
    if (typeof links === "string") return { reason: links };
    group.modules.push(writeModule(module));
    group.actions.push(...links, { type: "open", module: index });
    if (fresh) this.groups.push(group);
    if (!alone) this.shared = group;
    return { group, index, module };
  }

  /** A module that shares another's table, memory or mutable global is left out; so is what follows on the other. */
  private taint(shared: Shared): Slot {
    const reason = { reason: `modules that share a ${shared.what}: one object is one instance here` };
    const owner = this.registered.get(shared.owner);
    for (const slots of [this.named, this.registered])
      for (const [name, slot] of slots) if (slot === owner) slots.set(name, reason);
    return reason;
  }

  private globalValue(item: Import, type: GlobalType): bigint | null {
    if (item.module === "spectest") return spectestGlobal(type);
    const slot = this.registered.get(item.module);
    if (!slot || "reason" in slot) return null;
    const exported = slot.module.exports.find((e) => e.kind === Kind.global && e.name === item.name);
    if (!exported) return null;
    const init = slot.module.globals[exported.index]?.init;
    return init ? constantValue(init) : null;
  }

  /** Actions that resolve the module's function imports, or the reason why they cannot be resolved. */
  private imports(module: WasmModule, index: number, group: SuiteGroup): Action[] | string {
    const actions: Action[] = [];
    for (const [i, item] of importsOf(module, Kind.func).entries()) {
      const slot = this.registered.get(item.module);
      if (item.module === "spectest") actions.push({ type: "host", module: index, index: i, host: "nothing" });
      else if (!slot) return `no module registered as ${item.module}`;
      else if ("reason" in slot) return slot.reason;
      else if (slot.group !== group) return `imports from ${item.module}, which is not in its process`;
      else actions.push({ type: "link", module: index, index: i, from: slot.index, name: item.name });
    }
    return actions;
  }

  private uninstantiable(command: WastCommand): void {
    const slot = this.module(command, true);
    if ("reason" in slot) {
      this.skip(command, slot.reason);
      return;
    }
    this.expect(command, slot.group, { type: "trap", text: command.text ?? "" });
  }

  /** The last action of `group` must meet `expectation`. */
  private expect(command: WastCommand, group: SuiteGroup, expectation: Expectation): void {
    group.checks.push({ file: this.file, line: command.line, action: group.actions.length - 1, expectation });
  }

  private act(command: WastCommand, expectation: Expectation): void {
    const action = command.action as WastAction;
    const slot = this.slot(action.module);
    if ("reason" in slot) {
      this.skip(command, slot.reason);
      return;
    }
    const expected = expectation.type === "values" ? (command.expected ?? []) : [];
    if (![...(action.args ?? []), ...expected].every(integer)) {
      this.skip(command, "floating-point values");
      return;
    }
    const made = this.action(action, slot);
    if (typeof made === "string") {
      this.skip(command, made);
      return;
    }
    slot.group.actions.push(made);
    const values = expected.map(parse);
    this.expect(command, slot.group, expectation.type === "values" ? { type: "values", values } : expectation);
  }

  private action(action: WastAction, slot: Placed): Action | string {
    const exported = slot.module.exports.find((e) => e.name === action.field);
    if (!exported) return `no export ${action.field}`;
    if (action.type === "get") {
      const { type } = globalType(slot.module, exported.index);
      if (!isInteger(type)) return "floating-point values";
      return { type: "global", module: slot.index, name: action.field, valtype: type };
    }
    const type = functionType(slot.module, exported.index);
    if (![...type.params, ...type.results].every(isInteger)) return "floating-point values";
    const args = (action.args ?? []).map(parse);
    return { type: "call", module: slot.index, name: action.field, args, params: type.params, results: type.results };
  }
}

/** Value of an i32.const or i64.const expression as an unsigned number; null for anything else. */
function constantValue(init: Uint8Array): bigint | null {
  const bits = init[0] === 0x41 ? 32 : init[0] === 0x42 ? 64 : 0;
  if (bits === 0) return null;
  let value = 0n;
  let shift = 0n;
  for (let i = 1; ; i++) {
    value |= BigInt(init[i] & 0x7f) << shift;
    shift += 7n;
    if (init[i] & 0x80) continue;
    if (init[i] & 0x40) value -= 1n << shift;
    return BigInt.asUintN(bits, value);
  }
}

/** Fails when wast2json does not accept the file. */
export function readWast(path: string): SuiteFile {
  const folder = mkdtempSync(join(tmpdir(), "basalt-wast-"));
  try {
    const json = join(folder, "script.json");
    execFileSync("wast2json", [path, "-o", json], { stdio: ["ignore", "ignore", "pipe"] });
    const { commands } = JSON.parse(readFileSync(json, "utf8")) as { commands: WastCommand[] };
    const builder = new Builder(
      basename(path),
      folder,
      commands.some((command) => command.type === "register"),
    );
    for (const command of commands) builder.command(command);
    return builder;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
