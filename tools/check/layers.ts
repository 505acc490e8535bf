/**
 * Who may use whom, as data: the order of the layers, and which of them may reach which intrinsics.
 * Imports are read from the sources; intrinsics from the Wasm, in which nothing is inlined yet, by the name of the calling
 * function, which tells its file.
 */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { compileKernelSources } from "../compiler/asc.ts";
import type { Module, Value } from "../compiler/ir.ts";
import { readModule } from "../compiler/read.ts";
import { ROOT } from "../paths.ts";

/**
 * From the lowest to the highest. Layers in one row do not know each other. Paths are files or folders; the longest
 * that fits a file decides.
 */
export const LAYERS: { name: string; paths: string[] }[][] = [
  [{ name: "insn", paths: ["kernel/cpu/insn.ts", "kernel/config.ts"] }],
  [{ name: "lib", paths: ["kernel/lib"] }],
  [{ name: "cpu", paths: ["kernel/cpu"] }],
  [{ name: "mm", paths: ["kernel/mm"] }],
  [
    { name: "vcpu", paths: ["kernel/vcpu"] },
    { name: "drivers", paths: ["drivers"] },
  ],
  [{ name: "vmx", paths: ["kernel/vmx"] }],
  [{ name: "vendor.ts", paths: ["kernel/vendor.ts"] }],
  [{ name: "virq", paths: ["kernel/virq"] }],
  [{ name: "vdev", paths: ["kernel/vdev"] }],
  [{ name: "exit", paths: ["kernel/exit"] }],
  [{ name: "vm", paths: ["kernel/vm"] }],
  [
    { name: "guest", paths: ["kernel/guest"] },
    { name: "monitor", paths: ["kernel/monitor"] },
  ],
  [{ name: "boot", paths: ["kernel/boot"] }],
  [{ name: "main.ts", paths: ["kernel/main.ts", "kernel/abi.ts"] }],
];

/** Which files may use which intrinsics. What is not named may be used by nobody. */
export const INTRINSIC_USERS: { intrinsics: RegExp; paths: string[] }[] = [
  // Windows. Loaders write the memory of the guest that they build; the clock writes its page in the current one.
  { intrinsics: /^table/, paths: ["kernel/mm/phys.ts"] },
  { intrinsics: /^guest/, paths: ["kernel/mm/guestmem.ts", "kernel/guest", "kernel/vdev/kvmclock.ts"] },
  { intrinsics: /^device/, paths: ["drivers", "kernel/cpu/apic.ts", "kernel/guest/image.ts"] },
  { intrinsics: /^image/, paths: ["kernel/cpu", "kernel/mm/hostmap.ts", "kernel/boot", "kernel/vmx/vmcs.ts"] },
  // The machine.
  { intrinsics: /^(in|out)(8|16|32)$/, paths: ["drivers"] },
  { intrinsics: /^cpuid$/, paths: ["kernel/cpu", "kernel/exit", "kernel/vmx"] },
  {
    intrinsics: /^(rdmsr|wrmsr)(Safe)?$/,
    paths: ["kernel/cpu", "kernel/mm", "kernel/vmx", "kernel/exit"],
  },
  { intrinsics: /^(readDr\d|writeDr\d|xgetbv|xsetbv)$/, paths: ["kernel/cpu", "kernel/vmx"] },
  { intrinsics: /^(read|write)Cr[024]$/, paths: ["kernel/cpu", "kernel/mm/shootdown.ts", "kernel/vmx"] },
  {
    intrinsics: /^(read|write)Cr3$/,
    paths: ["kernel/mm/hostmap.ts", "kernel/vm/run.ts", "kernel/cpu/trap.ts"],
  },
  { intrinsics: /^(invlpg|wbinvd|clflush)$/, paths: ["kernel/mm"] },
  { intrinsics: /^(loadDescriptors|unwind|injectFault)$/, paths: ["kernel/mm/descriptor.ts", "drivers/fault.ts"] },
  { intrinsics: /^(vm(x|c|p|r|w|e)|inv(ept|vpid))/, paths: ["kernel/vmx"] },
  { intrinsics: /^(f?xsave|xsavec|f?xrstor|clts)$/, paths: ["kernel/vmx"] },
  { intrinsics: /^(raiseNmi|raiseMachineCheck)$/, paths: ["kernel/exit/exception.ts"] },
  {
    intrinsics: /^(cli|sti|idle|hlt|halt|takeInterrupts|readFlags)$/,
    paths: ["drivers", "kernel/boot"],
  },
  // Harmless anywhere.
  {
    intrinsics: /^(cpuBlock|rdtsc|rdtscOrdered|rdrand|pause|barrier|[mls]fence|umulh|udiv128)$/,
    paths: ["kernel", "drivers"],
  },
];

