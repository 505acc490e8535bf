import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "../../../tools/paths.ts";
import { missingNpmPackages, missingSystemPackages, SYSTEM_PACKAGES } from "../../../tools/setup.mjs";

describe("the set-up", () => {
  const lock = {
    packages: {
      "": { version: "1" },
      "node_modules/a": { version: "1.0.0" },
      "node_modules/a/node_modules/b": { version: "2.0.0" },
      "node_modules/c-other-system": { version: "1.0.0", optional: true },
    },
  };

  test("wants every npm package that is absent or of another version, but none for other systems", () => {
    expect(missingNpmPackages(lock, null)).toEqual(["a", "b"]);
    const installed = {
      packages: { "node_modules/a": { version: "1.0.0" }, "node_modules/a/node_modules/b": { version: "1" } },
    };
    expect(missingNpmPackages(lock, installed)).toEqual(["b"]);
  });

  test("wants the system packages whose file is not there", () => {
    expect(missingSystemPackages(() => true)).toEqual([]);
    expect(missingSystemPackages((file: string) => file !== "/usr/bin/nasm").map(([name]) => name)).toEqual(["nasm"]);
    expect(new Set(SYSTEM_PACKAGES.map(([name]) => name)).size).toBe(SYSTEM_PACKAGES.length);
  });

  test("works before any npm package is there: it imports nothing but Node's own modules", () => {
    const source = readFileSync(join(ROOT, "tools/setup.mjs"), "utf8");
    for (const [, from] of source.matchAll(/from "([^"]+)"/g)) expect(from).toMatch(/^node:/);
  });
});
