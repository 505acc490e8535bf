/** NASM labels from Wasm names: `kernel/exit/cpuid/onCpuid` is `kernel.exit.cpuid.onCpuid`. */

import type { Module } from "../ir.ts";

export class Labels {
  private readonly byIndex = new Map<number, string>();

  constructor(module: Module) {
    const taken = new Set<string>(module.funcs.flatMap((f) => f.exports));
    for (const func of module.funcs) {
      const clean = func.name.replace(/[^A-Za-z0-9_.]/g, ".").replace(/\.\.+/g, ".");
      // A dot inside keeps it apart from registers, mnemonics and exports.
      let label = /^[A-Za-z_].*\../.test(clean) ? clean : `wasm.${clean.replace(/^\./, "")}`;
      if (taken.has(label) || label.endsWith(".")) label = `${label}.${func.index}`;
      taken.add(label);
      this.byIndex.set(func.index, label);
    }
  }

  of(index: number): string {
    return this.byIndex.get(index) ?? `wasm.missing${index}`;
  }
}

/** A symbol of C: other bytes than letters, digits and _ as _ and two hexadecimal digits. */
export function symbolOf(name: string): string {
  return [...Buffer.from(name, "utf8")]
    .map((c) =>
      /[A-Za-z0-9_]/.test(String.fromCharCode(c)) ? String.fromCharCode(c) : `_${c.toString(16).padStart(2, "0")}`,
    )
    .join("");
}
