// What the documentation names is there: files, commands, options.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../fake/compile.ts";

const FOLDERS = ["boot", "kernel", "drivers", "tools", "test", "bench", "docs"];
/** Names that stand for any file. */
const PLACEHOLDERS = ["kernel/x.ts", "kernel/exit/REASON.ts"];
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  ...FOLDERS.flatMap((folder) => filesBelow(folder).filter((name) => name.endsWith(".md"))),
];

function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
}

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

test("links of the pages lead somewhere", () => {
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      if (!existsSync(resolve(ROOT, dirname(page), target))) broken.push(`${page}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});

test("pages and sources name files of the tree that exist", () => {
  const broken: string[] = [];
  const sources = FOLDERS.flatMap(filesBelow).filter((name) => /\.(ts|mjs|asm|c|h)$/.test(name));
  for (const file of [...sources, ...pages]) {
    if (file.startsWith("test/")) continue; // fixtures have names of their own
    for (const [name] of read(file).matchAll(/(?<![\w./-])(?:docs|kernel|drivers|boot)\/[\w/-]+\.(?:md|ts|asm)\b/g)) {
      if (!PLACEHOLDERS.includes(name) && !existsSync(join(ROOT, name))) broken.push(`${file}: ${name}`);
    }
  }
  expect(broken).toEqual([]);
});

test("commands that the pages give are in package.json", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  const unknown: string[] = [];
  for (const page of pages) {
    for (const [, name] of read(page).matchAll(/npm run (?:-s )?([a-z][\w:-]*)/g))
      if (!(name in scripts)) unknown.push(`${page}: npm run ${name}`);
  }
  expect(unknown).toEqual([]);
});

test("every folder of sources has a page", () => {
  const without = FOLDERS.filter((folder) => folder !== "docs" && !existsSync(join(ROOT, folder, "README.md")));
  expect(without).toEqual([]);
  const kernel = readdirSync(join(ROOT, "kernel"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(
    kernel.map((entry) => entry.name).filter((name) => !existsSync(join(ROOT, "kernel", name, "README.md"))),
  ).toEqual([]);
});
