// The compiler's front half as an executor: Wasm is read to SSA, optimised, and interpreted. What fails
// here is not the back end's.

import { Interpreter, OutOfSteps, Trap } from "../../../tools/compiler/interpret.ts";
import type { Module } from "../../../tools/compiler/ir.ts";
import { optimize } from "../../../tools/compiler/pipeline.ts";
import { readModule } from "../../../tools/compiler/read.ts";
import { verifyModule } from "../../../tools/compiler/verify.ts";
import { importsOf, Kind, readModule as readBinary } from "../wasm/binary.ts";
import type { Action, Executor, Group, Outcome } from "./actions.ts";
import { hashMemory, hostCall } from "./oracle.ts";

class InterpretedGroup {
  private readonly modules: Module[];
  private readonly machines: Interpreter[] = [];
  /** `module.name` of an import of module n, to the action that resolved it. */
  private readonly links = new Map<string, Action>();
  constructor(
    private readonly group: Group,
    optimised: boolean,
  ) {
    this.modules = group.modules.map((wasm) => {
      const module = readModule(wasm, undefined, { hosted: true, trapUnsupported: true });
      verifyModule(module);
      if (optimised) optimize(module, { verify: true });
      return module;
    });
  }

  perform(action: Action): Outcome {
    try {
      return { status: "ok", values: this.attempt(action) };
    } catch (error) {
      if (error instanceof Trap) return { status: "trap", kind: error.kind };
      if (error instanceof OutOfSteps) return { status: "broken", message: "ran out of steps" };
      if (error instanceof RangeError) return { status: "trap", kind: 7 };
      return { status: "broken", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
  }

  private attempt(action: Action): bigint[] {
    const machine = this.machines[action.module];
    const module = this.modules[action.module];
    switch (action.type) {
      case "open":
        this.open(action.module);
        return [];
      case "call":
        return machine.callExport(action.name, action.args);
      case "hash":
        return [hashMemory(machine.memory.buffer, action.from)];
      case "global":
        return [machine.globals[module.globals.findIndex((g) => g.exports.includes(action.name))]];
      case "host":
      case "link": {
        const imports = importsOf(readBinary(this.group.modules[action.module]), Kind.func);
        const item = imports.filter((i) => i.module !== "insn")[action.index];
        this.links.set(`${action.module} ${item.module} ${item.name}`, action);
        return [];
      }
      case "close":
        return [];
    }
  }

  private open(index: number): void {
    const module = this.modules[index];
    const call = (from: string, name: string, args: bigint[]): bigint => {
      const link = this.links.get(`${index} ${from} ${name}`);
      if (link?.type === "link") return this.machines[link.from].callExport(link.name, args)[0] ?? 0n;
      if (link?.type === "host" && link.host === "poke") {
        const address = Number(args[0] & ~7n);
        if (address < 0x2_0000) new DataView(this.machines[index].memory.buffer).setBigUint64(address, args[1], true);
        return 0n;
      }
      return hostCall(from === "insn" ? name : link?.type === "host" ? link.host : "nothing", args);
    };
    const bytes = (module.memoryPages?.initial ?? 0) * 65536;
    for (const { address, bytes: data } of module.data)
      if (address !== null && address + data.length > bytes) throw new Trap(3);
    this.machines[index] = new Interpreter(module, { call }, 20_000_000);
    if (module.start !== null) this.machines[index].callIndex(module.start, []);
  }
}

export function interpreted(optimised: boolean): Executor {
  return {
    async run(groups) {
      return groups.map((group) => {
        try {
          const state = new InterpretedGroup(group, optimised);
          return group.actions.map((action) => state.perform(action));
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          return group.actions.map(() => ({ status: "refused", message }));
        }
      });
    },
  };
}
