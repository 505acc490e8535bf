// The whole image, built in two folders, is the same bytes.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { buildImage } from "../../tools/image/build.ts";
import { ROOT } from "../../tools/paths.ts";

const folder = mkdtempSync(join(tmpdir(), "basalt-again-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SOURCES = ["kernel", "drivers", "boot", "tools", "asconfig.json", "package.json", "package-lock.json"];

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

test("a clean build in another folder gives the same image, debug information included", async () => {
  const here = await buildImage({ profile: "release" });
  const there = join(folder, "some/other place");
  mkdirSync(there, { recursive: true });
  for (const name of SOURCES) cpSync(join(ROOT, name), join(there, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(there, "node_modules"));
  const said = execFileSync(process.execPath, ["tools/basalt.mjs", "build"], { cwd: there, encoding: "utf8" });
  expect(said).toContain(`build ${here.buildId}`);
  expect(sha256(join(there, "build/release/basalt.elf"))).toBe(sha256(here.elf));
});
