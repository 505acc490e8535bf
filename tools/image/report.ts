/** `basalt report`: what the built image consists of. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ExitPathReport } from "../check/exitpath.ts";
import { buildFolder, elfPath, mapPath, type Profile } from "../paths.ts";
import { readConstants } from "./abi.ts";
import type { CoreReport } from "./core.ts";
import { Elf, SHF_ALLOC, SHT_NOBITS } from "./elf.ts";
import { stackUses } from "./stack.ts";
import type { SymbolMap } from "./symbolmap.ts";

type Row = (string | number)[];

/** Columns as wide as their widest cell; numbers to the right. */
function table(title: string, header: string[], rows: Row[]): string {
  const cells = [header, ...rows.map((row) => row.map((c) => (typeof c === "number" ? c.toLocaleString("en-US") : c)))];
  const widths = header.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? "").length)));
  const isNumber = header.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"));
  const line = (row: string[]): string =>
    row
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return `${title}\n${cells.map((row) => `  ${line(row)}`).join("\n")}\n`;
}

function sections(elf: Elf): Row[] {
  return elf.sections
    .filter((s) => s.flags & SHF_ALLOC)
    .map((s) => [s.name, s.bytes, s.type === SHT_NOBITS ? 0 : s.bytes]);
}

/** Bytes of code by the folder of the source line that each came from: inlined code counts where it was written. */
export function bytesByFolder(map: SymbolMap): Map<string, number> {
  const { starts, files } = map.lines;
  const bytes = new Map<string, number>();
  starts.forEach((start, i) => {
    const file = files[i] as number;
    const folder = file < 0 ? "(padding)" : (map.files[file] as string).split("/").slice(0, -1).join("/") || ".";
    bytes.set(folder, (bytes.get(folder) ?? 0) + ((starts[i + 1] ?? map.textEnd) - start));
  });
  return bytes;
}

/** What the compiler proved of the way from a VM exit to the resume, and on what it rests. */
function exitPath({ functions, calls, indirectCalls, findings, declared, exceptions }: ExitPathReport): string[] {
  const count = (rule: string): number => findings.filter((f) => f.rule === rule).length;
  const rules = ["allocation", "shared lock", "vector state", "interrupts on", "undeclared wait"];
  return [
    table(
      `From exit to resume: ${functions} functions, ${calls} calls (${indirectCalls} through the table)`,
      ["rule", "broken"],
      rules.map((rule): Row => [rule, count(rule)]),
    ),
    ...findings.map((f) => `  ${f.rule}: ${f.what}\n    ${f.path.join("\n    -> ")}\n`),
    table(
      "Own locks and loops on it that others decide",
      ["function", "declared"],
      declared.map((d): Row => [d.func, d.says]),
    ),
    exceptions.length
      ? table(
          `Exceptions: ${exceptions.length}`,
          ["call", "why"],
          exceptions.map((e): Row => [`${e.from} -> ${e.to}`, e.why]),
        )
      : "Exceptions: none\n",
  ];
}

function byName<T>(a: [string, T], b: [string, T]): number {
  return a[0] < b[0] ? -1 : 1;
}

function intrinsics({ functions }: CoreReport): Row[] {
  const users = new Map<string, string[]>();
  for (const f of functions) for (const name of f.intrinsics) users.set(name, [...(users.get(name) ?? []), f.name]);
  return [...users].sort(byName).flatMap(([name, list]) => list.sort().map((user, i): Row => [i ? "" : name, user]));
}

export async function printReport(profile: Profile): Promise<void> {
  const elf = new Elf(readFileSync(elfPath(profile)));
  const map = JSON.parse(readFileSync(mapPath(profile), "utf8")) as SymbolMap;
  const core = JSON.parse(readFileSync(join(buildFolder(profile), "report.json"), "utf8")) as CoreReport;
  const uses = stackUses(core.stack, await readConstants());
  const deepest = uses[0]?.entries[0];
  const path = core.stack.entries.find((e) => e.export === deepest)?.path ?? [];
  const indirect = core.functions.filter((f) => f.indirectCalls).map((f): Row => [f.name, f.indirectCalls]);
  const total = (f: (r: Row) => number, rows: Row[]): number => rows.reduce((sum, row) => sum + f(row), 0);
  const parts = sections(elf);
  parts.push(["total", total((r) => r[1] as number, parts), total((r) => r[2] as number, parts)]);
  console.log(
    [
      `Basalt, ${profile} build ${map.buildId}`,
      "",
      table("Sections", ["section", "bytes in memory", "bytes in the file"], parts),
      table("Code by folder", ["folder", "bytes"], [...bytesByFolder(map)].sort(byName)),
      `Functions: ${core.functions.length} compiled, ${map.functions.names.length} in all\n`,
      table("Intrinsics and who uses them", ["intrinsic", "function"], intrinsics(core)),
      table(
        "Stacks",
        ["stack", "bytes", "deepest use", "by"],
        uses.map((u): Row => [u.stack, u.size, u.used, u.entries.join(" + ")]),
      ),
      table(
        `Deepest path of ${deepest}`,
        ["function", "bytes"],
        path.map((s): Row => [s.name, s.bytes]),
      ),
      ...exitPath(core.exitPath),
      indirect.length ? table("Indirect calls", ["function", "sites"], indirect) : "Indirect calls: none",
    ].join("\n"),
  );
}
