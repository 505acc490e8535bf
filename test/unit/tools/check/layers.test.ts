// Who may use whom: the tree keeps to the table, the table has nothing that nobody needs, and the check finds what it should.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { IntrinsicUse } from "../../../../tools/check/layers.ts";
import {
  checkImports,
  checkIntrinsics,
  diagram,
  INTRINSIC_USERS,
  intrinsicUses,
  readKernel,
  readSources,
} from "../../../../tools/check/layers.ts";
import { ROOT } from "../../../../tools/paths.ts";

describe("layers", () => {
  test("no source imports from a layer above its own", () => {
    expect(checkImports(readSources())).toEqual([]);
  });

  test("an import that climbs is found, with its line", () => {
    const text = '// A comment.\nimport {\n  readEntry,\n} from "../mm/phys";\n';
    expect(checkImports([{ file: "kernel/lib/list.ts", text }])).toEqual([
      "kernel/lib/list.ts:2: lib may not import mm (kernel/mm/phys.ts)",
    ]);
    expect(checkImports([{ file: "kernel/vmx/exit.ts", text }])).toEqual([]);
    expect(
      checkImports([{ file: "kernel/guest/load.ts", text: 'export { x } from "../monitor/monitor";' }]),
    ).toHaveLength(1);
  });

  test("a file without a layer is found", () => {
    expect(checkImports([{ file: "kernel/stray.ts", text: "" }])).toEqual(["kernel/stray.ts: belongs to no layer"]);
  });

  test("the README shows the order", () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    for (const line of diagram().trimEnd().split("\n")) expect(readme).toContain(line.trim());
  });
});

describe("intrinsics", async () => {
  const uses = intrinsicUses(await readKernel());
  const use = (name: string, file: string): IntrinsicUse => ({ name, file, func: "f", line: 1 });

  test("are used only where the table allows it", () => {
    expect(checkIntrinsics(uses)).toEqual([]);
  });

  test("nobody has a permission that is not used", () => {
    const idle = INTRINSIC_USERS.flatMap(({ intrinsics, paths }) =>
      paths
        .filter(
          (path) => !uses.some((u) => intrinsics.test(u.name) && (u.file === path || u.file.startsWith(`${path}/`))),
        )
        .map((path) => `${intrinsics} ${path}`),
    );
    expect(idle).toEqual([]);
  });

  test("a use that is not allowed is found, and so is an intrinsic that the table does not know", () => {
    expect(checkIntrinsics([use("tableload64", "kernel/exit/io.ts")])).toEqual([
      "kernel/exit/io.ts:1: f may not use tableload64",
    ]);
    expect(checkIntrinsics([use("guestload8", "kernel/mm/guestmemory.ts")])).toHaveLength(1);
    expect(checkIntrinsics([use("unheardOf", "kernel/cpu/msr.ts")])).toHaveLength(1);
    expect(checkIntrinsics([use("tableload64", "kernel/mm/phys.ts")])).toEqual([]);
  });
});
