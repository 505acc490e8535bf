// An executor without the back end: the optimised SSA, interpreted. Finds what the passes break.

import { CompileError } from "../../../tools/compiler/diagnostic.ts";
import { evaluate } from "../../../tools/compiler/fold.ts";
import { Interpreter, OutOfSteps, Trap } from "../../../tools/compiler/interpret.ts";
import type { Module } from "../../../tools/compiler/ir.ts";
import { type OptimizeOptions, optimize } from "../../../tools/compiler/pipeline.ts";
import { readModule } from "../../../tools/compiler/read.ts";
import type { Action, Executor, Group, Outcome } from "./actions.ts";
import { hashMemory } from "./oracle.ts";

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

function hostCall(module: string, name: string, args: bigint[]): bigint {
  if (module !== "insn") {
    const x = u64((args[1] ^ args[0]) * 0x9e3779b97f4a7c15n);
    return x ^ (x >> 29n);
  }
  if (name === "umulh") return evaluate("mulh_u", "i64", "i64", args) as bigint;
  if (name === "udiv128") return u64(((args[0] << 64n) | args[1]) / args[2]);
  return 0n;
}

class InterpretedGroup {
  private readonly modules: Module[];
  private readonly instances: Interpreter[] = [];

  constructor(group: Group, options: OptimizeOptions | null) {
    this.modules = group.modules.map((bytes) => {
      const module = readModule(bytes, undefined, { hosted: true, trapUnsupported: true });
      if (options !== null) optimize(module, options);
      return module;
    });
  }

  perform(action: Action): Outcome {
    try {
      return { status: "ok", values: this.attempt(action) };
    } catch (error) {
      if (error instanceof Trap) return { status: "trap", kind: error.kind };
      if (error instanceof OutOfSteps) return { status: "broken", message: "ran out of time" };
      return { status: "broken", message: `${(error as Error).stack}` };
    }
  }

  private attempt(action: Action): bigint[] {
    const module = this.modules[action.module];
    const instance = this.instances[action.module];
    switch (action.type) {
      case "open":
        this.instances[action.module] = new Interpreter(module, { call: hostCall }, 10_000_000);
        if (module.start !== null) this.instances[action.module].callIndex(module.start, []);
        return [];
      case "call":
        return instance.callExport(action.name, action.args);
      case "hash":
        return [hashMemory(instance.memory.buffer, action.from)];
      case "global":
        return [instance.globals[module.globals.findIndex((g) => g.exports.includes(action.name))]];
      default:
        return [];
    }
  }
}

function refused(group: Group, error: unknown): Outcome[] {
  const message = error instanceof CompileError ? error.message : `${(error as Error).stack}`;
  return group.actions.map(() => ({ status: "refused", message }));
}

/** options: null runs the SSA as it was built. */
export function interpreted(options: OptimizeOptions | null): Executor {
  return {
    async run(groups) {
      return groups.map((group) => {
        try {
          const state = new InterpretedGroup(group, options);
          return group.actions.map((action) => state.perform(action));
        } catch (error) {
          return refused(group, error);
        }
      });
    },
  };
}