interface Layer {
  name: string;
  row: number;
}

function isBelow(file: string, path: string): boolean {
  return file === path || file.startsWith(`${path}/`);
}

/** The layer of a source file; null if the table has none. */
export function layerOf(file: string): Layer | null {
  let best: { layer: Layer; bytes: number } | null = null;
  LAYERS.forEach((row, index) => {
    for (const { name, paths } of row)
      for (const path of paths)
        if (isBelow(file, path) && path.length > (best?.bytes ?? 0))
          best = { layer: { name, row: index }, bytes: path.length };
  });
  return (best as { layer: Layer } | null)?.layer ?? null;
}

/** Whether a file of layer `from` may import one of layer `to`. */
export function mayImport(from: Layer, to: Layer): boolean {
  return from.name === to.name || to.row < from.row;
}

export interface Source {
  file: string;
  text: string;
}

const IMPORT = /^\s*(?:import|export)\b[^;]*?\bfrom\s+"(\.[^"]+)"/gm;

/** One line for each import that climbs, and for each file that has no layer. */
export function checkImports(sources: Source[]): string[] {
  const complaints: string[] = [];
  for (const { file, text } of sources) {
    const from = layerOf(file);
    if (!from) {
      complaints.push(`${file}: belongs to no layer`);
      continue;
    }
    for (const match of text.matchAll(IMPORT)) {
      const target = `${normalize(join(dirname(file), match[1] as string)).replace(/\.ts$/, "")}.ts`;
      const to = layerOf(target);
      if (to && mayImport(from, to)) continue;
      const line = text.slice(0, match.index).split("\n").length;
      complaints.push(`${file}:${line}: ${from.name} may not import ${to?.name ?? "nothing known"} (${target})`);
    }
  }
  return complaints;
}

export interface IntrinsicUse {
  name: string;
  func: string;
  file: string;
  line: number;
}

/** Every call of an intrinsic in the module. */
export function intrinsicUses(module: Module): IntrinsicUse[] {
  const uses: IntrinsicUse[] = [];
  for (const func of module.funcs)
    for (const block of func.blocks)
      for (const value of block.body) if (value.op === "intrinsic") uses.push(useOf(module, func.name, value));
  return uses;
}

/** kernel/mm/phys/readEntry and kernel/mm/phys/Class#method lie in kernel/mm/phys.ts. */
function useOf(module: Module, func: string, { name, loc }: Value): IntrinsicUse {
  const file = loc ? (module.files[loc.file] as string) : `${func.split("/").slice(0, -1).join("/")}.ts`;
  return { name: name ?? "?", func, file: normalize(file), line: loc?.line ?? 0 };
}

/** One line for each use of an intrinsic by a file that may not. */
export function checkIntrinsics(uses: IntrinsicUse[]): string[] {
  const complaints = uses
    .filter(
      ({ name, file }) =>
        !INTRINSIC_USERS.some(({ intrinsics, paths }) => intrinsics.test(name) && paths.some((p) => isBelow(file, p))),
    )
    .map(({ name, func, file, line }) => `${file}:${line}: ${func} may not use ${name}`);
  return [...new Set(complaints)];
}

/** The order, as the README shows it. */
export function diagram(): string {
  const rows = LAYERS.map((row) => row.map((layer) => layer.name).join(" | "));
  const lines: string[] = [];
  for (const row of rows) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + row.length < 90) lines[lines.length - 1] = `${last} -> ${row}`;
    else lines.push(last === undefined ? row : `    -> ${row}`);
  }
  return `${lines.join("\n")}\n`;
}

export function readSources(): Source[] {
  return ["kernel", "drivers"].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .sort()
      .map((name) => ({ file: `${folder}/${name}`, text: readFileSync(join(ROOT, folder, name), "utf8") })),
  );
}

/** The Wasm as the compiler reads it. */
export async function readKernel(): Promise<Module> {
  const { wasm, sourceMap, errors } = await compileKernelSources(ROOT);
  if (!wasm) throw new Error(errors.map((e) => e.message).join("\n"));
  return readModule(wasm, sourceMap, { hosted: false });
}

/** `basalt layers`: complaints, or the diagram. Returns the exit code. */
export async function runLayerCheck(): Promise<number> {
  const complaints = [...checkImports(readSources()), ...checkIntrinsics(intrinsicUses(await readKernel()))];
  for (const complaint of complaints) console.error(complaint);
  if (complaints.length === 0) console.log(diagram());
  return complaints.length ? 1 : 0;
}
